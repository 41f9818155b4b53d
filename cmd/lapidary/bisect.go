package main

import (
	"context"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/bisect"
	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// transformation is a rewriting command made ready to be looked into.
type transformation struct {
	apply   produce.Transform
	fixed   produce.Transform // for models whose symbolic dimensions are numbers already; nil: apply
	rewrite rewrite.Options
	verify  *produce.Verify
	done    func() // releases what it holds
}

// rewriter is the flags of a rewriting command.
type rewriter interface {
	register(c *cobra.Command)
	transformation(ctx context.Context, a *app, model string) (*transformation, error)
}

// rewriters are the commands that bisect can look into.
func rewriters() map[string]rewriter {
	return map[string]rewriter{"fuse": &fuseFlags{}, "prune": &pruneFlags{}, "quantize": &quantizeFlags{}}
}

// notBisected are flags of rewriting commands that concern what they write.
var notBisected = []string{"output", "in-place", "no-verify", "external-data", "explain", "log", "dump", "measure", "no-measure", "save-optimized"}

// bisectFlags are the flags of bisect's own.
type bisectFlags struct {
	command   string
	against   string
	predicate []string
	tolerance string
	reduce    string
	common    engineFlags
	data      dataFlags
	own       *pflag.FlagSet // all flags of the command line
}

func (a *app) bisectCommand() *cobra.Command {
	var f bisectFlags
	c := &cobra.Command{
		Use:   "bisect MODEL",
		Short: "Find the rewrite, or the node, that makes a model wrong",
		Long: `bisect rewrites a model as fuse does, or as --command says with that command's
flags, and finds the first rewrite after which the result does not load, does not
run, or computes something else. It prints the rewrite, the nodes before and
after, and the first value that differs.

With --against the model is compared with another that should be equal, node by
node over the values of the same name, each node given the other model's values.
With --command none nothing is rewritten: bisect finds the nodes for which the
model does not load or does not run, also where the engine crashes.

--reduce writes the smallest model found that still shows the fault, with its
inputs. Exit codes: 0 nothing is wrong, 3 something is, 1 it could not be tried.`,
		Example: "  lapidary bisect model.onnx --data samples.npz\n  lapidary bisect model.onnx --command quantize --to fp16 --reduce small/case.onnx\n" +
			"  lapidary bisect exported.onnx --against other.onnx\n  lapidary bisect model.onnx --command none --predicate load",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.own = c.Flags()
			return a.bisect(c.Context(), args[0], &f)
		},
	}
	p := c.Flags()
	p.StringVar(&f.command, "command", "fuse", "what rewrites the model: fuse, prune, quantize or none")
	p.StringVar(&f.against, "against", "", "compare with this `MODEL`, which is taken to be right, instead of rewriting")
	p.StringSliceVar(&f.predicate, "predicate", nil, "faults to look for: load, run, wrong; default: all")
	p.StringVar(&f.tolerance, "tolerance", "", "tolerance class of every value: exact, ulp, float64, float32, float16 …; default: by element type")
	p.StringVar(&f.reduce, "reduce", "", "write the smallest model that shows the fault to `FILE`, its text form and inputs beside it")
	f.common.register(c)
	f.data.register(c, "inputs to run the model on")
	for _, name := range []string{"fuse", "prune", "quantize"} {
		scratch := &cobra.Command{}
		rewriters()[name].register(scratch)
		scratch.Flags().VisitAll(func(x *pflag.Flag) {
			if p.Lookup(x.Name) == nil && !slices.Contains(notBisected, x.Name) {
				x.Usage = name + ": " + strings.TrimPrefix(x.Usage, name+": ")
				p.AddFlag(x)
			}
		})
	}
	return c
}

func (f *bisectFlags) validate() error {
	if f.command != "none" && rewriters()[f.command] == nil {
		return usagef("--command %q is unknown; want fuse, prune, quantize or none", f.command)
	}
	if f.against != "" && f.own.Changed("command") {
		return usagef("--against compares two files and rewrites nothing; leave out --command")
	}
	for _, k := range f.predicate {
		if !slices.Contains(bisect.Kinds, bisect.Kind(k)) {
			return usagef("--predicate %q is unknown; want load, run or wrong", k)
		}
	}
	if f.reduce != "" {
		return bisect.CheckSave(f.reduce)
	}
	return nil
}

// options are how models are run and what is looked for.
func (f *bisectFlags) options(v *produce.Verify, s *spinner) (bisect.Options, error) {
	o := bisect.Options{Progress: s.stage}
	for _, k := range f.predicate {
		o.Kinds = append(o.Kinds, bisect.Kind(k))
	}
	w := *v
	if f.tolerance != "" {
		class, err := compare.ParseClass(f.tolerance)
		if err != nil {
			return o, usageError{err}
		}
		w.Tolerance = func(_ string, d onnx.DType) compare.Class {
			if d.IsFloat() {
				return class
			}
			return compare.ClassFor(d)
		}
	}
	o.Verify = &w
	return o, nil
}

// transformation prepares the command whose rewrites are looked into, with the
// flags of this command line.
func (f *bisectFlags) transformation(ctx context.Context, a *app, model string) (*transformation, error) {
	rw := rewriters()[f.command]
	scratch := &cobra.Command{}
	rw.register(scratch)
	var bad error
	f.own.Visit(func(x *pflag.Flag) {
		to := scratch.Flags().Lookup(x.Name)
		switch {
		case bad != nil || a.global(x.Name) || slices.Contains([]string{"command", "against", "predicate", "tolerance", "reduce"}, x.Name):
		case to == nil:
			bad = usagef("--%s is no flag of %s", x.Name, f.command)
		default:
			bad = copyFlag(to, x)
		}
	})
	if bad != nil {
		return nil, bad
	}
	return rw.transformation(ctx, a, model)
}

// global reports whether name is a flag of every command.
func (a *app) global(name string) bool {
	return slices.Contains([]string{"config", "format", "progress", "quiet", "verbose", "help"}, name)
}

// copyFlag gives one flag the value of another of the same name and type.
func copyFlag(to, from *pflag.Flag) error {
	to.Changed = true
	if list, ok := from.Value.(pflag.SliceValue); ok {
		return to.Value.(pflag.SliceValue).Replace(list.GetSlice())
	}
	return to.Value.Set(strings.Trim(from.Value.String(), "[]"))
}

func (a *app) bisect(ctx context.Context, model string, f *bisectFlags) error {
	if err := f.validate(); err != nil {
		return err
	}
	s := a.spin()
	defer s.finish()
	switch {
	case f.against != "":
		return a.bisectAgainst(ctx, model, f, s)
	case f.command == "none":
		return a.bisectModel(ctx, model, f, s)
	}
	t, err := f.transformation(ctx, a, model)
	if err != nil {
		return err
	}
	defer t.done()
	o, err := f.options(t.verify, s)
	if err != nil {
		return err
	}
	found, err := bisect.Rewrites(ctx, model, t.apply, t.rewrite, o)
	if err != nil {
		return err
	}
	doc := bisected{Model: model, Command: f.command, Finding: found}
	if found.First != nil && found.First.Number > 0 && f.reduce != "" {
		fixed := t.fixed
		if fixed == nil {
			fixed = t.apply
		}
		c, err := bisect.ReduceRewrite(ctx, model, fixed, found, o)
		if err != nil {
			return err
		}
		if doc.Reduced, err = saveCase(c, f.reduce); err != nil {
			return err
		}
	}
	s.finish()
	return a.printBisected(doc, found.First != nil)
}

// plainVerify is how models are run where no command rewrites.
func (a *app) plainVerify(ctx context.Context, model string, f *bisectFlags) (*produce.Verify, func(), error) {
	return a.verification(ctx, &rewriteFlags{}, f.common, &f.data, model)
}

func (a *app) bisectAgainst(ctx context.Context, model string, f *bisectFlags, s *spinner) error {
	v, done, err := a.plainVerify(ctx, f.against, f)
	if err != nil {
		return err
	}
	defer done()
	o, err := f.options(v, s)
	if err != nil {
		return err
	}
	found, c, err := bisect.Against(ctx, f.against, model, o)
	if err != nil {
		return err
	}
	doc := bisected{Model: model, Against: f.against, Comparison: found}
	if c != nil {
		defer c.Close()
		if f.reduce != "" {
			if doc.Reduced, err = saveCase(c, f.reduce); err != nil {
				return err
			}
		}
	}
	s.finish()
	return a.printBisected(doc, found.Bad())
}

func (a *app) bisectModel(ctx context.Context, model string, f *bisectFlags, s *spinner) error {
	v, done, err := a.plainVerify(ctx, model, f)
	if err != nil {
		return err
	}
	defer done()
	o, err := f.options(v, s)
	if err != nil {
		return err
	}
	found, err := bisect.Model(ctx, model, o)
	if err != nil {
		return err
	}
	doc := bisected{Model: model, Command: "none", Culprit: found}
	if found != nil && found.Case != nil {
		defer found.Case.Close()
		if f.reduce != "" {
			if doc.Reduced, err = saveCase(found.Case, f.reduce); err != nil {
				return err
			}
		}
	}
	s.finish()
	return a.printBisected(doc, found != nil)
}

// failVerdict is the error of an answer that is no.
func failVerdict() error { return verdictError{report.Fail} }

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// rewriteFlags are the flags of commands that write a changed model.
type rewriteFlags struct {
	output   string
	inPlace  bool
	noVerify bool
	external string
	explain  string // "": no, explainAll: everything, else a part of a rule's or node's name
	log      string
	limit    int
	only     []string
	disable  []string
	dump     string
}

func (f *rewriteFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVarP(&f.output, "output", "o", "", "model file to write")
	p.BoolVar(&f.inPlace, "in-place", false, "allow the output to be the input")
	p.BoolVar(&f.noVerify, "no-verify", false, "do not run original and result against each other; recorded in the model")
	p.StringVar(&f.external, "external-data", "auto", "where weights are stored: auto (as the input, or beside the model above 2 GiB), never, always or keep")
	p.StringVar(&f.explain, "explain", "", "print what was rewritten where, and why the rest was not; =`WORD` prints only rules and nodes with WORD in their name")
	p.Lookup("explain").NoOptDefVal = explainAll
	p.StringVar(&f.log, "log", "", "`FILE` for every rewrite and every refusal, as JSON lines")
}

// registerRules adds the flags that select and bisect rules.
func (f *rewriteFlags) registerRules(c *cobra.Command) {
	p := c.Flags()
	p.IntVar(&f.limit, "rewrites", 0, "stop after this many rewrites, to find a wrong one; 0: no limit")
	p.StringSliceVar(&f.only, "only", nil, "rules to apply, no others")
	p.StringSliceVar(&f.disable, "disable", nil, "rules not to apply")
	p.StringVar(&f.dump, "dump", "", "folder for the text form of the model after each rewrite")
}

// target checks the output of a rewriting command.
func (f *rewriteFlags) target(model string) (string, error) {
	if f.output == "" && f.inPlace {
		return model, nil
	}
	if f.output == "" {
		return "", usagef("no output; name one with -o, or write over %s with --in-place", model)
	}
	return f.output, nil
}

func (f *rewriteFlags) externalMode() (onnxfile.External, error) {
	modes := map[string]onnxfile.External{"auto": onnxfile.ExternalAuto, "never": onnxfile.ExternalNever,
		"always": onnxfile.ExternalAlways, "keep": onnxfile.ExternalKeep}
	m, ok := modes[f.external]
	if !ok {
		return 0, usagef("--external-data %q is unknown; want auto, never, always or keep", f.external)
	}
	return m, nil
}

// rules turns the selection into the driver's options; known lists the names
// that exist.
func (f *rewriteFlags) rules(known []string) (rewrite.Options, error) {
	for _, name := range append(slices.Clone(f.only), f.disable...) {
		if !slices.Contains(known, name) {
			return rewrite.Options{}, usagef("there is no rule %q; the rules are %s", name, strings.Join(known, ", "))
		}
	}
	o := rewrite.Options{Limit: f.limit, Only: f.only, Disable: f.disable}
	if f.dump != "" {
		if err := os.MkdirAll(f.dump, 0o755); err != nil {
			return o, fmt.Errorf("--dump: %w", err)
		}
		o.Fired = dumper(f.dump)
	}
	return o, nil
}

// dumper writes the model after each rewrite into dir. A rollback starts the
// rewriting anew, and so the numbering.
func dumper(dir string) func(rewrite.Firing, *onnx.Model) error {
	step := map[*onnx.Model]int{}
	return func(f rewrite.Firing, m *onnx.Model) error {
		step[m]++
		out, err := os.Create(filepath.Join(dir, fmt.Sprintf("%04d-%s.onnx.txt", step[m], f.Rule)))
		if err != nil {
			return fmt.Errorf("--dump: %w", err)
		}
		_, err = fmt.Fprintf(out, "// after %s\n", f.Key)
		if err == nil {
			err = onnxtext.Format(out, m, onnxtext.Options{MaxElements: 16})
		}
		if err = errors.Join(err, out.Close()); err != nil {
			return fmt.Errorf("--dump: %w", err)
		}
		return nil
	}
}

// step describes the command for the model's chain of custody: the flags that
// were set, but not where files are.
func step(c *cobra.Command, leaveOut ...string) report.Step {
	s := report.Step{Command: c.Name(), Tool: "lapidary " + version()}
	skip := append([]string{"output", "in-place", "progress", "quiet", "verbose", "format", "config", "ort-lib", "explain", "log", "dump",
		"external-data", "threads", "data", "calibrate-data", "measure", "save-optimized", "audit-log"}, leaveOut...)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(skip, f.Name) && f.Value.String() != f.DefValue {
			s.Options = append(s.Options, "--"+f.Name+"="+strings.Trim(f.Value.String(), "[]"))
		}
	})
	return s
}

// verification returns how to check a rewritten model; nil with --no-verify.
func (a *app) verification(ctx context.Context, f *rewriteFlags, ef engineFlags, df *dataFlags, model string) (*produce.Verify, func(), error) {
	_, v, done, err := a.verificationBy(ctx, f, ef, df, model)
	return v, done, err
}

// verificationBy is verification with the engine that does it.
func (a *app) verificationBy(ctx context.Context, f *rewriteFlags, ef engineFlags, df *dataFlags, model string) (*engine, *produce.Verify, func(), error) {
	if f.noVerify {
		a.warn("the result is not checked by execution (--no-verify)")
		return nil, nil, func() {}, nil
	}
	e, err := a.engine(ctx, ef)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w (or write the result unchecked with --no-verify)", err)
	}
	set, err := df.open(model)
	if err != nil {
		return nil, nil, nil, err
	}
	v := &produce.Verify{Open: e.open, Session: e.options, Data: set, Seed: df.seed, Dims: df.dims}
	return e, v, func() {
		if set != nil {
			set.Close()
		}
	}, nil
}

// rewritten is the JSON document of the rewriting commands.
type rewritten struct {
	Schema  string `json:"schema"`
	Command string `json:"command"`
	*produce.Result
	Summary []rewrite.RuleSummary `json:"summary"`           // the log by rule
	Details any                   `json:"details,omitempty"` // what the command adds
}

// printRewritten prints the outcome of a rewriting command.
func (a *app) printRewritten(command string, r *produce.Result, f *rewriteFlags, details any) error {
	if err := writeLog(f.log, command, r); err != nil {
		return err
	}
	a.wrote(r.Output.Path, f.log)
	for _, n := range r.Log.Notices {
		a.note("%s", n)
	}
	for _, b := range r.RolledBack {
		a.warn("left out %s (%s): %s", b.What(), b.Judge, b.Reason)
	}
	if a.json() {
		return writeJSON(a.env.stdout, rewritten{schemaURI("rewrite-v1"), command, r, r.Log.Summary(), details})
	}
	w := a.env.stdout
	fmt.Fprintf(w, "%s → %s\n", r.Input.Path, r.Output.Path)
	fmt.Fprintf(w, "  %-12s %14s → %-14s %s\n", "size", bytesText(r.Input.Bytes), bytesText(r.Output.Bytes), change(r.Input.Bytes, r.Output.Bytes))
	fmt.Fprintf(w, "  %-12s %14d → %-14d %s\n", "nodes", r.Input.Nodes, r.Output.Nodes, change(int64(r.Input.Nodes), int64(r.Output.Nodes)))
	for _, text := range r.Cut {
		fmt.Fprintf(w, "  %s\n", text)
	}
	printRules(w, r.Log)
	if r.Checked != nil {
		fmt.Fprintf(w, "  verified on %s\n", r.Checked)
	} else {
		fmt.Fprintf(w, "  not verified\n")
	}
	printGuarded(w, r)
	printOptimized(w, r.Optimized)
	if f.explained() {
		printExplained(w, r.Log, f.explain)
	}
	return nil
}

// bytesText writes a size for people.
func bytesText(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// change writes how b differs from a, in percent.
func change(a, b int64) string {
	if a == 0 || a == b {
		return ""
	}
	return fmt.Sprintf("(%+.1f %%)", 100*(float64(b)/float64(a)-1))
}

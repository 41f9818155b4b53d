package main

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/prune"
	"github.com/spf13/cobra"
)

// pruneFlags are the flags that say what prune does to a model.
type pruneFlags struct {
	o              prune.Options
	rf             rewriteFlags
	ef             engineFlags
	df             dataFlags
	pattern, scope string
}

func (f *pruneFlags) register(c *cobra.Command) {
	f.rf.register(c)
	f.ef.register(c)
	f.df.register(c, "inputs for the check of the result")
	p, o := c.Flags(), &f.o
	p.Float64Var(&o.Sparsity, "sparsity", 0.5, "share of the weights to be zero")
	p.StringVar(&f.pattern, "pattern", "unstructured", "what goes together: unstructured (single weights)")
	p.StringVar(&f.scope, "scope", string(prune.Global), "rank weights over the whole model (global) or within each tensor (layer)")
	p.StringSliceVar(&o.Include, "include", nil, "operators, nodes or weights to prune, no others; * and ? match")
	p.StringSliceVar(&o.Exclude, "exclude", nil, "operators, nodes or weights to leave alone; * and ? match")
}

func (f *pruneFlags) validate() error {
	if f.pattern != "unstructured" {
		return usagef("--pattern %q is not known; want unstructured", f.pattern)
	}
	if f.o.Sparsity < 0 || f.o.Sparsity >= 1 {
		return usagef("--sparsity %v is not a share from 0 to below 1", f.o.Sparsity)
	}
	if f.scope != string(prune.Global) && f.scope != string(prune.Layer) {
		return usagef("--scope %q is unknown; want global or layer", f.scope)
	}
	f.o.Scope = prune.Scope(f.scope)
	return nil
}

// transformation prepares prune for bisecting.
func (f *pruneFlags) transformation(ctx context.Context, a *app, model string) (*transformation, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	verify, done, err := a.verification(ctx, &f.rf, f.ef, &f.df, model)
	if err != nil {
		return nil, err
	}
	o := f.o
	o.Verify = verify
	t := &transformation{done: done}
	t.apply, t.verify, err = prune.Transform(o)
	return t, err
}

func (a *app) pruneCommand() *cobra.Command {
	var f pruneFlags
	c := &cobra.Command{
		Use:   "prune MODEL -o OUT --sparsity 0.5",
		Short: "Set the weights that matter least to zero",
		Long: `prune sets the weights of least magnitude to zero, ranked over the whole model or
within each layer. The files keep their size, and ONNX Runtime's CPU kernels their
speed: zeros serve compression and sparse hardware. How much accuracy they cost
is for lapidary validate to say.`,
		Example: "  lapidary prune model.onnx -o pruned.onnx --sparsity 0.5\n  lapidary prune model.onnx -o pruned.onnx --sparsity 0.7 --scope layer --exclude Gemm",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			return a.prune(c, args[0], f.o, &f.rf, f.ef, &f.df)
		},
	}
	f.register(c)
	return c
}

func (a *app) prune(c *cobra.Command, model string, o prune.Options, rf *rewriteFlags, ef engineFlags, df *dataFlags) error {
	dst, err := rf.target(model)
	if err != nil {
		return err
	}
	if o.External, err = rf.externalMode(); err != nil {
		return err
	}
	verify, done, err := a.verification(c.Context(), rf, ef, df, model)
	if err != nil {
		return err
	}
	defer done()
	s := a.spin()
	defer s.finish()
	o.Verify, o.Step, o.InPlace, o.Progress = verify, step(c), rf.inPlace, s.stage
	r, err := prune.File(c.Context(), dst, model, o)
	s.finish()
	if err != nil {
		return err
	}
	if err := a.printRewritten("prune", r.Result, rf, r); err != nil || a.json() {
		return err
	}
	fmt.Fprintf(a.env.stdout, "  zeros %.1f %% → %.1f %% of the weights of %d tensors\n", 100*r.Before, 100*r.After, len(r.Weights))
	if a.verbose || rf.explained() {
		for _, w := range r.Weights {
			fmt.Fprintf(a.env.stdout, "    %-32s %-10s %9d weights, zeros %5.1f %% → %5.1f %%\n",
				w.Name, w.Op, w.Elements, share(w.Before, w.Elements), share(w.After, w.Elements))
		}
	}
	return nil
}

// share is a of b in percent.
func share(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return 100 * float64(a) / float64(b)
}

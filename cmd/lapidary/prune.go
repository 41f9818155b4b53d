package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/prune"
	"github.com/spf13/cobra"
)

// pruneFlags are the flags that say what prune does to a model.
type pruneFlags struct {
	o     prune.Options
	rf    rewriteFlags
	ef    engineFlags
	df    dataFlags
	mf    maskFlags
	uf    unitFlags
	scope string
}

func (f *pruneFlags) register(c *cobra.Command) {
	f.rf.register(c)
	f.ef.register(c)
	f.df.register(c, "what layers read, for --importance and --repair, and inputs for the check of the result")
	f.mf.register(c, &f.o)
	f.uf.register(c)
	p, o := c.Flags(), &f.o
	p.Float64Var(&o.Sparsity, "sparsity", 0.5, "share of the weights to be zero, or of the units to remove; N:M settles it")
	p.StringVar(&f.scope, "scope", "", "rank weights over the whole model (global), within each tensor (layer) or for each output (row); default: global for magnitude, else row, or layer for blocks")
	p.StringSliceVar(&o.Include, "include", nil, "operators, nodes or weights to prune, no others; * and ? match")
	p.StringSliceVar(&o.Exclude, "exclude", nil, "operators, nodes or weights to leave alone; * and ? match")
}

func (f *pruneFlags) validate() error {
	if f.o.Sparsity < 0 || f.o.Sparsity >= 1 {
		return usagef("--sparsity %v is not a share from 0 to below 1", f.o.Sparsity)
	}
	if err := f.other(); err != nil {
		return err
	}
	if f.units() {
		return f.uf.validate(f)
	}
	f.o.Scope = prune.Scope(f.scope)
	return f.mf.validate(&f.o)
}

// options turns the flags into prune's options for a model, and returns the engine
// that checks the result, nil for none; done releases what they hold.
func (f *pruneFlags) options(ctx context.Context, a *app, model string) (o prune.Options, e *engine, done func(), err error) {
	if err := f.validate(); err != nil {
		return o, nil, nil, err
	}
	o = f.o
	e, verify, release, err := a.verificationBy(ctx, &f.rf, f.ef, &f.df, model)
	if err != nil {
		return o, nil, nil, err
	}
	o.Verify, done = verify, release
	if o.Calibration, err = f.df.open(model); err != nil {
		release()
		return o, nil, nil, err
	}
	if o.Calibration != nil {
		done = func() { o.Calibration.Close(); release() }
		o.Synthetic, o.Batch = o.Calibration.Synthetic(), f.df.batch
	}
	if err := f.mf.engine(ctx, a, f, &o, e); err != nil {
		done()
		return o, nil, nil, err
	}
	if err := o.Check(); err != nil {
		done()
		return o, nil, nil, usageError{err}
	}
	return o, e, done, nil
}

// transformation prepares prune for bisecting.
func (f *pruneFlags) transformation(ctx context.Context, a *app, model string) (*transformation, error) {
	if f.units() {
		o, _, release, err := f.shrinking(ctx, a, model)
		if err != nil {
			return nil, err
		}
		apply, verify, done, err := prune.ShrinkTransform(o)
		if err != nil {
			release()
			return nil, err
		}
		return &transformation{apply: apply, verify: verify, done: func() { done(); release() }}, nil
	}
	o, _, release, err := f.options(ctx, a, model)
	if err != nil {
		return nil, err
	}
	apply, verify, done, err := prune.Transform(o)
	if err != nil {
		release()
		return nil, err
	}
	return &transformation{apply: apply, verify: verify, done: func() { done(); release() }}, nil
}

func (a *app) pruneCommand() *cobra.Command {
	var f pruneFlags
	c := &cobra.Command{
		Use:   "prune MODEL -o OUT --sparsity 0.5",
		Short: "Remove what a model does not need: channels, heads, neurons, layers, or single weights",
		Long: `prune removes what matters least.

--pattern channels, neurons, heads, hidden or layers takes units out of the model:
tensors get smaller, and with them file and time. What goes together is found by
following every dimension through the model; what cannot follow is reported. With
--data the layers that read what went make up for it, each only where that lowers
the error on samples that nothing was fitted to. --sparsity 0 removes only what
provably contributes nothing.

--pattern unstructured, N:M or block:RxC sets weights to zero. Shapes stay: the
files keep their size, save with --sparse-storage, and ONNX Runtime's CPU kernels
their speed; zeros serve compression and sparse hardware. --measure says what the
result takes here. How much accuracy is lost is for lapidary validate to say.`,
		Example: "  lapidary prune model.onnx -o pruned.onnx --pattern channels --sparsity 0.3 --data calibration.npz\n" +
			"  lapidary prune model.onnx -o pruned.onnx --pattern channels --latency-ratio 0.7 --data calibration.npz\n" +
			"  lapidary prune model.onnx -o pruned.onnx --sparsity 0.5\n" +
			"  lapidary prune model.onnx -o pruned.onnx --pattern 2:4 --importance sparsegpt --data calibration.npz\n" +
			"  lapidary prune model.onnx -o pruned.onnx --sparsity 0.7 --scope layer --exclude Gemm",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.prune(c, args[0], &f) },
	}
	f.register(c)
	return c
}

func (a *app) prune(c *cobra.Command, model string, f *pruneFlags) error {
	ctx := c.Context()
	if err := f.validate(); err != nil {
		return err
	}
	if f.units() {
		return a.shrink(c, model, f)
	}
	dst, err := f.rf.target(model)
	if err != nil {
		return err
	}
	external, err := f.rf.externalMode()
	if err != nil {
		return err
	}
	o, e, done, err := f.options(ctx, a, model)
	if err != nil {
		return err
	}
	defer done()
	if o.Guard, err = f.mf.guard(e, &o); err != nil {
		return err
	}
	s := a.spin()
	defer s.finish()
	o.External, o.Step, o.InPlace, o.Progress = external, step(c), f.rf.inPlace, s.stage
	o.Measured = func(done, total int64) { s.stage(fmt.Sprintf("measuring what layers read %d/%d", done, total)) }
	r, err := prune.File(ctx, dst, model, o)
	s.finish()
	if err != nil {
		return nothingRemoved(model, err)
	}
	if err := a.printRewritten("prune", r.Result, &f.rf, r); err != nil || a.json() {
		return err
	}
	printMasks(a.env.stdout, r)
	if e != nil && r.Guarded != nil && strings.HasPrefix(e.options.Device, "cpu") {
		printSpeed(a.env.stdout, e, r)
	}
	if a.verbose || f.rf.explained() {
		printWeights(a.env.stdout, r.Weights)
	}
	return nil
}

// nothingRemoved is a gate that failed where there was nothing to remove.
func nothingRemoved(model string, err error) error {
	var nothing *prune.Nothing
	if errors.As(err, &nothing) {
		return gateError{fmt.Errorf("%s: %w", model, nothing)}
	}
	return err
}

// share is a of b in percent.
func share(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return 100 * float64(a) / float64(b)
}

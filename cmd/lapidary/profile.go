package main

import (
	"context"
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/spf13/cobra"
)

// profileFlags are the flags of profile that are its own.
type profileFlags struct {
	static    bool
	sparsity  bool
	noNodes   bool
	nodes     int
	processes int
	runs      int
	budget    time.Duration
	proof     proofFlags
}

func (a *app) profileCommand() *cobra.Command {
	var pf profileFlags
	var ef engineFlags
	var df dataFlags
	c := &cobra.Command{
		Use:   "profile MODEL",
		Short: "Count what a model costs, and measure where the time goes",
		Long: `profile counts parameters, MACs, FLOPs, bytes and operators of a model and the
memory that its activations take, then times it in fresh processes and, in a
separate run, node by node. With --static it only counts, and needs no runtime.
Sizes that the model leaves open are taken as 1; set them with --dim. The times
are held against what this machine reaches at most, which is measured once, and
the table ends with what would make the model faster or smaller: predictions, and
the commands to paste.`,
		Example: "  lapidary profile model.onnx --static\n  lapidary profile model.onnx --data holdout.npz --dim N=1",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.profile(c.Context(), args[0], pf, ef, &df)
		},
	}
	ef.register(c)
	df.register(c, "inputs to time on; default: generated ones")
	pf.proof.register(c)
	p := c.Flags()
	p.BoolVar(&pf.static, "static", false, "count only: run nothing")
	p.BoolVar(&pf.sparsity, "sparsity", false, "count zeros among the weights, which reads them all")
	p.BoolVar(&pf.noNodes, "no-nodes", false, "leave out the time of single nodes")
	p.IntVar(&pf.nodes, "nodes", 15, "most nodes to print; negative: all")
	p.IntVar(&pf.processes, "processes", 0, "fresh processes to time in; 0: 3")
	p.IntVar(&pf.runs, "runs", 0, "runs to time, where the budget allows; 0: 1000")
	p.DurationVar(&pf.budget, "budget", 15*time.Second, "most time to spend on timed runs")
	return c
}

func (a *app) profile(ctx context.Context, model string, pf profileFlags, ef engineFlags, df *dataFlags) error {
	if err := pf.proof.validate(pf.static); err != nil {
		return err
	}
	static, err := profile.StaticFile(model, profile.StaticOptions{Dims: df.dims, Sparsity: pf.sparsity})
	if err != nil {
		return err
	}
	var timed *profile.TimedProfile
	if !pf.static {
		if timed, err = a.timed(ctx, model, pf, ef, df); err != nil {
			return fmt.Errorf("%w (count without running with --static)", err)
		}
	}
	p := profile.New(static, timed)
	if err := a.prove(ctx, p, model, pf, ef, df); err != nil {
		return err
	}
	if a.json() {
		b, err := p.JSON()
		if err != nil {
			return err
		}
		_, err = a.env.stdout.Write(b)
		return err
	}
	return p.Table(a.env.stdout, profile.TableOptions{Width: a.env.columns, Nodes: pf.nodes})
}

func (a *app) timed(ctx context.Context, model string, pf profileFlags, ef engineFlags, df *dataFlags) (*profile.TimedProfile, error) {
	e, err := a.engine(ctx, ef)
	if err != nil {
		return nil, err
	}
	samples, err := timingSamples(ctx, model, *df)
	if err != nil {
		return nil, err
	}
	show, done := a.count("timing")
	defer done()
	o := profile.TimedOptions{Session: e.options, Processes: pf.processes, Runs: pf.runs, Budget: pf.budget, Progress: show}
	if pf.noNodes {
		o.ProfiledRuns = -1
	}
	return profile.Timed(ctx, model, e.open, samples, o)
}

// maxTimingSamples bounds how many inputs are held to be timed in turn.
const maxTimingSamples = 8

// timingSamples returns the inputs that a model is timed on.
func timingSamples(ctx context.Context, model string, df dataFlags) ([]map[string]*onnx.Tensor, error) {
	if df.spec == "" {
		df.spec = fmt.Sprintf("synthetic:%d", maxTimingSamples)
	}
	set, err := df.open(model)
	if err != nil {
		return nil, err
	}
	defer set.Close()
	return firstBatches(ctx, set, max(df.batch, 1))
}

func firstBatches(ctx context.Context, set *dataset.Set, batch int) ([]map[string]*onnx.Tensor, error) {
	var out []map[string]*onnx.Tensor
	for b, err := range set.Batches(ctx, batch) {
		if err != nil {
			return nil, err
		}
		if out = append(out, b.Inputs); len(out) == maxTimingSamples {
			break
		}
	}
	return out, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

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

	settings profileSettingFlags
	load     profileLoadFlags
	out      profileOutputs
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
the commands to paste.

--sweep times it under several settings, which take turns, and says how to set
the best. --load puts requests on it that arrive by themselves; --slo finds the
highest rate that keeps a latency. diff compares two profiles written with
--format json.`,
		Example: "  lapidary profile model.onnx --static\n  lapidary profile model.onnx --data holdout.npz --dim N=1\n" +
			"  lapidary profile model.onnx --sweep threads=1,2 --sweep batch=1,4,8\n  lapidary profile model.onnx --slo 20ms@p99 --html profile.html",
		Args: cobra.ExactArgs(1),
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
	pf.settings.register(p)
	pf.load.register(p)
	pf.out.register(p)
	return c
}

func (a *app) profile(ctx context.Context, model string, pf profileFlags, ef engineFlags, df *dataFlags) error {
	if err := pf.proof.validate(pf.static); err != nil {
		return err
	}
	if err := pf.out.check(pf.static); err != nil {
		return err
	}
	axes, objective, err := pf.load.check(pf.static)
	if err != nil {
		return err
	}
	static, err := profile.StaticFile(model, profile.StaticOptions{Dims: df.dims, Sparsity: pf.sparsity})
	if err != nil {
		return err
	}
	p := profile.New(static, nil)
	if !pf.static {
		if err := a.runProfile(ctx, p, model, axes, objective, pf, ef, df); err != nil {
			var usage usageError
			if errors.As(err, &usage) {
				return err
			}
			return fmt.Errorf("%w (count without running with --static)", err)
		}
	}
	if err := a.prove(ctx, p, model, pf, ef, df); err != nil {
		return err
	}
	if err := pf.out.write(a, p); err != nil {
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

// runProfile adds what takes running the model.
func (a *app) runProfile(ctx context.Context, p *profile.Profile, model string, axes []profile.SweepAxis, objective *profile.Objective, pf profileFlags, ef engineFlags, df *dataFlags) error {
	e, err := a.engine(ctx, ef)
	if err != nil {
		return err
	}
	base, err := pf.settings.apply(e.options)
	if err != nil {
		return err
	}
	if p.Timed, err = a.timed(ctx, model, pf, ef, df); err != nil {
		return err
	}
	if len(axes) > 0 {
		if p.Sweep, err = a.profileSweep(ctx, model, axes, base, pf, e, *df); err != nil {
			return err
		}
	}
	if pf.load.wanted() {
		p.Load, err = a.profileLoad(ctx, model, objective, base, pf.load, e, *df)
	}
	return err
}

func (a *app) timed(ctx context.Context, model string, pf profileFlags, ef engineFlags, df *dataFlags) (*profile.TimedProfile, error) {
	e, err := a.engine(ctx, ef)
	if err != nil {
		return nil, err
	}
	base, err := pf.settings.apply(e.options)
	if err != nil {
		return nil, err
	}
	samples, batch, err := timingInputs(ctx, model, *df, maxTimingSamples)
	if err != nil {
		return nil, err
	}
	show, done := a.count("timing")
	defer done()
	o := profile.TimedOptions{
		Session: base, Processes: pf.processes, Runs: pf.runs, Budget: pf.budget, Batch: batch, Machine: &e.machine, Progress: show,
	}
	if pf.noNodes {
		o.ProfiledRuns = -1
	}
	return profile.Timed(ctx, model, e.open, samples, o)
}

// maxTimingSamples bounds how many inputs are held to be timed in turn.
const maxTimingSamples = 8

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/trial"
	"github.com/lapidary-ml/lapidary/prune"
	"github.com/spf13/cobra"
)

// unitFlags are the flags of pruning that makes tensors smaller.
type unitFlags struct {
	c *cobra.Command
	o prune.StructureOptions
}

// unitOnly are flags that mean nothing where shapes stay, maskOnly those that mean
// nothing where they do not.
var (
	unitOnly = []string{"macs-ratio", "params-ratio", "latency-ratio", "max-drop", "min-sqnr", "round-to", "floor"}
	maskOnly = []string{"sparse-storage", "calibration-workers"}
)

func (f *unitFlags) register(c *cobra.Command) {
	f.c = c
	p, o := c.Flags(), &f.o
	p.Float64Var(&o.MACsRatio, "macs-ratio", 0, "remove units until the model's MACs are at most this share of before")
	p.Float64Var(&o.ParamsRatio, "params-ratio", 0, "remove units until its parameters are at most this share of before")
	p.Float64Var(&o.LatencyRatio, "latency-ratio", 0, "remove units until it takes at most this share of the time, as measured here on --data")
	p.Float64Var(&o.MaxDrop, "max-drop", 0, "remove as many units as lose at most so many percentage points of accuracy on labelled --data")
	p.Float64Var(&o.MinSQNR, "min-sqnr", 0, "remove as many units as leave the outputs so many dB above the change on --data")
	p.IntVar(&o.RoundTo, "round-to", 0, "what stays of a layer's units is a multiple of this; 0: by the processor's vectors, 8 or 16; 1: any number")
	p.Float64Var(&o.Floor, "floor", 0.1, "least share of a layer's units that stays")
}

// units reports whether the pattern makes tensors smaller.
func (f *pruneFlags) units() bool { return slices.Contains(prune.Units(), prune.Pattern(f.o.Pattern)) }

// other returns an error for a flag that the pattern has no use for.
func (f *pruneFlags) other() error {
	list, kind := unitOnly, "keeps shapes"
	if f.units() {
		list, kind = maskOnly, "removes units"
	}
	for _, name := range list {
		if f.uf.c.Flags().Changed(name) {
			return usagef("--%s means nothing with --pattern %s, which %s", name, f.o.Pattern, kind)
		}
	}
	return nil
}

// validate completes the options.
func (f *unitFlags) validate(p *pruneFlags) error {
	o := &f.o
	o.Pattern, o.Scope, o.Include, o.Exclude = prune.Pattern(p.o.Pattern), prune.Scope(p.scope), p.o.Include, p.o.Exclude
	o.Sparsity, o.Repair, o.MaxMemory = p.o.Sparsity, p.o.Repair, p.mf.memory<<20
	if f.c.Flags().Changed("importance") {
		o.Importance = prune.Importance(p.o.Importance)
	}
	goal := slices.ContainsFunc(unitOnly[:5], f.c.Flags().Changed)
	given := f.c.Flags().Changed("sparsity")
	switch {
	case goal && given:
		return usagef("--sparsity says how many units go; leave it out where another goal does")
	case !goal && !given:
		return usagef("say how much is to go: --sparsity 0.3, or one of --%s", strings.Join(unitOnly[:5], ", --"))
	case p.mf.measure > 0 && p.rf.noVerify:
		return usagef("--measure runs the result; leave out --no-verify")
	}
	if err := o.CheckNames(p.df.spec != ""); err != nil {
		return usageError{err}
	}
	return nil
}

// roundTo is how many channels the vectors of this machine hold: the width of the
// blocks that ONNX Runtime's convolutions work in.
func roundTo(e *engine) int {
	if e != nil && !strings.HasPrefix(e.options.Device, "cpu") {
		return 16
	}
	if m := device.Read(device.Options{}); slices.ContainsFunc(m.CPU.ISA, func(s string) bool { return strings.HasPrefix(s, "avx512") }) {
		return 16
	}
	return 8
}

// shrinking turns the flags into options for a model; done releases what they hold.
func (f *pruneFlags) shrinking(ctx context.Context, a *app, model string) (o prune.ShrinkOptions, e *engine, done func(), err error) {
	if err := f.validate(); err != nil {
		return o, nil, nil, err
	}
	o.StructureOptions, o.Rewrite = f.uf.o, f.o.Rewrite
	e, verify, release, err := a.verificationBy(ctx, &f.rf, f.ef, &f.df, model)
	if err != nil {
		return o, nil, nil, err
	}
	o.Verify, done = verify, release
	set, err := f.df.open(model)
	if err != nil {
		release()
		return o, nil, nil, err
	}
	if set != nil {
		done = func() { set.Close(); release() }
		if e == nil {
			if e, err = a.engine(ctx, f.ef); err != nil {
				done()
				return o, nil, nil, err
			}
		}
		o.Synthetic = set.Synthetic()
		o.Data = &trial.Options{Data: set, Batch: max(f.df.batch, 1), Open: e.open, Session: e.options, Most: 256}
	}
	if o.RoundTo == 0 {
		o.RoundTo = roundTo(e)
	}
	return o, e, done, nil
}

// shrink is the command where tensors get smaller.
func (a *app) shrink(c *cobra.Command, model string, f *pruneFlags) error {
	ctx := c.Context()
	dst, err := f.rf.target(model)
	if err != nil {
		return err
	}
	external, err := f.rf.externalMode()
	if err != nil {
		return err
	}
	o, e, done, err := f.shrinking(ctx, a, model)
	if err != nil {
		return err
	}
	defer done()
	if f.mf.measure > 0 {
		o.Guard = &produce.Guard{Full: f.mf.measure, NoGains: true, Asked: prune.AskedUnits()}
	}
	s := a.spin()
	defer s.finish()
	o.External, o.Step, o.InPlace = external, step(c), f.rf.inPlace
	o.Progress = s.stage
	r, err := prune.Shrink(ctx, dst, model, o)
	s.finish()
	var missed *prune.MissedGoal
	if err != nil && !errors.As(err, &missed) {
		return nothingRemoved(model, err)
	}
	if err := a.printRewritten("prune", r.Result, &f.rf, r); err != nil {
		return err
	}
	if !a.json() {
		printShrunk(a.env.stdout, r, a.verbose || f.rf.explained())
		if e != nil && r.Guarded != nil {
			printUnitSpeed(a.env.stdout, r)
		}
	}
	if missed != nil {
		return gateError{fmt.Errorf("%s: %w", model, missed)}
	}
	return nil
}

// printShrunk prints what went, what was done about it, and what could not go.
func printShrunk(w io.Writer, p *prune.Shrunk, all bool) {
	r := p.Structure
	gone, of := 0, 0
	for _, g := range r.Groups {
		gone += g.Removed
		of += g.Units
	}
	fmt.Fprintf(w, "  %s: %d of %d units went; MACs %s, parameters %s\n", r.Pattern, gone, of,
		ratioText(r.Before.MACs, r.After.MACs), ratioText(r.Before.Parameters, r.After.Parameters))
	if g := p.Goal; g != nil {
		fmt.Fprintf(w, "  goal: %s; reached %.4g in %s\n", g.Want, g.Reached, plural(len(g.Trials), "trial", "trials"))
	}
	printUnitRepairs(w, r.Repairs)
	if r.Pattern != string(prune.Layers) && r.Before.MACs > 0 {
		fmt.Fprintf(w, "  %.1f %% of the MACs are in layers that can lose units\n", 100*r.Reach.MACs)
	}
	for i, p := range r.Reach.Pinned {
		if i < 5 || all {
			fmt.Fprintf(w, "    %5.1f %% cannot (%s): %s\n", 100*p.MACs, plural(len(p.Nodes), "layer", "layers"), p.Reason)
		}
	}
	if all {
		printGroups(w, r)
	}
}

// ratioText tells how a count changed.
func ratioText(before, after int64) string {
	if before == 0 {
		return "not known"
	}
	return fmt.Sprintf("%d → %d (%.2f)", before, after, float64(after)/float64(before))
}

// printGroups prints a line for each group of units and each layer.
func printGroups(w io.Writer, r *prune.Structure) {
	for _, g := range r.Groups {
		fmt.Fprintf(w, "    %-40s %4d of %4d %s went, with %.1f %% of the importance", g.Name, g.Removed, g.Units, g.Kind, 100*g.Importance)
		if g.Statistics != "" {
			fmt.Fprintf(w, "; %s takes statistics over them", g.Statistics)
		}
		fmt.Fprintln(w)
	}
	for _, l := range r.Layers {
		fmt.Fprintf(w, "    %-40s %v → %v, MACs %s\n", l.Node, l.Before, l.After, ratioText(l.MACs[0], l.MACs[1]))
	}
}

// printUnitRepairs sums up each repair.
func printUnitRepairs(w io.Writer, list []prune.UnitRepair) {
	for _, name := range prune.UnitRepairs() {
		kept, tried := 0, 0
		var before, after float64
		for _, r := range list {
			if r.Name != name || r.Note != "" && r.Before == 0 {
				continue
			}
			tried++
			before += r.Before
			if r.Kept {
				kept++
				after += r.After
			} else {
				after += r.Before
			}
		}
		if tried > 0 {
			fmt.Fprintf(w, "  repair %-5s kept for %d of %d; mean error on held-out data %.2f %% → %.2f %%\n", name, kept, tried,
				100*before/float64(tried), 100*after/float64(tried))
		}
	}
}

// printUnitSpeed says what the result takes here.
func printUnitSpeed(w io.Writer, r *prune.Shrunk) {
	l := r.Guarded.Latency
	switch {
	case l == nil:
		fmt.Fprintln(w, "  latency not measured")
	case l.Claim == measure.Faster:
		fmt.Fprintf(w, "  latency %.2f of before [%.2f, %.2f]\n", l.Ratio, l.CI95[0], l.CI95[1])
	default:
		fmt.Fprintf(w, "  latency %.2f of before [%.2f, %.2f]: not faster here\n", l.Ratio, l.CI95[0], l.CI95[1])
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/prune"
	"github.com/spf13/cobra"
)

// maskFlags are the flags of pruning that keeps shapes.
type maskFlags struct {
	c       *cobra.Command
	memory  int64 // MiB
	measure time.Duration
}

func (f *maskFlags) register(c *cobra.Command, o *prune.Options) {
	f.c = c
	p := c.Flags()
	p.StringVar(&o.Pattern, "pattern", "unstructured", "what goes together: channels, neurons, heads, hidden (the width of a transformer) or layers (residual blocks), which make tensors smaller; unstructured (single weights), N:M such as 2:4 (at most N of each M that are summed stay) or block:RxC (R weights that are summed, for C outputs), which become zero")
	p.StringVar(&o.Importance, "importance", prune.Magnitude, "how weights are ranked: "+strings.Join(prune.Importances(), ", ")+", all but magnitude with --data; how units are: "+
		joinNames(prune.UnitImportances())+", the last two with --data (default l2)")
	p.StringVar(&o.Repair, "repair", "auto", "make up for what was removed, in each layer only where the error on held-out data falls: auto (all of them, with data that is not generated), none, or some of "+
		strings.Join(prune.Repairs(), ",")+" for weights, of "+strings.Join(prune.UnitRepairs(), ",")+" for units")
	p.Int64Var(&f.memory, "max-memory", 0, "MiB of what is measured, and of activations, in memory at once; 0: 1024 of the former")
	p.IntVar(&o.Workers, "calibration-workers", 0, "runs at once on --data, each in a process of its own; 0: 1")
	p.BoolVar(&o.SparseStorage, "sparse-storage", false, "store weights by their non-zero elements where that is smaller and the engine takes it")
	p.DurationVar(&f.measure, "measure", 0, "time of runs for the latency of the result against the original (20s if none is given)")
	p.Lookup("measure").NoOptDefVal = "20s"
}

func (f *maskFlags) validate(o *prune.Options) error {
	switch {
	case f.memory < 0 || o.Workers < 0:
		return usagef("--max-memory and --calibration-workers must not be negative")
	case f.measure < 0:
		return usagef("--measure %v: give a positive time", f.measure)
	case f.c.Flags().Changed("sparsity") && prune.Settles(o.Pattern):
		return usagef("--pattern %s settles how many weights go; leave out --sparsity", o.Pattern)
	}
	o.MaxMemory = f.memory << 20
	if err := o.CheckNames(); err != nil {
		return usageError{err}
	}
	return nil
}

// engine gives prune an engine where it needs one.
func (f *maskFlags) engine(ctx context.Context, a *app, p *pruneFlags, o *prune.Options, e *engine) error {
	if e == nil {
		if o.Calibration == nil && !o.SparseStorage {
			return nil
		}
		var err error
		if e, err = a.engine(ctx, p.ef); err != nil {
			return err
		}
	}
	o.Open, o.Session = e.open, e.options
	return nil
}

// guard asks for a measurement of the result; nil where there is to be none.
func (f *maskFlags) guard(e *engine, o *prune.Options) (*produce.Guard, error) {
	switch {
	case f.measure == 0:
		return nil, nil
	case e == nil:
		return nil, usagef("--measure runs the result; leave out --no-verify")
	}
	return &produce.Guard{Full: f.measure, NoGains: true, Asked: prune.Asked(*o)}, nil
}

// printMasks prints which weights went, and what was done about it.
func printMasks(w io.Writer, r *prune.Result) {
	fmt.Fprintf(w, "  zeros %.1f %% → %.1f %% of the weights of %d tensors", 100*r.Before, 100*r.After, len(r.Weights))
	if r.Importance != prune.Magnitude || len(r.Audit) > 0 {
		fmt.Fprintf(w, ", %s by %s", r.Pattern, r.Importance)
	}
	fmt.Fprintln(w)
	if c := r.Calibration; c != nil {
		fmt.Fprintf(w, "  measured on %d samples (sha256 %s)", c.Samples, c.Digest)
		if c.Passes > 1 {
			fmt.Fprintf(w, ", in %d passes", c.Passes)
		}
		fmt.Fprintln(w)
		printUnmeasured(w, r.Weights)
	}
	for _, name := range r.Repair {
		printRepair(w, name, r.Weights)
	}
	printAudit(w, r)
	if s := r.Sparse; s != nil && s.Tensors == 0 {
		fmt.Fprintln(w, "  no tensor is smaller when stored sparsely, or the engine takes none; --explain says why")
	} else if s != nil {
		fmt.Fprintf(w, "  %s stored sparsely, %s → %s; %d stay dense\n", plural(s.Tensors, "tensor", "tensors"), bytesText(s.Before), bytesText(s.After), s.Dense)
	}
}

// printUnmeasured says for how many weights nothing was measured, and why.
func printUnmeasured(w io.Writer, list []prune.Weight) {
	count := map[string]int{}
	for _, x := range list {
		if x.Unmeasured != "" {
			count[x.Unmeasured]++
		}
	}
	for _, why := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(w, "  %s by magnitude alone: %s\n", plural(count[why], "tensor", "tensors"), why)
	}
}

// printRepair sums up one repair.
func printRepair(w io.Writer, name string, list []prune.Weight) {
	kept, tried := 0, 0
	before, after := 0.0, 0.0
	notes := map[string]int{}
	for _, x := range list {
		for _, r := range x.Repairs {
			if r.Name != name {
				continue
			}
			tried++
			if before += r.Before; r.Kept {
				kept++
				after += r.After
				continue
			}
			after += r.Before
			notes[r.Note]++
		}
	}
	fmt.Fprintf(w, "  repair %-5s kept for %d of %d tensors", name, kept, tried)
	if tried > 0 {
		fmt.Fprintf(w, "; mean error of their outputs on held-out data %.2f %% → %.2f %%", 100*before/float64(tried), 100*after/float64(tried))
	}
	fmt.Fprintln(w)
	for _, note := range slices.Sorted(maps.Keys(notes)) {
		fmt.Fprintf(w, "    not for %d: %s\n", notes[note], note)
	}
}

// printAudit says whether the output has the pattern.
func printAudit(w io.Writer, r *prune.Result) {
	if len(r.Audit) == 0 {
		return
	}
	valid := 0
	for _, x := range r.Audit {
		if x.Valid {
			valid++
		}
	}
	fmt.Fprintf(w, "  %s holds in %d of the %d weights of the output\n", r.Pattern, valid, len(r.Audit))
	for _, x := range r.Audit {
		if !x.Valid {
			fmt.Fprintf(w, "    not in %s of %s: %d of %d groups\n", x.Name, x.Node, x.Invalid, x.Groups)
		}
	}
}

// printSpeed says what the measured latency means.
func printSpeed(w io.Writer, e *engine, r *prune.Result) {
	l := r.Guarded.Latency
	switch {
	case l == nil:
		fmt.Fprintf(w, "  not measured; zeros give no speed on the CPU kernels of %s, which multiply by them like by any number\n", e.info.Name)
	case l.Claim == measure.Faster:
		fmt.Fprintf(w, "  the result is %.1f %% faster here, which is not owed to zeros being left out: the CPU kernels of %s multiply by them\n", 100*(1-l.Ratio), e.info.Name)
	case l.Claim == measure.Undecided:
		fmt.Fprintf(w, "  no speed is seen in zeros: the CPU kernels of %s multiply by them like by any number\n", e.info.Name)
	default:
		fmt.Fprintf(w, "  zeros give no speed here: the CPU kernels of %s multiply by them like by any number\n", e.info.Name)
	}
}

// printWeights prints a line for each weight.
func printWeights(w io.Writer, list []prune.Weight) {
	for _, x := range list {
		text := fmt.Sprintf("    %-32s %-10s %9d weights, zeros %5.1f %% → %5.1f %%, by %s", x.Name, x.Op, x.Elements,
			share(x.Before, x.Elements), share(x.After, x.Elements), x.Importance)
		if x.Error != nil {
			text += fmt.Sprintf(", error of the output %.2f %%", 100**x.Error)
		}
		for _, r := range x.Repairs {
			what := "kept"
			if !r.Kept {
				what = r.Note
			}
			text += fmt.Sprintf("; %s %.2f → %.2f %%: %s", r.Name, 100*r.Before, 100*r.After, what)
		}
		if x.Unmeasured != "" {
			text += "; not measured: " + x.Unmeasured
		}
		fmt.Fprintln(w, text)
	}
}

// joinNames lists names with commas between them.
func joinNames[T ~string](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, string(x))
	}
	return strings.Join(out, ", ")
}

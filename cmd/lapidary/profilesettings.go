package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/spf13/pflag"
)

// profileSettingFlags say how the engine runs the model that is timed.
type profileSettingFlags struct {
	level   string
	spin    bool
	arena   bool
	flush   bool
	options map[string]string
}

func (f *profileSettingFlags) register(p *pflag.FlagSet) {
	p.StringVar(&f.level, "level", "all", "how far the engine may rewrite the model: all, off, basic or extended")
	p.BoolVar(&f.spin, "spin", false, "let idle threads of the engine spin between operators")
	p.BoolVar(&f.arena, "arena", true, "let the engine keep the memory that it once had, in an arena")
	p.BoolVar(&f.flush, "flush-denormals", false, "let the engine take denormal numbers as zero")
	p.StringToStringVar(&f.options, "session-option", nil, "setting of the engine's session, as `KEY=VALUE`")
}

// apply puts the flags into a session's options.
func (f *profileSettingFlags) apply(o session.Options) (session.Options, error) {
	level, err := profile.ParseLevel(f.level)
	if err != nil {
		return o, usagef("--level: %w", err)
	}
	o.Level, o.Spin, o.NoArena, o.Flush = level, f.spin, !f.arena, f.flush
	if len(f.options) > 0 {
		o.Config = f.options
	}
	return o, nil
}

// profileLoadFlags ask for sweeps and load.
type profileLoadFlags struct {
	sweep     []string
	rate      float64
	slo       string
	instances int
	seconds   time.Duration
}

func (f *profileLoadFlags) register(p *pflag.FlagSet) {
	p.StringArrayVar(&f.sweep, "sweep", nil, "time the model under several `SETTING=VALUE,...`: threads, batch, dim.NAME, device, level, spin, arena, flush-denormals, or a session option; may be repeated")
	p.Float64Var(&f.rate, "load", 0, "requests per second that arrive by themselves (Poisson); latency counts from the arrival")
	p.StringVar(&f.slo, "slo", "", "latency that requests must keep, as 20ms or 20ms@p99; without --load, find the highest rate that does")
	p.IntVar(&f.instances, "instances", 0, "processes that serve requests side by side; 0: 1")
	p.DurationVar(&f.seconds, "load-time", 5*time.Second, "time of the load at one rate; longer where a quantile takes more requests")
}

func (f *profileLoadFlags) wanted() bool { return f.rate != 0 || f.slo != "" }

// check reads the flags, before anything runs.
func (f *profileLoadFlags) check(static bool) ([]profile.SweepAxis, *profile.Objective, error) {
	if static && (f.wanted() || len(f.sweep) > 0) {
		return nil, nil, usagef("--sweep, --load and --slo run the model, and --static runs nothing")
	}
	if !f.wanted() && f.instances != 0 {
		return nil, nil, usagef("--instances serve requests: give --load or --slo too")
	}
	if f.rate < 0 || f.instances < 0 || f.seconds <= 0 {
		return nil, nil, usagef("--load, --instances and --load-time must be above 0")
	}
	var axes []profile.SweepAxis
	if len(f.sweep) > 0 {
		var err error
		if axes, err = profile.ParseSweep(f.sweep); err != nil {
			return nil, nil, usagef("--sweep %w", err)
		}
	}
	objective, err := parseObjective(f.slo)
	return axes, objective, err
}

// parseObjective reads 20ms or 20ms@p99; nil for "".
func parseObjective(s string) (*profile.Objective, error) {
	if s == "" {
		return nil, nil
	}
	limit, quantile, named := strings.Cut(s, "@")
	d, err := time.ParseDuration(limit)
	if err != nil || d <= 0 {
		return nil, usagef("--slo %s: %q is no time above 0; write it as 20ms or 20ms@p99", s, limit)
	}
	o := &profile.Objective{MS: float64(d) / float64(time.Millisecond), Quantile: 0.99}
	if named {
		p, err := strconv.ParseFloat(strings.TrimPrefix(quantile, "p"), 64)
		if err != nil || !strings.HasPrefix(quantile, "p") || !(p > 0 && p < 100) {
			return nil, usagef("--slo %s: %q is no quantile between p0 and p100; write it as in 20ms@p99", s, quantile)
		}
		o.Quantile = p / 100
	}
	return o, nil
}

// timingBatches is how many batches of generated inputs a sweep takes in turn.
const timingBatches = 1

// sweep times the model under every combination of axes.
func (a *app) profileSweep(ctx context.Context, model string, axes []profile.SweepAxis, base session.Options, pf profileFlags, e *engine, df dataFlags) (*profile.Sweep, error) {
	show, done := a.count("sweeping")
	defer done()
	s, err := profile.RunSweep(ctx, model, e.open, profile.SweepOptions{
		Session: base, Batch: max(df.batch, 1), Dims: df.dims, Axes: axes, Processes: pf.processes, Budget: pf.budget, Seed: df.seed, Progress: show,
		MaxOpen: sessionsAtOnce(model, e),
		Inputs: func(ctx context.Context, batch int, dims map[string]int64) ([]map[string]*onnx.Tensor, error) {
			df := df
			df.batch, df.dims = batch, dims
			samples, got, err := timingInputs(ctx, model, df, timingBatches)
			if err == nil && got != batch {
				err = fmt.Errorf("model and data take batches of %d only", got)
			}
			return samples, err
		},
	})
	return s, err
}

// sessionsAtOnce is how many sessions of a model fit into half of the memory.
func sessionsAtOnce(model string, e *engine) int {
	const most, overhead = 12, 64 << 20
	static, err := profile.StaticFile(model, profile.StaticOptions{})
	memory := e.machine.Limits.Memory
	if memory == 0 {
		memory = e.machine.Limits.MemoryTotal
	}
	if err != nil || memory == 0 {
		return most
	}
	one := 2*static.Weights.Bytes + 2*static.Activations.PeakBytes + overhead
	return int(min(most, max(2, memory/2/one)))
}

// load puts requests on the model.
func (a *app) profileLoad(ctx context.Context, model string, o *profile.Objective, base session.Options, lf profileLoadFlags, e *engine, df dataFlags) (*profile.Load, error) {
	samples, _, err := timingInputs(ctx, model, df, maxTimingSamples)
	if err != nil {
		return nil, err
	}
	show, done := a.count("loading")
	defer done()
	if n := max(1, lf.instances) * max(1, base.Threads); lf.instances > 1 && n > e.threads.N {
		a.warn("%d instances of %d threads are more than the %d that this machine has for them (%s): they will wait for each other", lf.instances, base.Threads, e.machine.Threads().N, e.machine.Threads().Reason)
	}
	return profile.RunLoad(ctx, model, e.open, samples, profile.LoadOptions{
		Session: base, Rate: lf.rate, Objective: o, Instances: lf.instances, Duration: lf.seconds, Seed: df.seed, Progress: show,
	})
}

// maxTimingBytes bounds the generated inputs that are held to be timed in turn.
const maxTimingBytes = 256 << 20

// timingInputs returns up to n batches to time a model on, and how many samples
// one holds. Generated ones are made where there is no data.
func timingInputs(ctx context.Context, model string, df dataFlags, n int) ([]map[string]*onnx.Tensor, int, error) {
	batch := max(df.batch, 1)
	if df.spec == "" {
		set, err := df.openGenerated(model, n, batch)
		if err != nil {
			return nil, 0, err
		}
		defer set.Close()
		out, err := someBatches(ctx, set, n, 1) // a sample is a whole batch
		return out, batch, err
	}
	set, err := df.open(model)
	if err != nil {
		return nil, 0, err
	}
	defer set.Close()
	if fixed := set.BatchSize(); fixed > 0 {
		batch = fixed
	}
	out, err := someBatches(ctx, set, n, batch)
	return out, batch, err
}

// openGenerated opens n generated batches: inputs whose first dimension the
// model leaves open have that many samples.
func (f *dataFlags) openGenerated(model string, n, batch int) (*dataset.Set, error) {
	in, out, err := modelPorts(model)
	if err != nil {
		return nil, err
	}
	open := false
	for i := range in {
		t := in[i].Type
		if !t.IsTensor() || len(t.Shape) == 0 || t.Shape[0].Known() {
			continue
		}
		given, ok := f.dims[t.Shape[0].Param]
		if ok && batch > 1 && given != int64(batch) {
			return nil, usagef("--batch %d and --dim %s=%d both say how long the first dimension of input %q is", batch, t.Shape[0].Param, given, in[i].Name)
		}
		if !ok {
			t.Shape = slices.Clone(t.Shape)
			t.Shape[0] = onnx.Fixed(int64(batch))
		}
		open = true
	}
	if batch > 1 && !open {
		return nil, fmt.Errorf("batch %d: no input has a first dimension that the model leaves open", batch)
	}
	o, err := f.options(in, out)
	if err != nil {
		return nil, err
	}
	set, err := dataset.Open(fmt.Sprintf("synthetic:%d", n), o)
	if err != nil {
		return nil, fmt.Errorf("generating inputs: %w", err)
	}
	return set, nil
}

// someBatches returns up to n full batches, within a bound of memory.
func someBatches(ctx context.Context, set *dataset.Set, n, batch int) ([]map[string]*onnx.Tensor, error) {
	var out []map[string]*onnx.Tensor
	var size int64
	for b, err := range set.Batches(ctx, batch) {
		if err != nil {
			return nil, err
		}
		if held := len(b.Samples) + b.Padding; held < batch {
			if len(out) > 0 { // the last of the data
				break
			}
			return nil, fmt.Errorf("batch %d: the data gives %d samples that can be run at once", batch, held)
		}
		out = append(out, b.Inputs)
		for _, t := range b.Inputs {
			size += t.Size()
		}
		if len(out) == n || size > maxTimingBytes {
			break
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the data has no samples")
	}
	return out, nil
}

// isProfile tells the two kinds of files that diff compares apart.
func isProfile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && profile.IsProfile(path)
}

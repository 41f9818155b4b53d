package validate

import (
	"context"
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/quiet"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// defaultBudget is the wall time of the latency section, starting workers included.
const defaultBudget = 30 * time.Second

// defaultProcesses is the least number of fresh pairs of processes, unless fewer are allowed.
const defaultProcesses = 6

// latency times both models on the first batch of the data, by interleaved blocks in several pairs of fresh processes.
func (v *validation) latency(ctx context.Context) error {
	t := &timing{v: v}
	if err := t.inputs(ctx); err != nil {
		return err
	}
	l := v.o.Latency
	if l.Budget == 0 {
		l.Budget = defaultBudget
	}
	if l.Processes == 0 && l.MaxProcesses > 0 {
		l.Processes = min(defaultProcesses, l.MaxProcesses)
	}
	plan, err := measure.NewPlan(measure.PlanOptions{
		Seed: v.o.Seed, Processes: l.Processes, MaxProcesses: l.MaxProcesses, Pairs: l.Pairs, Budget: l.Budget, Precision: l.Precision,
	})
	if err != nil {
		return fmt.Errorf("timing: %w", err)
	}
	before := device.Snapshot(device.Options{})
	defer t.stop()
	for step := plan.Next(); step.Kind != measure.Finish; step = plan.Next() {
		began := time.Now()
		runs, err := t.do(ctx, step)
		if err != nil {
			return err
		}
		if err := plan.Record(time.Since(began), runs); err != nil {
			return fmt.Errorf("timing: %w", err)
		}
		v.o.progress("latency", int64(1000*plan.Progress()), 1000)
	}
	if err := t.end(); err != nil {
		return err
	}
	return t.report(plan, device.Snapshot(device.Options{}).Since(before))
}

// timing is the pair of workers that are timed at present, and what those before them cost.
type timing struct {
	v       *validation
	in      [2]map[string]*onnx.Tensor // by arm, in the model's own types
	batch   int
	workers [2]session.Session
	first   [2]int64 // involuntary switches before the first timed run
	counted bool

	peak     [2]int64     // most memory of any worker
	cold     [2][]float64 // ms until the end of the first run, per process
	switches int64
	metered  bool
}

// inputs takes the first batch of the data.
func (t *timing) inputs(ctx context.Context) error {
	for b, err := range t.v.set.Batches(ctx, max(t.v.o.Latency.Batch, 1)) {
		if err != nil {
			return err
		}
		t.batch = len(b.Samples) + b.Padding
		for arm := range t.in {
			in, err := t.v.set.Carrier().Feed(b.Samples[0])
			if err != nil {
				return err
			}
			if len(t.v.carried) == 0 {
				in = b.Inputs
			}
			t.in[arm] = in
		}
		in, err := t.v.bounds.inputs(t.in[1])
		if err != nil {
			return candidateFault("its inputs: %w", err)
		}
		t.in[1] = in
		return nil
	}
	return fmt.Errorf("timing: the data has no samples")
}

func (t *timing) do(ctx context.Context, step measure.Step) ([]time.Duration, error) {
	if step.Kind == measure.Start {
		if err := t.end(); err != nil {
			return nil, err
		}
		return nil, t.start(ctx, step.Process)
	}
	if step.Kind == measure.Time && !t.counted {
		t.counted = true
		for arm, w := range t.workers {
			if m, ok := w.(session.Meter); ok {
				if st, err := m.Stats(); err == nil {
					t.first[arm] = st.Switches
				}
			}
		}
	}
	runs, err := timeRuns(ctx, t.workers[step.Arm], t.in[step.Arm], step.Runs)
	return runs, t.blame(ctx, step.Arm, err)
}

// timeRuns lets a session time itself; one that cannot is asked for single runs.
func timeRuns(ctx context.Context, s session.Session, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if timer, ok := s.(session.Timer); ok {
		return timer.Time(ctx, in, n)
	}
	out := make([]time.Duration, n)
	for i := range out {
		r, err := s.Run(ctx, in)
		if err != nil {
			return nil, err
		}
		out[i] = r.Elapsed
	}
	return out, nil
}

func (t *timing) blame(ctx context.Context, arm measure.Arm, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case arm == measure.Candidate:
		return candidateFault("timing it: %w", err)
	}
	return fmt.Errorf("timing the baseline: %w", err)
}

// start opens two fresh workers, whose order alternates so that none always finds the caches warm.
func (t *timing) start(ctx context.Context, process int) error {
	paths := [2]string{t.v.o.Baseline, t.v.o.Candidate}
	t.counted = false
	for i := range paths {
		arm := (i + process) % 2
		s, err := t.v.o.Open(ctx, paths[arm], t.v.o.Session)
		if err != nil {
			return t.blame(ctx, measure.Arm(arm), err)
		}
		t.workers[arm] = s
	}
	return nil
}

// end reads what the workers cost and ends them.
func (t *timing) end() error {
	for arm, w := range t.workers {
		m, ok := w.(session.Meter)
		if !ok {
			continue
		}
		st, err := m.Stats()
		if err != nil {
			return t.blame(context.Background(), measure.Arm(arm), err)
		}
		t.peak[arm] = max(t.peak[arm], st.PeakMemory)
		if st.FirstRun > 0 {
			t.cold[arm] = append(t.cold[arm], 1e3*(st.Read+st.Create+st.FirstRun).Seconds())
		}
		t.switches += max(0, st.Switches-t.first[arm])
		t.metered = true
	}
	t.stop()
	return nil
}

func (t *timing) stop() {
	for arm, w := range t.workers {
		if w != nil {
			w.Close()
			t.workers[arm] = nil
		}
	}
}

// report fills the latency section.
func (t *timing) report(plan *measure.Plan, load device.Load) error {
	blocks := plan.Blocks()
	d, err := measure.Compare(blocks, measure.CompareOptions{Seed: t.v.o.Seed, Pilot: plan.Pilot()})
	if err != nil {
		return fmt.Errorf("timing: %w", err)
	}
	l := &report.Latency{
		Ratio: report.Num(d.Ratio), CI95: report.CI(d.Interval.Low, d.Interval.High), MinEffect: report.Num(d.MDE),
		Pairs: d.Pairs, Processes: d.Processes, Batch: t.batch, Iterations: blocks[len(blocks)-1].Runs,
		Warmup: warmup(plan.Warmups()), Series: &report.Series{},
	}
	for _, b := range blocks {
		l.Series.BaselineMS = append(l.Series.BaselineMS, 1e3*b.Baseline)
		l.Series.CandidateMS = append(l.Series.CandidateMS, 1e3*b.Candidate)
	}
	if err := quantiles(l, plan); err != nil {
		return err
	}
	if t.peak[0] > 0 && t.peak[1] > 0 {
		l.Memory = &report.Memory{BaselinePeakBytes: t.peak[0], CandidatePeakBytes: t.peak[1]}
	}
	if len(t.cold[0]) > 0 && len(t.cold[1]) > 0 {
		l.ColdStart = &report.ColdStart{BaselineMS: report.Num(measure.Median(t.cold[0])), CandidateMS: report.Num(measure.Median(t.cold[1]))}
	}
	t.noise(l, blocks, plan.Warmups(), load, d.Warnings)
	if plan.Reason() == measure.StopBudget {
		t.v.warn("latency: the time allowed ended the measurement before the ratio's interval was as narrow as asked")
	}
	t.v.r.Latency = l
	return nil
}

// warmup returns the median over workers of the runs that came before the first pair.
func warmup(ws []measure.Warmup) int {
	n := make([]float64, len(ws))
	for i, w := range ws {
		n[i] = float64(w.Runs)
	}
	return int(measure.Median(n))
}

// quantiles describes single runs; a quantile that too few runs support stays absent.
func quantiles(l *report.Latency, plan *measure.Plan) error {
	var ms [2][]float64
	var sum [2]*measure.Summary
	for arm := range ms {
		seconds, _ := plan.Samples(measure.Arm(arm))
		for _, s := range seconds {
			ms[arm] = append(ms[arm], 1e3*s)
		}
		var err error
		if sum[arm], err = measure.Summarize(ms[arm], 0); err != nil {
			return fmt.Errorf("timing: %w", err)
		}
	}
	l.BaselineMS, l.CandidateMS = report.Num(measure.Median(ms[0])), report.Num(measure.Median(ms[1]))
	l.Histogram = report.NewHistogram(ms[0], ms[1], 40)
	l.P50, l.P90 = quantile(sum[0].Median, sum[1].Median), quantile(sum[0].P90, sum[1].P90)
	l.P95, l.P99 = quantile(sum[0].P95, sum[1].P95), quantile(sum[0].P99, sum[1].P99)
	return nil
}

func quantile(b, c *measure.Quantile) *report.Quantile {
	if b == nil || c == nil {
		return nil
	}
	return &report.Quantile{
		BaselineMS: b.Value, BaselineCI95: report.CI(b.Low, b.High), CandidateMS: c.Value, CandidateCI95: report.CI(c.Low, c.High),
	}
}

// noise says how quiet the machine was. Severe noise takes the intervals away, so that gates on latency are inconclusive: the
// measurement supports no conclusion in either direction.
func (t *timing) noise(l *report.Latency, blocks []measure.Block, ws []measure.Warmup, load device.Load, doubts []measure.Warning) {
	n := measure.NoiseOf(blocks, ws)
	c := t.counters(load)
	l.Noise = &report.Noise{Lag1: report.Num(n.Lag1), TrendP: report.Num(n.Trend.P), Steal: load.Steal}
	if load.ThrottledPeriods != nil {
		l.Noise.Throttled = report.Count(int64(*load.ThrottledPeriods))
	}
	l.Noise.ContextSwitches = c.InvoluntarySwitch
	severe := ""
	for _, list := range [][]measure.Warning{doubts, n.Warnings, c.Warnings()} {
		for _, w := range list {
			l.Noise.Warnings = append(l.Noise.Warnings, w.Message)
			if w.Severity == measure.Severe && severe == "" {
				severe = w.Message
			}
		}
	}
	if severe == "" {
		return
	}
	t.v.warn("latency: no conclusion can be drawn, so no interval is stated: %s", severe)
	l.CI95 = nil
	for _, q := range []*report.Quantile{l.P50, l.P90, l.P95, l.P99} {
		if q != nil {
			q.BaselineCI95, q.CandidateCI95 = nil, nil
		}
	}
}

// counters is what the machine's own records say of the measurement.
func (t *timing) counters(load device.Load) measure.Counters {
	var switches *int64
	if t.metered {
		switches = &t.switches
	}
	c := quiet.Counters(t.v.o.Machine, load, switches)
	if g := t.v.o.Choice.GPU; g != nil {
		c.GPUThrottle = g.Slowdown
	}
	return c
}

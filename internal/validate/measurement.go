package validate

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/quiet"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// measurement is a comparison of times, and what the machine did meanwhile.
type measurement struct {
	plan   *measure.Plan
	d      *measure.Difference
	load   device.Load
	gpu    *device.GPUUse
	noise  report.Noise
	severe string // why no conclusion may be drawn; "" where one may
}

// watch begins to count what the machine does.
func (v *validation) watch() *quiet.Watch {
	var load func() device.Load
	if v.o.Latency.Watch != nil {
		load = v.o.Latency.Watch()
	}
	open := v.o.Latency.GPU
	if open == nil && v.o.Choice.GPU != nil {
		open = func() (device.GPUMeter, error) { return device.OpenGPUMeter(*v.o.Choice.GPU) }
	}
	if open == nil {
		return quiet.Begin(load, nil)
	}
	m, err := open()
	if err != nil {
		v.warn("latency: why the GPU's clocks were lowered, if they were, is not known: %v", err)
		return quiet.Begin(load, nil)
	}
	return quiet.Begin(load, m)
}

// judge asks every detector of noise. What is mild is a warning; for what is severe, the measurement supports no conclusion in
// either direction.
func (m *measurement) judge(t *timing) {
	n := measure.NoiseOf(m.plan.Blocks(), m.plan.Warmups())
	c := t.counters(m.load, m.gpu)
	m.noise = report.Noise{
		Lag1: report.Num(n.Lag1), TrendP: report.Num(n.Trend.P), Drift: report.Num(n.Drift), Steal: m.load.Steal, CPUPressure: m.load.Pressure,
		ContextSwitches: c.InvoluntarySwitch, GPULimits: c.GPUThrottle, GPULimited: c.GPULimited,
	}
	if n.Bimodality.Bimodal() {
		m.noise.Modes = report.Num(n.Bimodality.Ratio)
	}
	if m.load.ThrottledPeriods != nil {
		m.noise.Throttled = report.Count(int64(*m.load.ThrottledPeriods))
	}
	for _, list := range [][]measure.Warning{m.d.Warnings, n.Warnings, c.Warnings()} {
		for _, w := range list {
			m.noise.Warnings = append(m.noise.Warnings, w.Message)
			if w.Severity == measure.Severe && m.severe == "" {
				m.severe = w.Message
			}
		}
	}
	m.noise.Severe = m.severe
}

// counters is what the machine's own records say of the measurement.
func (t *timing) counters(load device.Load, gpu *device.GPUUse) measure.Counters {
	var switches *int64
	if t.metered {
		switches = &t.switches
	}
	c := quiet.Counters(t.v.o.Machine, load, switches)
	switch g := t.v.o.Choice.GPU; {
	case gpu != nil:
		c.GPUThrottle = gpu.Limiting
		if len(gpu.Limiting) > 0 {
			c.GPULimited = &gpu.Limited
		}
	case g != nil:
		c.GPUThrottle = g.Slowdown
	}
	return c
}

// interval returns an interval of the measurement, and nothing where noise forbids one.
func (m *measurement) interval(i measure.Interval) *report.Interval {
	if m.severe != "" || i.Method == "" {
		return nil
	}
	return report.CI(i.Low, i.High)
}

// report fills the latency section.
func (t *timing) report(m *measurement) error {
	blocks, d := m.plan.Blocks(), m.d
	l := &report.Latency{
		Ratio: report.Num(d.Ratio), CI95: m.interval(d.Interval), CIMethod: d.Interval.Method, ClusterCI95: m.interval(d.Cluster),
		MinEffect: report.Num(d.MDE), Pairs: d.Pairs, Processes: d.Processes, Batch: t.batch, Iterations: blocks[len(blocks)-1].Runs,
		Warmup: warmup(m.plan.Warmups()), Stopped: string(m.plan.Reason()), Series: &report.Series{}, Noise: &m.noise,
	}
	for _, b := range blocks {
		l.Series.BaselineMS = append(l.Series.BaselineMS, 1e3*b.Baseline)
		l.Series.CandidateMS = append(l.Series.CandidateMS, 1e3*b.Candidate)
	}
	if err := quantiles(l, m); err != nil {
		return err
	}
	if err := deltas(l, m); err != nil {
		return err
	}
	var err error
	if l.Memory, err = memory(t.peaks); err != nil {
		return err
	}
	if l.ColdStart, err = coldStart(t.cold, m.severe != ""); err != nil {
		return err
	}
	if m.severe != "" {
		l.CIMethod = ""
		t.v.warn("latency: no conclusion can be drawn, so no interval is stated: %s", m.severe)
	}
	if m.plan.Reason() == measure.StopBudget {
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
func quantiles(l *report.Latency, m *measurement) error {
	var ms [2][]float64
	var sum [2]*measure.Summary
	for arm := range ms {
		seconds, _ := m.plan.Samples(measure.Arm(arm))
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
	b, c := sum[0], sum[1]
	l.P50, l.P90 = quantile(b.Median, c.Median), quantile(b.P90, c.P90)
	l.P95, l.P99 = quantile(b.P95, c.P95), quantile(b.P99, c.P99)
	for p, q := range map[float64]*report.Quantile{0.9: l.P90, 0.95: l.P95, 0.99: l.P99} {
		if q != nil && m.severe == "" {
			q.EarlyStopping = bounds(p, b.EarlyStopping, c.EarlyStopping)
		}
	}
	if m.severe == "" {
		return nil
	}
	for _, q := range []*report.Quantile{l.P50, l.P90, l.P95, l.P99} {
		if q != nil {
			q.BaselineCI95, q.CandidateCI95 = nil, nil
		}
	}
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

// deltas states by how much the candidate's quantiles lie above the baseline's.
func deltas(l *report.Latency, m *measurement) error {
	b, c := m.plan.Timed(measure.Baseline), m.plan.Timed(measure.Candidate)
	for _, q := range []struct {
		p    float64
		into *report.Quantile
	}{{0.5, l.P50}, {0.9, l.P90}, {0.95, l.P95}, {0.99, l.P99}} {
		if q.into == nil {
			continue
		}
		d, err := measure.QuantileDelta(b, c, q.p, 0, m.plan.Pilot())
		if err != nil {
			return fmt.Errorf("timing: %w", err)
		}
		if d == nil {
			continue
		}
		q.into.DeltaMS = report.Num(1e3 * d.Value)
		if i := m.interval(d.Interval); i != nil {
			q.into.DeltaCI95 = report.CI(1e3*i[0], 1e3*i[1])
		}
	}
	return nil
}

// memory compares the peaks of pairs of processes; nil where the engine does not tell them. Noise of the machine does not touch them.
func memory(peaks [2][]float64) (*report.Memory, error) {
	if len(peaks[0]) == 0 {
		return nil, nil
	}
	m := &report.Memory{BaselinePeakBytes: int64(slices.Max(peaks[0])), CandidatePeakBytes: int64(slices.Max(peaks[1]))}
	d, err := measure.MeanDelta(peaks[0], peaks[1], 0, 0)
	if err != nil {
		return nil, fmt.Errorf("peak memory: %w", err)
	}
	m.DeltaBytes = report.Num(d.Value)
	if d.Interval.Method != "" {
		m.DeltaCI95 = report.CI(d.Interval.Low, d.Interval.High)
	}
	return m, nil
}

// bounds returns the early-stopping estimates of the p-quantile, where both models have one.
func bounds(p float64, baseline, candidate []measure.Bound) *report.Bounds {
	at := func(list []measure.Bound) (float64, bool) {
		for _, b := range list {
			if b.P == p {
				return b.Value, true
			}
		}
		return 0, false
	}
	b, ok := at(baseline)
	c, both := at(candidate)
	if !ok || !both {
		return nil
	}
	return &report.Bounds{BaselineMS: b, CandidateMS: c}
}

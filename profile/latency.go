package profile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/quiet"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// runner times a model in several sessions.
type runner struct {
	o       TimedOptions
	path    string
	open    session.Opener
	samples []map[string]*onnx.Tensor
	shapes  []string // distinct shapes of samples
	byShape []int    // the first sample of each

	batch       int // runs timed in one go
	seconds     []float64
	series      [][]float64 // seconds by session
	blocks      []measure.Block
	warmups     []measure.Warmup
	stats       []session.Stats
	before      device.Busy // as the runs began
	done, total int64
}

// distinctShapes returns the distinct types of the samples' inputs in order of
// appearance, and the first sample of each.
func distinctShapes(samples []map[string]*onnx.Tensor) (shapes []string, firsts []int) {
	seen := map[string]bool{}
	for i, s := range samples {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(s)) {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s:%v", name, s[name].Type())
		}
		if !seen[b.String()] {
			seen[b.String()] = true
			shapes, firsts = append(shapes, b.String()), append(firsts, i)
		}
	}
	return shapes, firsts
}

// begin opens a fresh session and warms it up within limit; spent is the time
// that the warm-up took.
func (r *runner) begin(ctx context.Context, index int, limit time.Duration) (s session.Session, out *SessionRuns, spent time.Duration, err error) {
	began := r.o.Clock()
	if s, err = r.open(ctx, r.path, r.o.Session); err != nil {
		return nil, nil, 0, err
	}
	out = &SessionRuns{OpenMS: ms(r.o.Clock().Sub(began))}
	first, err := s.Run(ctx, r.samples[0])
	if err == nil {
		out.FirstRunMS = ms(first.Elapsed)
		spent, err = r.warm(ctx, s, out, limit)
	}
	if err != nil {
		s.Close()
		return nil, nil, 0, err
	}
	r.warmups = append(r.warmups, measure.Warmup{Process: index, Runs: out.Warmup, First: first.Elapsed.Seconds(), Steady: out.Steady})
	return s, out, spent, nil
}

// process times the model in a fresh session.
func (r *runner) process(ctx context.Context, index int) (_ *SessionRuns, err error) {
	share := r.o.Budget / time.Duration(r.o.Processes+1)
	s, out, spent, err := r.begin(ctx, index, time.Duration(warmupShare*float64(share)))
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := s.Close(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	times, err := r.measure(ctx, s, index, share-spent)
	if err != nil {
		return nil, err
	}
	out.Runs, out.MedianMS = len(times), 1e3*measure.Median(times)
	r.seconds = append(r.seconds, times...)
	r.series = append(r.series, times)
	r.meter(s, out)
	return out, nil
}

// meter takes over what the engine knows of itself.
func (r *runner) meter(s session.Session, out *SessionRuns) {
	m, ok := s.(session.Meter)
	if !ok {
		return
	}
	if st, err := m.Stats(); err == nil {
		r.stats = append(r.stats, st)
		out.add(st)
	}
}

// add takes over what the engine knows of itself.
func (s *SessionRuns) add(st session.Stats) {
	if st.Read > 0 {
		s.ReadMS = pointer(ms(st.Read))
	}
	if st.Create > 0 {
		s.CreateMS = pointer(ms(st.Create))
	}
	if st.Read > 0 && st.Create > 0 {
		s.StartMS = pointer(max(0, s.OpenMS-ms(st.Read)-ms(st.Create)))
	}
	s.PeakBytes, s.BaseBytes, s.Switches = max(0, st.PeakMemory), max(0, st.BaseMemory), max(0, st.Switches)
}

// warm runs each distinct shape until its timings are steady, or its share of
// the limit is used up.
func (r *runner) warm(ctx context.Context, s session.Session, out *SessionRuns, limit time.Duration) (time.Duration, error) {
	out.Steady = true
	var all time.Duration
	for _, sample := range r.byShape {
		var series []float64
		var spent time.Duration
		for steady, batches := false, 0; !steady; batches++ {
			if spent >= limit/time.Duration(len(r.byShape)) && batches >= 2 {
				out.Steady = false
				break
			}
			times, err := r.time(ctx, s, sample, r.batch)
			if err != nil {
				return 0, err
			}
			total := sum(times)
			spent += total
			out.Warmup += len(times)
			if total < r.o.MinBlock && r.batch < maxBatch && batches > 0 {
				r.batch *= 2
				series = nil
				continue
			}
			series = append(series, total.Seconds()/float64(len(times)))
			steady = r.o.Steadiness.Steady(series)
		}
		all += spent
	}
	return all, nil
}

// measure times batches of the samples in turn and returns seconds per run.
func (r *runner) measure(ctx context.Context, s session.Session, index int, budget time.Duration) ([]float64, error) {
	want := max(minRuns, (r.o.Runs+r.o.Processes-1)/r.o.Processes)
	var out []float64
	var spent time.Duration
	for turn := 0; len(out) < want && (spent < budget || len(out) < minRuns); turn++ {
		batch := min(r.batch, want-len(out))
		times, err := r.time(ctx, s, turn%len(r.samples), batch)
		if err != nil {
			return nil, err
		}
		total := sum(times)
		spent += total
		for _, d := range times {
			out = append(out, d.Seconds())
		}
		r.blocks = append(r.blocks, measure.Block{Process: index, Runs: len(times), Baseline: total.Seconds() / float64(len(times))})
		r.done += int64(len(times))
		r.o.Progress(min(r.done, r.total), r.total)
	}
	return out, nil
}

// time runs a sample n times.
func (r *runner) time(ctx context.Context, s session.Session, sample, n int) ([]time.Duration, error) {
	if t, ok := s.(session.Timer); ok {
		times, err := t.Time(ctx, r.samples[sample], n)
		if err == nil && len(times) != n {
			err = fmt.Errorf("timing %s: the engine gave %d times for %d runs", r.path, len(times), n)
		}
		return times, err
	}
	out := make([]time.Duration, 0, n)
	for range n {
		res, err := s.Run(ctx, r.samples[sample])
		if err != nil {
			return nil, err
		}
		out = append(out, res.Elapsed)
	}
	return out, nil
}

// summarize fills in latency, cold start and memory.
func (r *runner) summarize(t *TimedProfile) error {
	s, err := measure.Summarize(r.seconds, 0)
	if err != nil {
		return err
	}
	t.Latency = Latency{
		Runs: s.N, MeanMS: 1e3 * s.Mean, SDMS: 1e3 * s.SD, MinMS: 1e3 * s.Min, MaxMS: 1e3 * s.Max, Outliers: s.Outliers,
		P50: quantile(s.Median), P90: quantile(s.P90), P95: quantile(s.P95), P99: quantile(s.P99),
	}
	if s.Mean > 0 {
		t.PerSecond = 1 / s.Mean
		t.SamplesPerSecond = float64(t.Batch) / s.Mean
	}
	t.Series = r.series
	t.warn(s.Warnings...)
	r.noise(t)
	r.betweenSessions(t)
	t.Cold = coldOf(t.Sessions, 1e3*measure.Median(r.seconds))
	var peaks, bases []float64
	for _, s := range t.Sessions {
		if s.PeakBytes > 0 {
			peaks, bases = append(peaks, float64(s.PeakBytes)), append(bases, float64(s.BaseBytes))
		}
	}
	if len(peaks) > 0 {
		m := &Memory{PeakBytes: int64(measure.Median(peaks)), BaseBytes: int64(measure.Median(bases))}
		m.OwnBytes = max(0, m.PeakBytes-m.BaseBytes)
		t.Memory = m
	}
	for _, st := range r.stats {
		t.Provider = st.Provider
		if st.Fallbacks >= 0 {
			t.Fallbacks = pointer(st.Fallbacks)
		}
	}
	return nil
}

// noise judges how independent the runs were, and how quiet the machine was.
func (r *runner) noise(t *TimedProfile) {
	n := &Noise{}
	if len(r.shapes) == 1 && len(r.samples) == 1 { // several samples differ for a reason
		of := measure.NoiseOf(r.blocks, r.warmups)
		n.Lag1, n.TrendP, n.Drift = pointer(of.Lag1), pointer(of.Trend.P), pointer(of.Drift)
		t.Noise = n
		t.warn(selfNoise(of)...)
	}
	if r.o.Machine == nil {
		return
	}
	t.Noise = n
	var switches *int64
	if len(r.stats) == len(t.Sessions) {
		switches = new(int64)
		for _, st := range r.stats {
			*switches += st.Switches
		}
	}
	load := device.Snapshot(device.Options{}).Since(r.before)
	n.Steal, n.Pressure, n.Switches = load.Steal, load.Pressure, switches
	if load.ThrottledPeriods != nil {
		n.ThrottledPeriods = pointer(int64(*load.ThrottledPeriods))
	}
	t.warn(quiet.Counters(*r.o.Machine, load, switches).Warnings()...)
}

// selfNoise words the warnings of a comparison's noise for one model alone.
func selfNoise(n measure.Noise) []measure.Warning {
	out := slices.Clone(n.Warnings)
	for i := range out {
		out[i].Message = strings.ReplaceAll(strings.ReplaceAll(out[i].Message, "the baseline", "the model"), "pairs", "batches")
	}
	return out
}

// betweenSessions warns where fresh sessions disagree by more than their runs explain.
func (r *runner) betweenSessions(t *TimedProfile) {
	lo, hi := t.Sessions[0].MedianMS, t.Sessions[0].MedianMS
	for _, s := range t.Sessions {
		lo, hi = min(lo, s.MedianMS), max(hi, s.MedianMS)
	}
	if lo > 0 && hi/lo > 1.05 {
		t.warn(measure.Warning{Code: "sessions-differ", Severity: measure.Warn,
			Message: fmt.Sprintf("the medians of fresh sessions differ by %.0f %%: intervals over all runs together are too narrow", 100*(hi/lo-1))})
	}
}

// coldOf returns the medians of the sessions' cold starts; steady is the median run in ms.
func coldOf(sessions []SessionRuns, steady float64) Cold {
	middle := func(get func(*SessionRuns) *float64) *float64 {
		var v []float64
		for i := range sessions {
			if x := get(&sessions[i]); x != nil {
				v = append(v, *x)
			}
		}
		if len(v) == 0 {
			return nil
		}
		return pointer(measure.Median(v))
	}
	c := Cold{
		OpenMS:     *middle(func(s *SessionRuns) *float64 { return &s.OpenMS }),
		FirstRunMS: *middle(func(s *SessionRuns) *float64 { return &s.FirstRunMS }),
		StartMS:    middle(func(s *SessionRuns) *float64 { return s.StartMS }),
		ReadMS:     middle(func(s *SessionRuns) *float64 { return s.ReadMS }),
		CreateMS:   middle(func(s *SessionRuns) *float64 { return s.CreateMS }),
	}
	if steady > 0 {
		c.Slowdown = c.FirstRunMS / steady
	}
	return c
}

func quantile(q *measure.Quantile) *Quantile {
	if q == nil {
		return nil
	}
	return &Quantile{MS: 1e3 * q.Value, CI95: [2]float64{1e3 * q.Low, 1e3 * q.High}}
}

func pointer[T any](v T) *T { return &v }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sum(times []time.Duration) time.Duration {
	var total time.Duration
	for _, d := range times {
		total += d
	}
	return total
}

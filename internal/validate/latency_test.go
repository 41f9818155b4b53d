package validate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// simulated is a machine on which fakes run: each fresh process has an offset, each run its noise, and all share a drift.
type simulated struct {
	mu             sync.Mutex
	rng            *rand.Rand
	between, white float64
	drift          float64
	joules         float64 // used so far
}

// drawn is a fake whose runs take the time that the simulated machine draws.
type drawn struct {
	fake
	m      *simulated
	offset float64
	slow   float64 // relative
	memory int64   // bytes beyond 50 MiB
	joules float64 // per run
}

func (f *drawn) Time(_ context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if err := session.CheckInputs(f.Inputs(), nil, in); err != nil {
		return nil, err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	out := make([]time.Duration, n)
	for i := range out {
		f.m.drift = 0.98*f.m.drift + 0.0008*f.m.rng.NormFloat64()
		out[i] = time.Duration(float64(f.each) * (1 + f.slow) * math.Exp(f.m.drift+f.offset+f.m.white*f.m.rng.NormFloat64()))
		f.m.joules += f.joules
	}
	return out, nil
}

func (f *drawn) Stats() (session.Stats, error) {
	return session.Stats{
		Read: 2 * time.Millisecond, Create: time.Duration((1 + f.slow) * float64(40*time.Millisecond)), FirstRun: 3 * time.Millisecond,
		PeakMemory: 50<<20 + f.memory, Fallbacks: -1,
	}, nil
}

// simulatedOptions times a fake against one that is slower by a share.
func simulatedOptions(t *testing.T, m *simulated, slow float64) Options {
	t.Helper()
	o := fakeOptions(t, sound())
	o.Accuracy.Off = true
	o.Latency = Latency{Budget: time.Hour, Energy: func() (device.EnergyMeter, error) { return nil, errors.New("there is none") }}
	o.Open = func(_ context.Context, path string, _ session.Options) (session.Session, error) {
		f := &drawn{fake: sound(), m: m, joules: 0.002}
		f.offset = m.between * m.rng.NormFloat64()
		if filepath.Base(path) == "b.onnx" {
			f.slow, f.joules = slow, 0.001
		}
		return f, nil
	}
	quietly := device.Load{Elapsed: time.Second}
	o.Latency.Watch = func() func() device.Load { return func() device.Load { return quietly } }
	return o
}

func newSimulated(between, white float64) *simulated {
	return &simulated{rng: rand.New(rand.NewPCG(7, 11)), between: between, white: white}
}

// TestSlowCandidates: a slow-down of 5 % fails at a gate that allows 2 %, equal models pass there, and where the noise is larger than the
// effect nothing is decided.
func TestSlowCandidates(t *testing.T) {
	for _, tt := range []struct {
		name           string
		between, slow  float64
		processes      int
		want           report.Verdict
		reason         string
		maxRatio, stop string
	}{
		{"equal", 0.003, 0, 0, report.Pass, "at or below the limit", "1.02", "precise"},
		{"5 % slower", 0.003, 0.05, 0, report.Fail, "above the limit", "1.02", "precise"},
		{"5 % slower and accepted", 0.003, 0.05, 0, report.Pass, "at or below the limit", "1.1", "precise"},
		{"5 % slower and 20 % between few processes", 0.2, 0.05, 6, report.Inconclusive, "contains the limit", "1.02", "processes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := simulatedOptions(t, newSimulated(tt.between, 0.01), tt.slow)
			o.Latency.MaxProcesses = tt.processes
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if v := judged(t, r, map[string]string{"max-latency-ratio": tt.maxRatio}); v != tt.want || !strings.Contains(r.Gates[0].Reason, tt.reason) {
				t.Errorf("%s: %s; want %s, %q", v, r.Gates[0].Reason, tt.want, tt.reason)
			}
			l := r.Latency
			if l.Stopped != tt.stop || l.CIMethod != "process-t" || l.ClusterCI95 == nil || l.Processes < 6 {
				t.Errorf("stopped %s after %d processes, interval by %s, %v by bootstrap over processes", l.Stopped, l.Processes, l.CIMethod, l.ClusterCI95)
			}
		})
	}
}

// TestDifferences: what the candidate takes more is stated in milliseconds and bytes, with intervals from one process to the next, and fails
// at a gate that allows less.
func TestDifferences(t *testing.T) {
	m := newSimulated(0.003, 0.01)
	o := simulatedOptions(t, m, 0.05)
	open := o.Open
	o.Open = func(ctx context.Context, path string, so session.Options) (session.Session, error) {
		s, err := open(ctx, path, so)
		if d := s.(*drawn); d.slow > 0 {
			d.memory = 8<<20 + int64(m.rng.NormFloat64()*(64<<10))
		}
		return s, err
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Latency
	for name, q := range map[string]*report.Quantile{"p50": l.P50, "p90": l.P90} {
		if q.DeltaMS == nil || q.DeltaCI95 == nil || !(q.DeltaCI95[0] < *q.DeltaMS && *q.DeltaMS < q.DeltaCI95[1]) {
			t.Fatalf("%s: %+v; want a difference inside of its interval", name, q)
		}
		if want := 0.05 * q.BaselineMS; math.Abs(*q.DeltaMS-want) > 0.5*want {
			t.Errorf("%s: the difference is %v ms, want about %v", name, *q.DeltaMS, want)
		}
	}
	if d := l.Memory; d.DeltaBytes == nil || d.DeltaCI95 == nil || math.Abs(*d.DeltaBytes-(8<<20)) > 128<<10 || d.DeltaCI95[1]-d.DeltaCI95[0] > 1<<20 {
		t.Errorf("memory %+v; want 8 MiB more", d)
	}
	each := l.P50.BaselineMS
	for _, tt := range []struct {
		name, limit string
		want        report.Verdict
	}{
		{"max-latency-delta", fmt.Sprintf("%.6fms", 0.02*each), report.Fail},
		{"max-latency-delta", fmt.Sprintf("%.6fms", 0.1*each), report.Pass},
		{"max-memory-delta", "4MiB", report.Fail},
		{"max-memory-delta", "16MiB", report.Pass},
	} {
		if v := judged(t, r, map[string]string{tt.name: tt.limit}); v != tt.want {
			t.Errorf("%s %s: %s, %s; want %s", tt.name, tt.limit, v, r.Gates[0].Reason, tt.want)
		}
	}
}

// overheated is a GPU whose clocks are lowered for a reason.
type overheated string

func (g overheated) Read() device.GPUReading {
	return device.GPUReading{At: time.Now(), Limiting: []string{string(g)}}
}
func (overheated) Close() error { return nil }

// TestDetectors: what the machine does while models are timed reaches the gate: as a warning, or as the reason why nothing is decided.
func TestDetectors(t *testing.T) {
	num := func(v float64) *float64 { return &v }
	periods := func(n uint64) *uint64 { return &n }
	for _, tt := range []struct {
		name   string
		load   device.Load
		gpu    string
		mild   string // part of a warning; the verdict stands
		severe string // part of the reason; the verdict is inconclusive
	}{
		{name: "quiet"},
		{name: "a little steal", load: device.Load{Steal: num(0.05)}, mild: "hypervisor took 5.0 %"},
		{name: "steal", load: device.Load{Steal: num(0.5)}, severe: "hypervisor took 50.0 %"},
		{name: "a little throttling", load: device.Load{ThrottledPeriods: periods(1)}, mild: "quota stopped the processes in 10.0 %"},
		{name: "throttling", load: device.Load{ThrottledPeriods: periods(8)}, severe: "quota stopped the processes in 80.0 %"},
		{name: "some pressure", load: device.Load{Pressure: num(0.2)}, mild: "waited for a processor during 20 %"},
		{name: "pressure", load: device.Load{Pressure: num(0.9)}, severe: "waited for a processor during 90 %"},
		{name: "power cap", gpu: "power-cap", mild: "lowered its clocks in 100 % of the readings: power-cap"},
		{name: "heat", gpu: "thermal", severe: "lowered its clocks in 100 % of the readings: thermal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := simulatedOptions(t, newSimulated(0.003, 0.01), 0)
			o.Machine.CPU.Logical = 4
			tt.load.Elapsed = time.Second
			o.Latency.Watch = func() func() device.Load { return func() device.Load { return tt.load } }
			if tt.gpu != "" {
				o.Latency.GPU = func() (device.GPUMeter, error) { return overheated(tt.gpu), nil }
			}
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			v := judged(t, r, map[string]string{"max-latency-ratio": "1.05", "max-cold-start-ratio": "1.05"})
			l := r.Latency
			if tt.severe == "" {
				warned := slices.ContainsFunc(l.Noise.Warnings, func(w string) bool { return strings.Contains(w, tt.mild) })
				if v != report.Pass || l.CI95 == nil || tt.mild != "" && !warned {
					t.Errorf("verdict %s, warnings %q; want a pass and %q", v, l.Noise.Warnings, tt.mild)
				}
				return
			}
			if v != report.Inconclusive || l.CI95 != nil || l.ClusterCI95 != nil || l.P50.BaselineCI95 != nil || l.P50.DeltaCI95 != nil || l.P90.EarlyStopping != nil || l.ColdStart.CI95 != nil {
				t.Errorf("verdict %s, latency %+v; want no conclusion and no interval", v, l)
			}
			for _, g := range r.Gates {
				if !strings.Contains(g.Reason, tt.severe) {
					t.Errorf("%s: %q does not say %q", g.Name, g.Reason, tt.severe)
				}
			}
		})
	}
}

// TestDriftReachesTheGate: a machine that becomes twice as slow while it is measured was not in one state.
func TestDriftReachesTheGate(t *testing.T) {
	m := newSimulated(0.003, 0.01)
	o := simulatedOptions(t, m, 0)
	open, opened := o.Open, 0
	o.Open = func(ctx context.Context, path string, so session.Options) (session.Session, error) {
		s, err := open(ctx, path, so)
		opened++
		s.(*drawn).offset += 0.2 * float64((opened-1)/2) // per pair of processes
		return s, err
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if v := judged(t, r, map[string]string{"max-latency-ratio": "1.05"}); v != report.Inconclusive || !strings.Contains(r.Gates[0].Reason, "not in one state") {
		t.Errorf("%s: %s", v, r.Gates[0].Reason)
	}
}

func TestTails(t *testing.T) {
	o := simulatedOptions(t, newSimulated(0.003, 0.01), 0.05)
	o.Latency.MaxProcesses, o.Latency.Processes, o.Latency.Pairs = 3, 3, 4
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Latency
	runs := l.Pairs * l.Iterations
	if runs < 72 || runs >= 130 || l.P99 != nil || l.P95 == nil || l.P95.EarlyStopping != nil {
		t.Errorf("%d runs: p95 %+v, p99 %+v; want no p99, which takes 368 runs, and no bound of p95, which takes 130", runs, l.P95, l.P99)
	}
	b := l.P90.EarlyStopping
	if b == nil || b.BaselineMS < l.P90.BaselineMS || b.CandidateMS < l.P90.CandidateMS {
		t.Errorf("p90 %+v with the bound %+v: want an upper bound", l.P90, b)
	}
	if c := l.ColdStart; math.Abs(*c.BaselineMS-45) > 1e-9 || math.Abs(*c.CandidateMS-47) > 1e-9 || math.Abs(*c.Ratio-47.0/45) > 1e-6 || *c.Baseline.CreateMS != 40 || c.CI95 == nil {
		t.Errorf("cold start %+v, ratio %v", c, *c.Ratio)
	}
}

// TestThroughput: a candidate that takes twice as long gives half as many samples per second, in batches and side by side.
func TestThroughput(t *testing.T) {
	o := simulatedOptions(t, newSimulated(0, 0.001), 1)
	o.Session.Threads = 4
	var err error
	if o.Latency.Throughput, err = ParseLoads("8x1,1x4,64x1", 4); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	list := r.Latency.Throughput
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	for i, want := range []struct {
		batch, instances, threads int
		perSecond                 float64
	}{{8, 1, 4, 8000}, {1, 4, 1, 4000}} {
		x := list[i]
		if x.Batch != want.batch || x.Instances != want.instances || x.Threads != want.threads || math.Abs(*x.BaselinePerSec/want.perSecond-1) > 0.02 ||
			math.Abs(*x.Ratio-0.5) > 0.005 || x.CI95 == nil || x.CI95[0] > *x.Ratio || x.CI95[1] < *x.Ratio || x.Pairs < 40 {
			t.Errorf("%s: %+v, baseline %v/s, ratio %v %v", x.Load(), x, *x.BaselinePerSec, *x.Ratio, x.CI95)
		}
	}
	if v := judged(t, r, map[string]string{"min-throughput-ratio": "0.9"}); v != report.Fail {
		t.Errorf("verdict %s, want fail", v)
	}
	if why := skipped(r, "latency.throughput"); !strings.Contains(why, "64x1") { // the data has 40 rows
		t.Errorf("skipped %+v; want the load that the data is too small for", r.Skipped)
	}
}

func skipped(r *report.Report, section string) string {
	for _, s := range r.Skipped {
		if s.Section == section {
			return s.Reason
		}
	}
	return ""
}

func TestParseLoads(t *testing.T) {
	for text, want := range map[string][]Load{"auto": {{8, 1}, {1, 2}}, "1x3": {{1, 3}}, " 4x1 , 1x2": {{4, 1}, {1, 2}}} {
		if got, err := ParseLoads(text, 2); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if got, _ := ParseLoads("auto", 1); len(got) != 1 {
		t.Errorf("with one thread: %v", got)
	}
	for _, text := range []string{"", "8", "0x1", "ax2", "1x", "1x1,,"} {
		if got, err := ParseLoads(text, 2); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// counter tells what the fakes used, and what the idle device uses beside that.
type counter struct {
	m     *simulated
	watts float64
}

func (c counter) Name() string          { return "rapl" }
func (c counter) Window() time.Duration { return time.Millisecond }
func (c counter) Close() error          { return nil }
func (c counter) Begin() func() (float64, bool) {
	before, began := c.read(), time.Now()
	return func() (float64, bool) { return c.read() - before + c.watts*time.Since(began).Seconds(), true }
}

func (c counter) read() float64 {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.joules
}

func TestEnergy(t *testing.T) {
	m := newSimulated(0.003, 0.01)
	o := simulatedOptions(t, m, 0)
	o.Latency.Energy = func() (device.EnergyMeter, error) { return counter{m, 0.5}, nil }
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	e := r.Latency.Energy
	if e == nil || e.Counter != "rapl" || math.Abs(*e.BaselineMJ-2) > 0.2 || math.Abs(*e.CandidateMJ-1) > 0.1 || math.Abs(*e.Ratio-0.5) > 0.05 || e.CI95 == nil || e.Windows != 5 {
		t.Errorf("energy %+v; want 2 and 1 mJ", e)
	}
	// A model that adds nothing to an idle device has no energy that could be told, and never 0.
	open := o.Open
	o.Open = func(ctx context.Context, path string, so session.Options) (session.Session, error) {
		s, err := open(ctx, path, so)
		s.(*drawn).joules = 0
		return s, err
	}
	o.Latency.Energy = func() (device.EnergyMeter, error) { return counter{m, 0}, nil }
	if r, err = Run(t.Context(), o); err != nil || r.Latency.Energy != nil || !strings.Contains(skipped(r, "latency.energy"), "no difference") {
		t.Errorf("energy %+v, skipped %+v, error %v", r.Latency.Energy, r.Skipped, err)
	}
	o.Latency.Budget, o.Latency.MaxProcesses = time.Millisecond, 3
	if r, err = Run(t.Context(), o); err != nil || r.Latency.Energy != nil || !strings.Contains(skipped(r, "latency.energy"), "do not fit") {
		t.Errorf("no time: energy %+v, skipped %+v, error %v", r.Latency.Energy, r.Skipped, err)
	}
	if v := judged(t, r, map[string]string{"max-energy-ratio": "1"}); v != report.Fail || !strings.Contains(r.Gates[0].Reason, "do not fit") {
		t.Errorf("a gate on energy that was not measured: %s, %s", v, r.Gates[0].Reason)
	}
}

func TestSelfTest(t *testing.T) {
	o := simulatedOptions(t, newSimulated(0.003, 0.01), 0.05)
	o.CacheDir, o.Info.SHA256 = t.TempDir(), strings.Repeat("ab", 32)
	o.Latency.SelfTest = 30
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := r.Latency.SelfTest
	if s == nil || s.Cached || s.Repeats != 30 || s.Inconclusive != 0 || s.FalseAlarms > 5 || s.ModelSHA256 != r.Baseline.SHA256 || s.BudgetS != 3 {
		t.Fatalf("self-test %+v", s)
	}
	if *s.MinEffect < 0.001 || *s.MinEffect > 0.03 || s.MinEffectCI95[0] > *s.MinEffect || s.MinEffectCI95[1] < *s.MinEffect || *s.Spread > 0.01 || s.RateCI95 == nil {
		t.Errorf("smallest effect %v %v, spread %v, rate %v %v", *s.MinEffect, *s.MinEffectCI95, *s.Spread, *s.FalseAlarmRate, s.RateCI95)
	}
	if *r.Latency.Ratio < 1.03 {
		t.Errorf("the candidate's ratio is %v: the self-test is no part of it", *r.Latency.Ratio)
	}
	o.Latency.SelfTest = 0
	if r, err = Run(t.Context(), o); err != nil || r.Latency.SelfTest == nil || !r.Latency.SelfTest.Cached || *r.Latency.SelfTest.MinEffect != *s.MinEffect {
		t.Errorf("a later report cites %+v, error %v", r.Latency.SelfTest, err)
	}
	o.Session.Threads++ // another kind of measurement
	if r, err = Run(t.Context(), o); err != nil || r.Latency.SelfTest != nil {
		t.Errorf("with other threads: %+v, error %v", r.Latency.SelfTest, err)
	}
}

func TestSummarizeTrials(t *testing.T) {
	ci := func(lo, hi float64) *report.Interval { return report.CI(lo, hi) }
	s := summarizeTrials([]trial{
		{1.0, 0.02, ci(0.99, 1.01)}, {1.02, 0.01, ci(1.01, 1.03)}, {0.995, 0.03, ci(0.991, 0.999)}, {1.3, 0.5, nil},
		{1.0, 0.02, ci(0.99, 1.01)}, {1.0, 0.02, ci(0.99, 1.01)},
	})
	if s.Repeats != 6 || s.Inconclusive != 1 || s.FalseAlarms != 2 || s.Claims != 1 || *s.FalseAlarmRate != 0.4 || *s.MinEffect != 0.02 ||
		*s.MinEffectCI95 != [2]float64{0.01, 0.5} || math.Abs(*s.LargestError-0.3) > 1e-9 {
		t.Errorf("%+v, rate %v, effect %v %v, largest %v", s, *s.FalseAlarmRate, *s.MinEffect, *s.MinEffectCI95, *s.LargestError)
	}
	if s := summarizeTrials([]trial{{1, 0.1, nil}}); s.FalseAlarmRate != nil || s.Spread != nil || s.MinEffectCI95 != nil {
		t.Errorf("one trial without an interval: %+v", s)
	}
}

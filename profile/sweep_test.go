package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// tunable is a fake engine on a machine that becomes slower while it runs. A run
// takes what its options and its batch say, times that, with some noise.
type tunable struct {
	rng     *rand.Rand
	cost    func(o session.Options, batch float64) float64 // ms
	now     float64                                        // seconds of runs so far
	drift   float64                                        // relative slow-down per second
	opened  []session.Options
	openNow int
	most    int // open at one time
}

type tunableSession struct {
	e *tunable
	o session.Options
	f float64 // of this process
}

func (e *tunable) open(_ context.Context, _ string, o session.Options) (session.Session, error) {
	if o.Device == "cuda" {
		return nil, errors.New("this library has no CUDA")
	}
	e.opened = append(e.opened, o)
	e.openNow++
	e.most = max(e.most, e.openNow)
	return &tunableSession{e, o, math.Exp(0.004 * e.rng.NormFloat64())}, nil
}

func (s *tunableSession) Inputs() []session.Port  { return nil }
func (s *tunableSession) Outputs() []session.Port { return nil }
func (s *tunableSession) Close() error            { s.e.openNow--; return nil }

func (s *tunableSession) Run(_ context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	ms := s.e.cost(s.o, float64(in["x"].Shape[0])) * s.f * (1 + s.e.drift*s.e.now) * math.Exp(0.01*s.e.rng.NormFloat64())
	s.e.now += ms / 1e3
	return &session.Result{Elapsed: time.Duration(ms * float64(time.Millisecond))}, nil
}

func sweepInputs(_ context.Context, batch int, _ map[string]int64) ([]map[string]*onnx.Tensor, error) {
	if batch > 8 {
		return nil, errors.New("the model takes batches of at most 8")
	}
	return []map[string]*onnx.Tensor{sample(int64(batch))}, nil
}

func runSweep(t *testing.T, e *tunable, o SweepOptions, specs ...string) *Sweep {
	t.Helper()
	axes, err := ParseSweep(specs)
	if err != nil {
		t.Fatal(err)
	}
	o.Axes, o.Inputs, o.Seed = axes, sweepInputs, 7
	s, err := RunSweep(t.Context(), "m.onnx", e.open, o)
	if err != nil {
		t.Fatal(err)
	}
	if e.openNow != 0 {
		t.Errorf("%d sessions were left open", e.openNow)
	}
	return s
}

// TestSweepUnderDrift: the machine becomes three times as slow, and the ratios
// are still those of the settings.
func TestSweepUnderDrift(t *testing.T) {
	e := &tunable{rng: rand.New(rand.NewPCG(1, 1)), drift: 0.2, cost: func(o session.Options, batch float64) float64 {
		return (1 + 2*batch) / (1 + 0.6*float64(o.Threads-1)) // a fixed part and one per sample
	}}
	s := runSweep(t, e, SweepOptions{Budget: 10 * time.Second}, "threads=1,2", "batch=1,4")
	if slow := 1 + e.drift*e.now; slow < 2 {
		t.Fatalf("the machine became only %.1f times as slow", slow)
	}
	want := [][2]float64{{1, 1}, {1, 9.0 / 12}, {2, 1 / 1.6}, {2, 9.0 / 12 / 1.6}} // threads; time per sample over the first's
	for i, p := range s.Points {
		if got := flags(p.Settings); got != fmt.Sprintf("--threads %.0f --batch %d", want[i][0], p.Batch) {
			t.Errorf("point %d is %s", i, got)
		}
		if i == 0 {
			continue
		}
		if math.Abs(*p.Ratio/want[i][1]-1) > 0.02 || p.RatioCI95[0] > want[i][1]*1.005 || p.RatioCI95[1] < want[i][1]*0.995 {
			t.Errorf("%s: ratio %.3f %v, want %.3f", flags(p.Settings), *p.Ratio, *p.RatioCI95, want[i][1])
		}
	}
	var got []string
	for _, b := range s.Best {
		got = append(got, b.For+" "+b.Flags)
	}
	if d := cmp.Diff([]string{"latency --threads 2 --batch 1", "throughput --threads 2 --batch 4"}, got); d != "" {
		t.Error(d)
	}
	if b := s.Best[1]; b.Ratio == nil || b.RatioCI95[0] > *b.Ratio || b.RatioCI95[1] >= 1 {
		t.Errorf("the best for throughput: %+v", b)
	}
}

// TestSweepTellsNothingApart: settings that make no difference are not sold as
// better ones.
func TestSweepTellsNothingApart(t *testing.T) {
	e := &tunable{rng: rand.New(rand.NewPCG(2, 2)), cost: func(session.Options, float64) float64 { return 5 }}
	s := runSweep(t, e, SweepOptions{Budget: 5 * time.Second, MaxOpen: 2}, "level=all,basic,extended,off", "spin=false,true")
	if e.most > 2 {
		t.Errorf("%d sessions were open at one time, want at most 2", e.most)
	}
	if b := s.Best[0]; len(b.Within) < 5 {
		t.Errorf("%d of 7 settings without any difference are within the noise: %+v", len(b.Within), b)
	}
	levels, spins := map[session.Level]bool{}, map[bool]bool{}
	for _, o := range e.opened {
		levels[o.Level], spins[o.Spin] = true, true
	}
	if len(levels) != 4 || len(spins) != 2 {
		t.Errorf("the engine saw levels %v and spinning %v", levels, spins)
	}
}

// TestSweepReachesTheOptions checks each axis at the session's options.
func TestSweepReachesTheOptions(t *testing.T) {
	tests := []struct {
		spec string
		ok   func(session.Options) bool
		flag string
	}{
		{"threads=3", func(o session.Options) bool { return o.Threads == 3 }, "--threads 3"},
		{"device=xnnpack", func(o session.Options) bool { return o.Device == "xnnpack" }, "--device xnnpack"},
		{"level=extended", func(o session.Options) bool { return o.Level == session.LevelExtended }, "--level extended"},
		{"spin=true", func(o session.Options) bool { return o.Spin }, "--spin=true"},
		{"arena=false", func(o session.Options) bool { return o.NoArena }, "--arena=false"},
		{"flush-denormals=true", func(o session.Options) bool { return o.Flush }, "--flush-denormals=true"},
		{"session.x.y=7", func(o session.Options) bool { return o.Config["session.x.y"] == "7" && o.Config["kept"] == "1" }, "--session-option session.x.y=7"},
	}
	for _, tt := range tests {
		e := &tunable{rng: rand.New(rand.NewPCG(3, 3)), cost: func(session.Options, float64) float64 { return 1 }}
		s := runSweep(t, e, SweepOptions{Budget: 100 * time.Millisecond, Session: session.Options{Config: map[string]string{"kept": "1"}}}, tt.spec)
		if !tt.ok(e.opened[0]) || s.Best[0].Flags != tt.flag {
			t.Errorf("%s: %+v, flags %s", tt.spec, e.opened[0], s.Best[0].Flags)
		}
	}
	axes, err := ParseSweep([]string{"dim.seq=16,32,batch=2"})
	if err != nil || len(axes) != 2 {
		t.Fatal(axes, err)
	}
	var o session.Options
	batch, dims := 0, map[string]int64{}
	if err := apply(combinations(axes)[1], &o, &batch, dims); err != nil || batch != 2 || dims["seq"] != 32 {
		t.Errorf("batch %d, dims %v, %v", batch, dims, err)
	}
}

// TestSweepFailures: what cannot be timed says why, and the rest is measured;
// dimensions are questions of their own.
func TestSweepFailures(t *testing.T) {
	e := &tunable{rng: rand.New(rand.NewPCG(4, 4)), cost: func(session.Options, float64) float64 { return 1 }}
	s := runSweep(t, e, SweepOptions{Budget: 200 * time.Millisecond}, "device=cpu,cuda", "batch=1,16")
	var failed []string
	for _, p := range s.Points {
		if p.Failed != "" {
			failed = append(failed, values(p.Settings)+": "+p.Failed)
		}
	}
	want := []string{"cpu 16: the model takes batches of at most 8", "cuda 1: this library has no CUDA", "cuda 16: the model takes batches of at most 8"}
	if d := cmp.Diff(want, failed); d != "" {
		t.Error(d)
	}
	s = runSweep(t, e, SweepOptions{Budget: 200 * time.Millisecond}, "dim.N=1,2", "threads=1,2")
	if len(s.Best) != 2 || s.Best[0].Where[0].Value != "1" || s.Best[1].Where[0].Value != "2" || s.Points[2].Ratio != nil {
		t.Errorf("two sizes have %+v", s.Best)
	}
	axes, _ := ParseSweep([]string{"device=cuda"})
	_, err := RunSweep(t.Context(), "m.onnx", e.open, SweepOptions{Axes: axes, Inputs: sweepInputs})
	if err == nil || !strings.Contains(err.Error(), "no setting could be timed; with --device cuda: this library has no CUDA") {
		t.Errorf("error %v", err)
	}
}

func TestParseSweepErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"thread=1,2":            "thread is no setting",
		"threads=0":             "threads must be a number from 1",
		"threads":               "give a setting and its values",
		"threads=1,1":           "1 is given twice",
		"level=fast":            "level is one of all, off, basic, extended",
		"spin=yes":              "spin is one of false, true",
		"dim.=3":                "is no setting",
		"threads=1,2,threads=3": "threads is swept twice",
		"threads=1,2,3,4,5,6,7,8,9,batch=1,2,3,4,5,6,7,8": "more than 64",
	} {
		if _, err := ParseSweep([]string{spec}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
}

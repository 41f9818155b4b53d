package profile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// engine is a fake engine with durations that follow from the number of the
// run: 1 ms and up to 90 µs more, the first run of a session 5 ms, under the profiler
// 2 ms. It records what it was asked for.
type engine struct {
	now    time.Time
	opened []session.Options
	closed int
	events func(run int, at int64) string // of one profiled run
}

type fake struct {
	e     *engine
	o     session.Options
	runs  int
	idle  bool // the model that the profiler's overhead is measured on: 1 µs a node
	trace strings.Builder
}

func (e *engine) open(_ context.Context, path string, o session.Options) (session.Session, error) {
	e.opened = append(e.opened, o)
	e.now = e.now.Add(30 * time.Millisecond)
	return &fake{e: e, o: o, idle: filepath.Base(path) == idleFile}, nil
}

func (f *fake) Inputs() []session.Port  { return nil }
func (f *fake) Outputs() []session.Port { return nil }
func (f *fake) Close() error            { f.e.closed++; return nil }

func (f *fake) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	f.runs++
	d := time.Millisecond + time.Duration(f.runs*7%10)*10*time.Microsecond
	switch {
	case f.idle && f.o.Profile == "":
		return &session.Result{Elapsed: idleNodes * time.Microsecond}, nil
	case f.idle:
		at := int64(10_000 * f.runs)
		fmt.Fprintf(&f.trace, ",{\"cat\":\"Session\",\"name\":\"model_run\",\"ts\":%d,\"dur\":%d}\n", at, 101*idleNodes)
		for i := range idleNodes {
			f.trace.WriteString(nodeEvent(fmt.Sprintf("Sum_%d", i), "Sum", at+int64(101*i), 41))
		}
		return &session.Result{Elapsed: 101 * idleNodes * time.Microsecond}, nil
	case f.o.Profile != "":
		at := int64(10_000 * f.runs)
		d = 2 * time.Millisecond
		fmt.Fprintf(&f.trace, ",{\"cat\":\"Session\",\"name\":\"model_run\",\"ts\":%d,\"dur\":2000}\n", at)
		f.trace.WriteString(f.e.events(f.runs, at))
	case f.runs == 1:
		d = 5 * time.Millisecond
	}
	return &session.Result{Elapsed: d}, nil
}

func (f *fake) Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	out := make([]time.Duration, n)
	for i := range out {
		r, err := f.Run(ctx, in)
		if err != nil {
			return nil, err
		}
		out[i] = r.Elapsed
	}
	return out, nil
}

func (f *fake) Stats() (session.Stats, error) {
	return session.Stats{Create: 12 * time.Millisecond, PeakMemory: 50 << 20, BaseMemory: 20 << 20, Provider: "CPUExecutionProvider"}, nil
}

func (f *fake) EndProfile() ([]byte, error) {
	return []byte(`[{"cat":"Session","name":"session_initialization","ts":0,"dur":900}` + "\n" + f.trace.String() + "]"), nil
}

// nodeEvents are those of a fused node, a node of the file, and an If with a body.
func nodeEvents(_ int, at int64) string {
	event := func(name, op string, ts, dur int64) string { return nodeEvent(name, op, at+ts, dur) }
	return event("conv1", "FusedConv", 10, 600) + event("reorder", "ReorderOutput", 620, 100) +
		event("choose", "If", 730, 150) + event("inner", "Add", 740, 50)
}

func nodeEvent(name, op string, ts, dur int64) string {
	return fmt.Sprintf(`,{"cat":"Node","pid":1,"tid":7,"ph":"X","name":"%s_kernel_time","ts":%d,"dur":%d,"args":{"op_name":"%s","provider":"CPUExecutionProvider","node_index":"3","output_size":"2048","input_type_shape":[{"float":[1,3,8,8]}],"output_type_shape":[{"float":[1,4,8,8]}]}}`+"\n",
		name, ts, dur, op)
}

// modelFile writes m into a folder of the test.
func modelFile(t testing.TB, m *onnx.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func sample(n int64) map[string]*onnx.Tensor {
	return map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{n}, make([]float32, n))}
}

func timed(t *testing.T, e *engine, o TimedOptions, samples ...map[string]*onnx.Tensor) *TimedProfile {
	t.Helper()
	o.Clock = func() time.Time { return e.now }
	o.TempDir = t.TempDir()
	p, err := Timed(t.Context(), modelFile(t, residual()), e.open, samples, o)
	if err != nil {
		t.Fatal(err)
	}
	if e.closed != len(e.opened) {
		t.Errorf("%d of %d sessions were closed", e.closed, len(e.opened))
	}
	return p
}

func TestTimedGolden(t *testing.T) {
	e := &engine{events: nodeEvents}
	p := timed(t, e, TimedOptions{Session: session.Options{Threads: 2}}, sample(1))
	checkDocument(t, "timed", New(static(t, residual(), StaticOptions{}), p))
	if len(e.opened) != 7 || e.opened[2].Profile != "" || e.opened[3].Profile == "" || e.opened[3].SaveModel == "" || e.opened[4].Profile == "" || e.opened[6].Profile != "" {
		t.Errorf("opened %+v, want three sessions, one with the profiler, and after two for its overhead one without", e.opened)
	}
	if p.Latency.P99 == nil || p.Cold.FirstRunMS != 5 || p.Cold.OpenMS != 30 || p.Memory.OwnBytes != 30<<20 {
		t.Errorf("%+v %+v %+v", p.Latency, p.Cold, p.Memory)
	}
	a := p.Accounting
	// The body's time is not counted twice: 600 + 100 + 150 µs. Four nodes and a body were recorded.
	if !near(a.ProfiledNodesMS, 0.85) || !near(a.ProfiledMS, 2) || !near(a.UnattributedProfiled, 1.15) || !near(a.Executions, 4) ||
		!near(a.EventUS, 955.0/5) || !near(a.ReconciledMS, a.NodesMS+a.Unattributed) || a.Below != 3 {
		t.Errorf("accounting %+v", a)
	}
	var got []string
	for _, n := range p.Nodes {
		got = append(got, fmt.Sprintf("%s/%s %s %.3f %.0f", n.Name, n.Op, n.Original, n.ProfiledMS, n.Calls))
	}
	want := []string{"conv1/FusedConv conv1 0.600 1", "reorder/ReorderOutput  0.100 1", "choose/If  0.100 1", "inner/Add  0.050 1"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

func TestFewRunsGiveNoP99(t *testing.T) {
	p := timed(t, &engine{events: nodeEvents}, TimedOptions{Runs: 90, ProfiledRuns: -1}, sample(1))
	if p.Latency.Runs != 90 || p.Latency.P99 != nil || p.Latency.P95 == nil || p.Skipped == "" || p.Nodes != nil {
		t.Errorf("%+v, skipped %q", p.Latency, p.Skipped)
	}
}

func TestEveryShapeWarmsUp(t *testing.T) {
	p := timed(t, &engine{events: nodeEvents}, TimedOptions{Runs: 30}, sample(1), sample(2), sample(1))
	if d := cmp.Diff([]string{"x:float[1]", "x:float[2]"}, p.InputShapes); d != "" || p.Samples != 3 || p.Sessions[0].Warmup < 2*15 {
		t.Errorf("%s; %d samples, %d warm-up runs", d, p.Samples, p.Sessions[0].Warmup)
	}
}

func TestBudgetEndsTheRuns(t *testing.T) {
	p := timed(t, &engine{events: nodeEvents}, TimedOptions{Runs: 1_000_000, Budget: 400 * time.Millisecond}, sample(1))
	if n := p.Latency.Runs; n < 3*minRuns || n > 600 {
		t.Errorf("%d runs of 1 ms within 400 ms", n)
	}
}

func TestTimedErrors(t *testing.T) {
	if _, err := Timed(t.Context(), "m.onnx", nil, nil, TimedOptions{}); err == nil {
		t.Error("timing without samples succeeded")
	}
	broken := errors.New("no such engine")
	open := func(context.Context, string, session.Options) (session.Session, error) { return nil, broken }
	if _, err := Timed(t.Context(), "m.onnx", open, []map[string]*onnx.Tensor{sample(1)}, TimedOptions{}); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the engine", err)
	}
	if _, err := Timed(t.Context(), "m.onnx", open, []map[string]*onnx.Tensor{sample(1)}, TimedOptions{Runs: -1}); errors.Is(err, broken) || err == nil {
		t.Errorf("error %v, want one about the options", err)
	}
}

func TestParseTrace(t *testing.T) {
	run := `{"cat":"Session","name":"model_run","ts":1,"dur":9}`
	node := `{"cat":"Node","name":"a_kernel_time","tid":1,"ts":"2","dur":"3","args":{"op_name":"Add","provider":"P","node_index":"4","parameter_size":"12"}}`
	tests := []struct {
		name, in         string
		runs, nodes      int
		skipped          int
		truncated, fails bool
	}{
		{"array", "[" + run + ",\n" + node + "]", 1, 1, 0, false, false},
		{"object", `{"traceEvents":[` + run + "]}", 1, 0, 0, false, false},
		{"ends within an event", "[" + run + ",\n" + node[:30], 1, 0, 0, true, false},
		{"ends between events", "[" + run + ",\n", 1, 0, 0, true, false},
		{"broken line", "[" + run + ",\n" + `{"cat":"Node","name":"C:\q","ts":1},` + "\n" + node + "]", 1, 1, 1, false, false},
		{"open text", "[{\"name\":\"x\n" + node + "]", 0, 1, 1, false, false},
		{"fences", `[{"cat":"Node","name":"a_fence_before","ts":1,"dur":1}]`, 0, 0, 0, false, false},
		{"negative", `[{"cat":"Node","name":"a_kernel_time","ts":1,"dur":-1}]`, 0, 0, 0, false, false},
		{"empty", "", 0, 0, 0, false, true},
		{"no events", "[]", 0, 0, 0, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseTrace([]byte(tt.in))
			if (err != nil) != tt.fails {
				t.Fatal(err)
			}
			if err == nil && (len(got.Runs) != tt.runs || len(got.Nodes) != tt.nodes || got.Skipped != tt.skipped || got.Truncated != tt.truncated) {
				t.Errorf("%+v", got)
			}
			if err == nil && tt.nodes > 0 {
				n := got.Nodes[0]
				if n.Name != "a" || n.Op != "Add" || n.Index != 4 || n.Self != 3 || n.Parameters != 12 {
					t.Errorf("%+v", n)
				}
			}
		})
	}
}

// FuzzParseTrace reads the traces of the engine, whole or cut off: nodes have times that can be, and make a profile.
func FuzzParseTrace(f *testing.F) {
	f.Add([]byte("[" + nodeEvents(1, 5)[1:] + "]"))
	f.Add([]byte(`{"traceEvents":[{"cat":"Session","name":"model_run","ts":1,"dur":9},{"cat":"Node"`))
	f.Add([]byte("[{\n{\n\"\\"))
	f.Fuzz(func(t *testing.T, b []byte) {
		trace, err := ParseTrace(b)
		if err != nil {
			return
		}
		for i, n := range trace.Nodes {
			if n.Self < 0 || n.Self > n.Duration || i > 0 && n.Start < trace.Nodes[i-1].Start {
				t.Fatalf("node %d: %+v", i, n)
			}
		}
		p := &TimedProfile{}
		if p.attribute(trace, recording{profiled: make([]float64, len(trace.Runs)), steady: 1}) != nil {
			return
		}
		if _, err := New(nil, p).JSON(); err != nil {
			t.Fatal(err)
		}
	})
}

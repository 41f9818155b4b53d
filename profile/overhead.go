package profile

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// overhead is what the engine's profiler spends on recording one execution of a
// node, in µs: in all, and of it within the time that it gives the node.
type overhead struct{ event, within float64 }

const (
	idleNodes = 64 // nodes of the model that the overhead is measured on
	idleRuns  = 60
	// idleFile is the name of that model, in a folder of its own.
	idleFile = "idle.onnx"
)

// idle is a chain of additions of one element each: what it takes under the
// profiler beyond what it takes without is the profiler's.
func idle() *onnx.Model {
	m := onnx.NewModel(13)
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1)))
	c := m.Graph.AddInitializer(onnx.FromFloats("c", []int64{1}, []float32{1}))
	for i := range idleNodes {
		n := onnx.NewNode("Add", []*onnx.Value{v, c}, "v"+strconv.Itoa(i))
		m.Graph.Append(n)
		v = n.Output(0)
	}
	m.Graph.AddOutput(v)
	return m
}

// overhead measures the profiler's overhead in two sessions of the idle model,
// one with the profiler, which take turns.
func (r *runner) overhead(ctx context.Context, dir string) (overhead, error) {
	path := filepath.Join(dir, idleFile)
	if _, err := onnxfile.Write(path, idle(), onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return overhead{}, err
	}
	o := r.o.Session
	o.Profile = filepath.Join(dir, "idle")
	with, err := r.open(ctx, path, o)
	if err != nil {
		return overhead{}, err
	}
	defer with.Close()
	without, err := r.open(ctx, path, r.o.Session)
	if err != nil {
		return overhead{}, err
	}
	defer without.Close()
	samples := []map[string]*onnx.Tensor{{"x": onnx.FromFloats("x", []int64{1}, []float32{1})}}
	walls, err := takeTurns(ctx, []session.Session{with, without}, samples, []int{0}, idleRuns, func(int) {})
	if err != nil {
		return overhead{}, err
	}
	p, ok := with.(session.Profiler)
	if !ok {
		return overhead{}, errors.New("the engine has no profiler")
	}
	b, err := p.EndProfile()
	if err != nil {
		return overhead{}, err
	}
	trace, err := ParseTrace(b)
	if err != nil {
		return overhead{}, err
	}
	return overheadOf(trace, walls)
}

// overheadOf returns the overhead that a trace of the idle model shows, of which
// the last runs took walls[0] ms, beside runs without the profiler, of walls[1].
func overheadOf(trace *Trace, walls [2][]float64) (overhead, error) {
	if len(trace.Runs) < len(walls[0]) || len(walls[0]) == 0 {
		return overhead{}, fmt.Errorf("the engine's trace of %d runs has %d", len(walls[0]), len(trace.Runs))
	}
	trace.Runs = trace.Runs[len(trace.Runs)-len(walls[0]):]
	chosen := middleHalf(walls[0])
	runs := make([]TraceRun, len(chosen))
	for i, k := range chosen {
		runs[i] = trace.Runs[k]
	}
	var self float64
	executions := 0
	for i := range trace.Nodes {
		if e := &trace.Nodes[i]; runAt(runs, e.Start) >= 0 {
			self += e.Self
			executions++
		}
	}
	if executions == 0 {
		return overhead{}, errors.New("the engine's trace has no times of nodes")
	}
	perRun := float64(executions) / float64(len(runs))
	with, without := 1e3*middleMean(walls[0])/perRun, 1e3*middleMean(walls[1])/perRun
	event := max(0, with-without)
	return overhead{event: event, within: min(event, max(0, self/float64(executions)-without))}, nil
}

// middleMean returns the mean of the values between the first and the third quartile.
func middleMean(v []float64) float64 {
	var sum float64
	half := middleHalf(v)
	for _, k := range half {
		sum += v[k]
	}
	return sum / float64(max(1, len(half)))
}

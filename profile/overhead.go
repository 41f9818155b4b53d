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
	idleTurn  = 8  // its runs in a turn
	// idleFile is the name of that model, in a folder of its own.
	idleFile = "idle.onnx"
)

// idle is a chain of sums of one element each: what it takes under the profiler
// beyond what it takes without is the profiler's. What is recorded of a node
// grows with its name and its inputs, so these are as in the model.
func idle(name, inputs int) *onnx.Model {
	m := onnx.NewModel(13)
	shape := []int64{1, 1, 1}
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(shape...)))
	c := m.Graph.AddInitializer(onnx.FromFloats("c", shape, []float32{1}))
	for i := range idleNodes {
		in := []*onnx.Value{v, c}
		for len(in) < inputs {
			in = append(in, c)
		}
		n := onnx.NewNode("Sum", in, "v"+strconv.Itoa(i))
		n.Name = fmt.Sprintf("%0*d", max(name, 2), i)
		m.Graph.Append(n)
		v = n.Output(0)
	}
	m.Graph.AddOutput(v)
	return m
}

// typical returns the mean length of the names of nodes, and of their inputs,
// that the engine runs.
func (r *recording) typical() (name, inputs int) {
	graphs, nodes := r.o.graphs(), 0
	if r.graph != nil {
		graphs = r.graph.Graphs()
	}
	for _, g := range graphs {
		for n := range g.Nodes() {
			nodes++
			name += max(len(n.Name), len(n.Op)+3)
			inputs += len(n.Inputs())
		}
	}
	return name / max(1, nodes), inputs / max(1, nodes)
}

// openIdle opens two sessions of an idle model with names and inputs as those of
// rec, the first with the profiler.
func (r *runner) openIdle(ctx context.Context, dir string, rec *recording) (with, without *lane, err error) {
	path := filepath.Join(dir, idleFile)
	if _, err := onnxfile.Write(path, idle(rec.typical()), onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return nil, nil, err
	}
	o := r.o.Session
	o.Profile = filepath.Join(dir, "idle")
	samples := []map[string]*onnx.Tensor{{"x": onnx.FromFloats("x", []int64{1, 1, 1}, []float32{1})}}
	with = &lane{samples: samples, firsts: []int{0}, turn: idleTurn}
	if with.session, err = r.open(ctx, path, o); err != nil {
		return nil, nil, err
	}
	without = &lane{samples: samples, firsts: []int{0}, turn: idleTurn}
	if without.session, err = r.open(ctx, path, r.o.Session); err != nil {
		with.session.Close()
		return nil, nil, err
	}
	return with, without, nil
}

// endProfile returns what the engine recorded in s.
func endProfile(s session.Session) (*Trace, error) {
	p, ok := s.(session.Profiler)
	if !ok {
		return nil, errors.New("the engine has no profiler")
	}
	b, err := p.EndProfile()
	if err != nil {
		return nil, fmt.Errorf("ending the engine's profile: %v", err)
	}
	return ParseTrace(b)
}

// overheadOf returns the overhead that a trace of the idle model shows, of which
// the last runs took profiled ms, beside runs without the profiler, of plain ms.
func overheadOf(trace *Trace, profiled, plain []float64) (overhead, error) {
	if len(trace.Runs) < len(profiled) || len(profiled) == 0 {
		return overhead{}, fmt.Errorf("the engine's trace of %d runs has %d", len(profiled), len(trace.Runs))
	}
	trace.Runs = trace.Runs[len(trace.Runs)-len(profiled):]
	chosen := middleHalf(profiled)
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
	with, without := 1e3*middleMean(profiled)/perRun, 1e3*middleMean(plain)/perRun
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

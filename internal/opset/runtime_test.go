package opset_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestRuntimeShapes makes every value of the main graph an output, runs the
// model with the runtime's optimizations off on its test data (generated inputs
// where it has none) and compares each type and shape with the inferred one. A
// fifth of the models is taken, all with LAPIDARY_CORPUS=all.
func TestRuntimeShapes(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	var models, values int
	examples(t, func(x example) {
		if !zootest.Chosen(x.name) || len(x.model) > 64<<20 {
			return
		}
		in, out := runExposed(t.Context(), t.TempDir(), open, x)
		if out == nil {
			return
		}
		models++
		m, err := onnxfile.Decode(x.model)
		if err != nil {
			return
		}
		values += compareTypes(t, x.name, m, in, out)
	})
	t.Logf("%d models run, %d values compared", models, values)
	if values < 1000 {
		t.Errorf("only %d values were compared", values)
	}
}

// runExposed runs a copy of the model with all tensors of the main graph as
// outputs. It returns nil where the model does not load or run that way.
func runExposed(ctx context.Context, dir string, open session.Opener, x example) (in, out map[string]*onnx.Tensor) {
	m, err := onnxfile.Decode(x.model)
	if err != nil || m.Graph == nil {
		return nil, nil
	}
	f, err := opset.Infer(m, opset.Options{ReadOnly: true})
	if err != nil {
		return nil, nil
	}
	for n := range m.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil && !v.IsOutput() && (f.Type(v) == nil || f.Type(v).IsTensor()) && small(f.Shape(v)) {
				m.Graph.AddOutput(v)
			}
		}
	}
	b, err := onnxfile.Encode(m)
	if err != nil {
		return nil, nil
	}
	file := filepath.Join(dir, "exposed.onnx")
	if os.WriteFile(file, b, 0o600) != nil {
		return nil, nil
	}
	defer os.Remove(file)
	s, err := open(ctx, file, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		return nil, nil
	}
	defer s.Close()
	if in = inputsOf(ctx, s, x); in == nil {
		return nil, nil
	}
	r, err := s.Run(ctx, in)
	if err != nil {
		return nil, nil
	}
	return in, r.Outputs
}

// small reports whether a value is not known to be as large as the weights that
// some graphs generate.
func small(s onnx.Shape) bool {
	dims, static := s.Static()
	if !static {
		return true
	}
	n, ok := onnx.ElementCount(dims)
	return ok && n <= 1<<16
}

// inputsOf decodes the test data of x, or generates inputs of the first size
// that gives some; nil where neither is possible.
func inputsOf(ctx context.Context, s session.Session, x example) map[string]*onnx.Tensor {
	if len(x.inputs) > 0 {
		in := map[string]*onnx.Tensor{}
		for i, p := range s.Inputs() {
			if !p.Type.IsTensor() || x.inputs[i] == nil {
				return nil
			}
			t, err := onnxfile.DecodeTensor(x.inputs[i])
			if err != nil {
				return nil
			}
			in[p.Name] = t
		}
		return in
	}
	var ports []dataset.Port
	dims := map[string]int64{}
	for _, p := range s.Inputs() {
		ports = append(ports, dataset.Port{Name: p.Name, Type: p.Type})
		for _, d := range p.Type.Shape {
			if d.Param != "" {
				dims[d.Param] = 2
			}
		}
	}
	set, err := dataset.Open("synthetic:1", dataset.Options{Inputs: ports, Dims: dims, Seed: 1})
	if err != nil {
		return nil
	}
	defer set.Close()
	for sample, err := range set.Samples(ctx) {
		if err != nil {
			return nil
		}
		return sample.Inputs
	}
	return nil
}

// compareTypes compares what is inferred with and without the shapes of the
// inputs that ran with what the runtime computed.
func compareTypes(t *testing.T, name string, m *onnx.Model, in, out map[string]*onnx.Tensor) int {
	shapes := map[string]onnx.Shape{}
	for _, v := range m.Graph.Inputs() {
		if x := in[v.Name()]; x != nil && (v.Type == nil || v.Type.IsTensor()) && !v.Shape().Contradicts(onnx.ShapeOf(x.Shape...)) {
			shapes[v.Name()] = onnx.ShapeOf(x.Shape...)
		}
	}
	compared := 0
	for _, o := range []opset.Options{{ReadOnly: true, IgnoreValueInfo: true}, {ReadOnly: true, IgnoreValueInfo: true, InputShapes: shapes}} {
		f, err := opset.Infer(m, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return compared
		}
		for n := range m.Graph.Nodes() {
			for _, v := range n.Outputs() {
				if v == nil || out[v.Name()] == nil || f.Type(v) != nil && !f.Type(v).IsTensor() {
					continue // sequences and maps come back in parts
				}
				compared++
				if got := f.Type(v); got.Contradicts(out[v.Name()].Type()) {
					t.Errorf("%s: %v: output %s inferred as %v, is %v", name, n, v.Name(), got, out[v.Name()].Type())
				}
			}
		}
	}
	return compared
}

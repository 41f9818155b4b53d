package eval_test

import (
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
)

// FuzzGraph computes arbitrary graphs on arbitrary inputs within bounds: every output
// is as long as its type says, and whatever cannot be computed is an error.
func FuzzGraph(f *testing.F) {
	for _, b := range randgraph.Seeds(40) {
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, wide bool) {
		m := randgraph.Model(data)
		if _, err := m.Repair(); err != nil || m.Check() != nil {
			return
		}
		start := time.Now()
		out, err := eval.Graph(t.Context(), m, smallInputs(m), eval.Options{MaxBytes: 16 << 20, MaxWork: 1 << 20, MaxSteps: 2000, Wide: wide})
		if took := time.Since(start); took > time.Minute {
			t.Fatalf("it takes %v", took)
		}
		if err != nil {
			return
		}
		for name, x := range out {
			if x.DType == onnx.String {
				continue
			}
			if b, err := x.Bytes(); err != nil || int64(len(b)) != x.Size() {
				t.Fatalf("output %q: %d bytes for %v (%v)", name, len(b), x, err)
			}
		}
	})
}

// smallInputs gives each input that can have one a value of at most 1,000 elements.
func smallInputs(m *onnx.Model) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		if !v.Type.IsTensor() || v.Const != nil {
			continue
		}
		shape, n := []int64{}, int64(1)
		for _, d := range v.Type.Shape {
			size := int64(2)
			if d.Known() && d.Value < 1000 {
				size = d.Value
			}
			shape, n = append(shape, size), n*size
		}
		if n > 1000 {
			continue
		}
		x := make([]float64, n)
		for i := range x {
			x[i] = float64(i%7) - 2
		}
		if w, err := onnx.FromFloat64s(v.Name(), v.DType(), shape, x); err == nil {
			out[v.Name()] = w
		}
	}
	return out
}

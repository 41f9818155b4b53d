package explain

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// fake is a session that computes each output row from the row of its one input, named "x".
type fake struct {
	dtype  onnx.DType
	shape  onnx.Shape                         // of the input
	out    []int64                            // shape of one output row
	f      func(x []float64) []float64        // one row
	across func(rows [][]float64) [][]float64 // what a batch does to its rows; nil: nothing
	runs   int
	sizes  map[int]int // runs by batch size
}

func (s *fake) Inputs() []session.Port {
	return []session.Port{{Name: "x", Type: onnx.TensorType(s.dtype, s.shape)}}
}

func (s *fake) Outputs() []session.Port {
	return []session.Port{
		{Name: "label", Type: onnx.TensorType(onnx.Int64, nil)},
		{Name: "y", Type: onnx.TensorType(onnx.Double, nil)},
	}
}

func (s *fake) Close() error { return nil }

func (s *fake) Run(_ context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if err := session.CheckInputs(s.Inputs(), nil, in); err != nil {
		return nil, err
	}
	s.runs++
	x := in["x"]
	v, err := x.Float64s()
	if err != nil {
		return nil, err
	}
	n := 1
	if len(x.Shape) > 1 {
		n = int(x.Shape[0])
	}
	if s.sizes == nil {
		s.sizes = map[int]int{}
	}
	s.sizes[n]++
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = s.f(v[i*len(v)/n : (i+1)*len(v)/n])
	}
	if s.across != nil {
		rows = s.across(rows)
	}
	var flat []float64
	for _, r := range rows {
		flat = append(flat, r...)
	}
	shape := append([]int64{int64(n)}, s.out...)
	y, err := onnx.FromFloat64s("y", onnx.Double, shape, flat)
	if err != nil {
		return nil, err
	}
	label := onnx.FromInts("label", []int64{int64(n)}, make([]int64, n))
	return &session.Result{Outputs: map[string]*onnx.Tensor{"y": y, "label": label}}, nil
}

// linear returns a two-class model with logits (w·x + bias, 0) over float inputs of any batch size.
func linear(bias float64, w ...float64) *fake {
	return &fake{
		dtype: onnx.Double, shape: onnx.Shape{onnx.Symbol("N"), onnx.Fixed(int64(len(w)))}, out: []int64{2},
		f: func(x []float64) []float64 {
			sum := bias
			for i, v := range x {
				sum += w[i] * v
			}
			return []float64{sum, 0}
		},
	}
}

// mapped returns a copy of s whose output rows go through f.
func mapped(s *fake, f func([]float64) []float64) *fake {
	c := *s
	c.runs, c.sizes = 0, nil
	c.f = func(x []float64) []float64 { return f(s.f(x)) }
	return &c
}

func softmaxed(z []float64) []float64 {
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(v)
	}
	out := make([]float64, len(z))
	for i, v := range z {
		out[i] = math.Exp(v) / sum
	}
	return out
}

// samples returns one sample per row, of the given shape.
func samplesOf(t *testing.T, d onnx.DType, shape []int64, rows ...[]float64) []Sample {
	t.Helper()
	var out []Sample
	for i, r := range rows {
		x, err := onnx.FromFloat64s("x", d, shape, r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Sample{ID: fmt.Sprint("s", i), Inputs: map[string]*onnx.Tensor{"x": x}})
	}
	return out
}

func compared(t *testing.T, a, b session.Session, s []Sample, o Options) *Result {
	t.Helper()
	r, err := Compare(t.Context(), Model{Session: a}, Model{Session: b}, s, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

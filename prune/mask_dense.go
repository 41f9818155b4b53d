package prune

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// denseRows returns the weights of a layer by rows and columns.
func denseRows(l *maskLayer) ([]float64, error) {
	f, err := l.value.Constant().Float64s()
	if err != nil {
		return nil, err
	}
	return byRows(f, l.view), nil
}

// byRows sorts elements by rows and columns.
func byRows(f []float64, v maskView) []float64 {
	out := make([]float64, len(f))
	for i := range out {
		out[i] = f[v.index(i/v.cols, i%v.cols)]
	}
	return out
}

// encodeRows returns the content of a tensor like t with weights by rows and
// columns, and the weights as they read after rounding; false where some do not fit
// its type.
func encodeRows(t *onnx.Tensor, v maskView, w []float64) (b []byte, rounded []float64, ok bool, err error) {
	f := make([]float64, len(w))
	for i, x := range w {
		f[v.index(i/v.cols, i%v.cols)] = x
	}
	made, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, f)
	if err == nil {
		b, err = made.Bytes()
	}
	if err == nil {
		f, err = made.Float64s()
	}
	if err != nil {
		return nil, nil, false, err
	}
	return b, byRows(f, v), finiteAll(f), nil
}

func finiteAll(f []float64) bool {
	for _, x := range f {
		if x-x != 0 {
			return false
		}
	}
	return true
}

// magnitudes returns |w| as scores.
func magnitudes(w []float64) []float32 {
	out := make([]float32, len(w))
	for i, x := range w {
		out[i] = float32(math.Abs(x))
	}
	return out
}

// columnsOf returns rows r0+some of w as columns [k, len(some)].
func columnsOf(w []float64, k, r0 int, some []int) []float64 {
	out := make([]float64, k*len(some))
	for j, r := range some {
		for i, x := range w[(r0+r)*k : (r0+r+1)*k] {
			out[i*len(some)+j] = x
		}
	}
	return out
}

// everyRow returns m of n rows at equal distances, or all n.
func everyRow(n, m int) []int {
	m = min(n, m)
	out := make([]int, m)
	for i := range out {
		out[i] = i * n / m
	}
	return out
}

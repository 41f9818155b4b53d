package nets

import (
	"fmt"
	"math/rand/v2"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Inputs makes seeded inputs for a network: tokens within every vocabulary,
// masks that hide the end of every second sequence, positions that count up.
// sizes overrides those of symbolic dimensions: batch 2, seq 7, past 3.
func Inputs(m *onnx.Model, seed uint64, sizes map[string]int64) (map[string]*onnx.Tensor, error) {
	r := rand.New(rand.NewPCG(seed, 1))
	out := map[string]*onnx.Tensor{}
	known := map[string]int64{"batch": 2, "seq": 7, "past": 3}
	for k, n := range sizes {
		known[k] = n
	}
	past := int64(0)
	for _, v := range m.Graph.Inputs() {
		for _, d := range v.Shape() {
			if d.Param == "past" {
				past = known["past"]
			}
		}
	}
	for _, v := range m.Graph.Inputs() {
		var shape []int64
		for _, d := range v.Shape() {
			n := d.Value
			if !d.Known() {
				var ok bool
				if n, ok = known[d.Param]; !ok {
					return nil, fmt.Errorf("input %q: the size of %q is not known", v.Name(), d.Param)
				}
			}
			shape = append(shape, n)
		}
		n, _ := onnx.ElementCount(shape)
		x := make([]float64, n)
		for i := range x {
			x[i] = element(r, v, int64(i), shape, past)
		}
		t, err := onnx.FromFloat64s(v.Name(), v.DType(), shape, x)
		if err != nil {
			return nil, err
		}
		out[v.Name()] = t
	}
	return out, nil
}

// element is element i of input v.
func element(r *rand.Rand, v *onnx.Value, i int64, shape []int64, past int64) float64 {
	if v.DType() == onnx.Bool {
		return float64(r.IntN(2))
	}
	last := shape[len(shape)-1]
	switch v.Name() {
	case "attention_mask":
		if i/last%2 == 1 && i%last >= last-last/3 {
			return 0
		}
		return 1
	case "token_type_ids":
		return float64(i % last * 2 / last)
	case "position_ids":
		return float64(past + i%last)
	case "categories":
		return float64(r.IntN(2))
	case "timestep":
		return float64(r.IntN(1000))
	}
	if v.DType().IsInt() {
		return float64(r.IntN(90))
	}
	return r.NormFloat64()
}

package eval

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"pgregory.net/rapid"
)

// TestRobust gives every operator inputs and attributes at random: each call
// ends with a result or with an error that says what is wrong, none with a
// panic that had to be caught.
func TestRobust(t *testing.T) {
	table.once.Do(fillTable)
	for _, name := range slices.Sorted(maps.Keys(table.rows)) {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			row := table.rows[name][rapid.IntRange(0, len(table.rows[name])-1).Draw(t, "row")]
			n := onnx.NewNode(row.name, nil, "y", "z")
			if i := strings.LastIndex(name, "."); i >= 0 {
				n.Domain = name[:i]
			}
			for _, a := range strings.Fields(row.attrs) {
				if rapid.Bool().Draw(t, a) {
					n.SetAttr(drawAttr(t, a))
				}
			}
			var in []*onnx.Tensor
			for range rapid.IntRange(0, 6).Draw(t, "inputs") {
				in = append(in, drawTensor(t))
			}
			_, err := Node(n, row.to, in, Options{MaxBytes: 1 << 16, MaxWork: 1 << 16})
			if err != nil && strings.Contains(err.Error(), "internal error") {
				t.Fatalf("%v with %v: %v", n, in, err)
			}
		}))
	}
}

// drawAttr makes an attribute of the type that its name has in most operators.
func drawAttr(t *rapid.T, name string) *onnx.Attr {
	ints := []string{"axes", "dilations", "kernel_shape", "pads", "strides", "output_padding", "output_shape", "perm", "starts", "ends", "split",
		"qkv_hidden_sizes", "shape"}
	floats := []string{"alpha", "beta", "gamma", "epsilon", "bias", "lambd", "scale", "softcap", "max", "min", "mask_filter_value", "value_float"}
	texts := []string{"mode", "auto_pad", "equation", "direction", "reduction", "activation", "nearest_mode"}
	switch {
	case slices.Contains(ints, name):
		return onnx.IntsAttr(name, rapid.SliceOfN(rapid.Int64Range(-2, 3), 0, 6).Draw(t, "ints")...)
	case slices.Contains(floats, name):
		return onnx.FloatAttr(name, rapid.Float32Range(-2, 2).Draw(t, "float"))
	case slices.Contains(texts, name):
		return onnx.StringAttr(name, rapid.SampledFrom([]string{"", "linear", "reflect", "SAME_UPPER", "VALID", "ij,jk->ik", "...i->...", "add", "Relu",
			"reverse", "LEFT"}).Draw(t, "text"))
	}
	return onnx.IntAttr(name, rapid.Int64Range(-3, 17).Draw(t, "int"))
}

// drawTensor makes a small tensor, now and then none.
func drawTensor(t *rapid.T) *onnx.Tensor {
	d := rapid.SampledFrom([]onnx.DType{onnx.Float, onnx.Float, onnx.Int64, onnx.Int32, onnx.Bool, onnx.Uint8, onnx.Int8, onnx.Float16, onnx.Uint64,
		onnx.String, onnx.Undefined}).Draw(t, "type")
	shape := rapid.SliceOfN(rapid.Int64Range(0, 3), 0, 4).Draw(t, "shape")
	n, _ := onnx.ElementCount(shape)
	switch d {
	case onnx.Undefined:
		return nil
	case onnx.String:
		x := onnx.FromStrings("x", []int64{n}, make([]string, n))
		x.Shape = shape
		return x
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(rapid.IntRange(-2, 3).Draw(t, "element"))
	}
	x, err := onnx.FromFloat64s("x", d, shape, v)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

package fuse_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// nbits is a product of float[3,k] with a weight that is dequantized in blocks.
type nbits struct {
	k, n, block int64
	codes       onnx.DType
	elem        onnx.DType
	zeros       bool
	form        string // plain, turned or gemm, which turns the weight too
}

func (c nbits) model(t *testing.T) *onnx.Model {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(c.k)))
	tensor := func(name string, d onnx.DType, rows, width int64, next func() float64) *onnx.Value {
		if c.form != "plain" {
			rows, width = width, rows
		}
		x := make([]float64, rows*width)
		for i := range x {
			x[i] = next()
		}
		v, err := onnx.FromFloat64s(name, d, []int64{rows, width}, x)
		if err != nil {
			t.Fatal(err)
		}
		return onnx.Unattached(v)
	}
	m := onnx.NewModel(21)
	x := m.Graph.AddInput("x", onnx.TensorType(c.elem, onnx.Shape{onnx.Fixed(3), onnx.Fixed(c.k)}))
	low, span := 0, 1<<c.codes.Bits()
	if c.codes == onnx.Int4 || c.codes == onnx.Int8 {
		low = -span / 2
	}
	code := func() float64 { return float64(low + r.IntN(span)) }
	blocks := (c.k + c.block - 1) / c.block
	in := []*onnx.Value{m.Graph.AddInitializer(tensor("w", c.codes, c.k, c.n, code).Const),
		m.Graph.AddInitializer(tensor("s", c.elem, blocks, c.n, func() float64 { return (1 + r.Float64()) / float64(span) }).Const)}
	if c.zeros {
		in = append(in, m.Graph.AddInitializer(tensor("z", c.codes, blocks, c.n, code).Const))
	}
	axis := int64(1)
	if c.form == "plain" {
		axis = 0
	}
	last := func(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
		n := onnx.NewNode(op, in, op+"_out")
		n.Attrs = attrs
		m.Graph.Append(n)
		return n.Output(0)
	}
	y := last("DequantizeLinear", in, onnx.IntAttr("axis", axis), onnx.IntAttr("block_size", c.block))
	switch c.form {
	case "plain":
		y = last("MatMul", []*onnx.Value{x, y})
	case "turned":
		y = last("MatMul", []*onnx.Value{x, last("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", 1, 0))})
	case "gemm":
		bias, err := onnx.FromFloat64s("b", c.elem, []int64{1}, []float64{0.5})
		if err != nil {
			t.Fatal(err)
		}
		y = last("Gemm", []*onnx.Value{x, y, m.Graph.AddInitializer(bias)}, onnx.IntAttr("transB", 1))
	}
	y.Type = onnx.TensorType(c.elem, onnx.Shape{onnx.Fixed(3), onnx.Fixed(c.n)})
	m.Graph.AddOutput(y)
	return m
}

// TestMatMulNBits runs products with packed weights on the kernel, against the
// runtime's own dequantizing.
func TestMatMulNBits(t *testing.T) {
	open := runtimeOpener(t)
	for _, c := range []nbits{
		{k: 64, n: 5, block: 16, codes: onnx.Int4, elem: onnx.Float, form: "turned"},
		{k: 50, n: 5, block: 16, codes: onnx.Int4, elem: onnx.Float, zeros: true, form: "plain"},
		{k: 96, n: 7, block: 32, codes: onnx.Uint4, elem: onnx.Float, form: "gemm"},
		{k: 200, n: 3, block: 64, codes: onnx.Uint4, elem: onnx.Float, zeros: true, form: "turned"},
		{k: 256, n: 2, block: 128, codes: onnx.Int8, elem: onnx.Float, zeros: true, form: "plain"},
		{k: 300, n: 4, block: 256, codes: onnx.Uint8, elem: onnx.Float, zeros: true, form: "turned"},
		{k: 300, n: 4, block: 256, codes: onnx.Int4, elem: onnx.Float, form: "gemm"},
		{k: 96, n: 7, block: 32, codes: onnx.Int4, elem: onnx.Float16, zeros: true, form: "turned"},
	} {
		t.Run(fmt.Sprintf("%d×%d by %d, %v, %v, %v, %s", c.k, c.n, c.block, c.codes, c.elem, c.zeros, c.form), func(t *testing.T) {
			m := c.model(t)
			x := make([]float64, 3*c.k)
			for i := range x {
				x[i] = rand.NormFloat64()
			}
			given, err := onnx.FromFloat64s("x", c.elem, []int64{3, c.k}, x)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]*onnx.Tensor{"x": given}
			dir := t.TempDir()
			want := outputsOf(t, open, filepath.Join(dir, "original.onnx"), m, in)
			log, err := fuse.Model(t.Context(), m, fuse.Options{Target: stubTarget("ort-cpu"), Enable: []string{"matmul-nbits"}})
			if err != nil {
				t.Fatal(err)
			}
			if firings(log, "matmul-nbits") != 1 {
				t.Fatal("not fused: " + refusals(log, "matmul-nbits"))
			}
			if err := agree(want, outputsOf(t, open, filepath.Join(dir, "fused.onnx"), m, in)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMatMulNBitsPays: on a CPU it is left to the runtime where that is as good.
func TestMatMulNBitsPays(t *testing.T) {
	for _, c := range []struct {
		nbits
		target, why string
	}{
		{nbits{k: 64, n: 5, block: 16, codes: onnx.Int4, elem: onnx.Float, form: "turned"}, "ort-cpu", ""},
		{nbits{k: 64, n: 5, block: 16, codes: onnx.Int4, elem: onnx.Float, form: "gemm"}, "ort-cpu", ""},
		{nbits{k: 64, n: 5, block: 16, codes: onnx.Int4, elem: onnx.Float, form: "plain"}, "ort-cpu", "the runtime makes MatMulNBits of it at load"},
		{nbits{k: 64, n: 5, block: 16, codes: onnx.Int8, elem: onnx.Float, form: "turned"}, "ort-cpu", "slower than the parts on the CPU"},
		{nbits{k: 64, n: 5, block: 16, codes: onnx.Int8, elem: onnx.Float, form: "plain"}, "ort-cuda", ""},
	} {
		log, err := fuse.Model(t.Context(), c.model(t), fuse.Options{Target: stubTarget(c.target)})
		if err != nil {
			t.Fatal(err)
		}
		why := refusals(log, "matmul-nbits")
		if fired := firings(log, "matmul-nbits") == 1; fired != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s, %v %s: fired %v: %q, want %q", c.target, c.codes, c.form, fired, why, c.why)
		}
	}
}

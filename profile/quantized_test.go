package profile

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestQuantizeDequantize counts an operator between pairs as one on integers,
// and the pairs as free. Half of its weights equal their zero point.
func TestQuantizeDequantize(t *testing.T) {
	m := textModel(t, `<ir_version: 8, opset_import: ["" : 17]>
g (float[4,8] x) => (float[4,2] y) <float s = {0.5}, uint8 z = {128}, uint8[8,2] w8 = {128,128,128,128,128,128,128,128,0,1,2,3,4,5,6,7}, float[2,2] v = {1,0,0,1}> {
	[qx] a = QuantizeLinear(x, s, z)
	[dx] b = DequantizeLinear(a, s, z)
	[dw] w = DequantizeLinear(w8, s, z)
	[mul] c = Gemm(b, w)
	[relu] r = Relu(c)
	[qc] d = QuantizeLinear(r, s, z)
	[dc] e = DequantizeLinear(d, s, z)
	[out] y = MatMul(e, v)
}`)
	s := static(t, m, StaticOptions{Sparsity: true})
	var free []string
	for _, n := range s.Nodes {
		if n.Absorbed && n.Work == (Work{}) {
			free = append(free, n.Name)
		}
	}
	if d := cmp.Diff([]string{"dx", "dw", "relu", "qc"}, free); d != "" {
		t.Errorf("free nodes (-want +got):\n%s", d)
	}
	// 4·8·2 products of bytes and 4·2·2 of floats.
	if d := cmp.Diff([]Arithmetic{{"int8", 1, 64, 128}, {"float", 2, 16, 96}, {"uint8", 1, 0, 16}}, s.Arithmetic); d != "" {
		t.Errorf("arithmetic (-want +got):\n%s", d)
	}
	mul := s.Nodes[slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == "mul" })]
	if mul.Work.BytesRead != 32+16 || mul.Work.BytesWritten != 8 || mul.Arithmetic != "int8" || mul.Nonzero == nil || *mul.Nonzero != 32 {
		t.Errorf("mul: %+v", mul)
	}
	if w := s.Weights; w.Parameters != 16+4 || w.Scales != 2 || w.Sparsity.Zeros != 8+2 || w.Sparsity.NonzeroMACs != 32+8 {
		t.Errorf("weights %+v, sparsity %+v", w, w.Sparsity)
	}
	// x and a; nothing floating between the pairs.
	if a := s.Activations; a.PeakBytes != 4*32+32 || a.NodeName != "qx" || a.TotalBytes != 4*32+32+8+4*8+4*8 {
		t.Errorf("activations %+v", a)
	}
}

// TestPackedWeights counts the numbers of 4 bits in a byte one by one.
func TestPackedWeights(t *testing.T) {
	m := textModel(t, `<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,32] x, uint8[4,1,16] b, float[4] s) => (float[1,4] y) {
	y = com.microsoft.MatMulNBits <K = 32, N = 4, bits = 4, block_size = 32> (x, b, s)
}`)
	g := m.Graph
	for _, v := range slices.Clone(g.Inputs()[1:]) {
		w := g.AddInitializer(&onnx.Tensor{Name: v.Name() + "_const", DType: v.DType(), Shape: staticDims(v)})
		if err := g.Replace(v, w); err != nil {
			t.Fatal(err)
		}
	}
	s := static(t, m, StaticOptions{})
	if s.Weights.Parameters != 128 || s.Weights.Scales != 4 || s.Nodes[0].Parameters != 128 || s.Work.MACs != 128 {
		t.Errorf("%+v, %+v", s.Weights, s.Nodes[0])
	}
}

func staticDims(v *onnx.Value) []int64 {
	d, _ := v.Shape().Static()
	return d
}

// TestReuse lets elementwise results take the place of what they are computed
// from, and changes of form none.
func TestReuse(t *testing.T) {
	m := textModel(t, `<ir_version: 8, opset_import: ["" : 17]>
g (float[4,4] x) => (float[16] y) <int64[1] s = {16}> {
	[a] a = Neg(x)
	[b] b = Exp(a)
	[c] c = Reshape(b, s)
	[d] y = Abs(c)
}`)
	a := static(t, m, StaticOptions{}).Activations
	if a.PeakBytes != 128 || a.ReusedBytes != 128 || a.TotalBytes != 5*64 {
		t.Errorf("%+v, want 64 bytes of input beside the first result at most", a)
	}
	m = textModel(t, `<ir_version: 8, opset_import: ["" : 17]>
g (float x) => (float[16] y) <int64[1] s = {16}> {
	[a] a = Expand(x, s)
	[b] b = Exp(a)
	[c] y = Abs(b)
}`)
	if a := static(t, m, StaticOptions{}).Activations; a.PeakBytes != 128 || a.ReusedBytes != 64+4 {
		t.Errorf("%+v, want 68 bytes with reuse", a)
	}
}

package prune

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// fusedNetworks are blocks out of operators that a runtime's fusions make, in
// the text form; inputs whose names begin with w become weights.
var fusedNetworks = map[string]string{
	"MultiHeadAttention": `<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,16] x, float[16,16] wq, float[16,16] wk, float[16,16] wv, float[48] wb, float[16,16] wo) => (float[1,5,16] y) {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a = com.microsoft.MultiHeadAttention <num_heads = 4> (q, k, v, wb)
  y = MatMul(a, wo)
}`,
	"GroupQueryAttention": `<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,16] x, float[16,32] wq, float[16,16] wk, float[16,16] wv, float[32,16] wo, int32[1] seqlens, int32[1] total) => (float[1,5,16] y) {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a, pk, pv = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> (q, k, v, , , seqlens, total)
  y = MatMul(a, wo)
}`,
	"packed Attention": `<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,16] x, float[16,48] wqkv, float[48] wb, float[16,16] wo) => (float[1,5,16] y) {
  a = com.microsoft.Attention <num_heads = 4> (x, wqkv, wb)
  y = MatMul(a, wo)
}`,
	"Attention-23": `<ir_version: 11, opset_import: ["" : 23]>
g (float[1,5,16] x, float[16,16] wq, float[16,8] wk, float[16,8] wv, float[16,16] wo) => (float[1,5,16] y) {
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  a = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)
  y = MatMul(a, wo)
}`,
	"SkipLayerNormalization": `<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
g (float[1,5,16] x, float[16,64] wup, float[64] wb, float[64,16] wdown, float[16] wgamma, float[16] wbeta, float[16] wbias) => (float[1,5,16] y) {
  u = MatMul(x, wup)
  h = com.microsoft.BiasGelu(u, wb)
  d = com.microsoft.FusedMatMul <alpha = 0.5> (h, wdown)
  y = com.microsoft.SkipLayerNormalization(x, d, wgamma, wbeta, wbias)
}`,
}

// TestFusedOracle: what [TestOracle] holds for networks as exporters write them
// holds for the operators that fusions leave.
func TestFusedOracle(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for name, text := range fusedNetworks {
		t.Run(name, func(t *testing.T) {
			m, err := onnxtext.Parse(name, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			in := map[string]*onnx.Tensor{}
			for _, v := range slices.Clone(m.Graph.Inputs()) {
				shape, ok := v.Type.Shape.Static()
				if !ok {
					t.Fatalf("%s has no shape", v.Name())
				}
				switch c := drawn(r, v.Name(), shape); {
				case v.Name() == "seqlens":
					in[v.Name()] = number(t, v.Name(), shape, 4)
				case v.Name() == "total":
					in[v.Name()] = number(t, v.Name(), shape, 5)
				case strings.HasPrefix(v.Name(), "w"):
					weight(t, m.Graph, v, c)
				default:
					in[v.Name()] = c
				}
			}
			oracleOn(t, open, m, in)
		})
	}
}

// drawn returns values of the usual scale of weights.
func drawn(r *rand.Rand, name string, shape []int64) *onnx.Tensor {
	n, _ := onnx.ElementCount(shape)
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() / math.Sqrt(float64(shape[0])))
	}
	return onnx.FromFloats(name, shape, out)
}

// weight puts a constant in the place of an input.
func weight(t *testing.T, g *onnx.Graph, v *onnx.Value, c *onnx.Tensor) {
	t.Helper()
	c.Name += "_weight"
	err := g.Replace(v, g.NewConst(c))
	if err == nil {
		err = g.RemoveInput(v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// number returns an int32 tensor of one element.
func number(t *testing.T, name string, shape []int64, n float64) *onnx.Tensor {
	t.Helper()
	x, err := onnx.FromFloat64s(name, onnx.Int32, shape, []float64{n})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

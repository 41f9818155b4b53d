package onnxtext

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestFormat(t *testing.T) {
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(2)}))
	w := g.AddInitializer(onnx.FromFloats("w/1", []int64{2, 2}, []float32{1, -0.5, 1e-9, 3}))
	n := onnx.NewNode("Gemm", []*onnx.Value{x, w, nil}, "y")
	n.Name = "fc"
	n.Attrs = []*onnx.Attr{onnx.IntAttr("transB", 1), onnx.FloatAttr("alpha", 0.5), onnx.IntsAttr("pads", 1, 2), onnx.StringAttr("mode", "a\"b")}
	g.Append(n)
	g.AddOutput(n.Output(0))
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, `<
  ir_version: 8,
  opset_import: ["" : 17]
>
main (float[N,2] x) => (y)
<
  float[2,2] "w/1" = {1.0, -0.5, 1e-09, 3.0}
> {
  [fc] y = Gemm <transB = 1, alpha = 0.5, pads = [1, 2], mode = "a\"b"> (x, "w/1", )
}
`},
		{Options{MaxElements: 3}, `<
  ir_version: 8,
  opset_import: ["" : 17]
>
main (float[N,2] x) => (y)
<
  float[2,2] "w/1" = { sha256 f34d81502f40b912 }
> {
  [fc] y = Gemm <transB = 1, alpha = 0.5, pads = [1, 2], mode = "a\"b"> (x, "w/1", )
}
`},
	} {
		var b strings.Builder
		if err := Format(&b, m, c.o); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("max %d elements (-want +got):\n%s", c.o.MaxElements, diff)
		}
	}
}

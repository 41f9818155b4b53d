package opset_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// TestShapesOfOperators checks operators whose output depends on attributes,
// small constants, or the version.
func TestShapesOfOperators(t *testing.T) {
	ints := func(g *graph, name string, n ...int64) { g.ints(name, []int64{int64(len(n))}, n...) }
	for _, tc := range []struct {
		name    string
		version int64
		build   func(g *graph) *onnx.Node
		want    string
	}{
		{"padded strided convolution", 11, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3, "H", 224)
			g.input("w", onnx.Float, 64, 3, 7, 7)
			return g.node("Conv", []string{"x", "w"}, []string{"y"}, onnx.IntsAttr("strides", 2, 2), onnx.IntsAttr("pads", 3, 3, 3, 3))
		}, "float[N,64,floor((H+1)/2),112]"},
		{"same padding", 11, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3, "H", 225)
			g.input("w", onnx.Float, 64, 3, 7, 7)
			return g.node("Conv", []string{"x", "w"}, []string{"y"}, onnx.IntsAttr("strides", 2, 2), onnx.StringAttr("auto_pad", "SAME_UPPER"))
		}, "float[N,64,floor((H+1)/2),113]"},
		{"transposed convolution", 11, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, 8, "H", 5)
			g.input("w", onnx.Float, 8, 4, 3, 3)
			return g.node("ConvTranspose", []string{"x", "w"}, []string{"y"}, onnx.IntsAttr("strides", 2, 2), onnx.IntAttr("group", 2))
		}, "float[1,8,2*H+1,11]"},
		{"pool rounding up", 11, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, 1, 6, "W")
			return g.node("MaxPool", []string{"x"}, []string{"y"}, onnx.IntsAttr("kernel_shape", 3, 3), onnx.IntsAttr("strides", 2, 2), onnx.IntAttr("ceil_mode", 1))
		}, "float[1,1,3,floor(W/2)]"},
		{"squeeze by attribute", 11, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, "N", 1)
			return g.node("Squeeze", []string{"x"}, []string{"y"}, onnx.IntsAttr("axes", -1))
		}, "float[1,N]"},
		{"squeeze by input", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, "N", 1)
			ints(g, "a", 0)
			return g.node("Squeeze", []string{"x", "a"}, []string{"y"})
		}, "float[N,1]"},
		{"squeeze of everything with a symbol", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, "N")
			return g.node("Squeeze", []string{"x"}, []string{"y"})
		}, "float"},
		{"slice of a symbol", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", "M", 9)
			ints(g, "s", 1, -1, 7)
			ints(g, "e", 1<<62, 1<<62, 0)
			ints(g, "a", 0, 1, 2)
			ints(g, "p", 1, 1, -3)
			return g.node("Slice", []string{"x", "s", "e", "a", "p"}, []string{"y"})
		}, "float[N-1,1,3]"},
		{"old addition keeps the first shape", 6, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 2, 3, 4)
			g.input("b", onnx.Float, 3)
			return g.node("Add", []string{"x", "b"}, []string{"y"}, onnx.IntAttr("broadcast", 1), onnx.IntAttr("axis", 1))
		}, "float[2,3,4]"},
		{"broadcast of symbols", 14, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 1, "M", "N")
			g.input("b", onnx.Float, "N", "M", "N", 5)
			return g.node("Add", []string{"x", "b"}, []string{"y"})
		}, "float[N,M,?,5]"},
		{"split in uneven parts", 18, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 7, "N")
			return g.node("Split", []string{"x"}, []string{"y", "z"}, onnx.IntAttr("num_outputs", 2))
		}, "float[4,N]"},
		{"einsum with an ellipsis", 12, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "B", 4, "I", 8)
			g.input("w", onnx.Float, "B", 4, 8, "K")
			return g.node("Einsum", []string{"x", "w"}, []string{"y"}, onnx.StringAttr("equation", "...ij,...jk->...ik"))
		}, "float[B,4,I,K]"},
		{"reduction by input", 18, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3, 4)
			ints(g, "a", -1)
			return g.node("ReduceMean", []string{"x", "a"}, []string{"y"}, onnx.IntAttr("keepdims", 0))
		}, "float[N,3]"},
		{"reduction with empty axes", 18, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3)
			return g.node("ReduceMean", []string{"x"}, []string{"y"}, onnx.IntAttr("noop_with_empty_axes", 1))
		}, "float[N,3]"},
		{"range over a symbol", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3)
			g.ints("i", nil, 0)
			g.ints("one", nil, 1)
			g.node("Shape", []string{"x"}, []string{"s"})
			g.node("Gather", []string{"s", "i"}, []string{"n"})
			return g.node("Range", []string{"i", "n", "one"}, []string{"y"})
		}, "int64[N]"},
		{"expand to a computed shape", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3)
			g.input("one", onnx.Float, 1, 3)
			g.node("Shape", []string{"x"}, []string{"s"})
			return g.node("Expand", []string{"one", "s"}, []string{"y"})
		}, "float[N,3]"},
		{"exporter's expand of -1", 13, func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, "N")
			ints(g, "want", 4, -1)
			ints(g, "minus", -1, -1)
			ints(g, "ones", 1, 1)
			g.node("Equal", []string{"want", "minus"}, []string{"c"})
			g.node("Where", []string{"c", "ones", "want"}, []string{"to"})
			return g.node("Expand", []string{"x", "to"}, []string{"y"})
		}, "float[4,N]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGraph(t, tc.version)
			n := tc.build(g)
			g.infer(opset.Options{})
			if got := n.Output(0).Type.String(); got != tc.want {
				t.Errorf("type %s, want %s", got, tc.want)
			}
		})
	}
}

// TestInferNode computes the facts of a node inserted after the whole model.
func TestInferNode(t *testing.T) {
	g := newGraph(t, 17)
	g.input("x", onnx.Float, "?", 3)
	g.node("Relu", []string{"x"}, []string{"y"})
	f := g.infer(opset.Options{})
	f.Infer(g.node("Abs", []string{"y"}, []string{"z"}))
	if a, b := f.Shape(g.v["x"]), f.Shape(g.v["z"]); !a.Equal(b) {
		t.Errorf("an unnamed dimension is lost on the way: %v, then %v", a, b)
	}
	if got := g.v["y"].Type.String(); got != "float[?,3]" {
		t.Errorf("a fresh symbol was written into the model: %s", got)
	}
}

// TestInts reads computed content, negative numbers and expressions included.
func TestInts(t *testing.T) {
	g := newGraph(t, 17)
	g.input("x", onnx.Float, "N", 4)
	g.ints("minus", []int64{1}, -1)
	g.node("Shape", []string{"x"}, []string{"s"})
	g.node("Concat", []string{"s", "minus"}, []string{"c"}, onnx.IntAttr("axis", 0))
	got, ok := g.infer(opset.Options{}).Ints(g.v["c"])
	want := []opset.Int{{Expr: "N"}, {Known: true, Value: 4}, {Known: true, Value: -1}}
	if !ok || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("content %v, want %v", got, want)
	}
	if d := want[2].Dim(); d.Known() || d.Param != "" {
		t.Errorf("a negative number is dimension %v", d)
	}
}

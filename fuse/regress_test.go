package fuse_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestSplitsStayApart: Split without sizes cuts into as many parts as it has
// outputs, so two that differ in nothing else are not the same computation.
func TestSplitsStayApart(t *testing.T) {
	m := onnx.NewModel(13)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(6)))
	for _, names := range [][]string{{"a", "b", "c"}, {"d", "e"}} {
		n := onnx.NewNode("Split", []*onnx.Value{x}, names...)
		m.Graph.Append(n)
		for _, v := range n.Outputs() {
			relu := onnx.NewNode("Relu", []*onnx.Value{v}, v.Name()+"_out")
			m.Graph.Append(relu)
			m.Graph.AddOutput(relu.Output(0))
		}
	}
	if _, err := fuse.Model(t.Context(), m, fuse.Options{}); err != nil {
		t.Fatal(err)
	}
	splits := 0
	for n := range m.Graph.Nodes() {
		if n.Is("Split") {
			splits++
		}
	}
	if splits != 2 {
		t.Errorf("%d Split nodes are left, want 2", splits)
	}
}

// TestConvAddBadFilters: filters without a channel axis are declined.
func TestConvAddBadFilters(t *testing.T) {
	for _, op := range []string{"Conv", "ConvTranspose"} {
		m := onnx.NewModel(13)
		g := m.Graph
		x := g.AddInput("x", nil)
		conv := onnx.NewNode(op, []*onnx.Value{x, g.AddInitializer(onnx.FromFloats("w", []int64{}, []float32{1}))}, "y")
		g.Append(conv)
		add := onnx.NewNode("Add", []*onnx.Value{conv.Output(0), g.AddInitializer(onnx.FromFloats("c", []int64{1}, []float32{2}))}, "z")
		g.Append(add)
		g.AddOutput(add.Output(0))
		log, err := fuse.Model(t.Context(), m, fuse.Options{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(r rewrite.Refusal) bool { return r.Rule == "conv-add" && r.Reason == "the filters have shape []" }
		if !slices.ContainsFunc(log.Declined, want) {
			t.Errorf("%s: declined %v", op, log.Declined)
		}
	}
}

// TestReferredAttributes: in a function body, an attribute that the caller
// supplies is not its default.
func TestReferredAttributes(t *testing.T) {
	m := onnx.NewModel(17)
	m.Opsets = append(m.Opsets, onnx.Opset{Domain: "local", Version: 1})
	f := &onnx.Function{Name: "F", Domain: "local", Attrs: []string{"cut"}, Opsets: m.Opsets[:1], Body: onnx.NewGraph("F")}
	a, c := f.Body.AddInput("a", nil), onnx.NewNode("Constant", nil, "c")
	c.Attrs = []*onnx.Attr{onnx.TensorAttr("value", onnx.FromFloats("", []int64{2}, []float32{1, 2}))}
	f.Body.Append(c)
	gemm := onnx.NewNode("Gemm", []*onnx.Value{a, a, c.Output(0)}, "p")
	gemm.Attrs = []*onnx.Attr{{Name: "beta", Type: onnx.AttrFloat, Ref: "cut"}}
	f.Body.Append(gemm)
	add := onnx.NewNode("Add", []*onnx.Value{gemm.Output(0), c.Output(0)}, "q")
	f.Body.Append(add)
	f.Body.AddOutput(add.Output(0))
	m.AddFunction(f)
	call := onnx.NewNode("F", []*onnx.Value{m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2, 2)))}, "y")
	call.Domain, call.Attrs = "local", []*onnx.Attr{onnx.FloatAttr("cut", 0.5)}
	m.Graph.Append(call)
	m.Graph.AddOutput(call.Output(0))
	log, err := fuse.Model(t.Context(), m, fuse.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range log.Declined {
		found = found || strings.Contains(r.Reason, `attribute "beta" of`) && r.Rule == "gemm-add"
	}
	if !found || gemm.Graph() == nil {
		t.Errorf("fired %v, declined %v", log.Fired, log.Declined)
	}
}

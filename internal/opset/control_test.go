package opset_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// graphAttr returns a graph attribute.
func graphAttr(name string, g *onnx.Graph) *onnx.Attr {
	return &onnx.Attr{Name: name, Type: onnx.AttrGraph, G: g}
}

// apply appends out = op(in...) to g.
func apply(g *onnx.Graph, op, out string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	n := onnx.NewNode(op, in, out)
	n.Attrs = attrs
	g.Append(n)
	return n.Output(0)
}

// TestIf merges branches that agree in one dimension and read an outer value.
func TestIf(t *testing.T) {
	g := newGraph(t, 17)
	g.input("c", onnx.Bool)
	g.input("x", onnx.Float, "N", 4)
	then, other := onnx.NewGraph("then"), onnx.NewGraph("else")
	then.AddOutput(apply(then, "Relu", "a", []*onnx.Value{g.v["x"]}))
	other.AddOutput(apply(other, "Concat", "b", []*onnx.Value{g.v["x"], g.v["x"]}, onnx.IntAttr("axis", 1)))
	g.node("If", []string{"c"}, []string{"y"}, graphAttr("then_branch", then), graphAttr("else_branch", other))
	g.infer(opset.Options{})
	if got := g.v["y"].Type.String(); got != "float[N,?]" {
		t.Errorf("merged type %s", got)
	}
	if got := other.Outputs()[0].Type.String(); got != "float[N,8]" {
		t.Errorf("type in the else branch %s", got)
	}
}

// TestLoop carries a tensor that grows and one that does not, and stacks a scan output.
func TestLoop(t *testing.T) {
	g := newGraph(t, 17)
	g.input("trips", onnx.Int64)
	g.input("x", onnx.Float, "N", 4)
	body := onnx.NewGraph("body")
	body.AddInput("i", onnx.TensorType(onnx.Int64, onnx.Shape{}))
	cond := body.AddInput("go", onnx.TensorType(onnx.Bool, onnx.Shape{}))
	grows := body.AddInput("grows", nil)
	keeps := body.AddInput("keeps", nil)
	body.AddOutput(apply(body, "Identity", "again", []*onnx.Value{cond}))
	body.AddOutput(apply(body, "Concat", "longer", []*onnx.Value{grows, keeps}, onnx.IntAttr("axis", 0)))
	body.AddOutput(apply(body, "Relu", "kept", []*onnx.Value{keeps}))
	body.AddOutput(apply(body, "Abs", "each", []*onnx.Value{keeps}))
	g.node("Loop", []string{"trips", "", "x", "x"}, []string{"long", "same", "scan"}, graphAttr("body", body))
	f := g.infer(opset.Options{})
	got := map[string]string{"long": g.v["long"].Type.String(), "same": g.v["same"].Type.String(), "scan": g.v["scan"].Type.String()}
	want := map[string]string{"long": "float[?,4]", "same": "float[N,4]", "scan": "float[?,N,4]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
	if s := f.Shape(grows); len(s) != 2 || s[0].Known() || s[1] != onnx.Fixed(4) {
		t.Errorf("carried value inside the body %v", s)
	}
}

// TestLoopTrips stacks a known number of iterations.
func TestLoopTrips(t *testing.T) {
	g := newGraph(t, 17)
	g.ints("trips", nil, 5)
	g.input("x", onnx.Float, "N")
	body := onnx.NewGraph("body")
	body.AddInput("i", nil)
	cond := body.AddInput("go", nil)
	body.AddOutput(cond)
	body.AddOutput(apply(body, "Abs", "each", []*onnx.Value{g.v["x"]}))
	g.node("Loop", []string{"trips", ""}, []string{"scan"}, graphAttr("body", body))
	g.infer(opset.Options{})
	if got := g.v["scan"].Type.String(); got != "float[5,N]" {
		t.Errorf("type %s", got)
	}
}

// TestScan sums along axis 0 and stacks along axis 1.
func TestScan(t *testing.T) {
	g := newGraph(t, 17)
	g.input("init", onnx.Float, 2)
	g.input("x", onnx.Float, "T", 2)
	body := onnx.NewGraph("body")
	sum, next := body.AddInput("sum", nil), body.AddInput("next", nil)
	out := apply(body, "Add", "out", []*onnx.Value{sum, next})
	body.AddOutput(out)
	body.AddOutput(apply(body, "Identity", "each", []*onnx.Value{out}))
	g.node("Scan", []string{"init", "x"}, []string{"final", "all"}, graphAttr("body", body),
		onnx.IntAttr("num_scan_inputs", 1), onnx.IntsAttr("scan_output_axes", 1))
	g.infer(opset.Options{})
	if got := g.v["final"].Type.String() + " " + g.v["all"].Type.String(); got != "float[2] float[2,T]" {
		t.Errorf("types %s", got)
	}
}

// TestFunction infers two calls of one function with different shapes and an
// attribute passed through.
func TestFunction(t *testing.T) {
	g := newGraph(t, 17)
	g.m.ImportOpset("local", 1)
	body := onnx.NewGraph("body")
	x := body.AddInput("x", nil)
	n := onnx.NewNode("Concat", []*onnx.Value{x, x}, "y")
	n.Attrs = []*onnx.Attr{{Name: "axis", Type: onnx.AttrInt, Ref: "along"}}
	body.Append(n)
	body.AddOutput(n.Output(0))
	g.m.AddFunction(&onnx.Function{Name: "Twice", Domain: "local", Opsets: []onnx.Opset{{Version: 17}}, Body: body,
		AttrDefaults: []*onnx.Attr{onnx.IntAttr("along", 0)}})
	g.input("a", onnx.Float, "N", 3)
	g.input("b", onnx.Float, 5, 3)
	g.node("Twice", []string{"a"}, []string{"p"}).Domain = "local"
	g.node("Twice", []string{"b"}, []string{"q"}, onnx.IntAttr("along", 1)).Domain = "local"
	f := g.infer(opset.Options{})
	if got := g.v["p"].Type.String() + " " + g.v["q"].Type.String(); got != "float[2*N,3] float[5,6]" {
		t.Errorf("types %s", got)
	}
	if got := f.Type(n.Output(0)).String(); got != "float[unk2,unk3]" {
		t.Errorf("type inside the body, over both calls: %s", got)
	}
}

// TestFunctionSizes: sizes that differ from call to call are equal within the
// body where they are in every call, and only there.
func TestFunctionSizes(t *testing.T) {
	g := newGraph(t, 17)
	g.m.ImportOpset("local", 1)
	body := onnx.NewGraph("body")
	x, z := body.AddInput("x", nil), body.AddInput("z", nil)
	n := onnx.NewNode("Relu", []*onnx.Value{x}, "y")
	body.Append(n)
	body.AddOutput(n.Output(0))
	g.m.AddFunction(&onnx.Function{Name: "F", Domain: "local", Opsets: []onnx.Opset{{Version: 17}}, Body: body})
	g.input("a", onnx.Float, "N", 3)
	g.input("b", onnx.Float, 5, 3)
	g.input("c", onnx.Float, "?", 3)
	for i, in := range [][]string{{"a", "b"}, {"b", "b"}, {"c", "a"}} {
		g.node("F", in, []string{string(rune('p' + i))}).Domain = "local"
	}
	f := g.infer(opset.Options{})
	in, out, other := f.Shape(x), f.Shape(n.Output(0)), f.Shape(z)
	if !in[0].Same(out[0]) || in[0].Known() || in[0].Param == "N" || in[0].Same(other[0]) || in[1] != onnx.Fixed(3) {
		t.Errorf("shapes inside the body, over all calls: %v, %v and %v", in, out, other)
	}
}

// TestOptions fixes a symbol, replaces an input's shape, and refuses what does not fit.
func TestOptions(t *testing.T) {
	build := func() *graph {
		g := newGraph(t, 17)
		g.input("x", onnx.Float, "N", "batch-size")
		g.node("Relu", []string{"x"}, []string{"y"})
		return g
	}
	g := build()
	g.infer(opset.Options{Dims: map[string]int64{"N": 2, "batch-size": 3}})
	if got := g.v["y"].Type.String(); got != "float[2,3]" {
		t.Errorf("fixed symbols: %s", got)
	}
	g = build()
	g.infer(opset.Options{InputShapes: map[string]onnx.Shape{"x": dims(7, "M")}})
	if got := g.v["y"].Type.String(); got != "float[7,M]" {
		t.Errorf("input shape: %s", got)
	}
	g = build()
	g.infer(opset.Options{ReadOnly: true})
	if g.v["y"].Type != nil {
		t.Errorf("read-only inference wrote %v", g.v["y"].Type)
	}
	for _, o := range []opset.Options{{Dims: map[string]int64{"K": 1}}, {Dims: map[string]int64{"N": -1}},
		{InputShapes: map[string]onnx.Shape{"z": dims(1)}}, {InputShapes: map[string]onnx.Shape{"x": dims(1)}}} {
		if _, err := opset.Infer(build().m, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// TestContradiction keeps what is inferred and notes what the file says instead.
func TestContradiction(t *testing.T) {
	g := newGraph(t, 17)
	g.input("x", onnx.Float, 2, 3)
	g.node("Transpose", []string{"x"}, []string{"y"})
	g.v["y"].Type = onnx.TensorType(onnx.Float, dims(2, 3))
	g.node("Relu", []string{"y"}, []string{"z"})
	f := g.infer(opset.Options{})
	if len(f.Contradictions) != 1 || f.Contradictions[0].Value != g.v["y"] {
		t.Fatalf("contradictions %v", f.Contradictions)
	}
	if got := g.v["z"].Type.String(); got != "float[3,2]" {
		t.Errorf("type behind the contradiction %s", got)
	}
}

// TestCost compares with closed forms.
func TestCost(t *testing.T) {
	for _, tc := range []struct {
		name  string
		build func(g *graph) *onnx.Node
		want  opset.Cost
	}{
		{"grouped convolution", func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1, 8, 10, 10)
			g.v["w"] = g.m.Graph.AddInitializer(onnx.FromFloats("w", []int64{16, 4, 3, 3}, make([]float32, 576)))
			g.v["b"] = g.m.Graph.AddInitializer(onnx.FromFloats("b", []int64{16}, make([]float32, 16)))
			return g.node("Conv", []string{"x", "w", "b"}, []string{"y"}, onnx.IntAttr("group", 2))
		}, opset.Cost{MACs: 16 * 64 * 36, FLOPs: 2*16*64*36 + 16*64, BytesRead: 4 * (800 + 576 + 16), BytesWrite: 4 * 1024, Params: 592}},
		{"batched product", func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 5, 2, 3)
			g.input("w", onnx.Float, 3, 4)
			return g.node("MatMul", []string{"x", "w"}, []string{"y"})
		}, opset.Cost{MACs: 5 * 2 * 3 * 4, FLOPs: 240, BytesRead: 4 * 42, BytesWrite: 160}},
		{"unknown batch", func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, "N", 3)
			return g.node("Relu", []string{"x"}, []string{"y"})
		}, opset.Cost{Unknown: true}},
		{"overflow", func(g *graph) *onnx.Node {
			g.input("x", onnx.Float, 1<<31, 1<<31, 1<<31)
			return g.node("Relu", []string{"x"}, []string{"y"})
		}, opset.Cost{Unknown: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGraph(t, 17)
			n := tc.build(g)
			if diff := cmp.Diff(tc.want, g.infer(opset.Options{}).Cost(n)); diff != "" {
				t.Errorf("cost (-want +got):\n%s", diff)
			}
		})
	}
}

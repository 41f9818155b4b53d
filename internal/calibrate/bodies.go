package calibrate

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Measurable reports whether values of g can be measured: g is a main graph, or
// the body of an If, Loop or Scan in one that is.
func Measurable(g *onnx.Graph) bool {
	for g.Owner() != nil {
		if n := g.Owner(); !n.Is("If") && !n.Is("Loop") && !n.Is("Scan") {
			return false
		}
		g = g.Parent()
	}
	return g.Model() != nil && g.Model().Graph == g
}

// Repeats reports whether g is in the body of a Loop or Scan, which may run any
// number of times in one run of the model.
func Repeats(g *onnx.Graph) bool {
	for ; g.Owner() != nil; g = g.Parent() {
		if !g.Owner().Is("If") {
			return true
		}
	}
	return false
}

// tensors returns the values that can be measured by name.
func tensors(m *onnx.Model) map[string]*onnx.Value {
	out := map[string]*onnx.Value{}
	for _, g := range m.Graphs() {
		if !Measurable(g) {
			continue
		}
		for v := range g.Values() {
			if out[v.Name()] == nil {
				out[v.Name()] = v
			}
		}
	}
	return out
}

// feasible returns wants as they can be measured. A value in the body of a Loop
// or Scan has a tensor for each iteration, of sizes that may differ, and nobody
// knows how many: of such values three numbers are kept.
func feasible(m *onnx.Model, wants []Want) []Want {
	byName := tensors(m)
	out := make([]Want, len(wants))
	for i, w := range wants {
		if v := byName[w.Tensor]; v != nil && Repeats(v.Graph()) {
			w = Want{Tensor: w.Tensor, Key: w.Key, Extremes: true}
		}
		out[i] = w
	}
	return out
}

// reduction is how the engine makes one number of a tensor, and what it makes of
// a tensor without elements.
type reduction struct {
	op    string
	empty float32
}

// reductions are those that tell the extremes and the sum.
var reductions = []reduction{
	{"ReduceMin", float32(math.Inf(1))}, {"ReduceMax", float32(math.Inf(-1))}, {"ReduceSum", 0},
}

// nothing reports whether three numbers are those of no elements.
func nothing(v [3]float32) bool {
	return v[0] == reductions[0].empty && v[1] == reductions[1].empty && v[2] == 0
}

// tap adds nodes to a model that bring values of bodies out to the main graph.
type tap struct{ c *onnx.Model }

// add appends a node to g and returns its output.
func (t tap) add(g *onnx.Graph, op, name string, typ *onnx.Type, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	n := onnx.NewNode(op, in, t.c.Fresh(name+"_"+op))
	n.Attrs = attrs
	n.Output(0).Type = typ
	g.Append(n)
	return n.Output(0)
}

func (t tap) constant(g *onnx.Graph, x *onnx.Tensor) *onnx.Value {
	return t.add(g, "Constant", x.Name, x.Type(), nil, onnx.TensorAttr("value", x))
}

// reduced returns the number that r makes of v, of any shape, with or without elements.
func (t tap) reduced(v *onnx.Value, r reduction) *onnx.Value {
	g, name := v.Graph(), v.Name()
	list := onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("")})
	flat := t.add(g, "Reshape", name, list, []*onnx.Value{v, t.constant(g, onnx.FromInts("flat", []int64{1}, []int64{-1}))})
	some := t.add(g, "Concat", name, list, []*onnx.Value{flat, t.constant(g, onnx.FromFloats("empty", []int64{1}, []float32{r.empty}))}, onnx.IntAttr("axis", 0))
	return t.add(g, r.op, name, onnx.TensorType(onnx.Float, onnx.Shape{}), []*onnx.Value{some}, onnx.IntAttr("keepdims", 0))
}

// out makes v, which a node of a body computes, an output of the body and of the
// node that has it, and so on up to the main graph. Branches that do not compute
// v give other instead. What a Loop or Scan stacks up r makes one number of, so
// that no iteration needs memory for long.
func (t tap) out(v *onnx.Value, other *onnx.Tensor, r reduction) *onnx.Value {
	for v.Graph().Owner() != nil {
		g, n := v.Graph(), v.Graph().Owner()
		at := len(g.Outputs())
		typ := v.Type
		switch {
		case n.Is("If"):
			for _, b := range n.Subgraphs() {
				if b != g {
					b.AddOutput(t.constant(b, other))
				}
			}
		case n.Is("Loop"):
			at-- // the first output of the body is its condition
			typ = onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("")})
		default:
			typ = onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("")})
			for _, name := range []string{"scan_output_axes", "scan_output_directions"} {
				if list := n.Ints(name, nil); list != nil {
					n.SetAttr(onnx.IntsAttr(name, append(list[:len(list):len(list)], 0)...))
				}
			}
		}
		g.AddOutput(v)
		for len(n.Outputs()) <= at {
			n.AddOutput(t.c.Fresh(v.Name() + "_out"))
		}
		v = n.Output(at)
		v.Type = typ
		if !n.Is("If") {
			v = t.reduced(v, r)
		}
	}
	return v
}

// Out makes v, a single number that a node in a body computes, a value of the main
// graph of m: the sum over all that is computed of it in one run.
func Out(m *onnx.Model, v *onnx.Value) *onnx.Value {
	return tap{m}.out(v, onnx.FromFloats("none", []int64{}, []float32{0}), reductions[2])
}

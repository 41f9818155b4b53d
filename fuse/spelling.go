package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// spelling is arithmetic in which ONNX Runtime recognises an operator when it
// loads a model. Where the model's opset is too low for the operator, other
// arithmetic for the same becomes this.
type spelling struct {
	name, doc string
	of        formula
	op        string // the operator, of which there is no need where the opset has it
	inside    bool   // it is not recognised where its result is an output of the graph
	// forms returns what is recognised; the first is written.
	forms func(x *tree, attrs []*onnx.Attr) []*tree
}

// rule returns the rule that writes the formula in that way.
func (s spelling) rule(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: s.name, Doc: s.doc, Pattern: s.of.pattern(),
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			d := m.Facts.DType(m.Root.Output(0))
			if t.offer(m, "", s.op, d) == nil {
				return rewrite.ErrNotHere
			}
			at, err := s.of.find(m)
			if err != nil {
				return rewrite.ErrNotHere // the rule for the operator says why
			}
			if d != onnx.Float {
				return rewrite.Decline("ONNX Runtime does not recognise it in %v", d)
			}
			if s.inside && m.Root.Output(0).IsOutput() {
				return rewrite.Decline("ONNX Runtime does not recognise it where it ends the graph")
			}
			return respell(m, p, at.r, s.forms(&tree{value: at.x}, at.attrs))
		},
	}
}

// respell proposes the first of the forms in the place of what r read, unless
// one of them stands there or it would take more nodes.
func respell(m *rewrite.Match, p *rewrite.Patch, r *algebra.Reader, forms []*tree) error {
	root := m.Root.Output(0)
	if slices.ContainsFunc(forms, func(f *tree) bool { return f.stands(root, tolerance(m.Facts.DType(root))) }) {
		return rewrite.ErrNotHere
	}
	if n := forms[0].nodes(map[*tree]bool{}); n > len(r.Nodes) {
		return rewrite.Decline("what ONNX Runtime recognises has %d nodes instead of %d", n, len(r.Nodes))
	}
	y, err := (&planting{p: p, of: m.Facts.DType(root), done: map[*tree]*onnx.Value{}}).value(forms[0])
	if err != nil {
		return err
	}
	p.Swap(root, y)
	return nil
}

// tree is arithmetic to be written: an operator of trees, a number, integers, or
// a value of the graph. A tree that is met twice is computed once.
type tree struct {
	op     string
	attrs  []*onnx.Attr
	args   []*tree
	number float64
	ints   []int64
	value  *onnx.Value
}

func node(op string, args ...*tree) *tree { return &tree{op: op, args: args} }

func number(c float64) *tree { return &tree{number: c} }

// nodes counts the operators.
func (t *tree) nodes(seen map[*tree]bool) int {
	if t.op == "" || seen[t] {
		return 0
	}
	seen[t] = true
	n := 1
	for _, a := range t.args {
		n += a.nodes(seen)
	}
	return n
}

// stands reports whether v is computed in the way of the tree, in whatever order
// of terms and factors. Attributes and integers are those that the formula has.
func (t *tree) stands(v *onnx.Value, tol float64) bool {
	switch {
	case v == nil || t.value != nil:
		return t.value == v
	case t.op == "":
		c := v.Constant()
		if c == nil || t.ints != nil {
			return c != nil
		}
		x, ok := onlyElement(c)
		return ok && math.Abs(x-t.number) <= tol*math.Abs(t.number)
	}
	n := producerOf(v, t.op)
	if n == nil || len(n.Inputs()) < len(t.args) {
		return false
	}
	inOrder := func(flip int) bool {
		for i, a := range t.args {
			if !a.stands(n.Input(i^flip), tol) {
				return false
			}
		}
		return true
	}
	return inOrder(0) || (t.op == "Add" || t.op == "Mul") && inOrder(1)
}

// planting proposes trees with constants of one element type.
type planting struct {
	p    *rewrite.Patch
	of   onnx.DType
	done map[*tree]*onnx.Value
}

func (g *planting) value(t *tree) (*onnx.Value, error) {
	if v := g.done[t]; v != nil || t.value != nil {
		if v == nil {
			v = t.value
		}
		return v, nil
	}
	switch {
	case t.ints != nil:
		g.done[t] = intsConst(g.p, "axes", t.ints)
		return g.done[t], nil
	case t.op == "":
		c, err := floatTensor("c", g.of, []int64{}, []float64{t.number})
		if err != nil {
			return nil, err
		}
		g.done[t] = g.p.Const(c)
		return g.done[t], nil
	}
	var in []*onnx.Value
	for _, a := range t.args {
		v, err := g.value(a)
		if err != nil {
			return nil, err
		}
		in = append(in, v)
	}
	g.done[t] = g.p.Add(t.op, in, t.attrs...)
	return g.done[t], nil
}

// geluSpelling: the quotient by √2, and one half either first or last.
var geluSpelling = spelling{
	name: "gelu-spelling", doc: "writes Gelu by Erf, below opset 20, in the arithmetic that ONNX Runtime fuses when it loads a model",
	of: gelu, op: "Gelu",
	forms: func(x *tree, _ []*onnx.Attr) []*tree {
		erf := node("Add", node("Erf", node("Div", x, number(math.Sqrt2))), number(1))
		return []*tree{
			node("Mul", node("Mul", x, number(0.5)), erf),
			node("Mul", node("Mul", x, erf), number(0.5)),
		}
	},
}

// geluTanhSpelling: the cube by Pow, or multiplied out, with one half first.
var geluTanhSpelling = spelling{
	name: "gelu-tanh-spelling", doc: "writes the approximation of Gelu by Tanh, below opset 20, in the arithmetic that ONNX Runtime fuses when it loads a model",
	of: geluTanh, op: "Gelu", inside: true,
	forms: func(x *tree, _ []*onnx.Attr) []*tree {
		root, k := number(math.Sqrt(2/math.Pi)), number(0.044715)
		around := func(u *tree) *tree {
			return node("Mul", node("Mul", x, number(0.5)), node("Add", node("Tanh", u), number(1)))
		}
		return []*tree{
			around(node("Mul", node("Add", x, node("Mul", node("Pow", x, number(3)), k)), root)),
			around(node("Mul", node("Mul", x, root), node("Add", node("Mul", x, node("Mul", x, k)), number(1)))),
		}
	},
}

// swishSpelling: the product with Sigmoid, of which ONNX Runtime makes QuickGelu.
var swishSpelling = spelling{
	name: "swish-spelling", doc: "writes Swish, below opset 24, as the product with Sigmoid, which ONNX Runtime fuses when it loads a model",
	of: swish, op: "Swish",
	forms: func(x *tree, attrs []*onnx.Attr) []*tree {
		u := x
		if alpha := float64(attrs[0].F); alpha != 1 {
			u = node("Mul", x, number(alpha))
		}
		return []*tree{node("Mul", x, node("Sigmoid", u))}
	},
}

// hardSwishSpelling: the product with HardSigmoid, as ONNX Runtime computes HardSwish.
var hardSwishSpelling = spelling{
	name: "hardswish-spelling", doc: "writes HardSwish, below opset 14, as the product with HardSigmoid",
	of: hardSwish, op: "HardSwish",
	forms: func(x *tree, _ []*onnx.Attr) []*tree {
		h := node("HardSigmoid", x)
		h.attrs = []*onnx.Attr{onnx.FloatAttr("alpha", float32(1.0/6)), onnx.FloatAttr("beta", 0.5)}
		return []*tree{node("Mul", x, h)}
	},
}

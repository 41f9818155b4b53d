package fuse

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// formula is an operator of one variable that arithmetic can spell out in many
// ways. It is recognised by what the arithmetic computes: see package algebra.
type formula struct {
	name, doc string
	roots     string   // operators that can come last, as in a pattern
	also      string   // more of them, at which it is no refusal that something else is computed
	inner     []string // operators of which every spelling has one
	aside     []string // more of them, of which the same holds as of also
	of        []string // all operators that spellings are made of, in about small nodes; nil: any, in more
	// read tells whether e is the operator of x, with which attributes.
	read func(e, x algebra.Poly, tol float64) (list []setting, ok bool)
	emit emitter
}

// emitter proposes the operator of x, or declines where the target has none.
type emitter func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error)

// rule returns the rule that recognises the formula.
func (f formula) rule(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: f.name, Doc: f.doc, Pattern: f.pattern(),
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			at, err := f.find(m)
			if err != nil {
				return err
			}
			y, err := f.emit(t, m, p, at.x, at.attrs)
			if err != nil {
				return err
			}
			p.Swap(m.Root.Output(0), y)
			return nil
		},
	}
}

func (f formula) pattern() string {
	ops := f.roots
	if f.also != "" {
		ops += "|" + f.also
	}
	return ops + "(...)"
}

// found is where a formula was recognised: what it is a function of, by which
// attributes, and what was read.
type found struct {
	x     *onnx.Value
	attrs []*onnx.Attr
	r     *algebra.Reader
}

// find recognises the formula at the root of a match, where one node can stand
// for it, or declines.
func (f formula) find(m *rewrite.Match) (found, error) {
	root := m.Root.Output(0)
	if !isFloat(m.Facts.DType(root)) {
		return found{}, rewrite.Decline("the element type is %v", m.Facts.DType(root))
	}
	reach := f.reach()
	region := reach.upstream(m.Root)
	at := slices.IndexFunc(region, func(n *onnx.Node) bool {
		return slices.ContainsFunc(f.inner, n.Is) || slices.ContainsFunc(f.aside, n.Is)
	})
	if at < 0 {
		return found{}, rewrite.ErrNotHere
	}
	within := reach
	within.most = min(within.most, mostWithin)
	for _, x := range slices.Backward(variables(within.upstream(region[at]))) { // the farthest, of which most is read
		if !reach.ends(m.Root, x) {
			continue
		}
		r := &algebra.Reader{Facts: m.Facts, Stop: []*onnx.Value{x}}
		if list, ok := f.read(r.Of(root), algebra.Var(x), tolerance(m.Facts.DType(root))); ok {
			attrs, err := settled(list, m.Facts.DType(root))
			if err != nil {
				return found{}, err
			}
			return found{x, attrs, r}, replaceable(m, r, x)
		}
	}
	if slices.ContainsFunc(strings.Split(f.also, "|"), m.Root.Is) || slices.ContainsFunc(f.aside, region[at].Is) {
		return found{}, rewrite.ErrNotHere
	}
	return found{}, rewrite.Decline("it computes something else")
}

// setting is an attribute of the operator that was read, and the number that it stands for where that is a float.
type setting struct {
	attr  *onnx.Attr
	exact float64
}

func float(name string, x float64) setting { return setting{onnx.FloatAttr(name, float32(x)), x} }

// settled returns the attributes of an operator that computes in d, or declines where that is float64 and a number would be rounded to float32.
func settled(list []setting, d onnx.DType) ([]*onnx.Attr, error) {
	var out []*onnx.Attr
	for _, s := range list {
		if a := s.attr; d == onnx.Double && a.Type == onnx.AttrFloat && float64(a.F) != s.exact {
			return nil, rewrite.Decline("its %s would be rounded from %v to %v", a.Name, s.exact, a.F)
		}
		out = append(out, s.attr)
	}
	return out, nil
}

// standard returns an emitter of a standard operator.
func standard(op string) emitter {
	return func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
		if since, ok := bfloat16Since[op]; ok && m.Facts.DType(x) == onnx.BFloat16 && m.Opset() < since {
			return nil, rewrite.Decline("%s takes bfloat16 from opset %d on", op, since)
		}
		if err := t.offer(m, "", op, m.Facts.DType(x)); err != nil {
			return nil, err
		}
		return p.Add(op, []*onnx.Value{x}, attrs...), nil
	}
}

// bfloat16Since are the operators that took bfloat16 later than the arithmetic
// did of which they are made, which was at opset 13.
var bfloat16Since = map[string]int64{
	"Elu": 22, "Selu": 22, "HardSigmoid": 22, "HardSwish": 22, "Mish": 22, "Softplus": 22, "Softsign": 22, "ThresholdedRelu": 22,
	"LeakyRelu": 16, "PRelu": 16,
}

// either returns an emitter of a standard operator, or of ONNX Runtime's own one
// where the opset does not have that.
func either(op, own string) emitter {
	return func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
		y, err := standard(op)(t, m, p, x, attrs)
		if err == nil || t.offer(m, "com.microsoft", own, m.Facts.DType(x)) != nil {
			return y, err
		}
		return p.AddNode("com.microsoft", own, []*onnx.Value{x}, 1).Output(0), nil
	}
}

// tolerance is how far a constant may be from the formula's, relative to it:
// exporters round them to the element type, and write some with few digits.
func tolerance(d onnx.DType) float64 {
	if d == onnx.Float16 || d == onnx.BFloat16 {
		return 4e-3
	}
	return 1e-5
}

// Bounds of the search: the nodes before the last among which the inner operator
// is looked for, the nodes before that among which the variable is, and the nodes
// of a formula that says of which operators it is made.
const (
	mostUpstream = 24
	mostWithin   = 10
	small        = 12
)

// reach is how far the search goes: through operators that are good for it, of
// one graph, and about most nodes.
type reach struct {
	good func(*onnx.Node) bool
	most int
}

func (f formula) reach() reach {
	if f.of == nil {
		return reach{ofFormulas, mostUpstream}
	}
	return reach{func(n *onnx.Node) bool { return slices.ContainsFunc(f.of, n.Is) }, small}
}

// upstream returns root and what computes its inputs, nearest first; nothing
// where root has more inputs than a formula has nodes.
func (r reach) upstream(root *onnx.Node) []*onnx.Node {
	if len(root.Inputs()) > r.most {
		return nil
	}
	out := []*onnx.Node{root}
	for i := 0; i < len(out) && len(out) < r.most; i++ {
		for _, v := range out[i].Inputs() {
			if v == nil {
				continue
			}
			if n := v.Producer(); n != nil && n.Graph() == root.Graph() && len(n.Inputs()) <= r.most && r.good(n) && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}

// ends reports whether root is computed from x and constants alone.
func (r reach) ends(root *onnx.Node, x *onnx.Value) bool {
	list := []*onnx.Node{root}
	for i := 0; i < len(list); i++ {
		for _, v := range list[i].Inputs() {
			if v == nil || v == x || v.Constant() != nil {
				continue
			}
			n := v.Producer()
			if n == nil || n.Graph() == nil || !r.good(n) || len(list) > 2*r.most {
				return false
			}
			if !slices.Contains(list, n) {
				list = append(list, n)
			}
		}
	}
	return true
}

// upstream returns root and what computes its inputs, nearest first, through
// arithmetic and reductions of one graph: about most nodes.
func upstream(root *onnx.Node, most int) []*onnx.Node { return reach{ofFormulas, most}.upstream(root) }

// ofFormulas reports whether formulas are written with n.
func ofFormulas(n *onnx.Node) bool {
	if isReduction(n.Op) || n.Is("Unsqueeze") || n.Is("Sum") {
		return true
	}
	row := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	return row != nil && row.Elementwise() && onnx.NormalDomain(n.Domain) == "" && !n.Is("Cast")
}

// variables returns what the nodes of a region read and no constant is, the
// farthest from its root last.
func variables(region []*onnx.Node) []*onnx.Value {
	var out []*onnx.Value
	for _, n := range region {
		for _, v := range n.Inputs() {
			if v != nil && v.Constant() == nil && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// replaceable declines where one node of x cannot stand for what r read: other
// nodes read a part of it, or the result has another shape than x.
func replaceable(m *rewrite.Match, r *algebra.Reader, x *onnx.Value) error {
	if err := unshared(m, r); err != nil {
		return err
	}
	in, out := m.Facts.Shape(x), m.Facts.Shape(m.Root.Output(0))
	if m.Facts.DType(x) != m.Facts.DType(m.Root.Output(0)) {
		return rewrite.Decline("it goes from %v to %v", m.Facts.DType(x), m.Facts.DType(m.Root.Output(0)))
	}
	if !in.Equal(out) && r.Rank > len(in) {
		return rewrite.Decline("the shape may go from %v to %v", in, out)
	}
	return nil
}

// unshared declines where a node outside reads a part of what r read.
func unshared(m *rewrite.Match, r *algebra.Reader) error {
	for _, n := range r.Nodes {
		if n == m.Root {
			continue
		}
		if v := n.Output(0); v.IsOutput() || slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return !slices.Contains(r.Nodes, u.Node) }) {
			return rewrite.Decline("the result of %v is read elsewhere too", n)
		}
	}
	return nil
}

// callOf returns the atom that p is, times a number, where that is a call of name.
func callOf(p algebra.Poly, name string) (*algebra.Atom, float64, bool) {
	if len(p) != 1 || len(p[0].F) != 1 || p[0].F[0].P != 1 || p[0].F[0].Atom.Func != name || p[0].F[0].Atom.Value != nil {
		return nil, 0, false
	}
	return p[0].F[0].Atom, p[0].C, true
}

// line reads p as slope·x + offset.
func line(p, x algebra.Poly) (slope, offset float64, ok bool) {
	rest := p
	for _, m := range p {
		if len(m.F) == 0 {
			offset = m.C
			rest = algebra.Sub(p, algebra.Number(offset))
		}
	}
	if len(rest) != 1 || !algebra.Close(algebra.Poly{{C: 1, F: rest[0].F}}, x, 0) {
		return 0, 0, false
	}
	return rest[0].C, offset, true
}

// spelled returns a reader of a formula without attributes.
func spelled(forms ...func(x algebra.Poly) algebra.Poly) func(e, x algebra.Poly, tol float64) ([]setting, bool) {
	return func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		for _, f := range forms {
			if algebra.Close(e, f(x), tol) {
				return nil, true
			}
		}
		return nil, false
	}
}

// closeToAny reports whether e is one of the forms.
func closeToAny(e algebra.Poly, tol float64, forms []algebra.Poly) bool {
	return slices.ContainsFunc(forms, func(f algebra.Poly) bool { return algebra.Close(e, f, tol) })
}

package algebra

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Reader reads values of one graph as expressions.
type Reader struct {
	Facts *opset.Facts
	Stop  []*onnx.Value // values that are variables, whatever computes them
	Means bool          // sums over axes of known size are that many means

	// Nodes are those that were read, in the order in which they were met; each once.
	Nodes []*onnx.Node
	// Rank is the most axes of a constant of one element that was read as a
	// number: broadcasting gives the result at least that many.
	Rank int

	known map[*onnx.Value]Poly
}

// maxNodes bounds how much of a graph one expression is read from.
const maxNodes = 48

// maxSize bounds the written form of one expression, in bytes: through a network
// that reads each value several times it would grow exponentially with depth. The
// formulas that anyone looks for take a few hundred.
const maxSize = 2048

// Of returns v as an expression. Values that no arithmetic computes are
// variables, and so is what lies beyond the reader's limit.
func (r *Reader) Of(v *onnx.Value) Poly {
	if v == nil {
		return Call("omitted", "")
	}
	if p, ok := r.known[v]; ok {
		return p
	}
	if r.known == nil {
		r.known = map[*onnx.Value]Poly{}
	}
	p := r.read(v)
	if p.size() > maxSize {
		p = Var(v)
	}
	r.known[v] = p
	return p
}

func (r *Reader) read(v *onnx.Value) Poly {
	if slices.Contains(r.Stop, v) {
		return Var(v)
	}
	if t := v.Constant(); t != nil {
		if c, ok := number(t); ok && t.DType.IsFloat() && !math.IsInf(c, 0) && !math.IsNaN(c) {
			r.Rank = max(r.Rank, len(t.Shape))
			return Number(c)
		}
		return Var(v)
	}
	n := v.Producer()
	if n == nil || v.Index() != 0 || n.Graph() == nil || onnx.NormalDomain(n.Domain) != "" || len(r.Nodes) >= maxNodes {
		return Var(v)
	}
	f := functions[n.Op]
	if f == nil || slices.ContainsFunc(n.Attrs, func(a *onnx.Attr) bool { return a.Ref != "" }) {
		return Var(v)
	}
	if !r.Facts.DType(v).IsFloat() && !comparisons[n.Op] {
		return Var(v)
	}
	at := len(r.Nodes)
	r.Nodes = append(r.Nodes, n)
	if p, ok := f(r, n); ok {
		return p
	}
	r.Nodes = slices.Delete(r.Nodes, at, at+1)
	return Var(v)
}

// comparisons are operators with boolean results that are read all the same.
var comparisons = map[string]bool{"Less": true, "Greater": true, "LessOrEqual": true, "GreaterOrEqual": true, "Not": true, "Or": true}

// number returns the only element of t.
func number(t *onnx.Tensor) (float64, bool) {
	if n, ok := t.Elements(); !ok || n != 1 || t.DType == onnx.String || t.DType == onnx.Complex64 || t.DType == onnx.Complex128 {
		return 0, false
	}
	x, err := t.Float64s()
	if err != nil {
		return 0, false
	}
	return x[0], true
}

// function reads a node; false where this form of it is not understood.
type function func(r *Reader, n *onnx.Node) (Poly, bool)

// functions are the operators that are read. They are filled in by init, since
// reading an operator reads its inputs.
var functions map[string]function

func init() {
	functions = map[string]function{
		"Identity": func(r *Reader, n *onnx.Node) (Poly, bool) { return r.Of(n.Input(0)), true },
		"Add":      func(r *Reader, n *onnx.Node) (Poly, bool) { return Add(r.Of(n.Input(0)), r.Of(n.Input(1))), modern(n) },
		"Sub":      func(r *Reader, n *onnx.Node) (Poly, bool) { return Sub(r.Of(n.Input(0)), r.Of(n.Input(1))), modern(n) },
		"Mul":      func(r *Reader, n *onnx.Node) (Poly, bool) { return Mul(r.Of(n.Input(0)), r.Of(n.Input(1))), modern(n) },
		"Div": func(r *Reader, n *onnx.Node) (Poly, bool) {
			return Mul(r.Of(n.Input(0)), Pow(r.Of(n.Input(1)), -1)), modern(n)
		},
		"Sum":            sum,
		"Neg":            func(r *Reader, n *onnx.Node) (Poly, bool) { return Scale(-1, r.Of(n.Input(0))), true },
		"Reciprocal":     func(r *Reader, n *onnx.Node) (Poly, bool) { return Pow(r.Of(n.Input(0)), -1), true },
		"Sqrt":           func(r *Reader, n *onnx.Node) (Poly, bool) { return Pow(r.Of(n.Input(0)), 0.5), true },
		"Pow":            power,
		"Where":          where,
		"Clip":           clip,
		"Relu":           func(r *Reader, n *onnx.Node) (Poly, bool) { return Clip(r.Of(n.Input(0)), 0, math.Inf(1)), true },
		"Max":            bound(func(x Poly, c float64) Poly { return Clip(x, c, math.Inf(1)) }),
		"Min":            bound(func(x Poly, c float64) Poly { return Clip(x, math.Inf(-1), c) }),
		"Less":           compare("less", 0, 1),
		"Greater":        compare("less", 1, 0),
		"LessOrEqual":    compare("notgreater", 0, 1),
		"GreaterOrEqual": compare("notgreater", 1, 0),
		"Not":            func(r *Reader, n *onnx.Node) (Poly, bool) { return Call("not", "", r.Of(n.Input(0))), true },
		"Or":             func(r *Reader, n *onnx.Node) (Poly, bool) { return Or(r.Of(n.Input(0)), r.Of(n.Input(1))), modern(n) },
		"Elu":            elu,
		"HardSigmoid":    hardSigmoid,
		"ThresholdedRelu": func(r *Reader, n *onnx.Node) (Poly, bool) {
			x := r.Of(n.Input(0))
			return Where(Less(Number(float64(n.Float("alpha", 1))), x), x, nil), true
		},
		"Softplus":  func(r *Reader, n *onnx.Node) (Poly, bool) { return Softplus(r.Of(n.Input(0))), true },
		"Unsqueeze": unsqueeze,
	}
	for op, name := range map[string]string{"Erf": "erf", "Tanh": "tanh", "Exp": "exp", "Log": "log", "Sigmoid": "sigmoid", "Abs": "abs"} {
		functions[op] = func(r *Reader, n *onnx.Node) (Poly, bool) { return Call(name, "", r.Of(n.Input(0))), true }
	}
	for op, f := range composed {
		functions[op] = func(r *Reader, n *onnx.Node) (Poly, bool) {
			axes, ok := r.Axes(n)
			if !ok || n.Int("keepdims", 1) == 0 {
				return nil, false
			}
			return f(r.Of(n.Input(0)), func(p Poly) Poly { return r.sum(n, p, axes) }), true
		}
	}
	for op, name := range map[string]string{"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"} {
		functions[op] = func(r *Reader, n *onnx.Node) (Poly, bool) {
			axes, ok := r.Axes(n)
			if !ok || n.Int("keepdims", 1) == 0 {
				return nil, false
			}
			return r.reduce(name, n, axes), true
		}
	}
}

// reduce reads a reduction n over axes.
func (r *Reader) reduce(name string, n *onnx.Node, axes []int64) Poly {
	if name == "sum" {
		return r.sum(n, r.Of(n.Input(0)), axes)
	}
	return Reduce(name, r.Of(n.Input(0)), axes)
}

// sum returns the sum of p, an expression of the shape of what n reduces, over
// axes of it.
func (r *Reader) sum(n *onnx.Node, p Poly, axes []int64) Poly {
	if count, ok := r.Count(n.Input(0), axes); ok && r.Means {
		return Scale(float64(count), Reduce("mean", p, axes))
	}
	return Reduce("sum", p, axes)
}

// Count returns how many elements of v are reduced to one over axes, false where
// a size is not known or 0.
func (r *Reader) Count(v *onnx.Value, axes []int64) (int64, bool) {
	shape, count := r.Facts.Shape(v), int64(1)
	for _, a := range axes {
		if int(a) >= len(shape) || !shape[a].Known() || shape[a].Value < 1 || shape[a].Value > math.MaxInt32 || count > math.MaxInt32 {
			return 0, false
		}
		count *= shape[a].Value
	}
	return count, true
}

// composed are the reductions that are written with sums.
var composed = map[string]func(x Poly, sum func(Poly) Poly) Poly{
	"ReduceSumSquare": func(x Poly, sum func(Poly) Poly) Poly { return sum(Pow(x, 2)) },
	"ReduceL2":        func(x Poly, sum func(Poly) Poly) Poly { return Pow(sum(Pow(x, 2)), 0.5) },
	"ReduceLogSum":    func(x Poly, sum func(Poly) Poly) Poly { return Call("log", "", sum(x)) },
	"ReduceLogSumExp": func(x Poly, sum func(Poly) Poly) Poly { return Call("log", "", sum(Call("exp", "", x))) },
}

// modern reports whether a binary operator broadcasts as it does since opset 7.
func modern(n *onnx.Node) bool { return n.OpsetVersion("") >= 7 }

func sum(r *Reader, n *onnx.Node) (Poly, bool) {
	var list []Poly
	for _, v := range n.Inputs() {
		list = append(list, r.Of(v))
	}
	return Add(list...), n.OpsetVersion("") >= 8
}

func power(r *Reader, n *onnx.Node) (Poly, bool) {
	e, ok := r.Of(n.Input(1)).Const()
	if !ok || n.Input(1).Constant() == nil || e == 0 {
		return nil, false
	}
	return Pow(r.Of(n.Input(0)), e), true
}

func where(r *Reader, n *onnx.Node) (Poly, bool) {
	return Where(r.Of(n.Input(0)), r.Of(n.Input(1)), r.Of(n.Input(2))), true
}

// Where returns the choice between a and b by a condition.
func Where(cond, a, b Poly) Poly { return Call("where", "", cond, a, b) }

// Less returns the condition a < b.
func Less(a, b Poly) Poly { return Call("less", "", a, b) }

// Or returns the condition that a or b holds.
func Or(a, b Poly) Poly {
	if a.String() > b.String() {
		a, b = b, a
	}
	return Call("or", "", a, b)
}

func compare(name string, i, j int) function {
	return func(r *Reader, n *onnx.Node) (Poly, bool) {
		return Call(name, "", r.Of(n.Input(i)), r.Of(n.Input(j))), true
	}
}

// Clip returns x between numbers that may be infinite; of one bound in another
// one is made.
func Clip(x Poly, lo, hi float64) Poly {
	if len(x) == 1 && x[0].C == 1 && len(x[0].F) == 1 && x[0].F[0].P == 1 {
		if a := x[0].F[0].Atom; a.Func == "clip" {
			l, h := a.Bounds()
			in := func(b float64) float64 { return min(max(b, lo), hi) }
			x, lo, hi = a.Args[0], in(l), in(h)
		}
	}
	return Call("clip", fmt.Sprint(math.IsInf(lo, -1), math.IsInf(hi, 1)), x, finite(lo), finite(hi))
}

// Bounds returns the bounds of a clip.
func (a *Atom) Bounds() (lo, hi float64) {
	lo, _ = a.Args[1].Const()
	hi, _ = a.Args[2].Const()
	below, above, _ := strings.Cut(a.Attr, " ")
	if below == "true" {
		lo = math.Inf(-1)
	}
	if above == "true" {
		hi = math.Inf(1)
	}
	return lo, hi
}

// finite returns a bound, or 0 where it is infinite, as the attribute tells.
func finite(c float64) Poly {
	if math.IsInf(c, 0) {
		return nil
	}
	return Number(c)
}

func clip(r *Reader, n *onnx.Node) (Poly, bool) {
	b := [2]float64{math.Inf(-1), math.Inf(1)}
	if n.OpsetVersion("") < 11 {
		for i, name := range []string{"min", "max"} {
			if a := n.Attr(name); a != nil {
				b[i] = float64(a.F)
			}
		}
		return Clip(r.Of(n.Input(0)), b[0], b[1]), true
	}
	for i := range b {
		if v := n.Input(1 + i); v != nil {
			t := v.Constant()
			if t == nil {
				return nil, false
			}
			var ok bool
			if b[i], ok = number(t); !ok {
				return nil, false
			}
		}
	}
	return Clip(r.Of(n.Input(0)), b[0], b[1]), true
}

// bound reads Max and Min of a value and a number.
func bound(f func(Poly, float64) Poly) function {
	return func(r *Reader, n *onnx.Node) (Poly, bool) {
		if len(n.Inputs()) != 2 || n.OpsetVersion("") < 8 {
			return nil, false
		}
		for i := range 2 {
			if t := n.Input(1 - i).Constant(); t != nil {
				if c, ok := r.Of(n.Input(1 - i)).Const(); ok {
					return f(r.Of(n.Input(i)), c), true
				}
			}
		}
		a, b := r.Of(n.Input(0)), r.Of(n.Input(1))
		if n.Op == "Min" {
			return Scale(-1, Larger(Scale(-1, a), Scale(-1, b))), true
		}
		return Larger(a, b), true
	}
}

// Larger returns the larger of two expressions.
func Larger(a, b Poly) Poly {
	if c := cmp.Or(cmp.Compare(a.shape(), b.shape()), cmp.Compare(a.key(), b.key())); c > 0 {
		a, b = b, a
	}
	return Call("larger", "", a, b)
}

// elu reads Elu as the choice that it is.
func elu(r *Reader, n *onnx.Node) (Poly, bool) {
	x := r.Of(n.Input(0))
	below := Scale(float64(n.Float("alpha", 1)), Sub(Call("exp", "", x), Number(1)))
	return Where(Less(x, nil), below, x), true
}

// hardSigmoid reads HardSigmoid as the bounds that it is.
func hardSigmoid(r *Reader, n *onnx.Node) (Poly, bool) {
	x := Scale(float64(n.Float("alpha", 0.2)), r.Of(n.Input(0)))
	return Clip(Add(x, Number(float64(n.Float("beta", 0.5)))), 0, 1), true
}

// Reduce returns a reduction of p over axes of its result, which stay with size
// 1. A number before the only term of a mean or sum goes outside.
func Reduce(name string, p Poly, axes []int64) Poly {
	c := 1.0
	if len(p) == 1 && name != "max" {
		c, p = p[0].C, Poly{{1, p[0].F}}
	}
	return Scale(c, Call(name, fmt.Sprint(axes), p))
}

// Axes returns the axes of a reduction from the front in ascending order, false
// where they or the rank are not known.
func (r *Reader) Axes(n *onnx.Node) ([]int64, bool) {
	shape := r.Facts.Shape(n.Input(0))
	if shape == nil {
		return nil, false
	}
	axes := n.Ints("axes", nil)
	if v := n.Input(1); v != nil {
		t := v.Constant()
		if t == nil || !t.DType.IsInt() {
			return nil, false
		}
		var err error
		if axes, err = t.Ints(); err != nil {
			return nil, false
		}
	}
	return normal(axes, len(shape), n.Int("noop_with_empty_axes", 0) != 0)
}

func normal(axes []int64, rank int, none bool) ([]int64, bool) {
	var out []int64
	if len(axes) == 0 {
		if none {
			return nil, false
		}
		for i := range rank {
			out = append(out, int64(i))
		}
		return out, true
	}
	for _, a := range axes {
		if a < 0 {
			a += int64(rank)
		}
		if a < 0 || a >= int64(rank) {
			return nil, false
		}
		out = append(out, a)
	}
	slices.Sort(out)
	return out, len(slices.Compact(slices.Clone(out))) == len(out)
}

// unsqueeze reads a reduction that drops its axes and gets them back.
func unsqueeze(r *Reader, n *onnx.Node) (Poly, bool) {
	m := n.Input(0).Producer()
	if m == nil || m.Int("keepdims", 1) != 0 || m.Graph() == nil {
		return nil, false
	}
	name := map[string]string{"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"}[m.Op]
	axes, ok := r.Axes(m)
	back, known := r.unsqueezed(n, len(r.Facts.Shape(m.Input(0))))
	if name == "" || !ok || !known || !slices.Equal(axes, back) {
		return nil, false
	}
	r.Nodes = append(r.Nodes, m)
	return r.reduce(name, m, axes), true
}

// unsqueezed returns the axes that n puts into a result of rank axes.
func (r *Reader) unsqueezed(n *onnx.Node, rank int) ([]int64, bool) {
	axes := n.Ints("axes", nil)
	if v := n.Input(1); v != nil {
		t := v.Constant()
		if t == nil || !t.DType.IsInt() {
			return nil, false
		}
		var err error
		if axes, err = t.Ints(); err != nil {
			return nil, false
		}
	}
	return normal(axes, rank, true)
}

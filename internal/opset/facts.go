package opset

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Facts is what inference found out about the values of one model.
type Facts struct {
	// Contradictions lists the values whose declared type cannot be right.
	Contradictions []Contradiction
	// Unsupported lists the operators without a row, as "domain.Op" or "Op",
	// in order of first appearance.
	Unsupported []string
	// Incomplete is true where inference stopped at its limit of work, which
	// only deeply nested bodies or functions reach; what is left is unknown.
	Incomplete bool

	model  *onnx.Model
	o      Options
	sym    *symbols
	facts  map[*onnx.Value]fact
	funcs  map[funcKey]*onnx.Function
	missed map[string]bool
	bodies map[*onnx.Value]fact // values of function bodies: what holds in every call
	limit  int                  // node visits allowed
	work   int                  // node visits left
}

// Contradiction is a value whose declared type differs from the inferred one.
type Contradiction struct {
	Value    *onnx.Value
	Declared *onnx.Type
	Inferred *onnx.Type
}

// fact is what is known of one value.
type fact struct {
	typ  *onnx.Type
	ints []*expr   // elements of a small integer or Bool tensor of known shape, row-major
	real []float64 // elements of a small floating-point tensor, all known
}

// Int is one element of an integer tensor: a number, an expression, or unknown.
type Int struct {
	Known bool
	Value int64  // the number, where Known
	Expr  string // else the expression in its canonical form, "" where unknown
}

// Dim returns the dimension of that size: unknown for negative numbers.
func (i Int) Dim() onnx.Dim {
	if i.Known {
		if i.Value < 0 {
			return onnx.Symbol("")
		}
		return onnx.Fixed(i.Value)
	}
	return onnx.Symbol(i.Expr)
}

// Type returns the type of v, nil where nothing is known. Unlike v.Type its
// shape may name fresh symbols, so that equal unknown sizes are recognised.
func (f *Facts) Type(v *onnx.Value) *onnx.Type {
	if v == nil {
		return nil
	}
	if x, ok := f.facts[v]; ok {
		return x.typ
	}
	return f.start(v).typ
}

// Shape returns the shape of v, nil where the rank is unknown.
func (f *Facts) Shape(v *onnx.Value) onnx.Shape {
	if t := f.Type(v); t.IsTensor() {
		return t.Shape
	}
	return nil
}

// DType returns the element type of v, Undefined where it is unknown.
func (f *Facts) DType(v *onnx.Value) onnx.DType {
	if t := f.Type(v); t.IsTensor() {
		return t.Elem
	}
	return onnx.Undefined
}

// Ints returns the elements of v in row-major order, and whether v is an
// integer or Bool tensor of known small shape at least one element of which is
// known: what a constant holds, or what shape arithmetic computes.
func (f *Facts) Ints(v *onnx.Value) ([]Int, bool) {
	if v == nil {
		return nil, false
	}
	elems := f.ints(v)
	if elems == nil {
		return nil, false
	}
	out, any := make([]Int, len(elems)), len(elems) == 0
	for i, e := range elems {
		if n, ok := e.known(); ok {
			out[i] = Int{Known: true, Value: n}
		} else if e != nil {
			out[i] = Int{Expr: e.text}
		}
		any = any || e != nil
	}
	return out, any
}

// maxElems is the most elements a value may have for its content to be followed.
const maxElems = 256

// ints returns the elements of v; nil where they are not followed.
func (f *Facts) ints(v *onnx.Value) []*expr {
	if x, ok := f.facts[v]; ok && x.ints != nil {
		return x.ints
	}
	return constInts(v.Constant())
}

// constInts returns the elements of a small integer constant; nil for others.
func constInts(t *onnx.Tensor) []*expr {
	if t == nil || !t.DType.IsInt() && t.DType != onnx.Bool {
		return nil
	}
	if n, ok := t.Elements(); !ok || n > maxElems {
		return nil
	}
	ints, err := t.Ints()
	if err != nil {
		return nil
	}
	out := make([]*expr, len(ints))
	for i, n := range ints {
		if t.DType == onnx.Uint64 && n < 0 {
			continue
		}
		out[i] = constant(n)
	}
	return out
}

// floats returns the elements of v, a small floating-point tensor; nil where unknown.
func (f *Facts) floats(v *onnx.Value) []float64 {
	if x, ok := f.facts[v]; ok && x.real != nil {
		return x.real
	}
	return constFloats(v.Constant())
}

func constFloats(t *onnx.Tensor) []float64 {
	if t == nil || !t.DType.IsFloat() {
		return nil
	}
	if n, ok := t.Elements(); !ok || n > maxElems {
		return nil
	}
	out, err := t.Float64s()
	if err != nil {
		return nil
	}
	return out
}

// Infer computes the facts of the outputs of n, a node that was inserted after
// [Infer] ran, from the facts of its inputs, and forgets what was known of them
// before. Nodes must be given in execution order.
func (f *Facts) Infer(n *onnx.Node) {
	f.work = f.limit
	s := &scope{opsets: f.opsetsOf(n)}
	f.node(n, s)
}

// Set records that v, a value that was added after [Infer] ran, has type t.
func (f *Facts) Set(v *onnx.Value, t *onnx.Type) { f.facts[v] = fact{typ: t} }

// opsetsOf returns the opset imports in force where n stands.
func (f *Facts) opsetsOf(n *onnx.Node) []onnx.Opset {
	g := n.Graph()
	for g != nil && g.Parent() != nil {
		g = g.Parent()
	}
	for _, fn := range f.model.Functions {
		if fn.Body == g && len(fn.Opsets) > 0 {
			return fn.Opsets
		}
	}
	return f.model.Opsets
}

// Positive reports whether dimension d of a shape that f gave is certainly at
// least 1, where the symbols of the model are taken to be so.
func (f *Facts) Positive(d onnx.Dim) bool {
	lo, ok := f.sym.expr(d).bound(1)
	return ok && lo >= 1
}

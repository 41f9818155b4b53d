package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normParams returns scale and shift of a normalization over the trailing axes of
// x, with the shape of these axes; shift is nil where there is none.
func (f *normForm) normParams(m *rewrite.Match, p *rewrite.Patch, dims onnx.Shape) (scale, shift *onnx.Value, err error) {
	if f.scale != nil {
		if f.factor != 1 {
			return nil, nil, rewrite.Decline("it is scaled by %q and by %v", f.scale.Name(), f.factor)
		}
		if scale, err = asShape(m, p, f.scale, dims); err != nil {
			return nil, nil, err
		}
	} else {
		static, ok := dims.Static()
		if !ok {
			return nil, nil, rewrite.Decline("it has no scale, and the sizes %v of one are not known", dims)
		}
		if scale, err = spread(p, "scale", m.Facts.DType(f.x), static, f.factor); err != nil {
			return nil, nil, err
		}
	}
	if f.shift != nil {
		shift, err = asShape(m, p, f.shift, dims)
	}
	return scale, shift, err
}

// asShape returns v in the shape dims, to which it is a reshape, or declines.
func asShape(m *rewrite.Match, p *rewrite.Patch, v *onnx.Value, dims onnx.Shape) (*onnx.Value, error) {
	if n := v.Producer(); n != nil && (n.Is("Flatten") || n.Is("Reshape")) && m.Facts.Shape(n.Input(0)).Equal(dims) {
		return n.Input(0), nil
	}
	s := m.Facts.Shape(v)
	if s.Equal(dims) {
		return v, nil
	}
	if s == nil || len(s) <= len(dims) || !allOnes(s[:len(s)-len(dims)]) || !s[len(s)-len(dims):].Equal(dims) {
		return nil, rewrite.Decline("%q of shape %v is not one for each element of %v", v.Name(), s, dims)
	}
	static, ok := dims.Static()
	if !ok {
		return nil, rewrite.Decline("the sizes %v are not known", dims)
	}
	if t := v.Constant(); t != nil {
		b, err := t.Bytes()
		if err != nil {
			return nil, err
		}
		c, err := onnx.NewTensor(t.Name, t.DType, static, b)
		if err != nil {
			return nil, err
		}
		return p.Const(c), nil
	}
	return p.Add("Reshape", []*onnx.Value{v, intsConst(p, "shape", static)}), nil
}

// trailing reports whether axes are the last ones of a rank.
func trailing(axes []int64, rank int) bool {
	for i, a := range axes {
		if a != int64(rank-len(axes)+i) {
			return false
		}
	}
	return len(axes) > 0
}

// followed declines where the only reader of root scales, shifts or reshapes the
// normalization further, and so ends a larger one.
func (f *normForm) followed(m *rewrite.Match) error {
	root := m.Root.Output(0)
	uses := root.Uses()
	if root.IsOutput() || len(uses) != 1 {
		return nil
	}
	n := uses[0].Node
	other := n.Input(1 - min(uses[0].Index, 1))
	switch {
	case n.Is("Mul") && f.scale == nil && f.shift == nil, n.Is("Add") && f.shift == nil && f.centred && !isNumber(other):
		if other != nil && other != root && perElement(m.Facts, f, other) {
			return rewrite.Decline("%v belongs to the normalization", n)
		}
	case n.Is("Reshape") && flattened(m.Facts, f.x) != nil && m.Facts.Shape(n.Output(0)).Equal(m.Facts.Shape(flattened(m.Facts, f.x))):
		return rewrite.Decline("%v belongs to the normalization", n)
	}
	return nil
}

// isNumber reports whether v is a constant of one element, which is read as a
// number.
func isNumber(v *onnx.Value) bool {
	if v == nil || v.Constant() == nil {
		return false
	}
	_, ok := onlyElement(v.Constant())
	return ok
}

// perElement reports whether v has as many elements as the axes normalized, or one.
func perElement(facts *opset.Facts, f *normForm, v *onnx.Value) bool {
	s := facts.Shape(v)
	x := facts.Shape(f.x)
	if s == nil || len(s) > len(x) {
		return false
	}
	for i := range s {
		axis := len(x) - len(s) + i
		one := s[i].Known() && s[i].Value == 1
		if !one && !(slices.Contains(f.axes, int64(axis)) && s[i].Same(x[axis])) {
			return false
		}
	}
	return true
}

// flattened returns the value of which v is the matrix that Flatten makes, nil if none.
func flattened(facts *opset.Facts, v *onnx.Value) *onnx.Value {
	n := v.Producer()
	if n == nil || !n.Is("Flatten") && !n.Is("Reshape") || len(facts.Shape(v)) != 2 {
		return nil
	}
	if _, ok := facts.Shape(n.Input(0)).Static(); !ok {
		return nil
	}
	return n.Input(0)
}

// unflattened returns the axis from which on the matrix v holds the axes of x in
// its columns, false where there is none.
func unflattened(x, v onnx.Shape) (int, bool) {
	dims, ok1 := x.Static()
	matrix, ok2 := v.Static()
	if !ok1 || !ok2 || len(matrix) != 2 {
		return 0, false
	}
	rows := int64(1)
	for axis := range dims {
		columns, _ := onnx.ElementCount(dims[axis:])
		if rows == matrix[0] && columns == matrix[1] {
			return axis, true
		}
		rows *= dims[axis]
	}
	return 0, false
}

// leak is a value inside a normalization that is read outside it and that the
// operator gives too: its mean, or one over its root.
type leak struct {
	v      *onnx.Value
	output int // 1 mean, 2 one over the root
}

// leaks returns what is read from outside, or declines where the operator does
// not give it.
func (f *normForm) leaks(m *rewrite.Match, root *onnx.Value, inside []*onnx.Node) ([]leak, error) {
	tol := tolerance(m.Facts.DType(root))
	var out []leak
	in := func(n *onnx.Node) bool {
		return n == m.Root || slices.Contains(f.r.Nodes, n) || slices.Contains(inside, n)
	}
	for _, n := range f.r.Nodes {
		v := n.Output(0)
		if n == m.Root || !v.IsOutput() && !slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return !in(u.Node) }) {
			continue
		}
		switch e := f.r.Of(v); {
		case v == root:
		case algebra.Close(e, f.mean, tol):
			out = append(out, leak{v, 1})
		case algebra.Close(e, f.inverse, tol):
			out = append(out, leak{v, 2})
		case algebra.Close(e, algebra.Pow(f.inverse, -1), tol) && !v.IsOutput():
			for _, u := range v.Uses() {
				if in(u.Node) {
					continue
				}
				if !u.Node.Is("Reciprocal") {
					return nil, rewrite.Decline("%v reads the deviation", u.Node)
				}
				out = append(out, leak{u.Node.Output(0), 2})
			}
		default:
			return nil, rewrite.Decline("the result of %v is read elsewhere too", n)
		}
	}
	return out, nil
}

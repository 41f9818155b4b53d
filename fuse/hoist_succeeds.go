package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// succeeds reports whether n certainly runs without an error: that its inputs fit
// each other is known, and nothing in them can be out of range.
func succeeds(n *onnx.Node, facts *opset.Facts) bool {
	if onnx.NormalDomain(n.Domain) != "" || n.OpsetVersion("") < 7 || len(n.Subgraphs()) > 0 {
		return false
	}
	shapes := make([]onnx.Shape, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v == nil {
			continue
		}
		if d := facts.DType(v); d == onnx.Undefined || d == onnx.String {
			return false
		}
		shapes[i] = facts.Shape(v)
	}
	if f := surely[n.Op]; f != nil {
		return f(n, facts, shapes)
	}
	row := opset.Lookup("", n.Op, n.OpsetVersion(""))
	if row == nil || !row.Elementwise() || slices.Contains(n.Inputs(), nil) {
		return false
	}
	if len(shapes) == 1 {
		return true
	}
	_, ok := broadcastShape(shapes...)
	return ok
}

// surely are the operators that are not elementwise, and those that are and may
// fail, with what tells that they do not.
var surely = map[string]func(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool{
	"Identity":     always,
	"Shape":        always,
	"Size":         always,
	"CastLike":     always,
	"BitCast":      never,
	"BitShift":     never,
	"PRelu":        never,
	"StringConcat": never,
	"Clip":         scalarBounds,
	"Div":          safeQuotient,
	"Mod":          safeQuotient,
	"Pow":          realPower,
	"Softmax":      hasAxis,
	"LogSoftmax":   hasAxis,
	"Transpose":    permutes,
	"MatMul":       multiplies,
	"Gemm":         multipliesAdds,
	"Concat":       concatenates,
	"Reshape":      keepsCount,
	"Unsqueeze":    addsAxes,
	"Gather":       inRange,
	"ReduceSum":    reduces,
	"ReduceMean":   reduces,
	"ReduceMax":    reduces,
	"ReduceMin":    reduces,
}

func always(*onnx.Node, *opset.Facts, []onnx.Shape) bool { return true }
func never(*onnx.Node, *opset.Facts, []onnx.Shape) bool  { return false }

// scalarBounds: the bounds of Clip must be scalars.
func scalarBounds(n *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	for i := 1; i < len(in); i++ {
		if n.Input(i) != nil && (in[i] == nil || len(in[i]) > 0) {
			return false
		}
	}
	return true
}

// safeQuotient: an integer must not be divided by zero, nor the least one by −1.
func safeQuotient(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	if _, ok := broadcastShape(in...); !ok {
		return false
	}
	if isFloat(facts.DType(n.Input(0))) {
		return true
	}
	t := n.Input(1).Constant()
	if t == nil {
		return false
	}
	by, err := t.Float64s()
	return err == nil && !slices.Contains(by, 0) && !slices.Contains(by, -1)
}

// realPower: runtimes differ in powers of integers.
func realPower(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	_, ok := broadcastShape(in...)
	return ok && isFloat(facts.DType(n.Input(0))) && isFloat(facts.DType(n.Input(1)))
}

// hasAxis: the axis must be one of the input's.
func hasAxis(n *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	axis := int64(-1)
	if n.OpsetVersion("") < 13 {
		axis = 1
	}
	_, ok := normalAxes([]int64{n.Int("axis", axis)}, len(in[0]))
	return ok
}

func permutes(n *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	perm := n.Ints("perm", nil)
	if perm == nil {
		return true
	}
	_, ok := normalAxes(perm, len(in[0]))
	return ok && len(perm) == len(in[0]) && !slices.ContainsFunc(perm, func(i int64) bool { return i < 0 })
}

// multiplies: the inner sizes are equal, and the outer ones broadcast.
func multiplies(_ *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	a, b := in[0], in[1]
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	if len(b) == 1 {
		return a[len(a)-1].Same(b[0])
	}
	if !a[len(a)-1].Same(b[len(b)-2]) {
		return false
	}
	if len(a) == 1 {
		return true
	}
	_, ok := broadcastShape(a[:len(a)-2], b[:len(b)-2])
	return ok
}

func multipliesAdds(n *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	if len(in[0]) != 2 || len(in[1]) != 2 {
		return false
	}
	a, b := slices.Clone(in[0]), slices.Clone(in[1])
	if n.Int("transA", 0) != 0 {
		slices.Reverse(a)
	}
	if n.Int("transB", 0) != 0 {
		slices.Reverse(b)
	}
	if !a[1].Same(b[0]) {
		return false
	}
	if n.Input(2) == nil {
		return true
	}
	out := onnx.Shape{a[0], b[1]}
	s, ok := broadcastShape(in[2], out)
	return ok && s.Equal(out)
}

func concatenates(n *onnx.Node, _ *opset.Facts, in []onnx.Shape) bool {
	at, ok := normalAxes([]int64{n.Int("axis", 0)}, len(in[0]))
	if !ok || slices.Contains(n.Inputs(), nil) {
		return false
	}
	for _, s := range in[1:] {
		if len(s) != len(in[0]) {
			return false
		}
		for i, d := range s {
			if int64(i) != at[0] && !d.Same(in[0][i]) {
				return false
			}
		}
	}
	return true
}

// keepsCount: input and result have equally many elements, and more than none.
func keepsCount(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	a, ok := in[0].Static()
	b, ok2 := facts.Shape(n.Output(0)).Static()
	if !ok || !ok2 || n.Input(1).Constant() == nil {
		return false
	}
	x, ok := onnx.ElementCount(a)
	y, ok2 := onnx.ElementCount(b)
	return ok && ok2 && x == y && x > 0
}

func addsAxes(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	axes := n.Ints("axes", nil)
	if v := n.Input(1); v != nil {
		axes, _ = knownInts(facts, v)
	}
	if in[0] == nil || len(axes) == 0 {
		return false
	}
	_, ok := normalAxes(axes, len(in[0])+len(axes))
	return ok
}

// inRange: every index is constant and within the axis.
func inRange(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	at, ok := normalAxes([]int64{n.Int("axis", 0)}, len(in[0]))
	if !ok || !in[0][at[0]].Known() {
		return false
	}
	size := in[0][at[0]].Value
	index, ok := knownInts(facts, n.Input(1))
	return ok && !slices.ContainsFunc(index, func(i int64) bool { return i < -size || i >= size })
}

// reduces: the axes are the input's, and none of its sizes is zero, over which
// there is no greatest element.
func reduces(n *onnx.Node, facts *opset.Facts, in []onnx.Shape) bool {
	dims, ok := in[0].Static()
	if !ok || slices.Contains(dims, 0) {
		return false
	}
	axes := n.Ints("axes", nil)
	if v := n.Input(1); v != nil {
		if axes, ok = knownInts(facts, v); !ok {
			return false
		}
	}
	_, ok = normalAxes(axes, len(dims))
	return ok
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// move returns how n works where some of its inputs are in the region, nil where
// it cannot.
//
// An input v in the region has order P: axis i of v is axis P[i] of its new form.
func (r *region) move(n *onnx.Node) *moved {
	if onnx.NormalDomain(n.Domain) != "" || len(n.Subgraphs()) > 0 || slices.ContainsFunc(n.Attrs, func(a *onnx.Attr) bool { return a.Ref != "" }) {
		return nil
	}
	var perm []int64
	for _, v := range n.Inputs() {
		if v == nil || r.order[v] == nil {
			continue
		}
		if perm != nil && !slices.Equal(perm, r.order[v]) {
			return nil
		}
		perm = r.order[v]
	}
	first := n.Input(0) != nil && r.order[n.Input(0)] != nil
	switch op := n.Op; {
	case op == "Transpose":
		return r.moveTranspose(n, perm)
	case op == "Concat":
		return r.moveConcat(n, perm)
	case !first && !broadcasts(n):
		return nil
	case op == "Split":
		return r.moveAxis(n, perm, 0, len(n.Outputs()))
	case op == "Softmax" || op == "LogSoftmax" || op == "Hardmax":
		if n.OpsetVersion("") < 13 {
			return nil
		}
		return r.moveAxis(n, perm, -1, 1)
	case op == "ArgMax" || op == "ArgMin" || isReduction(op):
		return r.moveReduction(n, perm)
	case op == "Squeeze":
		return r.moveSqueeze(n, perm)
	case op == "Pad":
		return r.movePad(n, perm)
	case op == "Slice":
		return r.moveSlice(n, perm)
	case op == "QuantizeLinear" || op == "DequantizeLinear":
		return r.moveQuantize(n, perm)
	case broadcasts(n):
		return r.moveBroadcast(n, perm)
	}
	return nil
}

func isReduction(op string) bool {
	return slices.Contains([]string{"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
		"ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"}, op)
}

// broadcasts reports whether n works element by element, its inputs broadcast
// against each other from the right.
func broadcasts(n *onnx.Node) bool {
	row := opset.Lookup("", n.Op, n.OpsetVersion(""))
	return row != nil && row.Elementwise() && n.OpsetVersion("") >= 7 && len(n.Outputs()) == 1 && row.Deterministic() && !n.Is("Dropout")
}

// rest returns operands that read the inputs of n from i on as they are, with
// input 0 in the region; nil where one of them is in the region too.
func (r *region) rest(n *onnx.Node) []operand {
	out := []operand{{v: n.Input(0), kind: inRegion}}
	for _, v := range n.Inputs()[1:] {
		if v != nil && r.order[v] != nil {
			return nil
		}
		out = append(out, operand{v: v})
	}
	return out
}

// axisIn returns where axis of v lies in the new form.
func axisIn(perm []int64, axis int64) (int64, bool) {
	if axis < 0 {
		axis += int64(len(perm))
	}
	if axis < 0 || axis >= int64(len(perm)) {
		return 0, false
	}
	return perm[axis], true
}

func withAttr(n *onnx.Node, a *onnx.Attr) []*onnx.Attr { return append(without(n.Attrs, a.Name), a) }

func (r *region) moveTranspose(n *onnx.Node, perm []int64) *moved {
	second := transposePermOf(n, len(perm))
	if second == nil {
		return nil
	}
	return &moved{in: []operand{{v: n.Input(0), kind: inRegion}}, out: [][]int64{compose(perm, second)}, none: true}
}

// transposePermOf returns the order of axes of a Transpose of a value of a rank.
func transposePermOf(n *onnx.Node, rank int) []int64 {
	perm := n.Ints("perm", nil)
	if perm == nil {
		for i := range rank {
			perm = append(perm, int64(rank-1-i))
		}
	}
	if len(perm) != rank || !isPerm(perm) {
		return nil
	}
	return perm
}

// moveAxis moves an operator with one data input and an axis.
func (r *region) moveAxis(n *onnx.Node, perm []int64, def int64, outputs int) *moved {
	axis, ok := axisIn(perm, n.Int("axis", def))
	in := r.rest(n)
	if !ok || in == nil {
		return nil
	}
	return &moved{in: in, attrs: withAttr(n, onnx.IntAttr("axis", axis)), out: slices.Repeat([][]int64{perm}, outputs)}
}

func (r *region) moveConcat(n *onnx.Node, perm []int64) *moved {
	axis, ok := axisIn(perm, n.Int("axis", 1))
	if !ok {
		return nil
	}
	mv := &moved{attrs: withAttr(n, onnx.IntAttr("axis", axis)), out: [][]int64{perm}}
	for _, v := range n.Inputs() {
		o, ok := r.other(v, perm, false)
		if !ok {
			return nil
		}
		mv.in = append(mv.in, o)
	}
	return mv
}

// mostPermuted is the largest constant that is transposed, in bytes, where
// others read it too.
const mostPermuted = 1 << 16

// other returns how the value v is read in the order of the region: v itself
// where it is in it or has one element, a transposed constant, or a Transpose
// that is put in. spread lets v have fewer axes, as broadcasting does.
func (r *region) other(v *onnx.Value, perm []int64, spread bool) (operand, bool) {
	if v == nil {
		return operand{}, true
	}
	if r.order[v] != nil {
		return operand{v: v, kind: inRegion}, true
	}
	shape := r.e.Facts.Shape(v)
	if shape == nil || len(shape) > len(perm) || !spread && len(shape) != len(perm) {
		return operand{}, false
	}
	if spread && allOnes(shape) {
		return operand{v: v}, true
	}
	if t := v.Constant(); t != nil && t.DType != onnx.String && (len(v.Uses()) == 1 || t.Size() <= mostPermuted) {
		full := append(slices.Repeat([]int64{1}, len(perm)-len(t.Shape)), t.Shape...)
		return operand{v: v, kind: permuted, perm: inverse(perm), shape: full}, true
	}
	if len(shape) != len(perm) {
		return operand{}, false
	}
	return operand{v: v, kind: transposed, perm: inverse(perm)}, true
}

func allOnes(s onnx.Shape) bool {
	return !slices.ContainsFunc(s, func(d onnx.Dim) bool { return !d.Known() || d.Value != 1 })
}

func (r *region) moveBroadcast(n *onnx.Node, perm []int64) *moved {
	if out := r.e.Facts.Shape(n.Output(0)); len(out) != len(perm) {
		return nil
	}
	mv := &moved{attrs: n.Attrs, out: [][]int64{perm}}
	for _, v := range n.Inputs() {
		o, ok := r.other(v, perm, true)
		if !ok {
			return nil
		}
		mv.in = append(mv.in, o)
	}
	return mv
}

// axesOf returns the axes of n, as an attribute or input 1; false where they are
// not constant. None means all.
func (r *region) axesOf(n *onnx.Node) (axes []int64, attr, ok bool) {
	if axes = n.Ints("axes", nil); axes != nil || n.Input(1) == nil {
		return axes, true, true
	}
	axes, ok = knownInts(r.e.Facts, n.Input(1))
	return axes, false, ok
}

// moveReduction moves a reduction: axes that are dropped leave the order of the others.
func (r *region) moveReduction(n *onnx.Node, perm []int64) *moved {
	arg := n.Op == "ArgMax" || n.Op == "ArgMin"
	axes, attr, ok := r.axesOf(n)
	if arg {
		axes, attr, ok = []int64{n.Int("axis", 0)}, true, true
	}
	if !ok || len(axes) == 0 {
		return nil
	}
	axes, ok = normalAxes(axes, len(perm))
	if !ok {
		return nil
	}
	out := perm
	if n.Int("keepdims", 1) == 0 {
		out = dropAxes(perm, axes)
	}
	now := mapAxes(perm, axes)
	mv := &moved{in: []operand{{v: n.Input(0), kind: inRegion}}, attrs: n.Attrs, out: [][]int64{out}}
	switch {
	case arg:
		mv.attrs = withAttr(n, onnx.IntAttr("axis", now[0]))
	case attr:
		mv.attrs = withAttr(n, onnx.IntsAttr("axes", now...))
	default:
		mv.in = append(mv.in, operand{kind: integers, ints: now})
	}
	return mv
}

// mapAxes returns where axes lie in the new form, in ascending order.
func mapAxes(perm, axes []int64) []int64 {
	out := make([]int64, len(axes))
	for i, a := range axes {
		out[i] = perm[a]
	}
	slices.Sort(out)
	return out
}

// dropAxes returns the order of what is left when axes are dropped from v and
// their counterparts from its new form.
func dropAxes(perm, axes []int64) []int64 {
	gone := mapAxes(perm, axes)
	var out []int64
	for i, a := range perm {
		if slices.Contains(axes, int64(i)) {
			continue
		}
		below := int64(0)
		for _, g := range gone {
			if g < a {
				below++
			}
		}
		out = append(out, a-below)
	}
	if out == nil {
		out = []int64{}
	}
	return out
}

func (r *region) moveSqueeze(n *onnx.Node, perm []int64) *moved {
	axes, attr, ok := r.axesOf(n)
	if !ok || len(axes) == 0 {
		return nil
	}
	axes, ok = normalAxes(axes, len(perm))
	if !ok {
		return nil
	}
	now := mapAxes(perm, axes)
	mv := &moved{in: []operand{{v: n.Input(0), kind: inRegion}}, attrs: n.Attrs, out: [][]int64{dropAxes(perm, axes)}}
	if attr {
		mv.attrs = withAttr(n, onnx.IntsAttr("axes", now...))
	} else {
		mv.in = append(mv.in, operand{kind: integers, ints: now})
	}
	return mv
}

// movePad moves a Pad of constant pads that names no axes.
func (r *region) movePad(n *onnx.Node, perm []int64) *moved {
	if n.OpsetVersion("") < 11 || n.Input(3) != nil || n.Input(2) != nil && r.order[n.Input(2)] != nil {
		return nil
	}
	pads, ok := knownInts(r.e.Facts, n.Input(1))
	rank := len(perm)
	if !ok || len(pads) != 2*rank {
		return nil
	}
	now := make([]int64, len(pads))
	for i, a := range perm {
		now[a], now[int(a)+rank] = pads[i], pads[i+rank]
	}
	return &moved{in: []operand{{v: n.Input(0), kind: inRegion}, {kind: integers, ints: now}, {v: n.Input(2)}}, attrs: n.Attrs, out: [][]int64{perm}}
}

// moveSlice moves a Slice of constant axes.
func (r *region) moveSlice(n *onnx.Node, perm []int64) *moved {
	if n.OpsetVersion("") < 10 {
		return nil
	}
	in := r.rest(n)
	starts := r.e.Facts.Shape(n.Input(1))
	if in == nil || len(starts) != 1 || !starts[0].Known() || starts[0].Value > int64(len(perm)) {
		return nil
	}
	axes, ok := []int64(nil), true
	if n.Input(3) != nil {
		axes, ok = knownInts(r.e.Facts, n.Input(3))
	} else {
		for i := range starts[0].Value {
			axes = append(axes, i)
		}
	}
	if !ok || r.e.Facts.DType(n.Input(1)) != onnx.Int64 {
		return nil
	}
	now := make([]int64, len(axes))
	for i, a := range axes {
		if now[i], ok = axisIn(perm, a); !ok {
			return nil
		}
	}
	for len(in) < 4 {
		in = append(in, operand{})
	}
	in[3] = operand{kind: integers, ints: now}
	return &moved{in: in, attrs: n.Attrs, out: [][]int64{perm}}
}

// moveQuantize moves a quantization by one scale, or by one along an axis.
func (r *region) moveQuantize(n *onnx.Node, perm []int64) *moved {
	in := r.rest(n)
	scale := r.e.Facts.Shape(n.Input(1))
	if in == nil || scale == nil || len(scale) > 1 || n.Int("block_size", 0) != 0 {
		return nil
	}
	if allOnes(scale) {
		return &moved{in: in, attrs: n.Attrs, out: [][]int64{perm}}
	}
	axis, ok := axisIn(perm, n.Int("axis", 1))
	if !ok {
		return nil
	}
	return &moved{in: in, attrs: withAttr(n, onnx.IntAttr("axis", axis)), out: [][]int64{perm}}
}

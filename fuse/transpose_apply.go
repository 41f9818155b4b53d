package fuse

import (
	"cmp"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// apply puts the moved nodes in the place of the members and returns how many
// nodes went and came.
func (r *region) apply() (removed, added int, err error) {
	now := map[*onnx.Value]*onnx.Value{} // the new form of each value
	made := map[*onnx.Value]*onnx.Value{}
	for _, n := range r.sorted() {
		mv := r.member[n]
		if mv.none {
			v := n.Input(0)
			if mv.in[0].kind == inRegion {
				v = now[v]
			}
			now[n.Output(0)] = v
			continue
		}
		in := make([]*onnx.Value, len(mv.in))
		for i, o := range mv.in {
			if in[i], err = r.operand(n, o, now, made, &added); err != nil {
				return 0, 0, err
			}
		}
		r.replace(n, mv, in, now)
		added++
	}
	for _, n := range r.sorted() {
		for _, v := range n.Outputs() {
			if err := r.release(n, v, now, &added); err != nil {
				return 0, 0, err
			}
		}
	}
	for _, n := range slices.Backward(r.sorted()) {
		removed += len(r.g.SweepFrom(n))
	}
	return removed, added, nil
}

// sorted returns the members in execution order.
func (r *region) sorted() []*onnx.Node {
	out := slices.Clone(r.nodes)
	slices.SortFunc(out, func(a, b *onnx.Node) int {
		return cmp.Or(cmp.Compare(r.pos[a], r.pos[b]), cmp.Compare(r.rank(a), r.rank(b)))
	})
	return out
}

// rank tells nodes apart that have one place in the execution order: those put in
// for a node stand in one row before it.
func (r *region) rank(n *onnx.Node) int {
	k := 0
	for p := n.Prev(); p != nil && r.pos[p] == r.pos[n]; p = p.Prev() {
		k++
	}
	return k
}

// operand returns what a moved node reads.
func (r *region) operand(n *onnx.Node, o operand, now, made map[*onnx.Value]*onnx.Value, added *int) (*onnx.Value, error) {
	switch o.kind {
	case inRegion:
		return now[o.v], nil
	case integers:
		return r.g.NewConst(onnx.FromInts(n.Output(0).Name()+"_axes", []int64{int64(len(o.ints))}, o.ints)), nil
	case permuted:
		t, err := permutedConst(o)
		if err != nil {
			return nil, err
		}
		return r.g.NewConst(t), nil
	case transposed:
		if made[o.v] == nil {
			made[o.v] = r.transpose(n, o.v, o.perm)
			*added++
		}
		return made[o.v], nil
	}
	return o.v, nil
}

// transpose puts a Transpose of v in front of at.
func (r *region) transpose(at *onnx.Node, v *onnx.Value, perm []int64) *onnx.Value {
	t := onnx.NewNode("Transpose", []*onnx.Value{v}, r.g.Model().Fresh(v.Name()+"_transposed"))
	t.Attrs = []*onnx.Attr{onnx.IntsAttr("perm", perm...)}
	t.Name = t.Output(0).Name()
	r.g.InsertBefore(t, at)
	r.pos[t] = r.pos[at]
	r.e.Facts.Infer(t)
	return t.Output(0)
}

// permutedConst returns the constant of o in the other order of axes.
func permutedConst(o operand) (*onnx.Tensor, error) {
	t := *o.v.Constant()
	t.Shape = o.shape
	n := onnx.NewNode("Transpose", []*onnx.Value{nil}, "t")
	n.Attrs = []*onnx.Attr{onnx.IntsAttr("perm", o.perm...)}
	out, err := eval.Node(n, 13, []*onnx.Tensor{&t}, eval.Options{})
	if err != nil {
		return nil, err
	}
	return out[0].Renamed(o.v.Name()), nil
}

// replace puts the moved form of n in front of it.
func (r *region) replace(n *onnx.Node, mv *moved, in []*onnx.Value, now map[*onnx.Value]*onnx.Value) {
	names := make([]string, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v != nil {
			names[i] = r.g.Model().Fresh(v.Name())
		}
	}
	c := onnx.CloneNodeInto(n, in, names, nil)
	c.TrimInputs()
	c.Attrs = mv.attrs
	r.g.InsertBefore(c, n)
	r.pos[c] = r.pos[n]
	r.e.Facts.Infer(c)
	for i, v := range n.Outputs() {
		if v != nil {
			now[v] = c.Output(i)
			c.Output(i).Type = onnx.TensorType(v.DType(), nil)
		}
	}
}

// release gives readers outside the region the value that they had.
func (r *region) release(n *onnx.Node, v *onnx.Value, now map[*onnx.Value]*onnx.Value, added *int) error {
	if !r.readOutside(v) {
		return nil
	}
	w := now[v]
	if !inOrder(r.order[v]) || v.IsOutput() && !canBeOutput(w, r.g) {
		if inOrder(r.order[v]) {
			id := onnx.NewNode("Identity", []*onnx.Value{w}, r.g.Model().Fresh(v.Name()))
			r.g.InsertBefore(id, n)
			w = id.Output(0)
		} else {
			w = r.transpose(n, w, r.order[v])
		}
		*added++
		w.Type = v.Type
	}
	for _, u := range slices.Clone(v.Uses()) {
		if r.member[u.Node] == nil {
			u.Node.SetInput(u.Index, w)
		}
	}
	if v.IsOutput() {
		return r.g.Replace(v, w)
	}
	return nil
}

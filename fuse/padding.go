package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// padding is what Pad does: elements added before and after each axis.
type padding struct {
	begin, end []int64
	mode       string
	value      float64 // of mode constant
}

// padOf reads the Pad n, whose arguments are attributes before opset 11 and
// inputs from then on, or declines.
func padOf(m *rewrite.Match, n *onnx.Node) (padding, error) {
	p := padding{mode: n.Str("mode", "constant")}
	pads, axes := n.Ints("pads", nil), []int64(nil)
	if n.OpsetVersion("") < 11 {
		p.value = float64(n.Float("value", 0))
	} else {
		var err error
		if pads, err = constantInts(n.Input(1), "the amounts of Pad"); err != nil {
			return p, err
		}
		if n.Input(3) != nil {
			if axes, err = constantInts(n.Input(3), "the axes of Pad"); err != nil {
				return p, err
			}
		}
		if p.value, err = padValue(n.Input(2)); err != nil {
			return p, err
		}
	}
	rank := rankOf(n.Input(0), m.Facts)
	if rank < 0 && axes == nil {
		rank = len(pads) / 2
	}
	if rank < 0 || len(pads) == 0 || axes == nil && len(pads) != 2*rank || axes != nil && len(pads) != 2*len(axes) {
		return p, rewrite.Decline("Pad by %v of rank %d", pads, rank)
	}
	p.begin, p.end = make([]int64, rank), make([]int64, rank)
	for i := range len(pads) / 2 {
		axis := int64(i)
		if axes != nil {
			axis = axes[i]
		}
		if axis < 0 {
			axis += int64(rank)
		}
		if axis < 0 || axis >= int64(rank) {
			return p, rewrite.Decline("Pad has no axis %d", axis)
		}
		p.begin[axis], p.end[axis] = pads[i], pads[i+len(pads)/2]
	}
	return p, nil
}

// padValue returns the number that Pad adds, 0 if it is omitted.
func padValue(v *onnx.Value) (float64, error) {
	if v == nil {
		return 0, nil
	}
	t, err := constant(v, "the value of Pad")
	if err != nil {
		return 0, err
	}
	x, err := t.Float64s()
	if err != nil || len(x) != 1 {
		return 0, rewrite.Decline("the value of Pad is %v", t)
	}
	return x[0], nil
}

func constantInts(v *onnx.Value, what string) ([]int64, error) {
	t, err := constant(v, what)
	if err != nil {
		return nil, err
	}
	return t.Ints()
}

// intoWindow returns the pads attribute of a convolution or pooling n that reads
// the padding itself, or declines.
func (p padding) intoWindow(n *onnx.Node) ([]int64, error) {
	if auto := n.Str("auto_pad", "NOTSET"); auto != "NOTSET" && auto != "VALID" && auto != "" {
		return nil, rewrite.Decline("auto_pad of %v is %s", n, auto)
	}
	rank := len(p.begin)
	if p.mode != "constant" {
		return nil, rewrite.Decline("the mode of Pad is %s", p.mode)
	}
	if rank < 3 || p.begin[0] != 0 || p.end[0] != 0 || p.begin[1] != 0 || p.end[1] != 0 {
		return nil, rewrite.Decline("Pad adds samples or channels: %v and %v", p.begin, p.end)
	}
	old, ok := n.Each("pads", 2*(rank-2), 0)
	if !ok {
		return nil, rewrite.Decline("the pads of %v are %v", n, old)
	}
	var out []int64
	for i, amount := range append(append([]int64(nil), p.begin[2:]...), p.end[2:]...) {
		if amount < 0 {
			return nil, rewrite.Decline("Pad crops: %v and %v", p.begin, p.end)
		}
		out = append(out, old[i]+amount)
	}
	return out, nil
}

// withAttrs returns n's attributes without those called like changed, and changed.
func withAttrs(n *onnx.Node, changed ...*onnx.Attr) []*onnx.Attr {
	out := n.Attrs[:len(n.Attrs):len(n.Attrs)]
	for _, a := range changed {
		var kept []*onnx.Attr
		for _, b := range out {
			if b.Name != a.Name {
				kept = append(kept, b)
			}
		}
		out = append(kept, a)
	}
	return out
}

package fuse

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// einsum: an Einsum that is a matrix product, an elementwise product or a sum,
// up to the order of axes, becomes that. One operand: Transpose and ReduceSum.
// Two operands: with batch labels B (in both and in the result), contracted
// labels K (in both only), and free labels I and J of either side,
//
//	a → [B, I, K], b → [B, K, J], MatMul → [B, I, J] → order of the result.
//
// Several labels of K, of J, and where there is a batch of I, are joined by
// Reshape, an absent I or J has size 1.
var einsum = rewrite.Rule{
	Name: "einsum", Doc: "turns Einsum into MatMul, Mul, ReduceSum and Transpose where it is one of them",
	Pattern: "Einsum(a, ...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		in, out, err := labels(m)
		if err != nil {
			return err
		}
		e := &einsumPatch{m: m, p: p}
		var y *onnx.Value
		switch len(in) {
		case 1:
			y, err = e.unary(m.Root.Input(0), in[0], out)
		case 2:
			y, err = e.binary(m.Root.Input(0), m.Root.Input(1), in[0], in[1], out)
		default:
			err = rewrite.Decline("it has %d operands", len(in))
		}
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), y)
		return nil
	},
}

// labels reads the equation of an Einsum without ellipsis and without a label
// twice in one operand, or declines.
func labels(m *rewrite.Match) (in []string, out string, err error) {
	text := strings.ReplaceAll(m.Root.Str("equation", ""), " ", "")
	left, out, explicit := strings.Cut(text, "->")
	in = strings.Split(left, ",")
	if strings.Contains(text, ".") {
		return nil, "", rewrite.Decline("the equation %q has an ellipsis", text)
	}
	if len(in) != len(m.Root.Inputs()) {
		return nil, "", rewrite.Decline("the equation %q has %d operands", text, len(in))
	}
	if !explicit {
		out = implicitOutput(in)
	}
	for _, s := range append(slices.Clone(in), out) {
		for i := range len(s) {
			if strings.IndexByte(s, s[i]) != i {
				return nil, "", rewrite.Decline("the equation %q has %q twice in one operand", text, s[i])
			}
		}
	}
	for i, s := range in {
		if shape := m.Facts.Shape(m.Root.Input(i)); len(shape) != len(s) || shape == nil {
			return nil, "", rewrite.Decline("operand %d has shape %v", i, shape)
		}
	}
	return in, out, nil
}

// implicitOutput returns the labels that occur once, in alphabetical order.
func implicitOutput(in []string) string {
	all := strings.Join(in, "")
	var once []byte
	for i := range len(all) {
		if strings.Count(all, all[i:i+1]) == 1 {
			once = append(once, all[i])
		}
	}
	slices.Sort(once)
	return string(once)
}

// einsumPatch builds what an Einsum is.
type einsumPatch struct {
	m     *rewrite.Match
	p     *rewrite.Patch
	sizes map[byte]onnx.Dim // of each label
}

// only returns the labels of s that keep holds for, in the order of s.
func only(s string, keep func(c byte) bool) string {
	var out []byte
	for i := range len(s) {
		if keep(s[i]) {
			out = append(out, s[i])
		}
	}
	return string(out)
}

// in reports whether c is one of labels.
func in(labels string) func(byte) bool {
	return func(c byte) bool { return strings.IndexByte(labels, c) >= 0 }
}

func notIn(labels string) func(byte) bool {
	return func(c byte) bool { return strings.IndexByte(labels, c) < 0 }
}

// transposed brings x from the order of labels from to that of to.
func (e *einsumPatch) transposed(x *onnx.Value, from, to string) *onnx.Value {
	if from == to {
		return x
	}
	perm := make([]int64, len(to))
	for i := range len(to) {
		perm[i] = int64(strings.IndexByte(from, to[i]))
	}
	return e.p.Add("Transpose", []*onnx.Value{x}, onnx.IntsAttr("perm", perm...))
}

// summed adds up x along the labels that the result and the other operand lack.
func (e *einsumPatch) summed(x *onnx.Value, labels, kept string) (*onnx.Value, string) {
	var axes []int64
	for i := range len(labels) {
		if notIn(kept)(labels[i]) {
			axes = append(axes, int64(i))
		}
	}
	if axes == nil {
		return x, labels
	}
	return withAxes(e.m, e.p, "ReduceSum", 13, x, axes, onnx.IntAttr("keepdims", 0)), only(labels, in(kept))
}

func (e *einsumPatch) unary(x *onnx.Value, labels, out string) (*onnx.Value, error) {
	if len(only(out, notIn(labels))) > 0 {
		return nil, rewrite.Decline("the result has a label that the operand lacks")
	}
	y, left := e.summed(x, labels, out)
	if y == x && left == out {
		return nil, rewrite.Decline("it changes nothing")
	}
	return e.transposed(y, left, out), nil
}

func (e *einsumPatch) binary(a, b *onnx.Value, la, lb, out string) (*onnx.Value, error) {
	if len(only(out, notIn(la+lb))) > 0 {
		return nil, rewrite.Decline("the result has a label that the operands lack")
	}
	if err := e.sameSizes(a, b, la, lb); err != nil {
		return nil, err
	}
	a, la = e.summed(a, la, out+lb)
	b, lb = e.summed(b, lb, out+la)
	g := labelGroups{
		batch: only(out, func(c byte) bool { return in(la)(c) && in(lb)(c) }),
		left:  only(out, func(c byte) bool { return in(la)(c) && !in(lb)(c) }),
		right: only(out, func(c byte) bool { return !in(la)(c) && in(lb)(c) }),
		inner: only(la, func(c byte) bool { return in(lb)(c) && !in(out)(c) }),
	}
	if g.inner == "" {
		return e.product(a, b, la, lb, out)
	}
	return e.matmul(a, b, la, lb, out, g)
}

// labelGroups are the labels of a product of two operands by where they occur.
type labelGroups struct{ batch, left, right, inner string }

// sameSizes declines where a label may have size 1 in one operand and another
// size in the other, which Einsum broadcasts and MatMul does not.
func (e *einsumPatch) sameSizes(a, b *onnx.Value, la, lb string) error {
	x, y := e.m.Facts.Shape(a), e.m.Facts.Shape(b)
	e.sizes = map[byte]onnx.Dim{}
	for j := range len(lb) {
		e.sizes[lb[j]] = y[j]
	}
	for i := range len(la) {
		e.sizes[la[i]] = x[i]
		if j := strings.IndexByte(lb, la[i]); j >= 0 && !x[i].Same(y[j]) {
			return rewrite.Decline("the sizes %v and %v of label %q are not certainly equal", x[i], y[j], la[i])
		}
	}
	return nil
}

// product multiplies element by element, operands spread along each other's labels.
func (e *einsumPatch) product(a, b *onnx.Value, la, lb, out string) (*onnx.Value, error) {
	spread := func(x *onnx.Value, labels string) *onnx.Value {
		order := only(out, in(labels))
		x = e.transposed(x, labels, order)
		var axes []int64
		lead := true // axes of size 1 in front need not be written
		for i := range len(out) {
			if in(order)(out[i]) {
				lead = false
			} else if !lead {
				axes = append(axes, int64(i))
			}
		}
		if axes == nil {
			return x
		}
		skip := int64(len(out) - len(order) - len(axes))
		for i := range axes {
			axes[i] -= skip
		}
		return withAxes(e.m, e.p, "Unsqueeze", 13, x, axes)
	}
	return e.p.Add("Mul", []*onnx.Value{spread(a, la), spread(b, lb)}), nil
}

// matmul multiplies matrices; see [einsum].
func (e *einsumPatch) matmul(a, b *onnx.Value, la, lb, out string, g labelGroups) (*onnx.Value, error) {
	// The product may come out as [B, J, I] without a Transpose behind it.
	if out == g.batch+g.right+g.left && g.right != "" {
		a, b, la, lb = b, a, lb, la
		g.left, g.right = g.right, g.left
	}
	left := []string{g.left}
	if g.batch == "" && g.left != "" {
		left = strings.Split(g.left, "") // MatMul takes them for axes of a batch
	}
	rows := append(strings.Split(g.batch, ""), left...)
	x, err := e.joined(e.transposed(a, la, g.batch+g.left+g.inner), append(slices.Clone(rows), g.inner))
	if err != nil {
		return nil, err
	}
	y, err := e.joined(e.transposed(b, lb, g.batch+g.inner+g.right), append(strings.Split(g.batch, ""), g.inner, g.right))
	if err != nil {
		return nil, err
	}
	z, err := e.parted(e.p.Add("MatMul", []*onnx.Value{x, y}), append(rows, g.right))
	if err != nil {
		return nil, err
	}
	return e.transposed(z, g.batch+g.left+g.right, out), nil
}

// joined makes one axis of each group of labels; that of an empty group has size 1.
func (e *einsumPatch) joined(x *onnx.Value, list []string) (*onnx.Value, error) {
	at, open := 0, false
	target := make([]int64, len(list))
	for i, g := range list {
		if target[i] = 1; len(g) == 1 && at == i {
			target[i] = 0
		} else {
			for k := range len(g) {
				d := e.sizes[g[k]]
				if !d.Known() {
					target[i] = -1
					break
				}
				target[i] *= d.Value
			}
		}
		if target[i] < 0 && open {
			return nil, rewrite.Decline("the sizes of labels are not known that would have to be joined")
		}
		open = open || target[i] < 0
		at += len(g)
	}
	return e.reshaped(x, target), nil
}

// parted takes joined axes apart again.
func (e *einsumPatch) parted(x *onnx.Value, list []string) (*onnx.Value, error) {
	var target []int64
	open := false
	for i, g := range list {
		for k := range len(g) {
			d := e.sizes[g[k]]
			switch {
			case len(g) == 1 && len(target) == i:
				target = append(target, 0)
			case d.Known():
				target = append(target, d.Value)
			case open:
				return nil, rewrite.Decline("the sizes of labels are not known that would have to be taken apart")
			default:
				target, open = append(target, -1), true
			}
		}
	}
	if len(target) != len(list) {
		return e.p.Add("Reshape", []*onnx.Value{x, intsConst(e.p, "shape", target)}), nil
	}
	return e.reshaped(x, target), nil
}

// reshaped reshapes x unless every axis is copied.
func (e *einsumPatch) reshaped(x *onnx.Value, target []int64) *onnx.Value {
	if !slices.ContainsFunc(target, func(n int64) bool { return n != 0 }) {
		return x
	}
	return e.p.Add("Reshape", []*onnx.Value{x, intsConst(e.p, "shape", target)})
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// intoGemm scales the columns of Gemm and shifts its bias. One scale for all is
// alpha and beta, where the weights are not constant.
func (f *folder) intoGemm(n *onnx.Node, a affine) (*onnx.Value, error) {
	if n.OpsetVersion("") < 7 {
		return nil, rewrite.Decline("Gemm of opset %d broadcasts by attributes", n.OpsetVersion(""))
	}
	if a.uniform() && a.pure() && n.Input(1).Constant() == nil {
		return f.p.Add("Gemm", n.Inputs(), scaledGemm(n, a.scale[0])...), nil
	}
	w, err := weightOf(f.m, n.Input(1))
	if err != nil {
		return nil, err
	}
	if len(w.shape) != 2 || product(w.shape) == 0 {
		return nil, rewrite.Decline("the weights have shape %v", w.shape)
	}
	columns, axis, width := w.shape[1], 1, int(w.shape[1])
	channel := func(i int) int { return i % width }
	if n.Int("transB", 0) != 0 {
		columns, axis, channel = w.shape[0], 0, func(i int) int { return i / width }
	}
	if a, err = a.along(0, columns); err != nil {
		return nil, err
	}
	w2, err := f.scaleWeight(w, a.scale, axis, channel)
	if err != nil {
		return nil, err
	}
	return f.gemmWithBias(n, n.Input(0), w, w2, a)
}

// gemmWithBias proposes the Gemm n of x and other weights, and its bias scaled and shifted.
func (f *folder) gemmWithBias(n *onnx.Node, x *onnx.Value, w weight, w2 *onnx.Value, a affine) (*onnx.Value, error) {
	in := []*onnx.Value{x, w2, n.Input(2)}
	if a.pure() && (in[2] == nil || all(a.scale, 1)) {
		return f.p.Add("Gemm", in, n.Attrs...), nil
	}
	var b *onnx.Tensor
	if in[2] != nil {
		t, err := constant(in[2], "the bias")
		if err != nil {
			return nil, err
		}
		if b, err = rowBias(t, float64(n.Float("beta", 1)), int64(len(a.scale))); err != nil {
			return nil, err
		}
	}
	b2, err := foldedBias(w.name()+"_bias", w.dtype, b, a)
	if err != nil {
		return nil, err
	}
	in[2] = f.p.Const(b2)
	return f.p.Add("Gemm", in, withoutAttr(n, "beta")...), nil
}

// scaledGemm returns the attributes of Gemm n for a result scaled by s.
func scaledGemm(n *onnx.Node, s float64) []*onnx.Attr {
	var out []*onnx.Attr
	for _, a := range n.Attrs {
		if a.Name != "alpha" && a.Name != "beta" {
			out = append(out, a)
		}
	}
	out = append(out, onnx.FloatAttr("alpha", float32(float64(n.Float("alpha", 1))*s)))
	if n.Input(2) != nil {
		out = append(out, onnx.FloatAttr("beta", float32(float64(n.Float("beta", 1))*s)))
	}
	return out
}

// rowBias returns t·factor as [columns], where t broadcasts along the rows of a matrix.
func rowBias(t *onnx.Tensor, factor float64, columns int64) (*onnx.Tensor, error) {
	n, _ := t.Elements()
	for i, d := range t.Shape {
		if d != 1 && i != len(t.Shape)-1 {
			return nil, rewrite.Decline("the bias of shape %s varies by row", dims(t.Shape))
		}
	}
	if len(t.Shape) > 2 || n != 1 && n != columns {
		return nil, rewrite.Decline("the bias has shape %s for %d columns", dims(t.Shape), columns)
	}
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out := make([]float64, columns)
	for i := range out {
		out[i] = v[i%len(v)] * factor
	}
	return onnx.FromFloat64s(t.Name, onnx.Double, []int64{columns}, out)
}

// withoutAttr returns n's attributes but the one called name.
func withoutAttr(n *onnx.Node, name string) []*onnx.Attr {
	var out []*onnx.Attr
	for _, a := range n.Attrs {
		if a.Name != name {
			out = append(out, a)
		}
	}
	return out
}

// side is one factor of MatMul as the weights of a product.
type side struct {
	weight
	index    int             // 0 or 1: which factor it is
	after    int             // axes after the channels, of the product and of the other factor
	channels int64           // that it makes
	channel  func(i int) int // the channel that element i makes
	reads    int64           // channels of the other factor that it reads
	read     func(i int) int // the one that element i reads
}

// sideOf describes factor i of MatMul n: the second makes the columns of the
// product from those of the first, the first its rows from those of the second.
func (f *folder) sideOf(n *onnx.Node, i int) (side, error) {
	w, err := weightOf(f.m, n.Input(i))
	if err != nil {
		return side{}, err
	}
	rank := len(w.shape)
	if rank < 2 || product(w.shape) == 0 {
		return side{}, rewrite.Decline("the weights have shape %v", w.shape)
	}
	rows, columns := w.shape[rank-2], w.shape[rank-1]
	column := func(i int) int { return i % int(columns) }
	row := func(i int) int { return i / int(columns) % int(rows) }
	if i == 1 {
		return side{w, 1, 0, columns, column, rows, row}, nil
	}
	if s := f.m.Facts.Shape(n.Input(1)); len(s) < 2 {
		return side{}, rewrite.Decline("the right factor has shape %v", s)
	}
	return side{w, 0, 1, rows, row, columns, column}, nil
}

// sideFor chooses the factor that a is folded into.
func (f *folder) sideFor(n *onnx.Node, a affine) (side, error) {
	left := n.Input(1).Constant() == nil && n.Input(0).Constant() != nil
	if left || !a.uniform() && a.after == 1 {
		return f.sideOf(n, 0)
	}
	return f.sideOf(n, 1)
}

// intoMatMul scales the weights of MatMul and adds what is to be added after it:
// as the bias of Gemm where it is a product of two matrices.
func (f *folder) intoMatMul(n *onnx.Node, a affine) (*onnx.Value, error) {
	s, err := f.sideFor(n, a)
	if err != nil {
		return nil, err
	}
	if a, err = a.along(s.after, s.channels); err != nil {
		return nil, err
	}
	axis := len(s.shape) - 1 - s.after
	w2, err := f.scaleWeight(s.weight, a.scale, axis, s.channel)
	if err != nil {
		return nil, err
	}
	return f.matMulPlus(n, s, w2, a.shift)
}

// matMulPlus proposes the MatMul n with other weights and shift added to each channel.
func (f *folder) matMulPlus(n *onnx.Node, s side, w2 *onnx.Value, shift []float64) (*onnx.Value, error) {
	in := append([]*onnx.Value(nil), n.Inputs()...)
	in[s.index] = w2
	if all(shift, 0) {
		return f.p.Add("MatMul", in, n.Attrs...), nil
	}
	shape := []int64{int64(len(shift))}
	if s.after == 1 {
		shape = append(shape, 1)
	}
	t, err := floatTensor(s.name()+"_bias", s.dtype, shape, shift)
	if err != nil {
		return nil, err
	}
	if f.isGemm(n) {
		return f.p.Add("Gemm", append(in, f.p.Const(t))), nil
	}
	f.added++
	y := f.p.Add("MatMul", in, n.Attrs...)
	return f.p.Add("Add", []*onnx.Value{y, f.p.Const(t)}), nil
}

// isGemm reports whether MatMul n may become a Gemm: see [gemmFactors].
func (f *folder) isGemm(n *onnx.Node) bool {
	return gemmFactors(f.m, n.Input(0), n.Input(1)) == nil
}

package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// heads is the layout of an attention block.
type heads struct {
	count, kv int64 // heads of queries, and of keys and values
	dim       int64 // of one head
}

// width is the width of all query heads together.
func (h heads) width() int64 { return h.count * h.dim }

// splitHeads takes x [batch, seq, n·dim] to [batch, n, seq, dim].
func (b *builder) splitHeads(x *onnx.Value, n, dim int64) *onnx.Value {
	return b.transpose(b.viewHeads(x, n, dim), 0, 2, 1, 3)
}

// viewHeads takes x [batch, seq, n·dim] to [batch, seq, n, dim].
func (b *builder) viewHeads(x *onnx.Value, n, dim int64) *onnx.Value {
	if b.o.Style.traced() {
		return b.reshape(x, b.batch(x), b.seq(x), num(-1), num(dim))
	}
	return b.reshape(x, b.batch(x), b.seq(x), num(n), num(dim))
}

// joinHeads takes x [batch, n, seq, dim] to [batch, seq, n·dim].
func (b *builder) joinHeads(x *onnx.Value, h heads) *onnx.Value {
	y := b.transpose(x, 0, 2, 1, 3)
	return b.reshape(y, b.batch(y), b.seq(y), num(h.width()))
}

// mask says what an attention block may see. The zero value is everything.
type mask struct {
	v       *onnx.Value
	selects bool // v is of type Bool, true where it may look; else v is added
}

// attend is softmax(q·kᵀ/√dim + mask)·v over [batch, heads, seq, dim], written
// as eager code or as scaled_dot_product_attention.
func (b *builder) attend(q, k, v *onnx.Value, m mask, h heads, sdpa bool) *onnx.Value {
	b.saw(Attention)
	var scores *onnx.Value
	switch {
	case b.o.Style.traced():
		scores = b.scoresTraced(q, k, h)
	case sdpa:
		scores = b.scoresScripted(q, k)
	case b.o.Style == JAX:
		q = b.op("Div", q, b.scalar(math.Sqrt(float64(h.dim))))
		scores = b.call("Einsum", attrs(onnx.StringAttr("equation", "bhqd,bhkd->bhqk")), q, k)
	default:
		scores = b.op("Div", b.op("MatMul", q, b.transpose(k, 0, 1, 3, 2)), b.scalar(math.Sqrt(float64(h.dim))))
	}
	return b.weigh(scores, v, m)
}

// weigh masks the scores, and takes the mean of v that their softmax weighs.
func (b *builder) weigh(scores, v *onnx.Value, m mask) *onnx.Value {
	if m.selects {
		m.v = b.op("Where", m.v, b.scalar(0), b.scalar(math.Inf(-1)))
	}
	if m.v != nil {
		scores = b.op("Add", scores, m.v)
	}
	var p *onnx.Value
	if b.o.Style == JAX {
		p = b.softmaxSpelled(scores)
	} else {
		p = b.call("Softmax", axis(b.lastAxis(4)), scores)
	}
	if b.o.Style.traced() && m.v != nil {
		p = b.op("Where", b.op("IsNaN", p), b.scalar(0), p)
	}
	if b.o.Style == JAX {
		return b.call("Einsum", attrs(onnx.StringAttr("equation", "bhqk,bhkd->bhqd")), p, v)
	}
	return b.op("MatMul", p, v)
}

// lastAxis is the last of rank axes in the way that the opset allows for Softmax.
func (b *builder) lastAxis(rank int64) int64 {
	if b.o.Opset < 13 {
		return rank - 1
	}
	return -1
}

// softmaxSpelled is the softmax of jax.nn in its primitives.
func (b *builder) softmaxSpelled(x *onnx.Value) *onnx.Value {
	e := b.op("Exp", b.op("Sub", x, b.reduce("ReduceMax", x, -1)))
	return b.op("Div", e, b.reduce("ReduceSum", e, -1))
}

// reduce reduces one axis, which stays with size 1.
func (b *builder) reduce(op string, x *onnx.Value, along int64) *onnx.Value {
	keep := onnx.IntAttr("keepdims", 1)
	if b.o.Opset < 13 || op == "ReduceMax" && b.o.Opset < 18 {
		return b.call(op, attrs(onnx.IntsAttr("axes", along), keep), x)
	}
	return b.call(op, attrs(keep), x, b.ints(along))
}

// scoresTraced is the first half of SDPA as the dynamo exporter decomposes it:
// the keys are transposed as three axes, and both sides get √scale.
func (b *builder) scoresTraced(q, k *onnx.Value, h heads) *onnx.Value {
	root := b.scalar(math.Pow(float64(h.dim), -0.25))
	n, s := b.batch(k), b.length(k, 2)
	flat := b.transpose(b.reshape(k, num(-1), s, num(h.dim)), 0, 2, 1)
	kt := b.reshape(flat, n, num(h.count), num(h.dim), s)
	return b.op("MatMul", b.op("Mul", q, root), b.op("Mul", kt, root))
}

// scoresScripted is the same as the TorchScript exporter writes it: the scale
// comes from the shape of q.
func (b *builder) scoresScripted(q, k *onnx.Value) *onnx.Value {
	last := b.op("Slice", b.op("Shape", q), b.ints(-1), b.ints(math.MaxInt64))
	inverse := b.op("Div", b.typed(onnx.Float, []int64{}, 1), b.op("Sqrt", b.cast(last, onnx.Float)))
	scale := b.op("Sqrt", b.cast(inverse, b.o.DType))
	kt := b.transpose(k, 0, 1, 3, 2)
	return b.op("MatMul", b.op("Mul", q, scale), b.op("Mul", kt, scale))
}

// repeatHeads repeats each of the kv heads of x [batch, kv, seq, dim] for its
// group of query heads.
func (b *builder) repeatHeads(x *onnx.Value, h heads) *onnx.Value {
	if h.kv == h.count {
		return x
	}
	n, s := b.batch(x), b.length(x, 2)
	y := b.expand(b.unsqueeze(x, 2), n, num(h.kv), num(h.count/h.kv), s, num(h.dim))
	return b.reshape(y, n, num(h.count), s, num(h.dim))
}

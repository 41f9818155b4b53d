package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// transformer is torch.nn.TransformerEncoder with post-norm layers, as of the
// base model of Vaswani et al. (2017): six layers of 512 over features
// [batch, seq, 512].
func transformer(b *builder) {
	h, layers, ffn := pick(b, heads{8, 8, 64}, heads{4, 4, 8}), pick[int64](b, 6, 2), pick[int64](b, 2048, 64)
	w := h.width()
	x := b.input("src", anyBatch, anySeq, w)
	for i := range layers {
		l := b.at("layers.%d", i)
		x = l.layerNorm("norm1", l.op("Add", x, l.at("self_attn").packedAttention(x, h)), w, 1e-5)
		y := l.linear("linear2", l.op("Relu", l.linear("linear1", x, w, ffn, true)), ffn, w, true)
		x = l.layerNorm("norm2", l.op("Add", x, y), w, 1e-5)
	}
	b.output("memory", x, anyBatch, anySeq, w)
}

// packedAttention is torch.nn.MultiheadAttention: sequence first, one packed
// projection, batch and heads in one axis.
func (b *builder) packedAttention(x *onnx.Value, h heads) *onnx.Value {
	b.saw(Attention)
	w, n, s := h.width(), b.batch(x), b.seq(x)
	y := b.linear("in_proj", b.transpose(x, 1, 0, 2), w, 3*w, true)
	y = b.unsqueeze(b.reshape(y, s, n, num(3), num(w)), 0)
	y = b.squeeze(b.transpose(y, 3, 1, 2, 0, 4), 3)
	flat := func(i int64) *onnx.Value {
		p := b.call("Gather", axis(0), y, b.index(i))
		return b.transpose(b.reshape(p, s, num(-1), num(h.dim)), 1, 0, 2)
	}
	q, k, v := flat(0), flat(1), flat(2)
	q = b.op("Mul", q, b.scalar(1/math.Sqrt(float64(h.dim))))
	p := b.call("Softmax", axis(b.lastAxis(3)), b.op("MatMul", q, b.transpose(k, 0, 2, 1)))
	y = b.reshape(b.transpose(b.op("MatMul", p, v), 1, 0, 2), num(-1), num(w))
	y = b.reshape(b.dense("out_proj", y, w, w), s, n, num(w))
	return b.transpose(y, 1, 0, 2)
}

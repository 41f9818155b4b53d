package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// vitSize are the hyperparameters of a vision transformer.
type vitSize struct {
	image, patch, layers, ffn, classes int64
	heads                              heads
}

// vit is the image classifier of Dosovitskiy et al. (2020) as timm writes it, one
// packed projection for queries, keys and values; full is ViT-B/16: 86.6 million
// parameters.
func vit(b *builder) {
	c := pick(b, vitSize{224, 16, 12, 3072, 1000, heads{12, 12, 64}}, vitSize{32, 8, 2, 64, 10, heads{4, 4, 8}})
	w, side := c.heads.width(), c.image/c.patch
	b.o.Seq = side*side + 1
	x := b.input("pixel_values", anyBatch, 3, c.image, c.image)
	x = b.at("patch_embed").conv("proj", x, convSpec{in: 3, out: w, kernel: c.patch, stride: c.patch, bias: true})
	x = b.transpose(b.reshape(x, b.batch(x), num(w), num(-1)), 0, 2, 1)
	class := b.expand(b.weight("cls_token", 0.5, 1, 1, w), b.batch(x), num(1), num(w))
	x = b.op("Add", b.concat(1, class, x), b.weight("pos_embed", 0.5, 1, b.o.Seq, w))
	for i := range c.layers {
		x = b.at("blocks.%d", i).vitBlock(x, c)
	}
	x = b.layerNorm("norm", x, w, 1e-6)
	first := b.call("Gather", axis(1), x, b.index(0))
	b.output("logits", b.dense("head", first, w, c.classes), anyBatch, c.classes)
}

func (b *builder) vitBlock(x *onnx.Value, c vitSize) *onnx.Value {
	h, w := c.heads, c.heads.width()
	a := b.at("attn")
	y := a.linear("qkv", b.layerNorm("norm1", x, w, 1e-6), w, 3*w, true)
	y = a.transpose(a.reshape(y, b.batch(y), b.seq(y), num(3), num(h.count), num(h.dim)), 2, 0, 3, 1, 4)
	var p [3]*onnx.Value
	if b.o.Style == TorchScript {
		for i := range p {
			p[i] = a.call("Gather", axis(0), y, a.index(int64(i)))
		}
	} else {
		for i, v := range a.split(y, 0, 1, 1, 1) {
			p[i] = a.squeeze(v, 0)
		}
	}
	y = a.joinHeads(a.attend(p[0], p[1], p[2], mask{}, h, true), h)
	x = b.op("Add", x, a.linear("proj", y, w, w, true))
	m := b.at("mlp")
	y = m.gelu(m.linear("fc1", b.layerNorm("norm2", x, w, 1e-6), w, c.ffn, true))
	return b.op("Add", x, m.linear("fc2", y, c.ffn, w, true))
}

// whisperSize are the hyperparameters of a Whisper encoder.
type whisperSize struct {
	mels, frames, layers, ffn int64
	heads                     heads
}

// whisper is the encoder of Radford et al. (2022) as transformers 4.3x wrote it,
// batch and heads in one axis; full is the tiny model's: 8.2 million parameters.
func whisper(b *builder) {
	c := pick(b, whisperSize{80, 1500, 4, 1536, heads{6, 6, 64}}, whisperSize{8, 16, 2, 64, heads{4, 4, 8}})
	w := c.heads.width()
	b.o.Seq = c.frames
	x := b.input("input_features", anyBatch, c.mels, 2*c.frames)
	x = b.at("gelu").gelu(b.conv("conv1", x, convSpec{in: c.mels, out: w, kernel: 3, stride: 1, pad: 1, bias: true, rank: 1, gain: 1}))
	x = b.at("gelu_1").gelu(b.conv("conv2", x, convSpec{in: w, out: w, kernel: 3, stride: 2, pad: 1, bias: true, rank: 1, gain: 1}))
	x = b.op("Add", b.transpose(x, 0, 2, 1), b.at("embed_positions").weight("weight", 0.5, c.frames, w))
	for i := range c.layers {
		x = b.at("layers.%d", i).whisperLayer(x, c)
	}
	b.output("last_hidden_state", b.layerNorm("layer_norm", x, w, 1e-5), anyBatch, c.frames, w)
}

func (b *builder) whisperLayer(x *onnx.Value, c whisperSize) *onnx.Value {
	w := c.heads.width()
	a := b.at("self_attn")
	y := a.whisperAttention(b.layerNorm("self_attn_layer_norm", x, w, 1e-5), c.heads)
	x = b.op("Add", x, a.linear("out_proj", y, w, w, true))
	y = b.layerNorm("final_layer_norm", x, w, 1e-5)
	y = b.at("activation_fn").gelu(b.linear("fc1", y, w, c.ffn, true))
	return b.op("Add", x, b.linear("fc2", y, c.ffn, w, true))
}

// whisperAttention scales the queries before it splits them; the keys have no bias.
func (b *builder) whisperAttention(x *onnx.Value, h heads) *onnx.Value {
	b.saw(QKV)
	w, n, s := h.width(), b.batch(x), b.seq(x)
	q, k, v := b.linear("q_proj", x, w, w, true), b.linear("k_proj", x, w, w, false), b.linear("v_proj", x, w, w, true)
	if b.o.Style.traced() {
		q, k, v = b.splitHeads(q, h.count, h.dim), b.splitHeads(k, h.count, h.dim), b.splitHeads(v, h.count, h.dim)
		return b.joinHeads(b.attend(q, k, v, mask{}, h, true), h)
	}
	b.saw(Attention)
	q = b.op("Mul", q, b.scalar(1/math.Sqrt(float64(h.dim))))
	flat := func(y *onnx.Value) *onnx.Value {
		return b.reshape(b.splitHeads(y, h.count, h.dim), num(-1), s, num(h.dim))
	}
	q, k, v = flat(q), flat(k), flat(v)
	p := b.call("Softmax", axis(b.lastAxis(3)), b.op("MatMul", q, b.transpose(k, 0, 2, 1)))
	y := b.reshape(b.op("MatMul", p, v), n, num(h.count), s, num(h.dim))
	return b.reshape(b.transpose(y, 0, 2, 1, 3), n, s, num(w))
}

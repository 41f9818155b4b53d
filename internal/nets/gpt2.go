package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gpt2Size are the hyperparameters of GPT-2; full is the small one of Radford
// et al. (2019): 124.4 million parameters.
type gpt2Size struct {
	vocab, positions, layers int64
	heads                    heads
}

// gpt2 is GPT2LMHeadModel over a whole prompt, without a cache.
func gpt2(b *builder) { b.gpt2(false) }

// gpt2Past is the same with keys and values of earlier tokens as inputs, and all as outputs.
func gpt2Past(b *builder) { b.gpt2(true) }

func (b *builder) gpt2(past bool) {
	c := pick(b, gpt2Size{50257, 1024, 12, heads{12, 12, 64}}, gpt2Size{97, 48, 2, heads{4, 4, 8}})
	w := c.heads.width()
	ids, places := b.tokens("input_ids"), b.tokens("position_ids")
	t := b.at("transformer")
	words := t.at("wte").weight("weight", 0.3, c.vocab, w)
	x := t.op("Add", t.op("Gather", words, ids), t.op("Gather", t.at("wpe").weight("weight", 0.3, c.positions, w), places))
	var kv *cache
	if past {
		kv = b.addCache(c.layers, c.heads)
	}
	for i := range c.layers {
		x = t.at("h.%d", i).gpt2Block(x, i, kv, c)
	}
	x = t.layerNorm("ln_f", x, w, 1e-5)
	h := b.at("lm_head")
	b.output("logits", h.op("MatMul", x, h.transpose(words, 1, 0)), anyBatch, anySeq, c.vocab)
	kv.present(b)
}

func (b *builder) gpt2Block(x *onnx.Value, layer int64, kv *cache, c gpt2Size) *onnx.Value {
	h, w := c.heads, c.heads.width()
	a := b.at("attn")
	y := a.conv1D("c_attn", b.layerNorm("ln_1", x, w, 1e-5), w, 3*w)
	parts := a.split(y, a.lastAxis(3), w, w, w)
	q, k, v := a.splitHeads(parts[0], h.count, h.dim), a.splitHeads(parts[1], h.count, h.dim), a.splitHeads(parts[2], h.count, h.dim)
	k, v = kv.extend(a, layer, k, v)
	x = b.op("Add", a.conv1D("c_proj", a.joinHeads(a.gpt2Attention(q, k, v, c), h), w, w), x)
	m := b.at("mlp")
	y = m.geluTanh(m.conv1D("c_fc", b.layerNorm("ln_2", x, w, 1e-5), w, 4*w))
	return b.op("Add", x, m.conv1D("c_proj", y, 4*w, w))
}

// conv1D is the dense layer of GPT-2: a Gemm over all tokens as one matrix.
func (b *builder) conv1D(name string, x *onnx.Value, in, out int64) *onnx.Value {
	l := b.at("%s", name)
	w, c := l.weight("weight", 1/math.Sqrt(float64(in)), in, out), l.weight("bias", 0.02, out)
	if b.o.Style == DynamoFunctions {
		return l.function("conv1d", func(f *builder, in []*onnx.Value) *onnx.Value {
			return f.op("Add", f.op("MatMul", in[0], in[1]), in[2])
		}, x, w, c)
	}
	n, s := b.batch(x), b.seq(x)
	flat := l.reshape(x, num(-1), num(in))
	y := l.call("Gemm", attrs(onnx.FloatAttr("alpha", 1), onnx.FloatAttr("beta", 1)), flat, w, c)
	return l.reshape(y, n, s, num(out))
}

// gpt2Attention attends to what came before: by a triangle cut from a buffer in
// the TorchScript style, by comparing indices in the others.
func (b *builder) gpt2Attention(q, k, v *onnx.Value, c gpt2Size) *onnx.Value {
	if b.o.Style.traced() {
		return b.attend(q, k, v, b.causalSelect(q, k), c.heads, true)
	}
	b.saw(Attention)
	scores := b.op("Div", b.op("MatMul", q, b.transpose(k, 0, 1, 3, 2)), b.scalar(math.Sqrt(float64(c.heads.dim))))
	rows, cols := b.vectorSize(size{of: q, axis: 2}), b.vectorSize(size{of: k, axis: 2})
	triangle := make(onnx.Raw, c.positions*c.positions)
	for i := range c.positions {
		for j := range i + 1 {
			triangle[i*c.positions+j] = 1
		}
	}
	t := &onnx.Tensor{Name: b.unique(b.weightName("bias")), DType: onnx.Bool, Shape: []int64{1, 1, c.positions, c.positions}, Data: triangle}
	see := b.op("Slice", b.m.Graph.AddInitializer(t), b.op("Sub", cols, rows), cols, b.ints(2), b.ints(1))
	see = b.op("Slice", see, b.ints(0), cols, b.ints(3), b.ints(1))
	scores = b.op("Where", see, scores, b.scalar(lowestFloat(b.o.DType)))
	return b.op("MatMul", b.call("Softmax", axis(b.lastAxis(4)), scores), v)
}

// causalSelect is true [1, 1, rows, columns] where a query may see a key: the
// last query sees all keys.
func (b *builder) causalSelect(q, k *onnx.Value) mask {
	rows, cols := b.scalarSize(size{of: q, axis: 2}), b.scalarSize(size{of: k, axis: 2})
	r := b.op("Add", b.op("Range", b.index(0), rows, b.index(1)), b.op("Sub", cols, rows))
	c := b.op("Range", b.index(0), cols, b.index(1))
	see := b.op("LessOrEqual", b.unsqueeze(c, 0), b.unsqueeze(r, 1))
	return mask{v: b.unsqueeze(see, 0, 1), selects: true}
}

package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// bertSize are the hyperparameters of BERT; full is bert-base-uncased of Devlin
// et al. (2018): 109.5 million parameters with the pooler.
type bertSize struct {
	vocab, positions, layers, ffn int64
	heads                         heads
}

// bert is BertModel: embeddings, encoder and pooler.
func bert(b *builder) {
	c := pick(b, bertSize{30522, 512, 12, 3072, heads{12, 12, 64}}, bertSize{97, 32, 2, 64, heads{4, 4, 8}})
	ids, seen, types := b.tokens("input_ids"), b.tokens("attention_mask"), b.tokens("token_type_ids")
	x := b.at("embeddings").bertEmbeddings(ids, types, c)
	m := b.paddingMask(seen)
	for i := range c.layers {
		x = b.at("encoder").at("layer.%d", i).bertLayer(x, m, c)
	}
	p := b.at("pooler")
	first := p.call("Gather", axis(1), x, p.index(0))
	pooled := p.op("Tanh", p.dense("dense", first, c.heads.width(), c.heads.width()))
	b.output("last_hidden_state", x, anyBatch, anySeq, c.heads.width())
	b.output("pooler_output", pooled, anyBatch, c.heads.width())
}

func (b *builder) bertEmbeddings(ids, types *onnx.Value, c bertSize) *onnx.Value {
	w := c.heads.width()
	words := b.at("word_embeddings").weight("weight", 0.5, c.vocab, w)
	kinds := b.at("token_type_embeddings").weight("weight", 0.5, 2, w)
	places := b.at("position_embeddings").weight("weight", 0.5, c.positions, w)
	x := b.op("Add", b.op("Gather", words, ids), b.op("Gather", kinds, types))
	x = b.op("Add", x, b.op("Gather", places, b.positions(ids, c.positions)))
	return b.layerNorm("LayerNorm", x, w, 1e-12)
}

// positions are the indices [1, seq] of the tokens, cut from a buffer where the
// style keeps one.
func (b *builder) positions(ids *onnx.Value, most int64) *onnx.Value {
	if b.o.Style.nhwc() {
		return b.unsqueeze(b.op("Range", b.index(0), b.scalarSize(b.seq(ids)), b.index(1)), 0)
	}
	all := make([]int64, most)
	for i := range all {
		all[i] = int64(i)
	}
	buffer := b.g.AddInitializer(onnx.FromInts(b.unique(b.weightName("position_ids")), []int64{1, most}, all))
	return b.op("Slice", buffer, b.ints(0), b.vectorSize(b.seq(ids)), b.ints(1), b.ints(1))
}

// paddingMask takes seen [batch, seq], 1 for a token and 0 for padding, to what
// is added to the scores.
func (b *builder) paddingMask(seen *onnx.Value) mask {
	lowest := lowestFloat(b.o.DType)
	switch {
	case b.o.Style == TorchScript:
		f := b.cast(b.unsqueeze(b.unsqueeze(seen, 1), 2), b.o.DType)
		return mask{v: b.op("Mul", b.op("Sub", b.scalar(1), f), b.scalar(-10000))}
	case b.o.Style.traced():
		f := b.cast(b.expand(b.unsqueeze(seen, 1, 2), b.batch(seen), num(1), b.seq(seen), b.seq(seen)), b.o.DType)
		inverted := b.op("Sub", b.scalar(1), f)
		return mask{v: b.op("Where", b.cast(inverted, onnx.Bool), b.scalar(lowest), inverted)}
	case b.o.Style == Keras:
		f := b.cast(b.reshape(seen, b.batch(seen), num(1), num(1), b.seq(seen)), b.o.DType)
		return mask{v: b.op("Mul", b.op("Sub", b.scalar(1), f), b.scalar(-10000))}
	}
	some := b.op("Greater", b.unsqueeze(seen, 1, 2), b.index(0))
	return mask{v: b.op("Where", some, b.scalar(0), b.scalar(lowest))}
}

// lowestFloat is the most negative number of a float type.
func lowestFloat(d onnx.DType) float64 {
	if d == onnx.Float16 {
		return -65504
	}
	return -math.MaxFloat32
}

func (b *builder) bertLayer(x *onnx.Value, m mask, c bertSize) *onnx.Value {
	w := c.heads.width()
	a := b.at("attention")
	y := a.at("self").selfAttention(x, m, c.heads, [3]string{"query", "key", "value"}, false)
	y = a.at("output").linear("dense", y, w, w, true)
	x = a.at("output").layerNorm("LayerNorm", a.at("output").op("Add", y, x), w, 1e-12)
	y = b.at("intermediate").linear("dense", x, w, c.ffn, true)
	y = b.at("intermediate").at("intermediate_act_fn").gelu(y)
	o := b.at("output")
	y = o.linear("dense", y, c.ffn, w, true)
	return o.layerNorm("LayerNorm", o.op("Add", y, x), w, 1e-12)
}

// selfAttention is multi-head attention of x over itself with three biased
// projections, without the one behind it.
func (b *builder) selfAttention(x *onnx.Value, m mask, h heads, names [3]string, sdpa bool) *onnx.Value {
	b.saw(QKV)
	var p [3]*onnx.Value
	for i, name := range names {
		p[i] = b.splitHeads(b.linear(name, x, h.width(), h.width(), true), h.count, h.dim)
	}
	return b.joinHeads(b.attend(p[0], p[1], p[2], m, h, sdpa), h)
}

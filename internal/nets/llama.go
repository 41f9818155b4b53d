package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// llamaSize are the hyperparameters of a Llama model (Touvron et al., 2023).
type llamaSize struct {
	vocab, positions, layers, ffn int64
	heads                         heads
	tied                          bool // the last layer reads the embeddings
}

// llama is LlamaForCausalLM without a cache; full is of the size of stories15M:
// 15.2 million parameters. The one for tests groups its queries.
func llama(b *builder) { b.llama(stories(b), false) }

// llamaPast is the same with the keys and values of earlier tokens as inputs, and all as outputs.
func llamaPast(b *builder) { b.llama(stories(b), true) }

func stories(b *builder) llamaSize {
	return pick(b, llamaSize{32000, 256, 6, 768, heads{6, 6, 48}, true}, llamaSize{97, 32, 2, 48, heads{4, 2, 8}, true})
}

// llama7B has the shape of the model with 6.7 billion parameters.
func llama7B(b *builder) {
	b.llama(pick(b, llamaSize{32000, 2048, 32, 11008, heads{32, 32, 128}, false}, llamaSize{97, 32, 3, 64, heads{4, 4, 8}, false}), false)
}

func (b *builder) llama(c llamaSize, past bool) {
	w := c.heads.width()
	ids, places := b.tokens("input_ids"), b.tokens("position_ids")
	t := b.at("model")
	words := t.at("embed_tokens").weight("weight", 0.5, c.vocab, w)
	x := t.op("Gather", words, ids)
	r := t.rotaryTable(places, past, c)
	var kv *cache
	if past {
		kv = b.addCache(c.layers, c.heads)
	}
	m := t.causalMask(ids, kv)
	for i := range c.layers {
		x = t.at("layers.%d", i).llamaLayer(x, i, m, r, kv, c)
	}
	x = t.rmsNorm("norm", x, w, 1e-5)
	var logits *onnx.Value
	if h := b.at("lm_head"); c.tied {
		logits = h.op("MatMul", x, h.transpose(words, 1, 0))
	} else {
		logits = b.linear("lm_head", x, w, c.vocab, false)
	}
	b.output("logits", logits, anyBatch, anySeq, c.vocab)
	kv.present(b)
}

// rotary are the cosines and sines [batch, 1, seq, dim] of every position.
type rotary struct{ cos, sin *onnx.Value }

// rotaryTable takes the angles from a table in the TorchScript style, and
// computes them from the position ids in the others.
func (b *builder) rotaryTable(places *onnx.Value, past bool, c llamaSize) rotary {
	d := c.heads.dim
	e := b.at("rotary_emb")
	inv := make([]float64, d/2)
	for i := range inv {
		inv[i] = math.Pow(10000, -2*float64(i)/float64(d))
	}
	if b.o.Style == TorchScript {
		table := func(name string, f func(float64) float64) *onnx.Value {
			v := make([]float64, c.positions*d)
			for i := range v {
				v[i] = f(float64(int64(i)/d) * inv[int64(i)%d%(d/2)])
			}
			t, err := onnx.FromFloat64s(e.weightName(name), b.o.DType, []int64{c.positions, d}, v)
			if err != nil {
				panic("nets: " + err.Error())
			}
			rows := b.m.Graph.AddInitializer(t)
			if !past {
				rows = e.op("Slice", rows, e.ints(0), e.vectorSize(b.seq(places)), e.ints(0), e.ints(1))
			}
			return e.unsqueeze(e.op("Gather", rows, places), 1)
		}
		return rotary{table("cos_cached", math.Cos), table("sin_cached", math.Sin)}
	}
	freq := e.expand(e.typed(onnx.Float, []int64{1, d / 2, 1}, inv...), b.batch(places), num(d/2), num(1))
	at := e.cast(e.unsqueeze(places, 1), onnx.Float)
	half := e.transpose(e.op("MatMul", freq, at), 0, 2, 1)
	angle := e.concat(-1, half, half)
	angles := func(op string) *onnx.Value {
		v := e.op(op, angle)
		if b.o.DType != onnx.Float {
			v = e.cast(v, b.o.DType)
		}
		return e.unsqueeze(v, 1)
	}
	return rotary{angles("Cos"), angles("Sin")}
}

// rotate applies r to x [batch, heads, seq, dim].
func (b *builder) rotate(x *onnx.Value, r rotary, dim int64) *onnx.Value {
	b.saw(Rotary)
	var first, second *onnx.Value
	if b.o.Style == TorchScript {
		half := b.unsqueeze(b.op("Div", b.call("Gather", axis(0), b.op("Shape", x), b.index(3)), b.index(2)), 0)
		first = b.op("Slice", x, b.ints(0), half, b.ints(3), b.ints(1))
		second = b.op("Slice", x, half, b.ints(math.MaxInt64), b.ints(3), b.ints(1))
	} else {
		first, second = b.slice(x, 3, 0, dim/2), b.slice(x, 3, dim/2, math.MaxInt64)
	}
	turned := b.concat(-1, b.op("Neg", second), first)
	return b.op("Add", b.op("Mul", x, r.cos), b.op("Mul", turned, r.sin))
}

// causalMask hides later tokens. The TorchScript style adds a triangle of the
// lowest number, filled by comparing indices; the others select.
func (b *builder) causalMask(ids *onnx.Value, kv *cache) mask {
	n := b.scalarSize(b.seq(ids))
	r := b.op("Range", b.index(0), n, b.index(1))
	if b.o.Style.traced() {
		rows, cols := r, r
		if kv != nil {
			past := b.scalarSize(kv.past())
			rows = b.op("Add", r, past)
			cols = b.op("Range", b.index(0), b.op("Add", past, n), b.index(1))
		}
		return mask{v: b.unsqueeze(b.op("LessOrEqual", b.unsqueeze(cols, 0), b.unsqueeze(rows, 1)), 0, 1), selects: true}
	}
	s := b.vectorSize(b.seq(ids))
	square := b.op("Expand", b.scalar(lowestFloat(b.o.DType)), b.concat(0, s, s))
	next := b.op("Reshape", b.op("Add", r, b.index(1)), b.ints(-1, 1))
	filled := b.op("Where", b.op("Less", r, next), b.scalar(0), square)
	if kv != nil {
		before := b.op("Expand", b.scalar(0), b.concat(0, s, b.vectorSize(kv.past())))
		filled = b.concat(-1, before, filled)
	}
	return mask{v: b.unsqueeze(b.unsqueeze(filled, 0), 1)}
}

func (b *builder) llamaLayer(x *onnx.Value, layer int64, m mask, r rotary, kv *cache, c llamaSize) *onnx.Value {
	h, w := c.heads, c.heads.width()
	a := b.at("self_attn")
	y := b.rmsNorm("input_layernorm", x, w, 1e-5)
	b.saw(QKV)
	q := a.splitHeads(a.linear("q_proj", y, w, w, false), h.count, h.dim)
	k := a.splitHeads(a.linear("k_proj", y, w, h.kv*h.dim, false), h.kv, h.dim)
	v := a.splitHeads(a.linear("v_proj", y, w, h.kv*h.dim, false), h.kv, h.dim)
	q, k = a.rotate(q, r, h.dim), a.rotate(k, r, h.dim)
	k, v = kv.extend(a, layer, k, v)
	y = a.joinHeads(a.attend(q, a.repeatHeads(k, h), a.repeatHeads(v, h), m, h, false), h)
	x = b.op("Add", x, a.linear("o_proj", y, w, w, false))
	p := b.at("mlp")
	y = b.rmsNorm("post_attention_layernorm", x, w, 1e-5)
	y = p.op("Mul", p.at("act_fn").silu(p.linear("gate_proj", y, w, c.ffn, false)), p.linear("up_proj", y, w, c.ffn, false))
	return b.op("Add", x, p.linear("down_proj", y, c.ffn, w, false))
}

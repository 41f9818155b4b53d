package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// attentionRows are the attention operators of the standard domain.
func attentionRows() []row {
	return []row{
		{"Attention", "23 24", "Q K V attn_mask? past_key? past_value?|24:Q K V attn_mask? past_key? past_value? nonpad_kv_seqlen?",
			"Y present_key? present_value? qk_matmul_output?", "is_causal:int=0 kv_num_heads:int q_num_heads:int " +
				"qk_matmul_output_mode:int=0 scale:float softcap:float=0 softmax_precision:int", 0, inferAttention, costAttention},
		{"RotaryEmbedding", "23", "X cos_cache sin_cache position_ids?", "Y",
			"interleaved:int=0 num_heads:int rotary_embedding_dim:int=0", 0, sameAsFirst, perInput(3)},
	}
}

// heads is a tensor of attention heads [batch, heads, length, width].
type heads struct{ batch, count, length, width onnx.Dim }

// headsOf reads input i as heads: [batch, heads, length, width], or [batch,
// length, heads·width] with the number of heads in an attribute.
func (c *call) headsOf(i int, attr string) (heads, bool) {
	s := c.shape(i)
	switch len(s) {
	case 4:
		return heads{s[0], s[1], s[2], s[3]}, true
	case 3:
		n, ok := c.maybeInt(attr)
		if !ok || n <= 0 {
			return heads{}, false
		}
		return heads{s[0], onnx.Fixed(n), s[1], c.asDim(quotient(c.ex(s[2]), constant(n)))}, true
	}
	return heads{}, false
}

func inferAttention(c *call) {
	elem := c.elem(0)
	for i := range c.out {
		c.set(i, elem, nil)
	}
	c.set(2, c.elem(2), nil)
	q, ok1 := c.headsOf(0, "q_num_heads")
	k, ok2 := c.headsOf(1, "kv_num_heads")
	v, ok3 := c.headsOf(2, "kv_num_heads")
	if !ok1 || !ok2 || !ok3 {
		return
	}
	if len(c.shape(0)) == 4 {
		c.set(0, elem, onnx.Shape{q.batch, q.count, q.length, v.width})
	} else {
		c.set(0, elem, onnx.Shape{q.batch, q.length, c.asDim(mul(c.ex(q.count), c.ex(v.width)))})
	}
	total := c.ex(k.length)
	if c.has(4) {
		total = add(total, c.size(4, 2))
	}
	c.set(1, elem, onnx.Shape{k.batch, k.count, c.asDim(total), k.width})
	c.set(2, c.elem(2), onnx.Shape{v.batch, v.count, c.asDim(total), v.width})
	c.set(3, elem, onnx.Shape{q.batch, q.count, q.length, c.asDim(total)})
}

// costAttention counts the products with keys and with values.
func costAttention(c *costing) {
	q, ok1 := c.headsOf(0, "q_num_heads")
	k, ok2 := c.headsOf(1, "kv_num_heads")
	v, ok3 := c.headsOf(2, "kv_num_heads")
	if !ok1 || !ok2 || !ok3 {
		c.unknown = true
		return
	}
	total := c.ex(k.length)
	if c.has(4) {
		total = add(total, c.size(4, 2))
	}
	scores := c.count(onnx.Shape{q.batch, q.count, q.length, c.asDim(total)})
	c.cost.MACs = c.times(scores, c.plus(c.count(onnx.Shape{q.width}), c.count(onnx.Shape{v.width})))
	c.cost.FLOPs = c.times(constant(5), scores)
}

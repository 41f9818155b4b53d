package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// contribAttentionRows are the attention operators of com.microsoft.
func contribAttentionRows() []row {
	const rotary = "interleaved:int is_packed_batching:int num_heads:int rotary_embedding_dim:int scale:float"
	return []row{
		{"Attention", "1", "input weights bias? mask_index? past? attention_bias? past_sequence_length?", "output present?",
			"do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int qkv_hidden_sizes:ints " +
				"rotary_embedding_dim:int scale:float unidirectional:int=0", 0, fusedAttention(1, 4), costFusedAttention(1)},
		{"QAttention", "1", "input weight bias input_scale weight_scale mask_index? input_zero_point? weight_zero_point? past?", "output present?",
			"do_rotary:int mask_filter_value:float num_heads:int! past_present_share_buffer:int scale:float unidirectional:int=0", 0,
			fusedAttention(1, 8), costFusedAttention(1)},
		{"MultiHeadAttention", "1", "query key? value? bias? key_padding_mask? attention_bias? past_key? past_value? past_sequence_length? cache_indirection?",
			"output present_key? present_value? qk?", "mask_filter_value:float num_heads:int! scale:float unidirectional:int=0", 0, inferMultiHead, costMultiHead},
		{"GroupQueryAttention", "1", "query key? value? past_key? past_value? seqlens_k total_sequence_length cos_cache? sin_cache? position_ids? " +
			"attention_bias? head_sink? k_scale? v_scale? q_norm_weight? k_norm_weight?", "output present_key? present_value? output_qk?",
			"causal:int=1 do_rotary:int k_quant_type:string=NONE kv_cache_bit_width:int kv_num_heads:int! local_window_size:int=-1 num_heads:int! " +
				"qk_norm_epsilon:float=1e-06 qk_output:int=0 rotary_interleaved:int scale:float sliding_window_cache:int=0 smooth_softmax:int=-1 " +
				"softcap:float v_quant_type:string=NONE", 0, inferGroupQuery, costMultiHead},
		{"RotaryEmbedding", "1", "input position_ids cos_cache sin_cache", "output", rotary, 0, sameAsFirst, perInput(3)},
	}
}

// fusedAttention: input [B, S, in], weights [in, q+k+v] at input w, past [2, B,
// heads, P, width] give [B, S, v] and present [2, B, heads, P+S, width].
func fusedAttention(w, past int) func(*call) {
	return func(c *call) {
		elem := c.elem(0)
		if c.op.Name == "QAttention" {
			elem = c.elem(3)
		}
		hidden := quotient(c.size(w, 1), constant(3))
		sizes := c.intList("qkv_hidden_sizes")
		if len(sizes) == 3 {
			hidden = constant(sizes[2])
		}
		c.set(0, elem, onnx.Shape{c.dim(0, 0), c.dim(0, 1), c.asDim(hidden)})
		n := c.int("num_heads")
		if n <= 0 || len(sizes) == 3 && sizes[0] != sizes[2] {
			c.set(1, elem, unknownShape(5))
			return
		}
		total := c.size(0, 1)
		if c.int("past_present_share_buffer") != 0 {
			total = c.size(past, 3)
		} else if c.has(past) {
			total = add(total, c.size(past, 3))
		}
		c.set(1, elem, onnx.Shape{onnx.Fixed(2), c.dim(0, 0), onnx.Fixed(n), c.asDim(total), c.asDim(quotient(hidden, constant(n)))})
	}
}

// costFusedAttention counts the projection and, without a past, the two products of attention.
func costFusedAttention(w int) func(*costing) {
	return func(c *costing) {
		tokens := c.times(c.sizeAt(0, 0), c.sizeAt(0, 1))
		out := c.outCount(0)
		scores := c.times(constant(2), out, c.sizeAt(0, 1))
		if c.has(4) && c.op.Name == "Attention" || c.has(8) {
			c.unknown = true
			scores = constant(0)
		}
		c.cost.MACs = c.plus(c.times(tokens, c.inCount(w)), scores)
		if c.cost.MACs.is(0) {
			c.unknown = true
		}
	}
}

// inferMultiHead handles query [B, S, H] with key [B, L, H] and value [B, L, Hv],
// or either as [B, heads, L, width]; packed forms leave more unknown.
func inferMultiHead(c *call) {
	elem, n := c.elem(0), c.int("num_heads")
	for i := range c.out {
		c.set(i, elem, nil)
	}
	q, k, v := c.shape(0), c.shape(1), c.shape(2)
	out := onnx.Shape{c.dim(0, 0), c.dim(0, 1), onnx.Symbol("")}
	switch {
	case len(v) == 3:
		out[2] = v[2]
	case len(v) == 4:
		out[2] = c.asDim(mul(c.ex(v[1]), c.ex(v[3])))
	case len(q) == 5:
		out[2] = c.asDim(mul(c.ex(q[2]), c.ex(q[4])))
	case len(k) == 5:
		out[2] = c.asDim(mul(c.ex(k[2]), c.ex(k[4])))
	}
	c.set(0, elem, out)
	if n <= 0 || c.has(8) {
		return
	}
	present := func(i int, s onnx.Shape, past int) {
		var length, width onnx.Dim
		switch {
		case len(s) == 3:
			length, width = s[1], c.asDim(quotient(c.ex(s[2]), constant(n)))
		case len(s) == 4:
			length, width = s[2], s[3]
		default:
			return
		}
		if c.has(past) {
			length = c.asDim(add(c.ex(length), c.size(past, 2)))
		}
		c.set(i, elem, onnx.Shape{c.dim(0, 0), onnx.Fixed(n), length, width})
	}
	present(1, k, 6)
	present(2, v, 7)
}

// inferGroupQuery: with key and value the output has the query's shape; a
// packed query [B, S, (heads + 2·kv)·width] gives [B, S, heads·width].
func inferGroupQuery(c *call) {
	q := c.shape(0)
	n, kv := c.int("num_heads"), c.int("kv_num_heads")
	elem, cache := c.elem(0), c.elem(0)
	if c.has(3) {
		cache = c.elem(3)
	}
	c.set(0, elem, nil)
	c.set(1, cache, unknownShape(4))
	c.set(2, cache, unknownShape(4))
	c.set(3, elem, nil)
	if len(q) != 3 || n <= 0 || kv <= 0 || n > 1<<20 || kv > 1<<20 {
		return
	}
	width := quotient(c.ex(q[2]), constant(n))
	if !c.has(1) {
		width = quotient(c.ex(q[2]), constant(n+2*kv))
	}
	c.set(0, elem, onnx.Shape{q[0], q[1], c.asDim(mul(width, constant(n)))})
	if c.str("k_quant_type") == "NONE" && c.int("kv_cache_bit_width") == 0 {
		c.set(1, cache, onnx.Shape{q[0], onnx.Fixed(kv), onnx.Symbol(""), c.asDim(width)})
	}
	if c.str("v_quant_type") == "NONE" && c.int("kv_cache_bit_width") == 0 {
		c.set(2, cache, onnx.Shape{q[0], onnx.Fixed(kv), onnx.Symbol(""), c.asDim(width)})
	}
}

// costMultiHead counts the products with keys and values for an unpacked call
// without a past; others are unknown.
func costMultiHead(c *costing) {
	if len(c.shape(0)) != 3 || len(c.shape(1)) != 3 || len(c.shape(2)) != 3 || c.has(6) && c.op.Name == "MultiHeadAttention" || c.has(3) && c.op.Name == "GroupQueryAttention" {
		c.unknown = true
		return
	}
	perQuery := c.times(c.inCount(0), c.sizeAt(1, 1))
	c.cost.MACs = c.plus(perQuery, c.times(c.outCount(0), c.sizeAt(1, 1)))
}

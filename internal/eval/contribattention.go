package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// contribAttentionOperators are the attention operators of com.microsoft, as
// ONNX Runtime computes them on a CPU.
func contribAttentionOperators() []operator {
	return []operator{
		{"MultiHeadAttention", 1, 1, "mask_filter_value num_heads scale unidirectional", multiHeadAttention},
		{"Attention", 1, 1, "mask_filter_value num_heads qkv_hidden_sizes scale unidirectional", packedAttention},
		{"GroupQueryAttention", 1, 1, "do_rotary kv_num_heads local_window_size num_heads rotary_interleaved scale softcap", groupQueryAttention},
		{"RotaryEmbedding", 1, 1, "interleaved is_packed_batching num_heads rotary_embedding_dim scale", contribRotary},
	}
}

// scaleOr returns the scale of an attention, by default 1/√width; an attribute
// of 0 is the default too.
func (c *call) scaleOr(width int64) float64 {
	if s := c.float("scale", 0); s != 0 {
		return s
	}
	return 1 / math.Sqrt(float64(width))
}

// multiHeadAttention handles separate queries, keys and values.
func multiHeadAttention(c *call) []*array {
	n := c.int("num_heads", 0)
	query, key, value := c.input(0), c.opt(1), c.opt(2)
	if key == nil || value == nil || query.rank() != 3 || key.rank() == 5 || c.opt(8) != nil || c.opt(9) != nil || c.n.Output(3) != nil {
		c.unsupported("packed inputs, shared buffers, or an output of scores")
	}
	if bias := c.opt(3); bias != nil {
		if key.rank() != 3 || value.rank() != 3 {
			c.unsupported("a bias beside keys of shape %v", key.shape)
		}
		q, k := query.shape[2], key.shape[2]
		if bias.rank() != 1 || bias.shape[0] != q+k+value.shape[2] {
			c.fail("a bias of shape %v", bias.shape)
		}
		query = c.withBias(query, c.part(bias, 0, 0, q))
		key = c.withBias(key, c.part(bias, 0, q, k))
		value = c.withBias(value, c.part(bias, 0, q+k, value.shape[2]))
	}
	heads := func(a *array) *array {
		if a.rank() == 4 {
			return a
		}
		return c.headsOf(a, n)
	}
	c.sameFloats(query, key, value)
	q, k, v := heads(query), heads(key), heads(value)
	if c.int("unidirectional", 0) != 0 && q.shape[2] != k.shape[2] {
		c.unsupported("causal for %d rows and %d new columns", q.shape[2], k.shape[2])
	}
	k, v = c.extended(c.opt(6), k), c.extended(c.opt(7), v)
	a := &attention{q: q, k: k, v: v, scale: c.scaleOr(q.shape[3])}
	a.mask = c.runtimeMask(q, k, c.opt(4), c.opt(5))
	y, _ := a.run(c)
	return []*array{c.joinHeads(y), c.exact(k), c.exact(v)}
}

// runtimeMask combines a padding mask, which sets scores far down, with a bias
// and the causal rule.
func (c *call) runtimeMask(q, k, padding, bias *array) func(batch, head, i, j int) float64 {
	shape := []int64{q.shape[0], q.shape[1], q.shape[2], k.shape[2]}
	added := c.stretch(bias, shape)
	hidden := c.padded01(shape, padding)
	st := strides(shape)
	fill := c.float("mask_filter_value", -10000)
	past := int(k.shape[2] - q.shape[2])
	causal := c.int("unidirectional", 0) != 0
	return func(batch, head, i, j int) float64 {
		x := 0.0
		if added != nil {
			x = added[batch*st[0]+head*st[1]+i*st[2]+j]
		}
		if hidden(batch, i, j) {
			x += fill
		}
		if causal && j > past+i {
			x = math.Inf(-1)
		}
		return x
	}
}

// padded01 reads a mask of 0 for hidden keys, [batch, keys] or [batch, length,
// keys], or the number of keys of each batch element.
func (c *call) padded01(shape []int64, m *array) func(batch, i, j int) bool {
	if m == nil {
		return func(int, int, int) bool { return false }
	}
	if m.dt != onnx.Int32 {
		c.fail("a mask of %v", m.dt)
	}
	b, s, t := shape[0], shape[2], shape[3]
	v := load[int64](m)
	switch {
	case slices.Equal(m.shape, []int64{b}):
		return func(batch, _, j int) bool { return int64(j) >= v[batch] }
	case slices.Equal(m.shape, []int64{b, t}):
		return func(batch, _, j int) bool { return v[batch*int(t)+j] == 0 }
	case slices.Equal(m.shape, []int64{b, s, t}):
		return func(batch, i, j int) bool { return v[(batch*int(s)+i)*int(t)+j] == 0 }
	}
	c.unsupported("a mask of shape %v", m.shape)
	return nil
}

// packedAttention projects its input to queries, keys and values first.
func packedAttention(c *call) []*array {
	x, w, bias, past := c.input(0), c.input(1), c.opt(2), c.opt(4)
	n := c.int("num_heads", 0)
	if c.opt(6) != nil || x.rank() != 3 || w.rank() != 2 {
		c.unsupported("a shared buffer, or inputs of shapes %v and %v", x.shape, w.shape)
	}
	sizes := c.ints("qkv_hidden_sizes")
	if len(sizes) == 0 {
		sizes = slices.Repeat([]int64{w.shape[1] / 3}, 3)
	}
	if len(sizes) != 3 || sizes[0]+sizes[1]+sizes[2] != w.shape[1] || n < 1 {
		c.fail("%d heads of sizes %v from weights of shape %v", n, sizes, w.shape)
	}
	all := c.matmul(x, w)
	if bias != nil {
		all = c.withBias(all, bias)
	}
	var qkv [3]*array
	at := int64(0)
	for i, size := range sizes {
		qkv[i] = c.headsOf(c.part(all, 2, at, size), n)
		at += size
	}
	k, v := qkv[1], qkv[2]
	if past != nil {
		k, v = c.extended(c.pick(past, 0, 0), k), c.extended(c.pick(past, 0, 1), v)
	}
	a := &attention{q: qkv[0], k: k, v: v, scale: c.scaleOr(qkv[0].shape[3])}
	a.mask = c.runtimeMask(qkv[0], k, c.opt(3), c.opt(5))
	y, _ := a.run(c)
	out := []*array{c.joinHeads(y)}
	if c.n.Output(1) != nil {
		lead := func(a *array) *array { return a.reshaped(slices.Insert(slices.Clone(a.shape), 0, 1)) }
		out = append(out, c.exact(c.joined([]*array{lead(k), lead(v)}, 0)))
	}
	return out
}

// contribRotary is the RotaryEmbedding of com.microsoft: one position is the
// first one of every batch element.
func contribRotary(c *call) []*array {
	if c.int("is_packed_batching", 0) != 0 || c.float("scale", 1) != 1 {
		c.unsupported("packed batches, or a scale")
	}
	in, ids := c.input(0), c.input(1)
	r, table := c.tables(in, 2, 3)
	x, n := in, c.int("num_heads", 0)
	if in.rank() == 3 {
		if n == 0 {
			n = in.shape[2] / max(1, 2*int64(r.pairs))
		}
		x = c.headsOf(in, n)
	}
	if x.rank() != 4 || table.rank() != 2 || ids.dt != onnx.Int64 {
		c.fail("input %v, tables %v and positions of %v", in.shape, table.shape, ids.dt)
	}
	c.firstOrEach(r, ids, table.shape[0], x.shape[0], x.shape[2])
	y := r.apply(c, x)
	if in.rank() == 3 {
		y = c.joinHeads(y)
	}
	return one(y)
}

// firstOrEach reads positions that are one first position or [batch, length].
func (c *call) firstOrEach(r *rotation, ids *array, n, batch, length int64) {
	if !slices.Equal(ids.shape, []int64{1}) {
		c.positioned(r, ids, n, batch, length)
		return
	}
	first := load[int64](ids)[0]
	if first < 0 || first+length > n {
		c.fail("positions from %d on are not within the %d rows of the tables", first, n)
	}
	r.row = func(_, i int) int { return int(first) + i }
}

// groupQueryAttention handles unpacked inputs with a past that ends where the
// new keys begin, all batch elements being equally long.
func groupQueryAttention(c *call) []*array {
	if c.opt(1) == nil || c.opt(2) == nil || c.n.Output(3) != nil || c.int("local_window_size", -1) != -1 {
		c.unsupported("packed inputs, a local window, or an output of scores")
	}
	for i := 9; i < len(c.in); i++ {
		if c.in[i] != nil {
			c.unsupported("input %d", i)
		}
	}
	q := c.headsOf(c.input(0), c.int("num_heads", 0))
	k, v := c.headsOf(c.input(1), c.int("kv_num_heads", 0)), c.headsOf(c.input(2), c.int("kv_num_heads", 0))
	c.sameFloats(q, k, v)
	past := int64(0)
	if c.opt(3) != nil {
		past = c.opt(3).shape[2]
	}
	total := past + q.shape[2]
	for _, last := range c.intInput(5) {
		if last != total-1 || c.scalar(6) != total {
			c.unsupported("batch elements of %d keys, %d being given", last+1, total)
		}
	}
	if c.int("do_rotary", 0) != 0 {
		q, k = c.turned(q, past), c.turned(k, past)
	}
	k, v = c.extended(c.opt(3), k), c.extended(c.opt(4), v)
	a := &attention{q: q, k: k, v: v, scale: c.scaleOr(q.shape[3]), softcap: c.float("softcap", 0)}
	a.mask = func(_, _, i, j int) float64 {
		if j > int(past)+i {
			return math.Inf(-1)
		}
		return 0
	}
	y, _ := a.run(c)
	return []*array{c.joinHeads(y), k, v}
}

// turned rotates heads whose first position is first.
func (c *call) turned(x *array, first int64) *array {
	r, table := c.tables(x, 7, 8)
	r.interleaved = c.int("rotary_interleaved", 0) != 0
	if first+x.shape[2] > table.shape[0] {
		c.fail("positions up to %d are not within the %d rows of the tables", first+x.shape[2], table.shape[0])
	}
	r.row = func(_, i int) int { return int(first) + i }
	return r.apply(c, x)
}

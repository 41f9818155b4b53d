package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// attentionOperators are the attention operators of the standard domain.
func attentionOperators() []operator {
	return []operator{
		{"Attention", 23, latest, "is_causal kv_num_heads q_num_heads qk_matmul_output_mode scale softcap softmax_precision", attend},
		{"RotaryEmbedding", 23, latest, "interleaved num_heads rotary_embedding_dim", rotary},
	}
}

// attention is scaled dot-product attention over heads [batch, heads, length,
// width]. Keys and values may have fewer heads, which neighbours share.
type attention struct {
	q, k, v *array
	scale   float64
	softcap float64 // 0: none
	// mask gives what is added to the score of query position i and key position j.
	mask func(batch, head, i, j int) float64
}

// scores are the stages of an attention: [batch, heads, length, key length] each.
type scores struct{ raw, capped, masked, weights []float64 }

// heads returns input i as [batch, heads, length, width]; a matrix per batch
// element [batch, length, heads·width] is taken apart.
func (c *call) heads(i int, n int64) *array {
	a := c.input(i)
	c.sameFloats(c.input(0), a)
	if a.rank() == 4 {
		return a
	}
	return c.headsOf(a, n)
}

// headsOf splits [batch, length, n·width] into [batch, n, length, width].
func (c *call) headsOf(a *array, n int64) *array {
	if a.rank() != 3 || n < 1 || a.shape[2]%n != 0 {
		c.fail("%d heads in an input of shape %v", n, a.shape)
	}
	split := a.reshaped([]int64{a.shape[0], a.shape[1], n, a.shape[2] / n})
	return c.permute(split, []int{0, 2, 1, 3})
}

// joinHeads is the inverse of headsOf.
func (c *call) joinHeads(a *array) *array {
	joined := c.permute(a, []int{0, 2, 1, 3})
	return joined.reshaped([]int64{a.shape[0], a.shape[2], a.shape[1] * a.shape[3]})
}

// extended puts a past [batch, heads, length, width] before a; nil is none.
func (c *call) extended(past, a *array) *array {
	if past == nil {
		return a
	}
	if past.rank() != 4 {
		c.fail("a past of shape %v", past.shape)
	}
	return c.joined([]*array{past, c.exact(a)}, 2)
}

// run computes the result [batch, heads, length, value width].
func (a *attention) run(c *call) (*array, scores) {
	b, n, s, d := a.q.shape[0], a.q.shape[1], a.q.shape[2], a.q.shape[3]
	shared, t, w := a.k.shape[1], a.k.shape[2], a.v.shape[3]
	if a.q.rank() != 4 || shared == 0 || n%shared != 0 || !slices.Equal(a.k.shape, []int64{b, shared, t, d}) ||
		!slices.Equal(a.v.shape, []int64{b, shared, t, w}) {
		c.fail("queries %v, keys %v and values %v do not fit", a.q.shape, a.k.shape, a.v.shape)
	}
	c.count(a.q.dt, []int64{b, n, s, w})
	c.work(b, n, s, t, d+w)
	c.charge(b*n*s*t, 4*8)
	out := make([]float64, b*n*s*w)
	st := a.stages(int(n/shared), int(s), int(t), int(d))
	values := load[float64](a.v)
	for row := range int(b * n * s) { // image, head and query position
		kv := row / int(s) / int(n/shared) * int(t*w)
		for j, p := range st.weights[row*int(t) : (row+1)*int(t)] {
			if p == 0 {
				continue // so that what lies behind the mask has no say, even if it is not finite
			}
			for e := range int(w) {
				out[row*int(w)+e] += p * values[kv+j*int(w)+e]
			}
		}
	}
	return store(c, a.q.dt, []int64{b, n, s, w}, out), st
}

// stages computes the scores; per query heads share a key head.
func (a *attention) stages(per, s, t, d int) scores {
	rows := a.q.len() / max(d, 1)
	heads := int(a.q.shape[1])
	st := scores{make([]float64, rows*t), make([]float64, rows*t), make([]float64, rows*t), make([]float64, rows*t)}
	q, k := load[float64](a.q), load[float64](a.k)
	for row := range rows {
		batch, head, i := row/s/heads, row/s%heads, row%s
		keys := row / s / per * t * d
		for j := range t {
			dot := 0.0
			for e := range d {
				dot += q[row*d+e] * k[keys+j*d+e]
			}
			at := row*t + j
			st.raw[at] = dot * a.scale
			st.capped[at] = st.raw[at]
			if a.softcap > 0 {
				st.capped[at] = a.softcap * math.Tanh(st.raw[at]/a.softcap)
			}
			st.masked[at] = st.capped[at] + a.mask(batch, head, i, j)
			st.weights[at] = st.masked[at]
		}
		maskedSoftmax(st.weights[row*t : (row+1)*t])
	}
	return st
}

// maskedSoftmax is softmax, and all zeros where every score is masked.
func maskedSoftmax(line []float64) {
	if len(line) > 0 && math.IsInf(slices.Max(line), -1) {
		clear(line)
		return
	}
	softmax(line)
}

// attend is the Attention of the standard domain.
func attend(c *call) []*array {
	q := c.heads(0, c.int("q_num_heads", 0))
	k := c.extended(c.opt(4), c.heads(1, c.int("kv_num_heads", 0)))
	v := c.extended(c.opt(5), c.heads(2, c.int("kv_num_heads", 0)))
	a := &attention{q: q, k: k, v: v, scale: 1 / math.Sqrt(float64(q.shape[3])), softcap: c.float("softcap", 0)}
	if c.has("scale") {
		a.scale = c.float("scale", 1)
	}
	given := c.attentionMask(q, k)
	bound := c.keyBounds(q, k)
	a.mask = func(batch, head, i, j int) float64 {
		if j >= bound(batch, i) {
			return math.Inf(-1)
		}
		return given(batch, head, i, j)
	}
	y, st := a.run(c)
	if c.input(0).rank() == 3 {
		y = c.joinHeads(y)
	}
	return []*array{y, k, v, c.scoreOutput(q, k, st)}
}

// attentionMask reads input 3, which broadcasts to [batch, heads, length, key
// length]; keys behind the end of a shorter one are masked from opset 24 on.
func (c *call) attentionMask(q, k *array) func(batch, head, i, j int) float64 {
	m := c.opt(3)
	if m == nil {
		return func(int, int, int, int) float64 { return 0 }
	}
	if m.dt != onnx.Bool && !m.dt.IsFloat() || m.rank() < 2 {
		c.unsupported("a mask %v%v", m.dt, m.shape)
	}
	shape := []int64{q.shape[0], q.shape[1], q.shape[2], k.shape[2]}
	last := m.shape[m.rank()-1]
	if last != shape[3] {
		if c.version < 24 || last == 1 || last > shape[3] {
			c.unsupported("a mask of shape %v for %d keys", m.shape, shape[3])
		}
		shape[3] = last
	}
	v, st := c.stretch(m, shape), strides(shape)
	return func(batch, head, i, j int) float64 {
		if int64(j) >= last {
			return math.Inf(-1)
		}
		x := v[batch*st[0]+head*st[1]+i*st[2]+j]
		if m.dt != onnx.Bool {
			return x
		}
		if x == 0 {
			return math.Inf(-1)
		}
		return 0
	}
}

// keyBounds returns how many keys a query position may see by the causal rule
// and the lengths of input 6. The last query sees the last key: of the past and
// what is new, or of the lengths.
func (c *call) keyBounds(q, k *array) func(batch, i int) int {
	total, queries := int(k.shape[2]), int(q.shape[2])
	var lengths []int64
	if c.opt(6) != nil {
		if lengths = c.intInput(6); int64(len(lengths)) != q.shape[0] || c.opt(4) != nil {
			c.unsupported("%d key lengths for a batch of %d, or beside a past", len(lengths), q.shape[0])
		}
	}
	causal := c.int("is_causal", 0) != 0
	past := 0
	if c.opt(4) != nil {
		past = int(c.opt(4).shape[2])
	}
	return func(batch, i int) int {
		most, before := total, past
		if lengths != nil {
			most = min(most, int(lengths[batch]))
			before = int(lengths[batch]) - queries
		}
		if causal {
			most = min(most, before+i+1)
		}
		return most
	}
}

// scoreOutput makes output 3, the scores at the stage that the mode names.
func (c *call) scoreOutput(q, k *array, st scores) *array {
	if c.n.Output(3) == nil {
		return nil
	}
	var v []float64
	switch mode := c.int("qk_matmul_output_mode", 0); mode {
	case 0:
		v = st.raw
	case 1:
		v = st.capped
	case 2:
		v = st.masked
	case 3:
		v = st.weights
	default:
		c.fail("attribute \"qk_matmul_output_mode\" is %d", mode)
	}
	return store(c, q.dt, []int64{q.shape[0], q.shape[1], q.shape[2], k.shape[2]}, v)
}

package eval

import "github.com/lapidary-ml/lapidary/internal/onnx"

// rotation turns pairs of elements of each head by angles that depend on the
// position; the width of a head may exceed what is turned.
type rotation struct {
	cos, sin    []float64
	pairs       int
	interleaved bool
	// row gives the row of the tables for a position of a batch element.
	row func(batch, i int) int
}

// apply turns heads [batch, heads, length, width].
func (r *rotation) apply(c *call, x *array) *array {
	c.count(x.dt, x.shape)
	v := load[float64](x)
	out := append([]float64(nil), v...)
	width, length, heads := int(x.shape[3]), int(x.shape[2]), int(x.shape[1])
	if 2*r.pairs > width {
		c.fail("%d pairs to turn in heads of width %d", r.pairs, width)
	}
	for line := range len(v) / max(width, 1) {
		row := r.row(line/length/heads, line%length) * r.pairs
		for p := range r.pairs {
			i, j := line*width+p, line*width+p+r.pairs
			if r.interleaved {
				i, j = line*width+2*p, line*width+2*p+1
			}
			cos, sin := r.cos[row+p], r.sin[row+p]
			out[i], out[j] = cos*v[i]-sin*v[j], sin*v[i]+cos*v[j]
		}
	}
	return store(c, x.dt, x.shape, out)
}

// tables reads the cosine and sine tables, whose last axis is pairs long.
func (c *call) tables(x *array, cos, sin int) (*rotation, *array) {
	a, b := c.input(cos), c.input(sin)
	c.sameFloats(x, a, b)
	if a.rank() < 2 || a.len() != b.len() {
		c.fail("tables of shapes %v and %v", a.shape, b.shape)
	}
	pairs := int(a.shape[a.rank()-1])
	if d := int(c.int("rotary_embedding_dim", 0)); d > 0 && d != 2*pairs {
		c.fail("attribute \"rotary_embedding_dim\" is %d, the tables have %d columns", d, pairs)
	}
	return &rotation{cos: load[float64](a), sin: load[float64](b), pairs: pairs, interleaved: c.int("interleaved", 0) != 0}, a
}

// positioned gives r the rows that positions [batch, length] name in tables of n rows.
func (c *call) positioned(r *rotation, positions *array, n, batch, length int64) {
	if positions.dt != onnx.Int64 || positions.rank() != 2 || positions.shape[0] != batch || positions.shape[1] != length {
		c.fail("positions %v%v for a batch of %d and a length of %d", positions.dt, positions.shape, batch, length)
	}
	at := load[int64](positions)
	for _, p := range at {
		if p < 0 || p >= n {
			c.fail("position %d is not within the %d rows of the tables", p, n)
		}
	}
	r.row = func(b, i int) int { return int(at[b*int(length)+i]) }
}

// rotary is the RotaryEmbedding of the standard domain: without positions, the
// tables have a row for each batch element and position.
func rotary(c *call) []*array {
	x := c.heads(0, c.int("num_heads", 0))
	r, table := c.tables(x, 1, 2)
	batch, length := x.shape[0], x.shape[2]
	if ids := c.opt(3); ids != nil {
		if table.rank() != 2 {
			c.fail("tables of shape %v", table.shape)
		}
		c.positioned(r, ids, table.shape[0], batch, length)
	} else {
		if table.rank() != 3 || table.shape[0] != batch || table.shape[1] != length {
			c.fail("tables of shape %v for a batch of %d and a length of %d", table.shape, batch, length)
		}
		r.row = func(b, i int) int { return b*int(length) + i }
	}
	y := r.apply(c, x)
	if c.input(0).rank() == 3 {
		y = c.joinHeads(y)
	}
	return one(y)
}

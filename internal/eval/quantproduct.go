package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// quantProductOperators multiply quantized operands into quantized results.
func quantProductOperators() []operator {
	return []operator{
		{"QLinearMatMul", 10, latest, "", qLinearMatMul},
		{"QLinearConv", 10, latest, convAttrs, qLinearConv},
	}
}

// requantized divides by the scale in input at, rounds and adds the zero point
// behind it. A quotient so near to a tie that float32 decides is refused.
func (c *call) requantized(v []float64, shape []int64, at int) *array {
	scale, zero := c.input(at), c.input(at+1)
	if scale.len() != 1 || zero.len() != 1 {
		c.unsupported("scales of the result of shape %v", scale.shape)
	}
	lo, hi := c.bounds(zero.dt)
	s, z := load[float64](scale)[0], load[float64](zero)[0]
	out := make([]int64, len(v))
	for i, x := range v {
		q := x / s
		if t := q - math.Floor(q) - 0.5; t != 0 && math.Abs(t) < 1e-5*max(1, math.Abs(q)) {
			c.unsupported("a result of %v steps, which runtimes round differently", q)
		}
		out[i] = int64(min(max(math.RoundToEven(q)+z, lo), hi))
	}
	return store(c, zero.dt, shape, out)
}

func qLinearMatMul(c *call) []*array {
	a, b, as, bs := c.input(0), c.input(3), c.input(1), c.input(4)
	if as.len() != 1 || a.rank() < 2 || b.rank() < 2 || bs.rank() > 1 || bs.len() != 1 && int64(bs.len()) != b.shape[b.rank()-1] {
		c.unsupported("scales of shapes %v and %v", as.shape, bs.shape)
	}
	p := c.matmul(c.centred(a, c.input(2), a.rank()-2), c.centred(b, c.input(5), b.rank()-1))
	v, first, columns := load[float64](p), load[float64](as)[0], load[float64](bs)
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = x * first * columns[i%len(columns)]
	}
	return one(c.requantized(out, p.shape, 6))
}

// qLinearConv: the weight may have a scale per output channel; the bias is of
// 32-bit integers in the unit of the product.
func qLinearConv(c *call) []*array {
	x, w, xs, ws := c.input(0), c.input(3), c.input(1), c.input(4)
	if w.rank() < 3 || xs.len() != 1 || c.input(2).len() != 1 || ws.rank() > 1 || ws.len() != 1 && int64(ws.len()) != w.shape[0] {
		c.unsupported("weights %v with scales of shapes %v and %v", w.shape, xs.shape, ws.shape)
	}
	exact := func(a *array) *array { return &array{dt: onnx.Double, shape: a.shape, wide: load[float64](a)} }
	var bias *array
	if b := c.opt(8); b != nil {
		if b.dt != onnx.Int32 {
			c.fail("a bias of %v", b.dt)
		}
		bias = exact(b)
	}
	y := c.conv(exact(c.centred(x, c.input(2), 0)), exact(c.centred(w, c.input(5), 0)), bias)
	first, channels := load[float64](xs)[0], load[float64](ws)
	out := slices.Clone(load[float64](y))
	area, m := product(y.shape[2:]), int(y.shape[1])
	for i := range out {
		out[i] *= first * channels[i/area%m%len(channels)]
	}
	return one(c.requantized(out, y.shape, 6))
}

package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// poolOperators reduce the window, or all, of each channel's plane.
func poolOperators() []operator {
	const base = "auto_pad kernel_shape pads strides"
	return []operator{
		{"AveragePool", 1, 6, base, averagePool},
		{"AveragePool", 7, 9, base + " count_include_pad", averagePool},
		{"AveragePool", 10, 18, base + " count_include_pad ceil_mode", averagePool},
		{"AveragePool", 19, latest, base + " count_include_pad ceil_mode dilations", averagePool},
		{"MaxPool", 1, 7, base, maxPool},
		{"MaxPool", 8, 9, base + " storage_order", maxPool},
		{"MaxPool", 10, latest, base + " storage_order ceil_mode dilations", maxPool},
		{"LpPool", 2, 17, base + " p", lpPool},
		{"LpPool", 18, latest, base + " p ceil_mode dilations", lpPool},
		{"GlobalAveragePool", 1, latest, "", globalPool(func(_ *call, v []float64) float64 { return total(v) / float64(len(v)) })},
		{"GlobalMaxPool", 1, latest, "", globalPool(func(_ *call, v []float64) float64 { return slices.Max(v) })},
		{"GlobalLpPool", 2, latest, "p", globalPool(func(c *call, v []float64) float64 { return norm(v, float64(c.int("p", 2))) })},
	}
}

func total(v []float64) float64 {
	t := 0.0
	for _, x := range v {
		t += x
	}
	return t
}

// norm returns the p-norm of v.
func norm(v []float64, p float64) float64 {
	t := 0.0
	for _, x := range v {
		t += math.Pow(math.Abs(x), p)
	}
	return math.Pow(t, 1/p)
}

// pool computes f at each position of the window in each plane of x; plane is
// where the plane begins in v, the elements of x.
func (c *call) pool(x *array, f func(v []float64, plane int, taps []tap, cells int) float64) *array {
	if x.rank() < 3 {
		c.fail("want [N, C, spatial…], have shape %v", x.shape)
	}
	w := c.window(x.shape[2:], c.ints("kernel_shape"))
	shape := slices.Concat(x.shape[:2], w.out)
	c.count(x.dt, shape)
	c.work(slices.Concat(shape, w.kernel)...)
	v, out := load[float64](x), make([]float64, product(shape))
	area, places := product(w.in), product(w.out)
	w.each(func(at int, taps []tap, cells int) {
		if len(taps) == 0 {
			c.unsupported("a window that lies in the padding entirely")
		}
		for plane := range product(x.shape[:2]) {
			out[plane*places+at] = f(v, plane*area, taps, cells)
		}
	})
	return store(c, x.dt, shape, out)
}

func averagePool(c *call) []*array {
	x := c.input(0)
	c.sameFloats(x)
	padded := c.int("count_include_pad", 0) != 0
	return one(c.pool(x, func(v []float64, plane int, taps []tap, cells int) float64 {
		sum := 0.0
		for _, t := range taps {
			sum += v[plane+t.in]
		}
		if padded {
			return sum / float64(cells)
		}
		return sum / float64(len(taps))
	}))
}

func lpPool(c *call) []*array {
	x := c.input(0)
	c.sameFloats(x)
	p := float64(c.int("p", 2))
	return one(c.pool(x, func(v []float64, plane int, taps []tap, _ int) float64 {
		under := make([]float64, len(taps))
		for i, t := range taps {
			under[i] = v[plane+t.in]
		}
		return norm(under, p)
	}))
}

// maxPool gives the greatest element under each window and, as its second
// output, where in the whole input that lies.
func maxPool(c *call) []*array {
	x := c.input(0)
	if !x.dt.IsFloat() && x.dt != onnx.Int8 && x.dt != onnx.Uint8 {
		c.unsupported("element type %v", x.dt)
	}
	order := c.int("storage_order", 0)
	if order != 0 && order != 1 {
		c.fail("attribute \"storage_order\" is %d", order)
	}
	var from []int64
	y := c.pool(x, func(v []float64, plane int, taps []tap, _ int) float64 {
		best := plane + taps[0].in
		for _, t := range taps {
			if v[plane+t.in] != v[plane+t.in] {
				c.unsupported("NaN under a window, which runtimes do differently")
			}
			if v[plane+t.in] > v[best] {
				best = plane + t.in
			}
		}
		from = append(from, int64(best))
		return v[best]
	})
	if c.n.Output(1) == nil {
		return one(y)
	}
	return []*array{y, c.int64s(y.shape, c.maxIndices(x, y, from, order))}
}

// maxIndices sorts what maxPool found, position by position and there plane by
// plane, into the order of y. With order 1 each plane is counted by columns.
func (c *call) maxIndices(x, y *array, from []int64, order int64) []int64 {
	c.count(onnx.Int64, y.shape)
	out := make([]int64, len(from))
	planes, places, area := product(y.shape[:2]), product(y.shape[2:]), int64(product(x.shape[2:]))
	for i, f := range from {
		if order == 1 {
			rest, column, step := f%area, int64(0), int64(1)
			st := strides(x.shape[2:])
			for d, size := range x.shape[2:] {
				column += rest / int64(st[d]) % size * step
				step *= size
			}
			f += column - rest
		}
		out[i%planes*places+i/planes] = f
	}
	return out
}

// globalPool reduces each plane to one element.
func globalPool(f func(c *call, plane []float64) float64) func(*call) []*array {
	return func(c *call) []*array {
		x := c.input(0)
		c.sameFloats(x)
		if x.rank() < 2 || x.len() == 0 {
			c.fail("want [N, C, spatial…] that is not empty, have shape %v", x.shape)
		}
		shape := slices.Clone(x.shape)
		for i := range shape[2:] {
			shape[2+i] = 1
		}
		v, out := load[float64](x), make([]float64, c.count(x.dt, shape))
		area := product(x.shape[2:])
		for i := range out {
			out[i] = f(c, v[i*area:(i+1)*area])
		}
		return one(store(c, x.dt, shape, out))
	}
}

package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// normOperators normalize over the last axes. Below opset 17 LayerNormalization
// is ONNX Runtime's own, as SimplifiedLayerNormalization is at every opset.
func normOperators() []operator {
	const attrs = "axis epsilon stash_type"
	return []operator{
		{"LayerNormalization", 1, latest, attrs, layerNorm},
		{"SimplifiedLayerNormalization", 1, latest, attrs, simplifiedLayerNorm},
		{"RMSNormalization", 23, latest, attrs, rmsNorm},
		{"LpNormalization", 1, latest, "axis p", lpNorm},
		{"MeanVarianceNormalization", 9, latest, "axes", meanVarianceNorm},
	}
}

// rows is a floating-point array seen as rows of n elements that are normalized each.
type rows struct {
	v    []float64
	n    int
	head []int64 // the shape with 1 for the axes of a row
}

// rows splits x before axis.
func (c *call) rows(x *array, axis int) rows {
	c.sameFloats(x)
	head := slices.Clone(x.shape)
	for i := range head[axis:] {
		head[axis+i] = 1
	}
	return rows{load[float64](x), product(x.shape[axis:]), head}
}

// each calls f with every row.
func (r rows) each(f func(i int, row []float64)) {
	for i := range product(r.head) {
		f(i, r.v[i*r.n:(i+1)*r.n])
	}
}

// moments returns the mean and the variance of v, divided by its length.
func moments(v []float64) (mean, variance float64) {
	mean = total(v) / float64(len(v))
	for _, x := range v {
		variance += (x - mean) * (x - mean)
	}
	return mean, variance / float64(len(v))
}

// meanSquare returns the mean of the squares of v.
func meanSquare(v []float64) float64 {
	t := 0.0
	for _, x := range v {
		t += x * x
	}
	return t / float64(len(v))
}

// stretch returns the elements of a floating-point array repeated to fill
// shape, which it must broadcast to; nil for nil.
func (c *call) stretch(a *array, shape []int64) []float64 {
	if a == nil {
		return nil
	}
	if !slices.Equal(c.broadcastShape(a.shape, shape), shape) {
		c.fail("shape %v does not broadcast to %v", a.shape, shape)
	}
	v, st := load[float64](a), stretched(a.shape, shape)
	out := make([]float64, product(shape))
	n, step := rowOf(shape, st)
	eachRow(shape, [][]int{st}, func(at int, from []int) {
		for k := range n {
			out[at+k] = v[from[0]+k*step]
		}
	})
	return out
}

// affine computes v·scale + bias in place; nil is 1 or 0.
func affine(v, scale, bias []float64) {
	for i := range v {
		if scale != nil {
			v[i] *= scale[i]
		}
		if bias != nil {
			v[i] += bias[i]
		}
	}
}

// stashed refuses statistics in another type than float.
func (c *call) stashed() {
	if t := onnx.DType(c.int("stash_type", int64(onnx.Float))); t != onnx.Float {
		c.unsupported("stash_type is %v", t)
	}
}

// normalized computes (x − center)/deviation row by row, then scale and bias.
// stat gives center and 1/deviation, which it also returns, one of each per row.
func (c *call) normalized(x *array, axis int, scale, bias *array, stat func(row []float64) (center, inverse float64)) (y *array, centers, inverses []float64) {
	c.sameFloats(x, scale, bias)
	c.count(x.dt, x.shape)
	r := c.rows(x, axis)
	out := make([]float64, len(r.v))
	r.each(func(i int, row []float64) {
		center, inverse := stat(row)
		centers, inverses = append(centers, center), append(inverses, inverse)
		for j, v := range row {
			out[i*r.n+j] = (v - center) * inverse
		}
	})
	affine(out, c.stretch(scale, x.shape), c.stretch(bias, x.shape))
	return store(c, x.dt, x.shape, out), centers, inverses
}

// deviating returns the statistics of a normalization by mean and variance.
func deviating(epsilon float64) func([]float64) (float64, float64) {
	return func(row []float64) (float64, float64) {
		mean, variance := moments(row)
		return mean, 1 / math.Sqrt(variance+epsilon)
	}
}

// rootMeanSquare returns the statistics of a normalization by magnitude only.
func rootMeanSquare(epsilon float64) func([]float64) (float64, float64) {
	return func(row []float64) (float64, float64) { return 0, 1 / math.Sqrt(meanSquare(row)+epsilon) }
}

func layerNorm(c *call) []*array {
	x := c.input(0)
	c.stashed()
	axis := c.axis(c.int("axis", -1), x.rank())
	y, mean, inverse := c.normalized(x, axis, c.input(1), c.opt(2), deviating(c.float("epsilon", 1e-5)))
	return []*array{y, c.statistic(1, x, axis, mean), c.statistic(2, x, axis, inverse)}
}

// statistic makes output i of a normalization: one float per row of x.
func (c *call) statistic(i int, x *array, axis int, v []float64) *array {
	if c.n.Output(i) == nil {
		return nil
	}
	if x.dt == onnx.Double {
		c.unsupported("statistics of %v data", x.dt)
	}
	head := slices.Clone(x.shape)
	for k := range head[axis:] {
		head[axis+k] = 1
	}
	c.count(onnx.Float, head)
	return store(c, onnx.Float, head, v)
}

func simplifiedLayerNorm(c *call) []*array {
	x := c.input(0)
	c.stashed()
	axis := c.axis(c.int("axis", -1), x.rank())
	y, _, inverse := c.normalized(x, axis, c.input(1), nil, rootMeanSquare(c.float("epsilon", 1e-5)))
	return []*array{y, c.statistic(1, x, axis, inverse)}
}

func rmsNorm(c *call) []*array {
	x := c.input(0)
	c.stashed()
	y, _, _ := c.normalized(x, c.axis(c.int("axis", -1), x.rank()), c.input(1), nil, rootMeanSquare(c.float("epsilon", 1e-5)))
	return one(y)
}

// lpNorm divides each line along an axis by its 1-norm or 2-norm.
func lpNorm(c *call) []*array {
	x := c.input(0)
	p := c.int("p", 2)
	if p != 1 && p != 2 {
		c.fail("attribute \"p\" is %d", p)
	}
	return one(c.alongAxis(x, c.axis(c.int("axis", -1), x.rank()), func(line []float64) {
		size := norm(line, float64(p))
		if size == 0 {
			c.unsupported("a line of zeros, which runtimes do differently")
		}
		for i := range line {
			line[i] /= size
		}
	}))
}

// alongAxis computes f in place on each line of x along an axis.
func (c *call) alongAxis(x *array, axis int, f func(line []float64)) *array {
	c.sameFloats(x)
	c.count(x.dt, x.shape)
	v, out := load[float64](x), make([]float64, x.len())
	n, step := int(x.shape[axis]), product(x.shape[axis+1:])
	line := make([]float64, n)
	for start := range len(v) / max(n, 1) {
		base := start/step*step*n + start%step
		for i := range line {
			line[i] = v[base+i*step]
		}
		f(line)
		for i := range line {
			out[base+i*step] = line[i]
		}
	}
	return store(c, x.dt, x.shape, out)
}

// meanVarianceNorm normalizes over any axes; the divisor is the deviation + 1e-9.
func meanVarianceNorm(c *call) []*array {
	x := c.input(0)
	list := c.ints("axes")
	if list == nil {
		list = []int64{0, 2, 3}
	}
	axes := c.axes(list, x.rank())
	perm := []int{}
	for i := range x.rank() {
		if !slices.Contains(axes, i) {
			perm = append(perm, i)
		}
	}
	kept := len(perm)
	perm = append(perm, axes...)
	y, _, _ := c.normalized(c.permute(x, perm), kept, nil, nil, func(row []float64) (float64, float64) {
		mean, variance := moments(row)
		return mean, 1 / (math.Sqrt(variance) + 1e-9)
	})
	back := make([]int, len(perm))
	for i, p := range perm {
		back[p] = i
	}
	return one(c.permute(y, back))
}

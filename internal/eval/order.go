package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// orderOperators find the greatest, and accumulate along an axis.
func orderOperators() []operator {
	return []operator{
		{"ArgMax", 1, 11, "axis keepdims", argBest(greater[float64])},
		{"ArgMax", 12, latest, "axis keepdims select_last_index", argBest(greater[float64])},
		{"ArgMin", 1, 11, "axis keepdims", argBest(less[float64])},
		{"ArgMin", 12, latest, "axis keepdims select_last_index", argBest(less[float64])},
		{"TopK", 1, 9, "axis k", topK},
		{"TopK", 10, 10, "axis", topK},
		{"TopK", 11, latest, "axis largest sorted", topK},
		{"CumSum", 11, latest, "exclusive reverse", cumulated(0, add[float64], add[int64])},
		{"CumProd", 26, latest, "exclusive reverse", cumulated(1, mul[float64], mul[int64])},
		{"ReduceLogSumExp", 1, 17, "axes keepdims", func(c *call) []*array { return logSumExp(c, false) }},
		{"ReduceLogSumExp", 18, latest, "keepdims noop_with_empty_axes", func(c *call) []*array { return logSumExp(c, true) }},
	}
}

// ordered refuses elements that float64 does not order as they are.
func (c *call) ordered(a *array) []float64 {
	if kindOf(a) == kindNone || a.dt == onnx.Bool {
		c.unsupported("element type %v", a.dt)
	}
	v := load[float64](a)
	for _, x := range v {
		if x != x || a.dt.IsInt() && math.Abs(x) >= exactInts {
			c.unsupported("order among elements like %v", x)
		}
	}
	return v
}

// lines calls f with the position of the first element of each line of shape
// along an axis, the length of the line, and the step from one to the next.
func lines(shape []int64, axis int, f func(k, base, n, step int)) {
	n, step := int(shape[axis]), product(shape[axis+1:])
	for k := range product(shape[:axis]) * step {
		f(k, k/step*step*n+k%step, n, step)
	}
}

// argBest finds the first or last position where better says so along an axis.
func argBest(better func(a, b float64) bool) func(*call) []*array {
	return func(c *call) []*array {
		a := c.input(0)
		v, axis := c.ordered(a), c.axis(c.int("axis", 0), a.rank())
		last := c.int("select_last_index", 0) != 0
		shape := slices.Clone(a.shape)
		shape[axis] = 1
		if a.shape[axis] == 0 {
			c.fail("axis %d is empty", axis)
		}
		out := make([]int64, c.count(onnx.Int64, shape))
		lines(a.shape, axis, func(k, base, n, step int) {
			best := 0
			for i := range n {
				x, y := v[base+i*step], v[base+best*step]
				if better(x, y) || last && x == y {
					best = i
				}
			}
			out[k] = int64(best)
		})
		if c.int("keepdims", 1) == 0 {
			shape = slices.Delete(shape, axis, axis+1)
		}
		return one(c.int64s(shape, out))
	}
}

// topK gives the k greatest or least elements along an axis with their
// positions; of equal ones the first comes first.
func topK(c *call) []*array {
	a := c.input(0)
	v, axis := c.ordered(a), c.axis(c.int("axis", -1), a.rank())
	k := c.int("k", 0)
	if c.version >= 10 {
		k = c.scalar(1)
	}
	if k < 0 || k > a.shape[axis] {
		c.fail("%d elements of an axis of size %d", k, a.shape[axis])
	}
	if c.int("sorted", 1) == 0 {
		c.unsupported("elements in no order")
	}
	sign := 1.0
	if c.int("largest", 1) != 0 {
		sign = -1
	}
	shape := slices.Clone(a.shape)
	shape[axis] = k
	values := c.blank(a, shape)
	where := make([]int64, c.count(onnx.Int64, shape))
	lines(a.shape, axis, func(line, base, n, step int) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int {
			switch d := sign * (v[base+i*step] - v[base+j*step]); {
			case d < 0:
				return -1
			case d > 0:
				return 1
			}
			return 0
		})
		for i, from := range order[:k] {
			to := line/step*step*int(k) + i*step + line%step
			copyElems(values, to, a, base+from*step, 1)
			where[to] = int64(from)
		}
	})
	return []*array{values, c.int64s(shape, where)}
}

// cumulated runs f along an axis.
func cumulated(start float64, f64 func(a, b float64) float64, i64 func(a, b int64) int64) func(*call) []*array {
	return func(c *call) []*array {
		a := c.input(0)
		axis := c.axis(c.scalar(1), a.rank())
		c.count(a.dt, a.shape)
		switch {
		case a.dt.IsFloat():
			return one(store(c, a.dt, a.shape, cumulate(c, load[float64](a), a.shape, axis, start, f64)))
		case a.dt.IsInt() && a.dt != onnx.Uint64:
			return one(store(c, a.dt, a.shape, cumulate(c, load[int64](a), a.shape, axis, int64(start), i64)))
		}
		c.unsupported("element type %v", a.dt)
		return nil
	}
}

func cumulate[T number](c *call, v []T, shape []int64, axis int, start T, f func(a, b T) T) []T {
	out := make([]T, len(v))
	exclusive, reverse := c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0
	lines(shape, axis, func(_, base, n, step int) {
		acc := start
		for i := range n {
			if reverse {
				i = n - 1 - i
			}
			at := base + i*step
			after := f(acc, v[at])
			if out[at] = after; exclusive {
				out[at] = acc
			}
			acc = after
		}
	})
	return out
}

// logSumExp is the logarithm of the sum of exponentials, kept from overflowing.
func logSumExp(c *call, asInput bool) []*array {
	a := c.input(0)
	c.sameFloats(a)
	axes, none := c.reducedAxes(a, asInput)
	if none {
		return one(a)
	}
	kept, group := c.groups(a, axes)
	c.count(a.dt, kept)
	v := load[float64](a)
	top, sum := slices.Repeat([]float64{math.Inf(-1)}, product(kept)), make([]float64, product(kept))
	for i, x := range v {
		top[group(i)] = max(top[group(i)], x)
	}
	for i, t := range top {
		if math.IsInf(t, 0) {
			top[i] = 0
		}
	}
	for i, x := range v {
		sum[group(i)] += math.Exp(x - top[group(i)])
	}
	for i := range sum {
		sum[i] = top[i] + math.Log(sum[i])
	}
	return one(store(c, a.dt, c.keepDims(a.shape, kept, axes), sum))
}

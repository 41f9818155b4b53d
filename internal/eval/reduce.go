package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// reduceOperators reduce axes to one number each.
func reduceOperators() []operator {
	var out []operator
	for _, r := range []struct {
		name string
		f    fold
		axes int64 // version from which axes are an input
	}{
		{"ReduceSum", fold{add: sum}, 13}, {"ReduceMean", fold{add: sum, end: mean}, 18}, {"ReduceProd", fold{start: 1, add: times}, 18},
		{"ReduceMax", fold{start: math.Inf(-1), add: larger}, 18}, {"ReduceMin", fold{start: math.Inf(1), add: smaller}, 18},
		{"ReduceL1", fold{add: sumAbs}, 18}, {"ReduceSumSquare", fold{add: sumSquare}, 18},
		{"ReduceLogSum", fold{add: sum, end: func(x float64, _ int) float64 { return math.Log(x) }}, 18},
		{"ReduceL2", fold{add: sumSquare, end: func(x float64, _ int) float64 { return math.Sqrt(x) }}, 18},
	} {
		do := func(c *call) []*array { return one(r.f.reduce(c, c.version >= r.axes)) }
		out = append(out, operator{r.name, 1, r.axes - 1, "axes keepdims", do},
			operator{r.name, r.axes, latest, "keepdims noop_with_empty_axes", do})
	}
	return out
}

// fold accumulates numbers in float64.
type fold struct {
	start float64
	add   func(acc, x float64) float64
	end   func(acc float64, n int) float64 // nil: nothing is left to do
}

func sum(a, x float64) float64       { return a + x }
func times(a, x float64) float64     { return a * x }
func sumAbs(a, x float64) float64    { return a + math.Abs(x) }
func sumSquare(a, x float64) float64 { return a + x*x }
func larger(a, x float64) float64    { return max(a, x) }
func smaller(a, x float64) float64   { return min(a, x) }
func mean(a float64, n int) float64  { return a / float64(n) }

// exactInts is the magnitude up to which float64 holds every integer.
const exactInts = 1 << 53

// reduce computes f over the axes that the node names, all where it names none.
func (f fold) reduce(c *call, asInput bool) *array {
	a := c.input(0)
	if kindOf(a) == kindNone || kindOf(a) == kindU64 || a.dt == onnx.Bool {
		c.unsupported("element type %v", a.dt)
	}
	axes, none := c.reducedAxes(a, asInput)
	if none {
		return a
	}
	kept, groups := c.groups(a, axes)
	c.count(a.dt, kept)
	v := load[float64](a)
	acc, n := make([]float64, product(kept)), 1
	for i := range acc {
		acc[i] = f.start
	}
	for _, x := range axes {
		n *= int(a.shape[x])
	}
	for i, x := range v {
		if a.dt.IsInt() && math.Abs(x) >= exactInts {
			c.unsupported("integers of magnitude 2^53")
		}
		acc[groups(i)] = f.add(acc[groups(i)], x)
	}
	for i := range acc {
		if f.end != nil {
			acc[i] = f.end(acc[i], n)
		}
		if a.dt.IsInt() && !(math.Abs(acc[i]) < exactInts) {
			c.unsupported("a result of magnitude 2^53, or an empty one")
		}
	}
	return store(c, a.dt, c.keepDims(a.shape, kept, axes), acc)
}

// reducedAxes returns the axes to reduce, and whether there is nothing to do.
func (c *call) reducedAxes(a *array, asInput bool) ([]int, bool) {
	list := c.ints("axes")
	if asInput {
		list = nil
		if c.opt(1) != nil {
			list = c.intInput(1)
		}
	}
	if len(list) > 0 {
		return c.axes(list, a.rank()), false
	}
	if asInput && c.int("noop_with_empty_axes", 0) != 0 {
		return nil, true
	}
	all := make([]int, a.rank())
	for i := range all {
		all[i] = i
	}
	return all, false
}

// groups returns the shape of a without axes and a function from the index of
// an element to the index of its group.
func (c *call) groups(a *array, axes []int) ([]int64, func(int) int) {
	kept := []int64{}
	step := make([]int, a.rank()) // of each axis among the groups, 0 if reduced
	d := 1
	for i := a.rank() - 1; i >= 0; i-- {
		if !slices.Contains(axes, i) {
			step[i] = d
			d *= int(a.shape[i])
		}
	}
	for i, n := range a.shape {
		if !slices.Contains(axes, i) {
			kept = append(kept, n)
		}
	}
	own := strides(a.shape)
	return kept, func(i int) int {
		g := 0
		for k, st := range own {
			g += i / st % int(a.shape[k]) * step[k]
		}
		return g
	}
}

// keepDims puts back the reduced axes as 1 where the node asks for it.
func (c *call) keepDims(full, kept []int64, axes []int) []int64 {
	if c.int("keepdims", 1) == 0 {
		return kept
	}
	out := slices.Clone(full)
	for _, x := range axes {
		out[x] = 1
	}
	return out
}

package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// moveOperators rearrange elements of any type.
func moveOperators() []operator {
	return []operator{
		{"Transpose", 1, latest, "perm", transpose},
		{"Concat", 1, latest, "axis", concat},
		{"Slice", 1, 9, "axes starts ends", slice},
		{"Slice", 10, latest, "", slice},
		{"Gather", 1, latest, "axis", gather},
	}
}

func transpose(c *call) []*array {
	a := c.input(0)
	perm := c.ints("perm")
	if perm == nil {
		for i := a.rank() - 1; i >= 0; i-- {
			perm = append(perm, int64(i))
		}
	}
	if len(perm) != a.rank() {
		c.fail("perm %v does not fit rank %d", perm, a.rank())
	}
	return one(c.permute(a, c.axes(perm, a.rank())))
}

// permute returns a with its axes in another order.
func (c *call) permute(a *array, perm []int) *array {
	own := strides(a.shape)
	shape, st := make([]int64, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		shape[i], st[i] = a.shape[p], own[p]
	}
	out := c.blank(a, shape)
	n, step := rowOf(shape, st)
	eachRow(shape, [][]int{st}, func(at int, from []int) {
		c.copyRun(out, at, a, from[0], n, step)
	})
	return out
}

func concat(c *call) []*array {
	first := c.input(0)
	def := int64(0)
	if c.version < 4 {
		def = 1
	} else if !c.has("axis") {
		c.fail("attribute \"axis\" is missing")
	}
	for i := range c.in {
		c.input(i)
	}
	return one(c.joined(c.in, c.axis(c.int("axis", def), first.rank())))
}

// joined puts arrays one behind the other along an axis.
func (c *call) joined(list []*array, axis int) *array {
	first := list[0]
	shape := slices.Clone(first.shape)
	shape[axis] = 0
	for i, a := range list {
		fits := a.dt == first.dt && a.rank() == first.rank()
		for d := 0; fits && d < a.rank(); d++ {
			fits = d == axis || a.shape[d] == shape[d]
		}
		if !fits {
			c.fail("input %d: %v%v does not fit %v%v", i, a.dt, a.shape, first.dt, first.shape)
		}
		shape[axis] += a.shape[axis]
	}
	out := c.blank(first, shape)
	outer, row := product(shape[:axis]), product(shape[axis:])
	at := 0
	for _, a := range list {
		n := product(a.shape[axis:])
		for i := range outer {
			copyElems(out, i*row+at, a, i*n, n)
		}
		at += n
	}
	return out
}

// sliceArgs returns starts, ends, axes and steps of a Slice of rank.
func (c *call) sliceArgs(rank int) (starts, ends []int64, axes []int, steps []int64) {
	var list []int64
	if c.version < 10 {
		starts, ends, list = c.ints("starts"), c.ints("ends"), c.ints("axes")
	} else {
		starts, ends = c.intInput(1), c.intInput(2)
		if c.opt(3) != nil {
			list = c.intInput(3)
		}
		if c.opt(4) != nil {
			steps = c.intInput(4)
		}
	}
	if list == nil {
		for i := range starts {
			list = append(list, int64(i))
		}
	}
	if steps == nil {
		for range starts {
			steps = append(steps, 1)
		}
	}
	if len(ends) != len(starts) || len(list) != len(starts) || len(steps) != len(starts) {
		c.fail("starts, ends, axes and steps differ in length")
	}
	return starts, ends, c.axes(list, rank), steps
}

func slice(c *call) []*array {
	a := c.input(0)
	starts, ends, axes, steps := c.sliceArgs(a.rank())
	own := strides(a.shape)
	shape, st := slices.Clone(a.shape), slices.Clone(own)
	base := 0
	for i, x := range axes {
		d, step := a.shape[x], steps[i]
		if step == 0 {
			c.fail("axis %d has step 0", x)
		}
		step = min(max(step, -1<<40), 1<<40) // beyond any size, so that nothing overflows below
		lo, hi := starts[i], ends[i]
		if lo < 0 {
			lo += d
		}
		if hi < 0 {
			hi += d
		}
		if step > 0 {
			lo, hi = min(max(lo, 0), d), min(max(hi, 0), d)
			shape[x] = max(0, (hi-lo+step-1)/step)
		} else {
			lo, hi = min(max(lo, 0), d-1), min(max(hi, -1), d-1)
			shape[x] = max(0, (lo-hi-step-1)/-step)
		}
		base += int(max(lo, 0)) * own[x]
		st[x] = own[x] * int(step)
	}
	out := c.blank(a, shape)
	n, step := rowOf(shape, st)
	eachRow(shape, [][]int{st}, func(at int, from []int) {
		c.copyRun(out, at, a, base+from[0], n, step)
	})
	return one(out)
}

// indices returns input i as positions along an axis of size d; negative ones
// count from the end.
func (c *call) indices(i int, d int64) []int64 {
	a := c.input(i)
	if a.dt != onnx.Int64 && a.dt != onnx.Int32 {
		c.fail("input %d: want int64 or int32 indices, have %v", i, a.dt)
	}
	v := slices.Clone(load[int64](a))
	for k, x := range v {
		if x < -d || x >= d {
			c.fail("index %d is not within size %d", x, d)
		}
		if x < 0 {
			v[k] += d
		}
	}
	return v
}

func gather(c *call) []*array {
	a, idx := c.input(0), c.input(1)
	axis := c.axis(c.int("axis", 0), a.rank())
	return one(c.gathered(a, axis, c.indices(1, a.shape[axis]), idx.shape))
}

// gathered returns the positions at of an axis of a, which becomes axes of shape.
func (c *call) gathered(a *array, axis int, at, shape []int64) *array {
	out := c.blank(a, slices.Concat(a.shape[:axis], shape, a.shape[axis+1:]))
	outer, row, n := product(a.shape[:axis]), product(a.shape[axis:]), product(a.shape[axis+1:])
	k := 0
	for i := range outer {
		for _, x := range at {
			copyElems(out, k, a, i*row+int(x)*n, n)
			k += n
		}
	}
	return out
}

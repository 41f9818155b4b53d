package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// indexOperators gather and scatter elements by computed positions.
func indexOperators() []operator {
	return []operator{
		{"GatherElements", 11, latest, "axis", gatherElements},
		{"GatherND", 11, 11, "", gatherND},
		{"GatherND", 12, latest, "batch_dims", gatherND},
		{"Scatter", 9, 10, "axis", scatterElements},
		{"ScatterElements", 11, 15, "axis", scatterElements},
		{"ScatterElements", 16, latest, "axis reduction", scatterElements},
		{"ScatterND", 11, 15, "", scatterND},
		{"ScatterND", 16, latest, "reduction", scatterND},
		{"Compress", 9, latest, "axis", compress},
		{"NonZero", 9, latest, "", nonZero},
		{"OneHot", 9, latest, "axis", oneHot},
		{"TensorScatter", 24, latest, "axis mode", tensorScatter},
	}
}

// elementwiseIndex checks the indices of GatherElements and its inverse, and
// returns the position in data of each.
func (c *call) elementwiseIndex(data, idx *array) []int {
	axis := c.axis(c.int("axis", 0), data.rank())
	if idx.rank() != data.rank() {
		c.fail("indices of shape %v for data of shape %v", idx.shape, data.shape)
	}
	for i, d := range idx.shape {
		if i != axis && d > data.shape[i] {
			c.fail("indices of shape %v for data of shape %v", idx.shape, data.shape)
		}
	}
	v, st := c.indices(1, data.shape[axis]), strides(data.shape)
	out, pos := make([]int, len(v)), make([]int64, data.rank())
	for i, x := range v {
		out[i] = offset(pos, st) + int(x-pos[axis])*st[axis]
		next(pos, idx.shape)
	}
	return out
}

func gatherElements(c *call) []*array {
	data, idx := c.input(0), c.input(1)
	from := c.elementwiseIndex(data, idx)
	out := c.blank(data, idx.shape)
	for i, k := range from {
		copyElems(out, i, data, k, 1)
	}
	return one(out)
}

// sliceIndex returns where in data each index tuple of idx [..., k] points to,
// skipping batch leading axes, and the number of elements of a slice there.
func (c *call) sliceIndex(data, idx *array, batch int) (at []int, size int) {
	if idx.dt != onnx.Int64 && idx.dt != onnx.Int32 || idx.rank() < 1 {
		c.fail("indices are %v%v", idx.dt, idx.shape)
	}
	k := int(idx.shape[idx.rank()-1])
	if k < 1 || batch+k > data.rank() || batch >= idx.rank() || !slices.Equal(data.shape[:batch], idx.shape[:batch]) {
		c.fail("indices of shape %v for data of shape %v and %d batch axes", idx.shape, data.shape, batch)
	}
	st, v := strides(data.shape), load[int64](idx)
	size = product(data.shape[batch+k:])
	tuples := len(v) / k
	per := tuples / max(1, product(data.shape[:batch]))
	for t := range tuples {
		p := t / max(per, 1) * product(data.shape[batch:])
		for d := range k {
			x, n := v[t*k+d], data.shape[batch+d]
			if x < -n || x >= n {
				c.fail("index %d is not within size %d", x, n)
			}
			if x < 0 {
				x += n
			}
			p += int(x) * st[batch+d]
		}
		at = append(at, p)
	}
	return at, size
}

func gatherND(c *call) []*array {
	data, idx, batch := c.input(0), c.input(1), c.int("batch_dims", 0)
	if batch < 0 || batch > int64(data.rank()) {
		c.fail("attribute \"batch_dims\" is %d", batch)
	}
	at, n := c.sliceIndex(data, idx, int(batch))
	last := idx.rank() - 1
	out := c.blank(data, slices.Concat(idx.shape[:last], data.shape[int(batch)+int(idx.shape[last]):]))
	for i, p := range at {
		copyElems(out, i*n, data, p, n)
	}
	return one(out)
}

// copied returns a copy of a that may be written to.
func (c *call) copied(a *array) *array {
	out := c.blank(a, a.shape)
	copyElems(out, 0, a, 0, a.len())
	return out
}

// reduced writes the elements of updates to the positions at of data, runs of n
// each, combined with what is there as the node's reduction says.
func (c *call) reduced(data, updates *array, at []int, n int) *array {
	if updates.dt != data.dt || updates.len() != n*len(at) {
		c.fail("updates %v%v do not fit data of %v", updates.dt, updates.shape, data.dt)
	}
	ops := map[string]binary2{
		"add": {add[float32], add[float64], add[int64], add[uint64]},
		"mul": {mul[float32], mul[float64], mul[int64], mul[uint64]},
		"max": {greatest[float32], greatest[float64], greatest[int64], greatest[uint64]},
		"min": {least[float32], least[float64], least[int64], least[uint64]},
	}
	how := c.str("reduction", "none")
	op, known := ops[how]
	switch {
	case how == "none":
		out := c.copied(data)
		for i, p := range at {
			copyElems(out, p, updates, i*n, n)
		}
		return out
	case !known:
		c.fail("attribute \"reduction\" is %q", how)
	case data.dt == onnx.Bool:
		c.unsupported("reduction %s of bool", how)
	}
	c.count(data.dt, data.shape)
	switch kindOf(data) {
	case kindF32:
		return store(c, data.dt, data.shape, combine(load[float32](data), load[float32](updates), at, n, op.f32))
	case kindF64:
		return store(c, data.dt, data.shape, combine(load[float64](data), load[float64](updates), at, n, op.f64))
	case kindI64:
		return store(c, data.dt, data.shape, combine(load[int64](data), load[int64](updates), at, n, op.i64))
	case kindU64:
		return store(c, data.dt, data.shape, combine(load[uint64](data), load[uint64](updates), at, n, op.u64))
	}
	c.unsupported("element type %v", data.dt)
	return nil
}

func combine[T number](data, updates []T, at []int, n int, f func(a, b T) T) []T {
	out := slices.Clone(data)
	for i, p := range at {
		for k := range n {
			out[p+k] = f(out[p+k], updates[i*n+k])
		}
	}
	return out
}

func scatterElements(c *call) []*array {
	data, idx, updates := c.input(0), c.input(1), c.input(2)
	if !slices.Equal(idx.shape, updates.shape) {
		c.fail("indices of shape %v and updates of shape %v", idx.shape, updates.shape)
	}
	return one(c.reduced(data, updates, c.elementwiseIndex(data, idx), 1))
}

func scatterND(c *call) []*array {
	data, idx, updates := c.input(0), c.input(1), c.input(2)
	at, n := c.sliceIndex(data, idx, 0)
	last := idx.rank() - 1
	if want := slices.Concat(idx.shape[:last], data.shape[idx.shape[last]:]); !slices.Equal(updates.shape, want) {
		c.fail("updates of shape %v, want %v", updates.shape, want)
	}
	return one(c.reduced(data, updates, at, n))
}

// compress keeps the positions of an axis, or of all elements, where the
// condition holds.
func compress(c *call) []*array {
	a, cond := c.input(0), c.input(1)
	axis := 0
	if c.has("axis") {
		axis = c.axis(c.int("axis", 0), a.rank())
	} else {
		a = a.reshaped([]int64{int64(a.len())})
	}
	if cond.dt != onnx.Bool || cond.rank() != 1 || cond.shape[0] > a.shape[axis] {
		c.fail("a condition %v%v for an axis of size %d", cond.dt, cond.shape, a.shape[axis])
	}
	var at []int64
	for i, x := range load[int64](cond) {
		if x != 0 {
			at = append(at, int64(i))
		}
	}
	return one(c.gathered(a, axis, at, []int64{int64(len(at))}))
}

// nonZero lists the positions of elements that are not zero, one column each.
func nonZero(c *call) []*array {
	a := c.input(0)
	if kindOf(a) == kindNone {
		c.unsupported("element type %v", a.dt)
	}
	shape := a.shape
	if len(shape) == 0 {
		shape = []int64{1}
	}
	var found [][]int64
	pos := make([]int64, len(shape))
	for _, x := range load[float64](a) {
		if x != 0 {
			found = append(found, slices.Clone(pos))
		}
		next(pos, shape)
	}
	out := make([]int64, c.count(onnx.Int64, []int64{int64(len(shape)), int64(len(found))}))
	for k, p := range found {
		for d, x := range p {
			out[d*len(found)+k] = x
		}
	}
	return one(c.int64s([]int64{int64(len(shape)), int64(len(found))}, out))
}

// oneHot puts the on value where the new axis has the index, the off value elsewhere.
func oneHot(c *call) []*array {
	idx, depth, values := c.input(0), c.input(1), c.input(2)
	if kindOf(idx) == kindNone || kindOf(depth) == kindNone || depth.len() != 1 || !slices.Equal(values.shape, []int64{2}) {
		c.fail("indices %v, depth %v%v, values %v", idx.dt, depth.dt, depth.shape, values.shape)
	}
	n := load[int64](depth)[0]
	if n < 1 {
		c.fail("the depth is %d", n)
	}
	axis := c.axis(c.int("axis", -1), idx.rank()+1)
	v, st := load[int64](idx), strides(idx.shape)
	return one(c.picked(values, slices.Insert(slices.Clone(idx.shape), axis, n), func(pos []int64) int {
		at := v[offset(slices.Delete(slices.Clone(pos), axis, axis+1), st)]
		if at == pos[axis] || at+n == pos[axis] {
			return 1
		}
		return 0
	}))
}

// tensorScatter writes the update of each batch element into the cache from a
// position on, with mode circular around its end.
func tensorScatter(c *call) []*array {
	cache, update := c.input(0), c.input(1)
	axis := c.axis(c.int("axis", -2), cache.rank())
	mode := c.str("mode", "linear")
	if axis == 0 || update.dt != cache.dt || update.rank() != cache.rank() || mode != "linear" && mode != "circular" {
		c.fail("update %v%v of cache %v%v, axis %d, mode %q", update.dt, update.shape, cache.dt, cache.shape, axis, mode)
	}
	for d, n := range cache.shape {
		if d != axis && update.shape[d] != n || update.shape[d] > n {
			c.fail("an update of shape %v of a cache of shape %v", update.shape, cache.shape)
		}
	}
	start := make([]int64, cache.shape[0])
	if c.opt(2) != nil {
		start = c.intInput(2)
	}
	if int64(len(start)) != cache.shape[0] {
		c.fail("%d positions for a batch of %d", len(start), cache.shape[0])
	}
	out, st, size := c.copied(cache), strides(cache.shape), cache.shape[axis]
	pos := make([]int64, cache.rank())
	for i := range update.len() {
		p := start[pos[0]] + pos[axis]
		if start[pos[0]] < 0 || p >= size && mode == "linear" {
			c.fail("position %d is not within size %d", p, size)
		}
		copyElems(out, offset(pos, st)+int(p%size-pos[axis])*st[axis], update, i, 1)
		next(pos, update.shape)
	}
	return one(out)
}

package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// padOperators put content around arrays, or cut it off where padding is negative.
func padOperators() []operator {
	return []operator{
		{"Pad", 2, 10, "mode pads value", pad},
		{"Pad", 11, latest, "mode", pad},
	}
}

// padding returns the padding before and behind each axis of rank.
func (c *call) padding(rank int) (begin, end []int64) {
	var list []int64
	if c.version < 11 {
		list = c.ints("pads")
	} else {
		list = c.intInput(1)
	}
	axes := make([]int, rank)
	for i := range axes {
		axes[i] = i
	}
	if c.version >= 18 && c.opt(3) != nil {
		axes = c.axes(c.intInput(3), rank)
	}
	if len(list) != 2*len(axes) {
		c.fail("%d pads for %d axes", len(list), len(axes))
	}
	begin, end = make([]int64, rank), make([]int64, rank)
	for i, x := range axes {
		begin[x], end[x] = list[i], list[len(axes)+i]
	}
	return begin, end
}

// padValue returns the scalar to pad with, zero where none is given.
func (c *call) padValue(like *array) *array {
	if c.version < 11 {
		if kindOf(like) == kindNone {
			c.unsupported("element type %v", like.dt)
		}
		return store(c, like.dt, []int64{}, []float64{c.float("value", 0)})
	}
	v := c.opt(2)
	if v == nil || v.len() == 0 {
		return c.blank(like, []int64{})
	}
	if v.len() != 1 || v.dt != like.dt {
		c.fail("the value to pad with is %v%v, want one %v", v.dt, v.shape, like.dt)
	}
	return v
}

// padModes map a position outside of an axis of size n to one inside, or to -1
// for the value to pad with. Reflection of more than n - 1 is not defined.
var padModes = map[string]func(p, n int64) int64{
	"constant": func(p, n int64) int64 { return -1 },
	"edge":     func(p, n int64) int64 { return min(max(p, 0), n-1) },
	"wrap":     func(p, n int64) int64 { return ((p % n) + n) % n },
	"reflect": func(p, n int64) int64 {
		if p < 0 {
			return -p
		}
		return 2*(n-1) - p
	},
}

func pad(c *call) []*array {
	a := c.input(0)
	begin, end := c.padding(a.rank())
	name := c.str("mode", "constant")
	mode := padModes[name]
	if mode == nil || name == "wrap" && c.version < 19 {
		c.fail("attribute \"mode\" is %q", name)
	}
	shape := slices.Clone(a.shape)
	for i, n := range a.shape {
		if begin[i] < -n || end[i] < -n || begin[i] > 1<<40 || end[i] > 1<<40 || n+begin[i]+end[i] < 0 {
			c.fail("pads %v and %v of shape %v", begin, end, a.shape)
		}
		shape[i] += begin[i] + end[i]
		most := max(begin[i], end[i])
		switch {
		case name == "constant":
		case min(begin[i], end[i]) < 0:
			c.unsupported("negative pads with mode %q", name)
		case n == 0 && most > 0 || name == "reflect" && most >= max(n, 1):
			c.unsupported("pads of %d with mode %q for an axis of size %d", most, name, n)
		}
	}
	return one(c.padded(a, shape, begin, mode))
}

// padded reads a at the positions of shape, begin from its own.
func (c *call) padded(a *array, shape, begin []int64, mode func(p, n int64) int64) *array {
	value, st := c.padValue(a), strides(a.shape)
	out := c.blank(a, shape)
	pos := make([]int64, len(shape))
	for i := range product(shape) {
		from := 0
		for d, p := range pos {
			if p -= begin[d]; p < 0 || p >= a.shape[d] {
				p = mode(p, a.shape[d])
			}
			if p < 0 {
				from = -1
				break
			}
			from += int(p) * st[d]
		}
		if from < 0 {
			copyElems(out, i, value, 0, 1)
		} else {
			copyElems(out, i, a, from, 1)
		}
		next(pos, shape)
	}
	return out
}

// eyeLike makes a matrix with ones on one diagonal.
func eyeLike(c *call) []*array {
	a := c.input(0)
	dt := onnx.DType(c.int("dtype", int64(a.dt)))
	if a.rank() != 2 || !dt.IsFloat() && !dt.IsInt() && dt != onnx.Bool {
		c.unsupported("%v of shape %v", dt, a.shape)
	}
	out := make([]float64, c.count(dt, a.shape))
	k := c.int("k", 0)
	for row := range a.shape[0] {
		if col := row + k; col >= 0 && col < a.shape[1] {
			out[row*a.shape[1]+col] = 1
		}
	}
	return one(store(c, dt, a.shape, out))
}

package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// shapeOperators compute shapes or give content another shape.
func shapeOperators() []operator {
	return []operator{
		{"Identity", 1, latest, "", identity},
		{"Dropout", 6, 6, "ratio is_test", dropout},
		{"Dropout", 7, 11, "ratio", dropout},
		{"Dropout", 12, latest, "seed", dropout},
		{"Shape", 1, latest, "start end", shapeOf},
		{"Size", 1, latest, "", sizeOf},
		{"Reshape", 1, 4, "shape consumed_inputs", reshape},
		{"Reshape", 5, latest, "allowzero", reshape},
		{"Flatten", 1, latest, "axis", flatten},
		{"Squeeze", 1, 12, "axes", squeeze},
		{"Squeeze", 13, latest, "", squeeze},
		{"Unsqueeze", 1, 12, "axes", unsqueeze},
		{"Unsqueeze", 13, latest, "", unsqueeze},
	}
}

// identity passes on a value of any kind.
func identity(c *call) []*array {
	if len(c.in) == 0 || c.in[0] == nil {
		c.fail("input 0 is missing")
	}
	return one(c.in[0])
}

// dropout lets everything through: training is not computed.
func dropout(c *call) []*array {
	x := c.input(0)
	if c.version < 7 && c.int("is_test", 0) == 0 {
		c.unsupported("training")
	}
	if t := c.opt(2); c.version >= 12 && t != nil && c.truth(t, "training_mode") {
		c.unsupported("training")
	}
	if c.n.Output(1) == nil {
		return one(x)
	}
	if c.version < 10 {
		c.unsupported("a mask of %v", x.dt)
	}
	mask := make([]int64, c.count(onnx.Bool, x.shape))
	for i := range mask {
		mask[i] = 1
	}
	return []*array{x, store(c, onnx.Bool, x.shape, mask)}
}

// int64s makes an Int64 array.
func (c *call) int64s(shape []int64, v []int64) *array { return store(c, onnx.Int64, shape, v) }

func shapeOf(c *call) []*array {
	s := c.input(0).shape
	rank := int64(len(s))
	clamp := func(a int64) int64 {
		if a < 0 {
			a += rank
		}
		return min(max(a, 0), rank)
	}
	start, end := clamp(c.int("start", 0)), clamp(c.int("end", rank))
	s = s[start:max(start, end)]
	return one(c.int64s([]int64{int64(len(s))}, s))
}

func sizeOf(c *call) []*array {
	return one(c.int64s(nil, []int64{int64(c.input(0).len())}))
}

func reshape(c *call) []*array {
	a := c.input(0)
	var want []int64
	if c.version < 5 {
		want = slices.Clone(c.ints("shape"))
	} else {
		want = slices.Clone(c.intInput(1))
	}
	if c.version >= 5 && c.input(1).rank() != 1 {
		c.fail("input 1: want a vector, have rank %d", c.input(1).rank())
	}
	infer, known := -1, int64(1)
	for i, d := range want {
		switch {
		case d == 0 && c.int("allowzero", 0) == 0:
			if i >= a.rank() {
				c.fail("shape %v copies dimension %d of an input of rank %d", want, i, a.rank())
			}
			want[i] = a.shape[i]
		case d == -1 && infer >= 0:
			c.fail("shape %v has two dimensions of -1", want)
		case d == -1:
			infer = i
			continue
		case d < 0:
			c.fail("shape %v has a negative dimension", want)
		}
		if want[i] != 0 && known > (1<<62)/want[i] {
			c.fail("shape %v is too large", want)
		}
		known *= want[i]
	}
	if infer >= 0 {
		if known == 0 || int64(a.len())%known != 0 {
			c.fail("shape %v does not fit %d elements", want, a.len())
		}
		want[infer] = int64(a.len()) / known
	}
	if n, ok := onnx.ElementCount(want); !ok || n != int64(a.len()) {
		c.fail("shape %v does not fit %d elements", want, a.len())
	}
	return one(a.reshaped(want))
}

func flatten(c *call) []*array {
	a := c.input(0)
	axis, rank := c.int("axis", 1), int64(a.rank())
	if axis < 0 && c.version >= 11 {
		axis += rank
	}
	if axis < 0 || axis > rank {
		c.fail("axis %d is not within rank %d", axis, rank)
	}
	return one(a.reshaped([]int64{int64(product(a.shape[:axis])), int64(product(a.shape[axis:]))}))
}

// axesArg returns the axes of Squeeze, Unsqueeze and the reductions: an
// attribute before version from, input 1 from then on; nil where absent.
func (c *call) axesArg(from int64) []int64 {
	if c.version < from {
		return c.ints("axes")
	}
	if c.opt(1) == nil {
		return nil
	}
	if v := c.intInput(1); v != nil {
		return v
	}
	return []int64{}
}

func squeeze(c *call) []*array {
	a := c.input(0)
	list := c.axesArg(13)
	if list != nil && len(list) == 0 {
		c.unsupported("axes of which there are none: to some that is nothing, to others all of size 1")
	}
	drop := make([]bool, a.rank())
	for _, x := range c.axes(list, a.rank()) {
		if a.shape[x] != 1 {
			c.fail("axis %d has size %d, want 1", x, a.shape[x])
		}
		drop[x] = true
	}
	shape := []int64{}
	for i, d := range a.shape {
		if !drop[i] && (list != nil || d != 1) {
			shape = append(shape, d)
		}
	}
	return one(a.reshaped(shape))
}

func unsqueeze(c *call) []*array {
	a := c.input(0)
	list := c.axesArg(13)
	if list == nil {
		c.fail("axes are missing")
	}
	shape := make([]int64, a.rank()+len(list))
	for _, x := range c.axes(list, len(shape)) {
		shape[x] = 1
	}
	rest := a.shape
	for i := range shape {
		if shape[i] == 0 {
			shape[i], rest = rest[0], rest[1:]
		} else {
			shape[i] = 1
		}
	}
	return one(a.reshaped(shape))
}

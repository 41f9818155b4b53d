package eval

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// input returns input i, which must be given.
func (c *call) input(i int) *array {
	a := c.opt(i)
	if a == nil {
		c.fail("input %d is missing", i)
	}
	return a
}

// opt returns input i, nil where it is omitted; it must be a tensor.
func (c *call) opt(i int) *array {
	if i >= len(c.in) || c.in[i] == nil {
		return nil
	}
	if a := c.in[i]; a.seq != nil || a.absent {
		c.unsupported("input %d is a sequence or an optional value", i)
	}
	return c.in[i]
}

// attr returns the attribute called name with its reference resolved, nil if
// there is none.
func (c *call) attr(name string) *onnx.Attr {
	a := c.n.Attr(name)
	if a == nil || a.Ref == "" {
		return a
	}
	if c.scope == nil {
		c.unsupported("attribute %q refers to attribute %q of a function", name, a.Ref)
	}
	return c.scope.attrs[a.Ref]
}

// typed returns the attribute called name, nil if there is none; it must be of type t.
func (c *call) typed(name string, t onnx.AttrType) *onnx.Attr {
	a := c.attr(name)
	if a != nil && a.Type != t {
		c.fail("attribute %q: want %v, have %v", name, t, a.Type)
	}
	return a
}

func (c *call) int(name string, def int64) int64 {
	if a := c.typed(name, onnx.AttrInt); a != nil {
		return a.I
	}
	return def
}

func (c *call) float(name string, def float32) float64 {
	if a := c.typed(name, onnx.AttrFloat); a != nil {
		return float64(a.F)
	}
	return float64(def)
}

// str returns a string attribute.
func (c *call) str(name, def string) string {
	if a := c.typed(name, onnx.AttrString); a != nil {
		return string(a.S)
	}
	return def
}

// ints returns an ints attribute, nil where there is none.
func (c *call) ints(name string) []int64 {
	a := c.typed(name, onnx.AttrInts)
	if a == nil {
		return nil
	}
	if a.Ints == nil {
		return []int64{}
	}
	return a.Ints
}

// has reports whether the attribute is given.
func (c *call) has(name string) bool { return c.attr(name) != nil }

// checkAttrs refuses attributes that the operator's row does not name.
func (c *call) checkAttrs(op *operator) {
	known := strings.Fields(op.attrs)
	for _, a := range c.n.Attrs {
		if !slices.Contains(known, a.Name) {
			c.unsupported("attribute %q is not known", a.Name)
		}
	}
}

// intInput returns the elements of integer input i.
func (c *call) intInput(i int) []int64 {
	a := c.input(i)
	if a.dt != onnx.Int64 && a.dt != onnx.Int32 {
		c.fail("input %d: want int64 elements, have %v", i, a.dt)
	}
	return load[int64](a)
}

// scalar returns the one element of integer input i.
func (c *call) scalar(i int) int64 {
	v := c.intInput(i)
	if len(v) != 1 {
		c.fail("input %d: want one element, have %d", i, len(v))
	}
	return v[0]
}

// axis resolves a against rank.
func (c *call) axis(a int64, rank int) int {
	r := int64(rank)
	if a < -r || a >= r {
		c.fail("axis %d is not within rank %d", a, rank)
	}
	if a < 0 {
		a += r
	}
	return int(a)
}

// axes resolves a list of axes against rank and refuses repetitions.
func (c *call) axes(list []int64, rank int) []int {
	out := make([]int, 0, min(len(list), rank))
	seen := make([]bool, rank)
	for _, a := range list {
		x := c.axis(a, rank)
		if seen[x] {
			c.fail("axis %d is given twice", a)
		}
		seen[x] = true
		out = append(out, x)
	}
	return out
}

// count returns the number of elements of shape after charging the node with
// the memory of an output of that shape.
func (c *call) count(dt onnx.DType, shape []int64) int {
	n, ok := onnx.ElementCount(shape)
	if !ok {
		c.fail("the result would have shape %v", shape)
	}
	c.charge(n, elemBytes(dt, c.r.wide))
	return int(n)
}

// charge refuses n elements of size bytes each where they exceed the limit
// together with what the node has made so far.
func (c *call) charge(n, size int64) {
	if n > (c.r.maxBytes-c.made)/max(size, 1) {
		c.fail("the result needs more than the limit of %d bytes", c.r.maxBytes)
	}
	c.made += n * size
}

// work refuses what takes more multiplications than the limit, given as the
// sizes whose product their number is.
func (c *call) work(sizes ...int64) {
	n := int64(1)
	for _, s := range sizes {
		if s > 0 && n > c.r.maxWork/s {
			c.unsupported("it takes more than the limit of %d multiplications", c.r.maxWork)
		}
		n *= s
	}
}

// one is the result of an operator with one output.
func one(a *array) []*array { return []*array{a} }

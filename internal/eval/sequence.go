package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// sequenceOperators make and take apart sequences of arrays, and optional values.
func sequenceOperators() []operator {
	return []operator{
		{"SequenceEmpty", 11, latest, "dtype", func(c *call) []*array { return one(sequence(nil)) }},
		{"SequenceConstruct", 11, latest, "", sequenceConstruct},
		{"SequenceAt", 11, latest, "", func(c *call) []*array {
			list := c.list(0)
			return one(list[c.place(list, 1, len(list)-1)])
		}},
		{"SequenceInsert", 11, latest, "", sequenceInsert},
		{"SequenceErase", 11, latest, "", sequenceErase},
		{"SequenceLength", 11, latest, "", func(c *call) []*array { return one(c.int64s(nil, []int64{int64(len(c.list(0)))})) }},
		{"SplitToSequence", 11, latest, "axis keepdims", splitToSequence},
		{"ConcatFromSequence", 11, latest, "axis new_axis", concatFromSequence},
		{"Optional", 15, latest, "type", optional},
		{"OptionalHasElement", 15, latest, "", func(c *call) []*array {
			return one(store(c, onnx.Bool, nil, []int64{truthOf(len(c.in) > 0 && c.in[0] != nil && !c.in[0].absent)}))
		}},
		{"OptionalGetElement", 15, latest, "", optionalGet},
	}
}

// sequence makes the value that a sequence of arrays is.
func sequence(list []*array) *array {
	if list == nil {
		list = []*array{}
	}
	return &array{seq: list}
}

func truthOf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// list returns the elements of sequence input i.
func (c *call) list(i int) []*array {
	if i >= len(c.in) || c.in[i] == nil || c.in[i].seq == nil {
		c.fail("input %d is no sequence", i)
	}
	return c.in[i].seq
}

// place returns the position that input i names, at most last; without that
// input it is last. Negative ones count from the end.
func (c *call) place(list []*array, i, last int) int {
	if last < 0 {
		c.fail("an element of an empty sequence")
	}
	if c.opt(i) == nil {
		return last
	}
	at := c.scalar(i)
	if at < 0 {
		at += int64(len(list))
	}
	if at < 0 || at > int64(last) {
		c.fail("position %d of a sequence of %d", c.scalar(i), len(list))
	}
	return int(at)
}

func sequenceConstruct(c *call) []*array {
	var list []*array
	for i := range c.in {
		list = append(list, c.input(i))
	}
	return one(sequence(list))
}

func sequenceInsert(c *call) []*array {
	list := c.list(0)
	return one(sequence(slices.Insert(slices.Clone(list), c.place(list, 2, len(list)), c.input(1))))
}

func sequenceErase(c *call) []*array {
	list := c.list(0)
	at := c.place(list, 1, len(list)-1)
	return one(sequence(slices.Delete(slices.Clone(list), at, at+1)))
}

// splitToSequence cuts an axis in parts of given sizes, of one size, or of 1,
// which lose the axis unless keepdims.
func splitToSequence(c *call) []*array {
	a := c.input(0)
	axis := c.axis(c.int("axis", 0), a.rank())
	rest := a.shape[axis]
	var sizes []int64
	switch s := c.opt(1); {
	case s != nil && s.rank() > 0:
		sizes = c.intInput(1)
	default:
		each := int64(1)
		if s != nil {
			each = c.scalar(1)
		}
		if each < 1 {
			c.fail("parts of size %d", each)
		}
		for n := rest; n > 0; n -= each {
			sizes = append(sizes, min(each, n))
		}
	}
	var list []*array
	at := int64(0)
	for _, n := range sizes {
		if n < 0 || n > rest-at {
			c.fail("parts of sizes %v for an axis of size %d", sizes, rest)
		}
		p := c.part(a, axis, at, n)
		if c.opt(1) == nil && c.int("keepdims", 1) == 0 {
			p = p.reshaped(slices.Delete(slices.Clone(p.shape), axis, axis+1))
		}
		list = append(list, p)
		at += n
	}
	if at != rest {
		c.fail("parts of sizes %v for an axis of size %d", sizes, rest)
	}
	return one(sequence(list))
}

func concatFromSequence(c *call) []*array {
	list := slices.Clone(c.list(0))
	if len(list) == 0 {
		c.fail("an empty sequence")
	}
	fresh, rank := c.int("new_axis", 0) != 0, list[0].rank()
	axis := c.axis(c.int("axis", 0), rank+int(truthOf(fresh)))
	for i, a := range list {
		if a.rank() != rank {
			c.fail("element %d has shape %v", i, a.shape)
		}
		if fresh {
			list[i] = a.reshaped(slices.Insert(slices.Clone(a.shape), axis, 1))
		}
	}
	return one(c.joined(list, axis))
}

func optional(c *call) []*array {
	if len(c.in) > 0 && c.in[0] != nil {
		return one(c.in[0])
	}
	return one(&array{absent: true})
}

func optionalGet(c *call) []*array {
	if len(c.in) == 0 || c.in[0] == nil || c.in[0].absent {
		c.fail("the optional value has no element")
	}
	return one(c.in[0])
}

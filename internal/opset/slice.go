package opset

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// span is what Slice takes of one axis; nil fields are unknown.
type span struct{ start, end, step *expr }

func inferSlice(c *call) {
	s := c.shape(0)
	if s == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	spans, ok := c.spans(len(s))
	if !ok {
		c.set(0, c.elem(0), unknownShape(len(s)))
		return
	}
	out := append(onnx.Shape{}, s...)
	for a, p := range spans {
		out[a] = c.asDim(p.length(c.ex(s[a])))
	}
	c.set(0, c.elem(0), out)
	if len(s) == 1 && out[0].Known() {
		c.setInts(0, pick(c.ints(0), spans, out[0].Value))
		c.setFloats(0, pick(c.floats(0), spans, out[0].Value))
	}
}

// spans returns what is taken of each sliced axis; false where the axes are not known.
func (c *call) spans(rank int) (map[int]span, bool) {
	var starts, ends, steps []*expr
	axes, given, ok := []int64(nil), false, true
	if c.ver() < 10 {
		starts, ends = constants(c.intList("starts")), constants(c.intList("ends"))
		axes = c.intList("axes")
		given = axes != nil
	} else {
		starts, ends, steps = c.ints(1), c.ints(2), c.ints(4)
		if given = c.has(3); given {
			axes, ok = c.numbers(3)
		}
	}
	n := len(starts)
	if starts == nil {
		n = len(ends)
	}
	if !given {
		if starts == nil && ends == nil {
			return nil, false
		}
		for i := range n {
			axes = append(axes, int64(i))
		}
	}
	at, inRange := axesOf(axes, rank)
	if !ok || !inRange {
		return nil, false
	}
	out := map[int]span{}
	for i, a := range at {
		p := span{start: element(starts, i), end: element(ends, i), step: constant(1)}
		if c.ver() >= 10 && c.has(4) {
			p.step = element(steps, i)
		}
		out[a] = p
	}
	return out, true
}

func element(e []*expr, i int) *expr {
	if i < len(e) {
		return e[i]
	}
	return nil
}

// length returns how many of size elements the span takes. Symbols are taken to
// be at least 1 (see the package comment).
func (p span) length(size *expr) *expr {
	step, ok := p.step.known()
	if !ok || step == 0 || step == math.MinInt64 || size == nil {
		return nil
	}
	low, high := constant(0), size
	if step < 0 {
		low, high = constant(-1), sub(size, constant(1))
	}
	start, end := clampIndex(p.start, size, low, high), clampIndex(p.end, size, low, high)
	dist := sub(end, start)
	if step < 0 {
		dist, step = sub(start, end), -step
	}
	n := neg(floorDiv(neg(dist), constant(step)))
	if n == nil {
		return nil
	}
	return maxOf(constant(0), n, 1)
}

// clampIndex resolves an index against size, counting from the end where it is
// negative, and moves it into [low, high].
func clampIndex(i, size, low, high *expr) *expr {
	if i == nil || size == nil {
		return nil
	}
	if n, ok := i.known(); ok && n >= math.MaxInt32 {
		return high
	} else if ok && n <= math.MinInt32 {
		return low
	}
	if lo, ok := i.bound(1); ok && lo >= 0 {
		return minOf(i, high, 1)
	}
	if lo, ok := neg(i).bound(1); ok && lo > 0 {
		return maxOf(add(i, size), low, 1)
	}
	return nil
}

// pick returns the elements that a span of constants takes from a 1-D content
// of n results; nil where it is not known.
func pick[T any](content []T, spans map[int]span, n int64) []T {
	if content == nil {
		return nil
	}
	p, ok := spans[0]
	if !ok {
		return content
	}
	step, ok1 := p.step.known()
	size := constant(int64(len(content)))
	low, high := constant(0), size
	if step < 0 {
		low, high = constant(-1), sub(size, constant(1))
	}
	start, ok2 := clampIndex(p.start, size, low, high).known()
	if !ok1 || !ok2 {
		return nil
	}
	out := make([]T, 0, n)
	for i := range n {
		at := start + i*step
		if at < 0 || at >= int64(len(content)) {
			return nil
		}
		out = append(out, content[at])
	}
	return out
}

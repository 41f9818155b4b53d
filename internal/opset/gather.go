package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// gatherRows are the operators that select, scatter, sort and count elements.
func gatherRows() []row {
	return []row{
		{"Gather", "1 11 13", "data indices", "output", "axis:int=0", 0, inferGather, nil},
		{"GatherElements", "11 13", "data indices", "output", "axis:int=0", 0, func(c *call) { c.set(0, c.elem(0), c.shape(1)) }, nil},
		{"GatherND", "11 12 13", "data indices", "output", "batch_dims:int=0@12", 0, inferGatherND, nil},
		{"Scatter", "9 11!", "data indices updates", "output", "axis:int=0", 0, sameAsFirst, nil},
		{"ScatterElements", "11 13 16 18", "data indices updates", "output", "axis:int=0 reduction:string=none@16", 0, sameAsFirst, nil},
		{"ScatterND", "11 13 16 18", "data indices updates", "output", "reduction:string=none@16", 0, inferScatterND, nil},
		{"TensorScatter", "24", "past_cache update write_indices?", "present_cache", "axis:int=-2 mode:string=linear", 0, sameAsFirst, nil},
		{"Compress", "9 11", "input condition", "output", "axis:int", 0, inferCompress, nil},
		{"NonZero", "9 13", "X", "Y", "", 0, inferNonZero, nil},
		{"OneHot", "9 11", "indices depth values", "output", "axis:int=-1", 0, inferOneHot, nil},
		{"TopK", "1 10 11 24", "X|10:X K", "Values Indices", "axis:int=-1 k:int!@..9 largest:int=1@11 sorted:int=1@11", 0, inferTopK, nil},
		{"Unique", "11", "X", "Y indices? inverse_indices? counts?", "axis:int sorted:int=1", 0, inferUnique, nil},
		{"ReverseSequence", "10", "input sequence_lens", "Y", "batch_axis:int=1 time_axis:int=0", 0, sameAsFirst, nil},
		{"Trilu", "14", "input k?", "output", "upper:int=1", 0, sameAsFirst, nil},
		{"CumSum", "11 14", "x axis", "y", "exclusive:int=0 reverse:int=0", 0, sameAsFirst, perOutput(1)},
		{"CumProd", "26", "x axis", "y", "exclusive:int=0 reverse:int=0", 0, sameAsFirst, perOutput(1)},
		{"NonMaxSuppression", "10 11", "boxes scores max_output_boxes_per_class? iou_threshold? score_threshold?", "selected_indices",
			"center_point_box:int=0", 0, func(c *call) { c.set(0, onnx.Int64, onnx.Shape{onnx.Symbol(""), onnx.Fixed(3)}) }, nil},
	}
}

func inferGather(c *call) {
	s, idx := c.shape(0), c.shape(1)
	axis, ok := axisOf(c.int("axis"), len(s))
	if s == nil || idx == nil || !ok {
		c.set(0, c.elem(0), nil)
		return
	}
	c.set(0, c.elem(0), concatShape(s[:axis], idx, s[axis+1:]))
	if at, ok := c.numbers(1); ok && len(s) == 1 {
		c.setInts(0, take(c.ints(0), at))
		c.setFloats(0, take(c.floats(0), at))
	}
}

// take returns the elements of content at the given places, counted from the
// end where negative; nil where content is nil or a place is outside.
func take[T any](content []T, at []int64) []T {
	if content == nil {
		return nil
	}
	out := make([]T, len(at))
	for i, k := range at {
		j, ok := axisOf(k, len(content))
		if !ok {
			return nil
		}
		out[i] = content[j]
	}
	return out
}

// inferGatherND: indices [.., k] over data with b batch dimensions give
// indices[:-1] followed by data[b+k:].
func inferGatherND(c *call) {
	data, idx := c.shape(0), c.shape(1)
	b := c.int("batch_dims")
	c.set(0, c.elem(0), nil)
	if data == nil || len(idx) == 0 || b < 0 || b >= int64(len(idx)) {
		return
	}
	k := idx[len(idx)-1]
	if !k.Known() || k.Value > int64(len(data))-b {
		return
	}
	c.set(0, c.elem(0), concatShape(idx[:len(idx)-1], data[b+k.Value:]))
}

// inferScatterND follows the content where one run of a 1-D tensor is replaced.
func inferScatterND(c *call) {
	sameAsFirst(c)
	data, updates := c.ints(0), c.ints(2)
	at, ok := c.numbers(1)
	if data == nil || updates == nil || !ok || len(c.shape(0)) != 1 || len(at) != len(updates) || c.str("reduction") == "add" {
		return
	}
	if r := c.str("reduction"); r != "" && r != "none" {
		return
	}
	out := append([]*expr{}, data...)
	for i, k := range at {
		j, ok := axisOf(k, len(out))
		if !ok {
			return
		}
		out[j] = updates[i]
	}
	c.setInts(0, out)
}

func inferCompress(c *call) {
	axis, given := c.maybeInt("axis")
	if !given {
		c.set(0, c.elem(0), unknownShape(1))
		return
	}
	s := append(onnx.Shape(nil), c.shape(0)...)
	a, ok := axisOf(axis, len(s))
	if !ok {
		c.set(0, c.elem(0), nil)
		return
	}
	s[a] = onnx.Symbol("")
	if cond, ok := c.numbers(1); ok && s != nil && c.dim(0, a).Known() && int64(len(cond)) <= c.dim(0, a).Value {
		n := int64(0)
		for _, x := range cond {
			if x != 0 {
				n++
			}
		}
		s[a] = onnx.Fixed(n)
	}
	c.set(0, c.elem(0), s)
}

func inferNonZero(c *call) {
	s := unknownShape(2)
	if in := c.shape(0); in != nil {
		s[0] = onnx.Fixed(int64(len(in)))
	}
	c.set(0, onnx.Int64, s)
}

func inferOneHot(c *call) {
	s := c.shape(0)
	axis, ok := axisOf(c.int("axis"), len(s)+1)
	if s == nil || !ok {
		c.set(0, c.elem(2), nil)
		return
	}
	depth := onnx.Symbol("")
	if d := c.ints(1); len(d) == 1 {
		depth = c.asDim(d[0])
	}
	c.set(0, c.elem(2), concatShape(s[:axis], onnx.Shape{depth}, s[axis:]))
}

func inferTopK(c *call) {
	s := append(onnx.Shape(nil), c.shape(0)...)
	axis, ok := axisOf(c.int("axis"), len(s))
	if !ok {
		c.set(0, c.elem(0), nil)
		c.set(1, onnx.Int64, nil)
		return
	}
	s[axis] = onnx.Symbol("")
	if c.ver() < 10 {
		s[axis] = c.asDim(constant(c.int("k")))
	} else if k := c.ints(1); len(k) == 1 {
		s[axis] = c.asDim(k[0])
	}
	c.set(0, c.elem(0), s)
	c.set(1, onnx.Int64, s)
}

func inferUnique(c *call) {
	s := append(onnx.Shape(nil), c.shape(0)...)
	n := c.asDim(c.f.sym.unknown(0))
	if axis, given := c.maybeInt("axis"); !given {
		s = onnx.Shape{n}
	} else if a, ok := axisOf(axis, len(s)); ok {
		s[a] = n
	} else {
		s = nil
	}
	inverse := unknownShape(1)
	if axis, given := c.maybeInt("axis"); given && s != nil {
		inverse[0] = c.dim(0, int(axis))
	} else if in := c.shape(0); in != nil && !given {
		inverse[0] = c.asDim(c.product(in))
	}
	c.set(0, c.elem(0), s)
	c.set(1, onnx.Int64, onnx.Shape{n})
	c.set(2, onnx.Int64, inverse)
	c.set(3, onnx.Int64, onnx.Shape{n})
}

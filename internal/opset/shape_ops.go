package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// shapeRows are the operators that change the shape of data or move it.
func shapeRows() []row {
	return []row{
		{"Identity", "1 13 14 16 19 21 23 24 25", "input", "output", "", Elementwise, func(c *call) { c.same(0, 0) }, nil},
		{"Reshape", "1 5 13 14 19 21 23 24 25", "data|5:data shape", "reshaped",
			"consumed_inputs:ints@..4 shape:ints@..4 allowzero:int=0@14", 0, inferReshape, nil},
		{"Flatten", "1 9 11 13 21 23 24 25", "input", "output", "axis:int=1", 0, inferFlatten, nil},
		{"Squeeze", "1 11 13 21 23 24 25", "data|13:data axes?", "squeezed", "axes:ints@..12", 0, inferSqueeze, nil},
		{"Unsqueeze", "1 11 13 21 23 24 25", "data|13:data axes", "expanded", "axes:ints!@..12", 0, inferUnsqueeze, nil},
		{"Transpose", "1 13 21 23 24 25", "data", "transposed", "perm:ints", 0, inferTranspose, nil},
		{"Concat", "1 4 11 13", "inputs+", "concat_result", "axis:int@..3 axis:int!@4", 0, inferConcat, nil},
		{"Split", "1 2 11 13 18", "input split?|2:input|13:input split?", "outputs...+|2:outputs+",
			"axis:int@..1 split:ints@..12 axis:int=0@2 num_outputs:int@18", 0, inferSplit, nil},
		{"Slice", "1 10 11 13", "data|10:data starts ends axes? steps?", "output", "axes:ints@..9 ends:ints!@..9 starts:ints!@..9", 0, inferSlice, nil},
		{"Expand", "8 13", "input shape", "output", "", 0, inferExpand, nil},
		{"Tile", "1 6 13", "input tiles axis|6:input repeats", "output", "", 0, inferTile, nil},
		{"Pad", "1 2 11 13 18 19 21 23 24 25", "data|11:data pads constant_value?|18:data pads constant_value? axes?", "output",
			"mode:string=constant paddings:ints!@..1 value:float=0@..10 pads:ints!@2..10", 0, inferPad, nil},
		{"DepthToSpace", "1 11 13", "input", "output", "blocksize:int! mode:string=DCR@11", 0, inferDepthToSpace, nil},
		{"SpaceToDepth", "1 13", "input", "output", "blocksize:int!", 0, inferSpaceToDepth, nil},
		{"CenterCropPad", "18", "input_data shape", "output_data", "axes:ints", 0, inferCenterCropPad, nil},
	}
}

// lengthOf returns the number of elements of the 1-D input i, false if it is
// unknown or more than a shape can have.
func (c *call) lengthOf(i int) (int, bool) {
	s := c.shape(i)
	if len(s) != 1 || !s[0].Known() || s[0].Value > maxRank {
		return 0, false
	}
	return int(s[0].Value), true
}

// shapeFrom returns the shape whose sizes are the elements of 1-D input i;
// nil where not even their number is known.
func (c *call) shapeFrom(i int) onnx.Shape {
	if e := c.ints(i); e != nil && len(c.shape(i)) == 1 {
		return c.asShape(e)
	}
	if n, ok := c.lengthOf(i); ok {
		return unknownShape(n)
	}
	return nil
}

func inferReshape(c *call) {
	var want []*expr
	if c.ver() < 5 {
		want = constants(c.intList("shape"))
	} else if want = c.ints(1); want == nil || len(c.shape(1)) != 1 {
		if n, ok := c.lengthOf(1); ok {
			c.set(0, c.elem(0), unknownShape(n))
			return
		}
		c.set(0, c.elem(0), nil)
		return
	}
	in := c.shape(0)
	zero := c.ver() >= 14 && c.int("allowzero") != 0
	out := make([]*expr, len(want))
	minus, rest := -1, constant(1)
	for i, e := range want {
		switch {
		case e.is(-1) && minus < 0:
			minus = i
			continue
		case e.is(0) && !zero:
			if e = nil; i < len(in) {
				e = c.ex(in[i])
			}
		case e != nil && !isConst(e) && !sized(e):
			e = nil // it may be 0 or -1, which mean something else
		}
		out[i] = e
		rest = mul(rest, e)
	}
	if minus >= 0 && in != nil {
		out[minus] = c.reshapeRest(in, want, out, rest)
	}
	if in != nil && minus < 0 {
		c.oneUnknown(out, c.product(in))
	}
	c.set(0, c.elem(0), c.asShape(out))
	if sameCount(c.ints(0), c.out[0].typ.Shape) {
		c.setInts(0, c.ints(0))
	}
}

// sized reports whether an expression is certainly at least 1 if symbols are.
func sized(e *expr) bool { lo, ok := e.bound(1); return ok && lo >= 1 }

// reshapeRest returns the size that -1 stands for: the quotient of the input's
// size and the other sizes, after cancelling the dimensions copied by 0.
func (c *call) reshapeRest(in onnx.Shape, want, out []*expr, rest *expr) *expr {
	if rest != nil && !rest.is(0) {
		if total := c.product(in); total != nil {
			return quotient(total, rest)
		}
	}
	total, rest := constant(1), constant(1)
	used := make([]bool, len(in))
	for i, e := range want {
		if e.is(-1) {
			continue
		}
		if e.is(0) && i < len(in) {
			used[i] = true
			continue
		}
		rest = mul(rest, out[i])
	}
	for i, d := range in {
		if !used[i] {
			total = mul(total, c.ex(d))
		}
	}
	if rest == nil || rest.is(0) {
		return nil
	}
	return quotient(total, rest)
}

// oneUnknown fills in the one unknown size of a shape whose element count is known.
func (c *call) oneUnknown(out []*expr, total *expr) {
	at, rest := -1, constant(1)
	for i, e := range out {
		if e != nil {
			rest = mul(rest, e)
		} else if at >= 0 {
			return
		} else {
			at = i
		}
	}
	if at >= 0 && rest != nil && !rest.is(0) {
		if q, ok := divide(total, rest); ok {
			out[at] = q
		}
	}
}

// sameCount reports whether content e fits the static shape s.
func sameCount(e []*expr, s onnx.Shape) bool {
	dims, ok := s.Static()
	if !ok || e == nil {
		return false
	}
	n, ok := onnx.ElementCount(dims)
	return ok && n == int64(len(e))
}

func inferFlatten(c *call) {
	s := c.shape(0)
	axis := c.int("axis")
	if axis < 0 && c.ver() >= 11 {
		axis += int64(len(s))
	}
	if s == nil || axis < 0 || axis > int64(len(s)) {
		c.set(0, c.elem(0), unknownShape(2))
		return
	}
	c.set(0, c.elem(0), onnx.Shape{c.asDim(c.product(s[:axis])), c.asDim(c.product(s[axis:]))})
}

// axes returns the axes of a node from the input at index i where the form has
// one, else from the attribute; ok is false where they are given but not known,
// given false where they are absent.
func (c *call) axes(name string, i int) (axes []int64, given, ok bool) {
	if c.op.Input(i) == nil || c.op.Attr(name) != nil {
		axes = c.intList(name)
		return axes, axes != nil, true
	}
	if !c.has(i) {
		return nil, false, true
	}
	axes, ok = c.numbers(i)
	return axes, true, ok
}

func inferSqueeze(c *call) {
	c.set(0, c.elem(0), c.squeezed())
	if e := c.ints(0); sameCount(e, c.out[0].typ.Shape) {
		c.setInts(0, e)
	}
	c.setFloats(0, c.floats(0))
}

func (c *call) squeezed() onnx.Shape {
	s := c.shape(0)
	axes, given, ok := c.axes("axes", 1)
	if s == nil || !ok {
		if n, known := c.lengthOf(1); s != nil && given && known && n <= len(s) {
			return unknownShape(len(s) - n)
		}
		return nil
	}
	if !given {
		out := onnx.Shape{}
		for _, d := range s {
			if !d.Known() {
				return nil
			}
			if d.Value != 1 {
				out = append(out, d)
			}
		}
		return out
	}
	drop, ok := axesOf(axes, len(s))
	if !ok || len(axes) == 0 { // none given: to some that is nothing, to others all of size 1
		return nil
	}
	gone := make([]bool, len(s))
	for _, a := range drop {
		if gone[a] = true; s[a].Known() && s[a].Value != 1 {
			return nil
		}
	}
	out := onnx.Shape{}
	for i, d := range s {
		if !gone[i] {
			out = append(out, d)
		}
	}
	return out
}

func inferUnsqueeze(c *call) {
	s := c.shape(0)
	axes, _, ok := c.axes("axes", 1)
	if s == nil || !ok {
		c.set(0, c.elem(0), nil)
		if n, known := c.lengthOf(1); s != nil && known {
			c.set(0, c.elem(0), unknownShape(len(s)+n))
		}
		return
	}
	rank := len(s) + len(axes)
	at, ok := axesOf(axes, rank)
	if !ok {
		c.set(0, c.elem(0), nil)
		return
	}
	out := make(onnx.Shape, rank)
	added := make([]bool, rank)
	for _, a := range at {
		added[a] = true
	}
	k := 0
	for i := range out {
		if added[i] {
			out[i] = onnx.Fixed(1)
			continue
		}
		out[i] = s[k]
		k++
	}
	c.set(0, c.elem(0), out)
	c.setInts(0, c.ints(0))
	c.setFloats(0, c.floats(0))
}

func inferTranspose(c *call) {
	s := c.shape(0)
	perm := c.intList("perm")
	if s == nil && perm != nil {
		s = unknownShape(len(perm))
	}
	if s == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	out := make(onnx.Shape, len(s))
	if perm == nil {
		for i, d := range s {
			out[len(s)-1-i] = d
		}
	} else {
		at, ok := axesOf(perm, len(s))
		if !ok || len(at) != len(s) {
			c.set(0, c.elem(0), unknownShape(len(s)))
			return
		}
		for i, a := range at {
			out[i] = s[a]
		}
	}
	c.set(0, c.elem(0), out)
	if len(s) <= 1 {
		c.setInts(0, c.ints(0))
		c.setFloats(0, c.floats(0))
	}
}

func inferConcat(c *call) {
	n := len(c.n.Inputs())
	axis, hasAxis := c.maybeInt("axis")
	if !hasAxis {
		axis = 1
	}
	elem, rank := onnx.Undefined, -1
	for i := range n {
		if elem == onnx.Undefined {
			elem = c.elem(i)
		}
		if s := c.shape(i); s != nil {
			if rank >= 0 && rank != len(s) {
				c.set(0, elem, nil)
				return
			}
			rank = len(s)
		}
	}
	at, ok := axisOf(axis, rank)
	if rank < 0 || !ok {
		c.set(0, elem, nil)
		return
	}
	c.set(0, elem, c.concatShape(at, rank))
	if rank == 1 {
		c.setInts(0, c.concatInts())
	}
}

// concatShape adds the inputs' sizes along axis; elsewhere they are equal, so
// the best known one is taken.
func (c *call) concatShape(axis, rank int) onnx.Shape {
	out := unknownShape(rank)
	sum := constant(0)
	for i := range c.n.Inputs() {
		s := c.shape(i)
		if s == nil {
			sum = nil
			continue
		}
		sum = add(sum, c.ex(s[axis]))
		for j, d := range s {
			if j != axis {
				out[j] = c.sharper(out[j], d)
			}
		}
	}
	out[axis] = c.asDim(sum)
	return out
}

// sharper returns the more informative of two dimensions that are equal: a
// number, then an expression without fresh symbols, then any.
func (c *call) sharper(a, b onnx.Dim) onnx.Dim {
	switch {
	case a.Known() || isUnknown(b):
		return a
	case b.Known() || isUnknown(a):
		return b
	case c.ex(a).fresh() > 0:
		return b
	}
	return a
}

// concatInts joins the content of 1-D inputs; elements of inputs of known
// length but unknown content are unknown.
func (c *call) concatInts() []*expr {
	out := []*expr{}
	for i := range c.n.Inputs() {
		if e := c.ints(i); e != nil {
			out = append(out, e...)
		} else if n, ok := c.lengthOf(i); ok {
			out = append(out, make([]*expr, n)...)
		} else {
			return nil
		}
		if len(out) > maxElems {
			return nil
		}
	}
	return out
}

func inferSplit(c *call) {
	outs := len(c.n.Outputs())
	s := c.shape(0)
	axis, ok := axisOf(c.int("axis"), len(s))
	if s == nil || !ok {
		for i := range outs {
			c.set(i, c.elem(0), nil)
		}
		return
	}
	sizes := c.splitSizes(c.ex(s[axis]), outs)
	values := c.ints(0)
	for i := range outs {
		t := append(onnx.Shape{}, s...)
		t[axis] = onnx.Symbol("")
		if sizes != nil {
			t[axis] = c.asDim(sizes[i])
		}
		c.set(i, c.elem(0), t)
		if n, ok := t[axis].Value, t[axis].Known(); values != nil && len(s) == 1 {
			if !ok || n > int64(len(values)) {
				values = nil
				continue
			}
			c.setInts(i, values[:n])
			values = values[n:]
		}
	}
}

// splitSizes returns the size of each of n parts; nil where it is not known.
func (c *call) splitSizes(total *expr, n int) []*expr {
	if c.op.Attr("split") != nil || c.ver() < 2 {
		if list := c.intList("split"); list != nil {
			return exactly(constants(list), n)
		}
	}
	if c.op.Input(1) != nil && c.has(1) {
		return exactly(c.ints(1), n)
	}
	out := make([]*expr, n)
	if k, ok := total.known(); ok && c.ver() >= 18 {
		parts, given := c.maybeInt("num_outputs")
		if !given {
			parts = int64(n)
		}
		if parts != int64(n) || n == 0 {
			return nil
		}
		chunk := (k + parts - 1) / parts
		for i := range out {
			out[i] = constant(max(0, min(chunk, k-int64(i)*chunk)))
		}
		return out
	}
	if c.ver() >= 18 {
		return nil
	}
	for i := range out {
		out[i] = quotient(total, constant(int64(n)))
	}
	return out
}

func exactly(e []*expr, n int) []*expr {
	if len(e) != n {
		return nil
	}
	return e
}

func inferExpand(c *call) {
	target := c.shapeFrom(1)
	if target != nil {
		for i, e := range c.ints(1) {
			if e != nil && !isConst(e) && !sized(e) {
				target[i] = onnx.Symbol("")
			}
		}
	}
	s := c.broadcast(c.shape(0), target)
	c.set(0, c.elem(0), s)
	if at, ok := c.aligned(s, 0); ok && c.ints(0) != nil {
		out := make([]*expr, len(at[0]))
		for i, k := range at[0] {
			out[i] = c.ints(0)[k]
		}
		c.setInts(0, out)
	}
}

func inferTile(c *call) {
	s := c.shape(0)
	if s == nil {
		c.set(0, c.elem(0), nil)
		if n, ok := c.lengthOf(1); ok && c.ver() >= 6 {
			c.set(0, c.elem(0), unknownShape(n))
		}
		return
	}
	out := unknownShape(len(s))
	reps := c.ints(1)
	if c.ver() >= 6 && len(reps) == len(s) {
		for i, d := range s {
			out[i] = c.asDim(mul(c.ex(d), reps[i]))
		}
	} else if axis, ok := c.number(2); c.ver() < 6 && ok && len(reps) == 1 {
		if a, ok := axisOf(axis, len(s)); ok {
			copy(out, s)
			out[a] = c.asDim(mul(c.ex(s[a]), reps[0]))
		}
	}
	c.set(0, c.elem(0), out)
}

func inferPad(c *call) {
	s := c.shape(0)
	var pads []*expr
	switch {
	case c.ver() < 2:
		pads = constants(c.intList("paddings"))
	case c.ver() < 11:
		pads = constants(c.intList("pads"))
	default:
		pads = c.ints(1)
	}
	if s == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	axes := make([]int, len(s))
	for i := range axes {
		axes[i] = i
	}
	if c.ver() >= 18 && c.has(3) {
		list, _ := c.numbers(3)
		var ok bool
		if axes, ok = axesOf(list, len(s)); !ok || list == nil {
			pads = nil
		}
	}
	if pads == nil || len(pads) != 2*len(axes) {
		c.set(0, c.elem(0), unknownShape(len(s)))
		return
	}
	out := append(onnx.Shape{}, s...)
	for i, a := range axes {
		out[a] = c.asDim(add(c.ex(s[a]), add(pads[i], pads[i+len(axes)])))
	}
	c.set(0, c.elem(0), out)
}

func inferDepthToSpace(c *call) {
	b := c.int("blocksize")
	s := c.shape(0)
	if len(s) != 4 || b <= 0 || b > 1<<20 {
		c.set(0, c.elem(0), unknownShape(4))
		return
	}
	k := constant(b)
	c.set(0, c.elem(0), onnx.Shape{s[0], c.asDim(quotient(c.ex(s[1]), constant(b*b))),
		c.asDim(mul(c.ex(s[2]), k)), c.asDim(mul(c.ex(s[3]), k))})
}

func inferSpaceToDepth(c *call) {
	b := c.int("blocksize")
	s := c.shape(0)
	if len(s) != 4 || b <= 0 || b > 1<<20 {
		c.set(0, c.elem(0), unknownShape(4))
		return
	}
	k := constant(b)
	c.set(0, c.elem(0), onnx.Shape{s[0], c.asDim(mul(c.ex(s[1]), constant(b*b))),
		c.asDim(quotient(c.ex(s[2]), k)), c.asDim(quotient(c.ex(s[3]), k))})
}

func inferCenterCropPad(c *call) {
	s := c.shape(0)
	if s == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	want := c.ints(1)
	axes := c.intList("axes")
	if axes == nil {
		for i := range s {
			axes = append(axes, int64(i))
		}
	}
	at, ok := axesOf(axes, len(s))
	if !ok || want != nil && len(want) != len(at) {
		c.set(0, c.elem(0), unknownShape(len(s)))
		return
	}
	out := append(onnx.Shape{}, s...)
	for i, a := range at {
		out[a] = onnx.Symbol("")
		if want != nil {
			out[a] = c.asDim(want[i])
		}
	}
	c.set(0, c.elem(0), out)
}

package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// relateTranspose: axis i of the output is axis perm[i] of the input.
func relateTranspose(r *relating) {
	rank := len(r.shape(0))
	perm := r.intList("perm")
	for i := range rank {
		from := rank - 1 - i
		if i < len(perm) {
			from = int(perm[i])
		}
		r.link(0, from, 0, i)
	}
}

// relateConcat: the inputs follow each other along axis.
func relateConcat(r *relating) {
	rank := len(r.f.Shape(r.n.Output(0)))
	axis, ok := axisOf(r.int("axis"), rank)
	if !ok {
		r.unknown = true
		return
	}
	y, _ := r.res(0, axis)
	at, known := 0, true
	for i := range r.n.Inputs() {
		r.passes(i, 0, axis)
		x, ok := r.in(i, axis)
		n, fixed := r.length(x)
		if known = known && ok && fixed; known {
			r.tieBy(y, true, x, true, counted(at, 1, n))
			at += n
		} else {
			r.pin(x, ok, nil, "Concat joins it to an axis of unknown size")
		}
	}
	if !known {
		r.pin(y, true, nil, "Concat joins axes of unknown size")
	}
}

// counted returns n numbers from start on, by step.
func counted(start, step, n int) []int {
	out := make([]int, max(n, 0))
	for i := range out {
		out[i] = start + i*step
	}
	return out
}

// relateSplit: the outputs follow each other along axis.
func relateSplit(r *relating) {
	axis, ok := axisOf(r.int("axis"), len(r.shape(0)))
	if !ok {
		r.unknown = true
		return
	}
	x, _ := r.in(0, axis)
	at := 0
	for o, v := range r.n.Outputs() {
		if v == nil {
			r.unknown = true
			return
		}
		r.passes(0, o, axis)
		y, okY := r.res(o, axis)
		n, known := r.length(y)
		if !known {
			r.unknown = true
			return
		}
		r.tieBy(x, true, y, okY, counted(at, 1, n))
		at += n
	}
}

// relateSlice: along a sliced axis positions are taken from start by step.
func relateSlice(r *relating) {
	shape := r.shape(0)
	starts, steps, axes, ok := r.slicing(len(shape))
	if !ok {
		r.unknown = true
		return
	}
	r.passes(0, 0, axes...)
	for i, a := range axes {
		x, okX := r.in(0, a)
		y, okY := r.res(0, a)
		n, known := r.length(x)
		k, knownY := r.length(y)
		if !known || !knownY {
			r.pin(x, okX, nil, "Slice cuts an axis of unknown size")
			r.pin(y, okY, nil, "Slice cuts an axis of unknown size")
			continue
		}
		r.tieBy(x, okX, y, okY, counted(begin(starts[i], steps[i], n), int(steps[i]), k))
	}
}

// begin resolves a start index of a slice of n positions.
func begin(start, step int64, n int) int {
	if start < 0 {
		start += int64(n)
	}
	if step < 0 {
		return int(min(max(start, 0), int64(n)-1))
	}
	return int(min(max(start, 0), int64(n)))
}

// slicing returns starts, steps and axes of a Slice where they are constant.
func (r *relating) slicing(rank int) (starts, steps []int64, axes []int, ok bool) {
	list := r.intList("axes")
	starts = r.intList("starts")
	if r.ver() >= 10 {
		if starts, ok = r.numbers(1); !ok {
			return nil, nil, nil, false
		}
		list = nil
		if r.has(3) {
			if list, ok = r.numbers(3); !ok {
				return nil, nil, nil, false
			}
		}
		if r.has(4) {
			if steps, ok = r.numbers(4); !ok {
				return nil, nil, nil, false
			}
		}
	}
	if steps == nil {
		steps = slices.Repeat([]int64{1}, len(starts))
	}
	if len(steps) != len(starts) {
		return nil, nil, nil, false
	}
	for i := range starts {
		a := int64(i)
		if list != nil {
			if len(list) != len(starts) {
				return nil, nil, nil, false
			}
			a = list[i]
		}
		j, in := axisOf(a, rank)
		if !in || steps[i] == 0 {
			return nil, nil, nil, false
		}
		axes = append(axes, j)
	}
	return starts, steps, axes, true
}

// relatePad: positions that are added have no counterpart and stay.
func relatePad(r *relating) {
	rank := len(r.shape(0))
	pads, ok := r.padding(rank)
	if !ok {
		r.unknown = true
		return
	}
	for i := range rank {
		before, after := pads[i], pads[rank+i]
		x, okX := r.in(0, i)
		y, okY := r.res(0, i)
		n, known := r.length(y)
		k, knownX := r.length(x)
		switch {
		case before == 0 && after == 0:
			r.tie(x, okX, y, okY)
		case !known || !knownX || r.str("mode") != "constant":
			r.pin(x, okX, nil, "Pad works along it")
			r.pin(y, okY, nil, "Pad works along it")
		default:
			index := make([]int, n)
			for j := range index {
				if index[j] = j - int(before); index[j] >= k {
					index[j] = -1
				}
			}
			r.tieBy(x, okX, y, okY, index)
		}
	}
}

// padding returns the pads of every axis, begins before ends.
func (r *relating) padding(rank int) ([]int64, bool) {
	pads := r.intList("pads")
	if pads == nil {
		pads = r.intList("paddings")
	}
	if r.ver() >= 11 {
		var ok bool
		if pads, ok = r.numbers(1); !ok {
			return nil, false
		}
	}
	axes := counted(0, 1, rank)
	if r.has(3) {
		list, ok := r.numbers(3)
		if !ok {
			return nil, false
		}
		axes = axes[:0]
		for _, a := range list {
			i, in := axisOf(a, rank)
			if !in {
				return nil, false
			}
			axes = append(axes, i)
		}
	}
	if len(pads) != 2*len(axes) {
		return nil, false
	}
	all := make([]int64, 2*rank)
	for i, a := range axes {
		all[a], all[rank+a] = pads[i], pads[len(axes)+i]
	}
	return all, true
}

// relateExpand: axes that keep their size pass; what is expanded from 1 stays.
func relateExpand(r *relating) {
	in, out := r.shape(0), r.f.Shape(r.n.Output(0))
	for i := range in {
		o := i + len(out) - len(in)
		if o < 0 {
			r.unknown = true
			return
		}
		switch {
		case in[i].Same(out[o]):
			r.link(0, i, 0, o)
		case in[i].Known() && in[i].Value == 1:
			r.free(r.in(0, i))
		}
	}
}

// relateTile: an axis that is repeated loses each copy of a position.
func relateTile(r *relating) {
	repeats, ok := r.numbers(1)
	if !ok || r.ver() < 6 || len(repeats) != len(r.shape(0)) {
		r.unknown = true
		return
	}
	for i, k := range repeats {
		x, okX := r.in(0, i)
		y, okY := r.res(0, i)
		n, known := r.length(x)
		m, knownY := r.length(y)
		switch {
		case k == 1:
			r.tie(x, okX, y, okY)
		case known && knownY && n > 0:
			r.tieBy(x, okX, y, okY, cycled(m, n))
		}
	}
}

// relateGather: along axis the output has the positions that the indices name;
// where they are not constant, each may be asked for.
func relateGather(r *relating) {
	data, index := r.shape(0), r.shape(1)
	axis, ok := axisOf(r.int("axis"), len(data))
	if !ok || index == nil {
		r.unknown = true
		return
	}
	for i := range data {
		switch {
		case i < axis:
			r.link(0, i, 0, i)
		case i > axis:
			r.link(0, i, 0, i-1+len(index))
		}
	}
	for i := range index {
		if len(index) != 1 || r.n.Input(1).Constant() == nil {
			r.link(1, i, 0, axis+i)
		}
	}
	r.chosen(axis, len(index))
}

// chosen relates the axis that constant indices choose from.
func (r *relating) chosen(axis, rank int) {
	x, ok := r.in(0, axis)
	n, known := r.length(x)
	list, fixed := r.numbers(1)
	if !fixed || !known || r.n.Input(1).Constant() == nil {
		r.pin(x, ok, nil, "Gather may ask for each position")
		return
	}
	index := make([]int, len(list))
	for i, j := range list {
		if j < 0 {
			j += int64(n)
		}
		if j < 0 || j >= int64(n) {
			r.unknown = true
			return
		}
		index[i] = int(j)
	}
	if rank == 1 {
		r.free(r.in(1, 0))
		y, okY := r.res(0, axis)
		r.tieBy(x, ok, y, okY, index)
		return
	}
	r.pin(x, ok, index, "Gather asks for the position")
}

// relateFill: every position holds the same, so that any may go.
func relateFill(r *relating) {
	for i := range r.f.Shape(r.n.Output(0)) {
		r.free(r.res(0, i))
	}
}

// relateSqueeze and relateUnsqueeze: all axes but those of size 1 pass, in order.
func relateSqueeze(r *relating) { r.inOrder(r.shape(0), r.f.Shape(r.n.Output(0)), true) }

func relateUnsqueeze(r *relating) { r.inOrder(r.shape(0), r.f.Shape(r.n.Output(0)), false) }

// inOrder ties axes around those that are taken out or put in.
func (r *relating) inOrder(in, out onnx.Shape, squeeze bool) {
	long, short := in, out
	if !squeeze {
		long, short = out, in
	}
	listed := r.listed(len(long))
	if listed == nil && squeeze {
		for i, d := range long {
			if d.Known() && d.Value == 1 {
				listed = append(listed, i)
			}
		}
	}
	if len(long)-len(listed) != len(short) {
		r.unknown = true
		return
	}
	j := 0
	for i := range long {
		gone := slices.Contains(listed, i)
		switch {
		case gone && squeeze:
			r.free(r.in(0, i))
		case gone:
			r.free(r.res(0, i))
		case squeeze:
			r.link(0, i, 0, j)
		default:
			r.link(0, j, 0, i)
		}
		if !gone {
			j++
		}
	}
}

// listed returns the axes of Squeeze and Unsqueeze, nil where there are none.
func (r *relating) listed(rank int) []int {
	axes := r.intList("axes")
	if r.has(1) {
		axes, _ = r.numbers(1)
	}
	var out []int
	for _, a := range axes {
		if i, ok := axisOf(a, rank); ok && !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out
}

// relateReshape finds axes that pass, and axes that are products of others.
func relateReshape(r *relating) {
	in, out := r.shape(0), r.f.Shape(r.n.Output(0))
	if in == nil || out == nil {
		r.unknown = true
		return
	}
	lo, hiIn, hiOut := r.leading(in, out)
	hiIn, hiOut = r.trailing(in, out, lo, hiIn, hiOut)
	r.block(lo, hiIn, lo, hiOut)
	for i := range in {
		if d := in[i]; d.Known() && d.Value == 1 {
			r.free(r.in(0, i))
		}
	}
	for i := range out {
		if d := out[i]; d.Known() && d.Value == 1 {
			r.free(r.res(0, i))
		}
	}
}

// leading ties axes from the left as long as their sizes are the same.
func (r *relating) leading(in, out onnx.Shape) (lo, hiIn, hiOut int) {
	for lo < len(in) && lo < len(out) && in[lo].Same(out[lo]) && (in[lo].Known() || in[lo].Param != "") {
		r.link(0, lo, 0, lo)
		lo++
	}
	return lo, len(in), len(out)
}

// trailing relates axes from the right by runs whose products are equal numbers.
func (r *relating) trailing(in, out onnx.Shape, lo, i, j int) (int, int) {
	for i > lo && j > lo {
		a, b := i, j
		pa, pb := int64(1), int64(1)
		for {
			if a < i && b < j && pa == pb {
				break
			}
			if pa <= pb && a > lo && in[a-1].Known() && (a == i || pa < pb) {
				a--
				pa *= max(in[a].Value, 1)
				continue
			}
			if pb <= pa && b > lo && out[b-1].Known() && (b == j || pb < pa) {
				b--
				pb *= max(out[b].Value, 1)
				continue
			}
			return i, j
		}
		r.block(a, i, b, j)
		i, j = a, b
	}
	return i, j
}

// block relates axes [a, b) of the input and [c, d) of the output, whose elements
// are the same in the same order: the sizes of both are taken apart into the same
// factors, from the outermost on.
func (r *relating) block(a, b, c, d int) {
	var wide, flat []Axis
	for i := a; i < b; i++ {
		if x, ok := r.in(0, i); ok && !r.unit(x) {
			wide = append(wide, x)
		}
	}
	for i := c; i < d; i++ {
		if y, ok := r.res(0, i); ok && !r.unit(y) {
			flat = append(flat, y)
		}
	}
	if len(wide) == 1 && len(flat) == 1 {
		r.tie(wide[0], true, flat[0], true)
		return
	}
	if factors, ok := r.refine(wide, flat); ok {
		r.factored(factors)
	}
}

// factor is a part of an axis of the input and of one of the output.
type factor struct {
	in, out Axis
	size    int
}

// refine takes the axes of both sides apart into the same factors; false where the
// sizes do not go into each other.
func (r *relating) refine(in, out []Axis) ([]factor, bool) {
	if !r.sized(append(slices.Clone(in), out...)) || len(in) == 0 || len(out) == 0 {
		return nil, false
	}
	var list []factor
	i, j, leftIn, leftOut := 0, 0, 1, 1
	for {
		if leftIn == 1 {
			if i == len(in) {
				return list, j == len(out) && leftOut == 1
			}
			leftIn, _ = r.length(in[i])
			i++
		}
		if leftOut == 1 {
			if j == len(out) {
				return nil, false
			}
			leftOut, _ = r.length(out[j])
			j++
		}
		f := min(leftIn, leftOut)
		if f < 2 || leftIn%f != 0 || leftOut%f != 0 {
			return nil, false
		}
		list = append(list, factor{in[i-1], out[j-1], f})
		leftIn, leftOut = leftIn/f, leftOut/f
	}
}

// factored relates axes by the factors that they have in common. A factor that is
// a whole axis is that axis; any other is an axis of no value.
func (r *relating) factored(list []factor) {
	parts := map[Axis]int{}
	for _, f := range list {
		parts[f.in]++
		parts[f.out]++
	}
	of := map[Axis][]Axis{}
	var order []Axis
	for _, f := range list {
		var a Axis
		switch {
		case parts[f.in] == 1 && parts[f.out] == 1:
			r.tie(f.in, true, f.out, true)
			continue
		case parts[f.in] == 1:
			a = f.in
		case parts[f.out] == 1:
			a = f.out
		default:
			a = Axis{nil, len(r.rel.Virtual)}
			r.rel.Virtual = append(r.rel.Virtual, f.size)
		}
		for _, x := range []Axis{f.in, f.out} {
			if x != a {
				if of[x] == nil {
					order = append(order, x)
				}
				of[x] = append(of[x], a)
			}
		}
	}
	for _, x := range order {
		r.productOf(of[x], x)
	}
}

func (r *relating) unit(a Axis) bool {
	n, ok := r.length(a)
	return ok && n == 1
}

// sized reports whether the sizes of all axes are numbers.
func (r *relating) sized(list []Axis) bool {
	for _, a := range list {
		if _, ok := r.length(a); !ok {
			return false
		}
	}
	return len(list) > 1
}

func (r *relating) productOf(factors []Axis, product Axis) {
	r.rel.Products = append(r.rel.Products, Product{factors, product})
	for _, a := range append([]Axis{product}, factors...) {
		if a.Value != nil {
			r.mentioned[a] = true
		}
	}
}

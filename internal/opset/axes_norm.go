package opset

// relateBatchNorm: one scale, bias, mean and variance per channel.
func relateBatchNorm(r *relating) {
	if len(r.n.Outputs()) > 1 || r.op.Attr("spatial") != nil && r.int("spatial") == 0 {
		r.unknown = true // running statistics, or statistics per element
		return
	}
	r.passes(0, 0)
	for i := 1; i <= 4; i++ {
		r.link(i, 0, 0, 1)
	}
}

// relateInstanceNorm: statistics are over each channel by itself.
func relateInstanceNorm(r *relating) {
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
	r.link(1, 0, 0, 1)
	r.link(2, 0, 0, 1)
}

// relateLayerNorm: statistics over the axes from axis on; scale and bias have
// those. Outputs of mean and deviation have 1 there.
func relateLayerNorm(r *relating) {
	rank := len(r.shape(0))
	axis, ok := axisOf(r.int("axis"), rank)
	if !ok {
		r.unknown = true
		return
	}
	r.passes(0, 0)
	for i := axis; i < rank; i++ {
		r.statistic(r.in(0, i))
	}
	for i := 1; i < len(r.n.Inputs()); i++ {
		r.aligned(r.n.Input(i), r.n.Output(0))
	}
	for o := 1; o < len(r.n.Outputs()); o++ {
		for i := range axis {
			r.link(0, i, o, i)
		}
		for i := axis; i < rank; i++ {
			r.free(r.res(o, i))
		}
	}
}

// relateSkipNorm: input, skip, gamma, beta and bias of the sum's normalisation
// over the last axis.
func relateSkipNorm(r *relating) {
	r.passes(0, 0)
	r.statistic(r.in(0, -1))
	for i := 1; i < len(r.n.Inputs()); i++ {
		r.aligned(r.n.Input(i), r.n.Output(0))
	}
	if len(r.n.Outputs()) > 3 && r.n.Output(3) != nil {
		r.passes(0, 3)
	}
}

// relateGroupNorm: statistics over each group of channels.
func relateGroupNorm(r *relating) {
	groups := int(r.int("num_groups"))
	x, ok := r.in(0, 1)
	if groups <= 0 {
		r.unknown = true
		return
	}
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
	r.even(x, ok, groups)
	r.statistic(x, ok)
	if r.ver() >= 21 {
		r.link(1, 0, 0, 1)
		r.link(2, 0, 0, 1)
	}
}

// relateAlong pins the axis that the operator works along; the others pass.
func relateAlong(r *relating) {
	axis, ok := axisOf(r.int("axis"), len(r.shape(0)))
	if !ok {
		r.unknown = true
		return
	}
	r.passes(0, 0, axis)
}

// relateLRN: channels are normalised by their neighbours.
func relateLRN(r *relating) { r.passes(0, 0, 1) }

func relateMVN(r *relating) {
	var along []int
	for _, a := range r.intList("axes") {
		if i, ok := axisOf(a, len(r.shape(0))); ok {
			along = append(along, i)
		}
	}
	r.passes(0, 0, along...)
}

// relateSame: every output has the axes of the first input; further inputs are scalars.
func relateSame(r *relating) {
	for o := range r.n.Outputs() {
		r.passes(0, o)
	}
}

// relateCastLike: the second input gives nothing but its type.
func relateCastLike(r *relating) {
	r.passes(0, 0)
	for i := range r.shape(1) {
		r.free(r.in(1, i))
	}
}

// relateQuantize: scale and zero point are one, or one per position of axis.
func relateQuantize(r *relating) {
	if r.int("block_size") != 0 {
		r.unknown = true
		return
	}
	r.passes(0, 0)
	if axis, ok := axisOf(r.int("axis"), len(r.shape(0))); ok {
		for _, i := range []int{1, 2} {
			if s := r.shape(i); len(s) == 1 && s[0].Same(r.dim(0, axis)) {
				r.link(i, 0, 0, axis)
			}
		}
	}
	for _, i := range []int{1, 2} {
		if s := r.shape(i); len(s) == 1 && s[0].Known() && s[0].Value == 1 {
			r.free(r.in(i, 0))
		}
	}
}

// relateSoftmax: normalised along axis; before opset 13 along all from it on.
func relateSoftmax(r *relating) {
	rank := len(r.shape(0))
	axis, ok := axisOf(r.int("axis"), rank)
	if !ok {
		r.unknown = true
		return
	}
	along := []int{axis}
	if r.ver() < 13 {
		for i := axis + 1; i < rank; i++ {
			along = append(along, i)
		}
	}
	r.passes(0, 0, along...)
}

// relateReduce: what is reduced over is pinned, but for a mean, which is one of what
// is left; the other axes pass.
func relateReduce(r *relating) {
	rank := len(r.shape(0))
	axes, given := r.intList("axes"), r.intList("axes") != nil
	if r.n.Input(1) != nil {
		list, ok := r.numbers(1)
		if !ok {
			r.unknown = true
			return
		}
		axes, given = list, len(list) > 0
	}
	gone := make([]bool, rank)
	for _, a := range axes {
		if i, ok := axisOf(a, rank); ok {
			gone[i] = true
		}
	}
	if !given {
		if r.int("noop_with_empty_axes") != 0 {
			r.passes(0, 0)
			return
		}
		for i := range gone {
			gone[i] = true
		}
	}
	r.reduced(gone, r.int("keepdims") != 0)
}

// reduced ties the axes that are left where others are reduced away.
func (r *relating) reduced(gone []bool, keep bool) {
	o := 0
	for i := range gone {
		if gone[i] && r.op.Name == "ReduceMean" {
			a, ok := r.in(0, i)
			r.free(a, ok)
			r.statistic(a, ok)
		}
		switch {
		case !gone[i]:
			r.link(0, i, 0, o)
			o++
		case keep:
			r.free(r.res(0, o))
			o++
		}
	}
}

func relateArg(r *relating) {
	rank := len(r.shape(0))
	axis, ok := axisOf(r.int("axis"), rank)
	if !ok {
		r.unknown = true
		return
	}
	gone := make([]bool, rank)
	gone[axis] = true
	r.reduced(gone, r.int("keepdims") != 0)
}

// relateTopK: both outputs keep the axes that nothing is chosen along.
func relateTopK(r *relating) {
	axis, ok := axisOf(r.int("axis"), len(r.shape(0)))
	if !ok {
		r.unknown = true
		return
	}
	r.passes(0, 0, axis)
	r.passes(0, 1, axis)
}

func relateCumSum(r *relating) {
	axis, ok := r.number(1)
	if i, in := axisOf(axis, len(r.shape(0))); ok && in {
		r.passes(0, 0, i)
		return
	}
	r.unknown = true
}

// relateTrilu: the last two axes are worked along.
func relateTrilu(r *relating) {
	rank := len(r.shape(0))
	r.passes(0, 0, rank-1, rank-2)
}

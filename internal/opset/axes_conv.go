package opset

// relateConv: X [N, C, …], W [M, C/group, …], B [M] give Y [N, M, …]; FusedConv
// adds Z, of Y's shape.
func relateConv(r *relating) {
	if r.str("activation") != "" && r.n.Input(3) != nil || r.n.Input(3) != nil {
		r.aligned(r.n.Input(3), r.n.Output(0))
	}
	r.link(0, 0, 0, 0)
	r.link(1, 0, 0, 1)
	r.link(2, 0, 0, 1)
	x, okX := r.in(0, 1)
	y, okY := r.res(0, 1)
	w, okW := r.in(1, 1)
	group := int(r.int("group"))
	channels, known := r.length(x)
	maps, knownY := r.length(y)
	switch {
	case !okX || !okY || !okW:
		r.unknown = true
	case group == 1:
		r.tie(x, true, w, true)
	case !known || !knownY || group <= 0 || channels%group != 0 || maps%group != 0:
		r.unknown = true
	case group == channels:
		r.free(w, true)
		r.tieBy(x, true, y, true, repeated(maps, maps/channels))
	default:
		r.derived(w, true)
		r.free(x, true)
		r.even(x, true, group)
		r.even(y, true, group)
	}
}

// repeated returns 0, 0, …, 1, 1, …: n numbers, each as often as times says.
func repeated(n, times int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i / times
	}
	return out
}

// cycled returns 0, 1, …, period-1, 0, 1, …: n numbers.
func cycled(n, period int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i % period
	}
	return out
}

// relateConvTranspose: X [N, C, …], W [C, M/group, …], B [M] give Y [N, M, …].
func relateConvTranspose(r *relating) {
	r.link(0, 0, 0, 0)
	r.join(0, 1, 1, 0)
	r.link(2, 0, 0, 1)
	x, okX := r.in(0, 1)
	y, okY := r.res(0, 1)
	w, okW := r.in(1, 1)
	group := int(r.int("group"))
	channels, known := r.length(x)
	maps, knownY := r.length(y)
	switch {
	case !okX || !okY || !okW:
		r.unknown = true
	case group == 1:
		r.tie(w, true, y, true)
	case known && knownY && group == channels && maps%channels == 0:
		r.pin(w, true, nil, "%s holds several maps per channel along it", r.n.Op)
		r.tieBy(x, true, y, true, repeated(maps, maps/channels))
	default:
		r.unknown = true
	}
}

// relateChannelwise: batch and channels pass, the rest is worked along.
func relateChannelwise(r *relating) {
	if len(r.n.Outputs()) > 1 && r.n.Output(1) != nil {
		r.unknown = true // flat indices count channels
		return
	}
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
}

// relateResize: axes that keep their size pass. Sizes of all axes stand in an
// input, which who takes positions away has to renew.
func relateResize(r *relating) {
	in, out := r.shape(0), r.f.Shape(r.n.Output(0))
	for i := range min(len(in), len(out)) {
		if i < 2 && in[i].Same(out[i]) {
			r.link(0, i, 0, i)
		}
	}
}

// relateDepthToSpace: a channel of the output stands for blocksize² of the input.
func relateDepthToSpace(r *relating) {
	r.link(0, 0, 0, 0)
	x, okX := r.in(0, 1)
	y, okY := r.res(0, 1)
	n, known := r.length(x)
	b := int(r.int("blocksize"))
	if !known || b <= 0 || b > 1<<10 || n%(b*b) != 0 {
		r.unknown = true
		return
	}
	index := cycled(n, max(n/(b*b), 1))
	if r.str("mode") == "CRD" {
		index = repeated(n, b*b)
	}
	r.tieBy(y, okY, x, okX, index)
}

// relateSpaceToDepth: a channel of the input stands for blocksize² of the output.
func relateSpaceToDepth(r *relating) {
	r.link(0, 0, 0, 0)
	x, okX := r.in(0, 1)
	y, okY := r.res(0, 1)
	n, known := r.length(y)
	c, knownX := r.length(x)
	if !known || !knownX || c == 0 {
		r.unknown = true
		return
	}
	r.tieBy(x, okX, y, okY, cycled(n, c))
}

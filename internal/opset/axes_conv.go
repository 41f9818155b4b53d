package opset

// relateConv: X [N, C, …], W [M, C/group, …], B [M] give Y [N, M, …]; FusedConv
// adds Z, of Y's shape.
func relateConv(r *relating) {
	r.aligned(r.n.Input(3), r.n.Output(0))
	r.link(1, 0, 0, 1)
	c, ok := r.convolution()
	switch {
	case !ok:
	case c.group == 1:
		r.tie(c.x, true, c.w, true)
	case c.group == c.channels:
		r.free(c.w, true)
		r.tieBy(c.x, true, c.y, true, repeated(c.maps, c.maps/c.channels))
	default:
		r.derived(c.w, true)
		r.free(c.x, true)
		r.even(c.x, true, c.group)
		r.even(c.y, true, c.group)
	}
}

// channeled is the axes of channels of a convolution: of what it reads and gives,
// and the second of its weights.
type channeled struct {
	x, y, w               Axis
	channels, maps, group int
}

// convolution ties batch and bias, and returns the axes of channels; where they are
// not known, or groups do not go into them, the operator's rule does not apply.
func (r *relating) convolution() (c channeled, ok bool) {
	r.link(0, 0, 0, 0)
	r.link(2, 0, 0, 1)
	var known [5]bool
	c.x, known[0] = r.in(0, 1)
	c.y, known[1] = r.res(0, 1)
	c.w, known[2] = r.in(1, 1)
	c.channels, known[3] = r.length(c.x)
	c.maps, known[4] = r.length(c.y)
	c.group = int(r.int("group"))
	ok = known[0] && known[1] && known[2] && (c.group == 1 || known[3] && known[4] && c.group > 0 && c.channels%c.group == 0 && c.maps%c.group == 0)
	r.unknown = r.unknown || !ok
	return c, ok
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
	r.join(0, 1, 1, 0)
	c, ok := r.convolution()
	switch {
	case !ok:
	case c.group == 1:
		r.tie(c.w, true, c.y, true)
	case c.group == c.channels:
		r.pin(c.w, true, nil, "%s holds several maps per channel along it", r.n.Op)
		r.tieBy(c.x, true, c.y, true, repeated(c.maps, c.maps/c.channels))
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

package eval

import (
	"slices"
)

// arrangeOperators cut, repeat and interleave elements of any type.
func arrangeOperators() []operator {
	return []operator{
		{"Split", 2, 12, "axis split", split},
		{"Split", 13, 17, "axis", split},
		{"Split", 18, latest, "axis num_outputs", split},
		{"Tile", 6, latest, "", tile},
		{"DepthToSpace", 1, 10, "blocksize", depthToSpace},
		{"DepthToSpace", 11, latest, "blocksize mode", depthToSpace},
		{"SpaceToDepth", 1, latest, "blocksize", spaceToDepth},
		{"Trilu", 14, latest, "upper", trilu},
		{"ReverseSequence", 10, latest, "batch_axis time_axis", reverseSequence},
		{"EyeLike", 9, latest, "dtype k", eyeLike},
	}
}

// splitSizes returns the sizes of the parts of an axis of size d.
func (c *call) splitSizes(d int64) []int64 {
	sizes := slices.Clone(c.ints("split"))
	if c.version >= 13 && c.opt(1) != nil {
		sizes = c.intInput(1)
	}
	n := int64(len(c.n.Outputs()))
	if sizes == nil {
		if c.version >= 18 && c.int("num_outputs", n) != n {
			c.fail("attribute \"num_outputs\" is %d for %d outputs", c.int("num_outputs", n), n)
		}
		each := (d + n - 1) / n
		if c.version < 18 && d%n != 0 || each*(n-1) > d {
			c.fail("size %d does not split in %d", d, n)
		}
		sizes = slices.Repeat([]int64{each}, int(n))
		sizes[n-1] = d - each*(n-1)
	}
	rest := d
	for _, s := range sizes {
		if s < 0 || s > rest {
			c.fail("parts of sizes %v for an axis of size %d", sizes, d)
		}
		rest -= s
	}
	if rest != 0 || int64(len(sizes)) != n {
		c.fail("parts of sizes %v for an axis of size %d and %d outputs", sizes, d, n)
	}
	return sizes
}

func split(c *call) []*array {
	a := c.input(0)
	axis := c.axis(c.int("axis", 0), a.rank())
	var out []*array
	at := int64(0)
	for _, s := range c.splitSizes(a.shape[axis]) {
		out = append(out, c.part(a, axis, at, s))
		at += s
	}
	return out
}

// part returns n positions of an axis of a from at on.
func (c *call) part(a *array, axis int, at, n int64) *array {
	shape := slices.Clone(a.shape)
	shape[axis] = n
	out := c.blank(a, shape)
	inner := product(a.shape[axis+1:])
	for o := range product(a.shape[:axis]) {
		copyElems(out, o*int(n)*inner, a, (o*int(a.shape[axis])+int(at))*inner, int(n)*inner)
	}
	return out
}

func tile(c *call) []*array {
	a, times := c.input(0), c.intInput(1)
	if len(times) != a.rank() {
		c.fail("%d repeats for rank %d", len(times), a.rank())
	}
	shape := slices.Clone(a.shape)
	for i, t := range times {
		if t < 0 || shape[i] > 0 && t > (1<<40)/shape[i] {
			c.fail("repeats are %v", times)
		}
		shape[i] *= t
	}
	return one(c.picked(a, shape, func(pos []int64) int {
		at := 0
		for i, p := range pos {
			at = at*int(a.shape[i]) + int(p%a.shape[i])
		}
		return at
	}))
}

// picked makes an array of shape whose element at pos is the one of a at
// from(pos); where that is negative it stays zero.
func (c *call) picked(a *array, shape []int64, from func(pos []int64) int) *array {
	out := c.blank(a, shape)
	pos := make([]int64, len(shape))
	for i := range product(shape) {
		if k := from(pos); k >= 0 {
			copyElems(out, i, a, k, 1)
		}
		next(pos, shape)
	}
	return out
}

// planes refuses what is not [N, C, H, W] with a positive block size.
func (c *call) planes(a *array) int64 {
	b := c.int("blocksize", 0)
	if a.rank() != 4 || b < 1 || b > 1<<20 {
		c.fail("block size %d of an input of shape %v", b, a.shape)
	}
	return b
}

// depthToSpace moves blocks of channels into the plane; with mode CRD the
// channels of a block lie together.
func depthToSpace(c *call) []*array {
	a := c.input(0)
	b := c.planes(a)
	n, ch, h, w := a.shape[0], a.shape[1], a.shape[2], a.shape[3]
	if ch%(b*b) != 0 {
		c.fail("%d channels do not split in blocks of %d", ch, b*b)
	}
	deep, perm := []int64{n, b, b, ch / (b * b), h, w}, []int{0, 3, 4, 1, 5, 2}
	switch m := c.str("mode", "DCR"); m {
	case "DCR":
	case "CRD":
		deep, perm = []int64{n, ch / (b * b), b, b, h, w}, []int{0, 1, 4, 2, 5, 3}
	default:
		c.fail("attribute \"mode\" is %q", m)
	}
	return one(c.permute(a.reshaped(deep), perm).reshaped([]int64{n, ch / (b * b), h * b, w * b}))
}

func spaceToDepth(c *call) []*array {
	a := c.input(0)
	b := c.planes(a)
	n, ch, h, w := a.shape[0], a.shape[1], a.shape[2], a.shape[3]
	if h%b != 0 || w%b != 0 {
		c.fail("a plane of %d×%d does not split in blocks of %d", h, w, b)
	}
	wide := a.reshaped([]int64{n, ch, h / b, b, w / b, b})
	return one(c.permute(wide, []int{0, 3, 5, 1, 2, 4}).reshaped([]int64{n, ch * b * b, h / b, w / b}))
}

// trilu keeps one triangle of each matrix, k diagonals from the main one.
func trilu(c *call) []*array {
	a, k := c.input(0), int64(0)
	if c.opt(1) != nil {
		k = c.scalar(1)
	}
	if a.rank() < 2 {
		c.fail("want matrices, have shape %v", a.shape)
	}
	k = min(max(k, -1<<40), 1<<40)
	upper := c.int("upper", 1) != 0
	st := strides(a.shape)
	return one(c.picked(a, a.shape, func(pos []int64) int {
		row, col := pos[len(pos)-2], pos[len(pos)-1]
		if upper && col-row < k || !upper && col-row > k {
			return -1
		}
		return offset(pos, st)
	}))
}

// offset returns the position of the element at pos.
func offset(pos []int64, st []int) int {
	at := 0
	for i, p := range pos {
		at += int(p) * st[i]
	}
	return at
}

// reverseSequence turns around the first part of each batch element's time axis.
func reverseSequence(c *call) []*array {
	a, lengths := c.input(0), c.intInput(1)
	batch, time := c.axis(c.int("batch_axis", 1), a.rank()), c.axis(c.int("time_axis", 0), a.rank())
	if batch == time || int64(len(lengths)) != a.shape[batch] {
		c.fail("%d lengths for batch axis %d and time axis %d of shape %v", len(lengths), batch, time, a.shape)
	}
	st := strides(a.shape)
	return one(c.picked(a, a.shape, func(pos []int64) int {
		at, n := offset(pos, st), lengths[pos[batch]]
		if n < 1 || n > a.shape[time] {
			c.fail("length %d for a time axis of size %d", n, a.shape[time])
		}
		if pos[time] < n {
			at += int(n-1-2*pos[time]) * st[time]
		}
		return at
	}))
}

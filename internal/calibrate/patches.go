package calibrate

import "encoding/binary"

// Patches says how a convolution reads a tensor [N, C, spatial axes…]: each of its
// outputs reads C/Groups channels at the taps of a kernel. The row of an output
// position has C·taps columns, for each group those of its first tap, of its second,
// and so on, each the group's channels; outside of the tensor it has zeros. With a
// kernel of one tap, rows are along the axis in front of the spatial ones.
type Patches struct {
	Kernel    []int64
	Strides   []int64 // as many as Kernel; nil: ones
	Dilations []int64 // likewise
	Pads      []int64 // in front of each spatial axis, then behind each; nil: none
	AutoPad   string  // SAME_UPPER or SAME_LOWER: Pads follow from the size
	Groups    int     // 0: 1
	// Most is how many output positions of one run are looked at, at equal
	// distances: neighbouring patches say much the same. 0: 1024.
	Most int
}

const mostPatches = 1024

// patcher reads patches of one tensor.
type patcher struct {
	p        *Patches
	batch    int64
	channels int64
	in, out  []int64 // sizes of the spatial axes
	pads     []int64 // in front
	taps     int64
	groups   int64
}

// newPatcher reports false for a tensor that such a convolution does not take.
func newPatcher(p *Patches, shape []int64) (*patcher, bool) {
	rank := len(p.Kernel)
	at := len(shape) - rank - 1
	if at < 0 {
		return nil, false
	}
	q := &patcher{p: p, batch: 1, channels: shape[at], in: shape[at+1:], taps: 1, groups: int64(max(p.Groups, 1))}
	for _, d := range shape[:at] {
		q.batch *= d
	}
	if q.channels == 0 || q.channels%q.groups != 0 {
		return nil, false
	}
	for i, k := range p.Kernel {
		q.taps *= k
		reach := (k-1)*one(p.Dilations, i) + 1
		front, both := q.padding(i, reach)
		q.pads = append(q.pads, front)
		out := (q.in[i]+both-reach)/one(p.Strides, i) + 1
		if q.in[i]+both < reach {
			return nil, false
		}
		q.out = append(q.out, out)
	}
	return q, true
}

// padding returns how far spatial axis i is padded in front, and in all.
func (q *patcher) padding(i int, reach int64) (front, both int64) {
	stride := one(q.p.Strides, i)
	switch q.p.AutoPad {
	case "SAME_UPPER", "SAME_LOWER":
		out := (q.in[i] + stride - 1) / stride
		both = max((out-1)*stride+reach-q.in[i], 0)
		front = both / 2
		if q.p.AutoPad == "SAME_LOWER" {
			front = both - front
		}
		return front, both
	}
	if len(q.p.Pads) != 2*len(q.p.Kernel) {
		return 0, 0
	}
	return q.p.Pads[i], q.p.Pads[i] + q.p.Pads[i+len(q.p.Kernel)]
}

// one returns v[i], 1 where there is none.
func one(v []int64, i int) int64 {
	if i >= len(v) {
		return 1
	}
	return v[i]
}

// rows returns the patches of run k in float32 and how many columns they have, 0
// where the convolution does not take the shape.
func (p *Patches) rows(b []byte, shape []int64, k int64) (rows []byte, width int) {
	q, ok := newPatcher(p, shape)
	if !ok {
		return nil, 0
	}
	positions := q.batch
	for _, n := range q.out {
		positions *= n
	}
	count := min(positions, mostPatches)
	if p.Most > 0 {
		count = min(positions, int64(p.Most))
	}
	n := q.channels * q.taps
	out := make([]byte, 4*n*count)
	for i := range count {
		at := i
		if count < positions { // not the same ones in every run
			at = (i*positions + (k*7919)%positions) / count % positions
		}
		q.patch(out[4*n*i:4*n*(i+1)], b, at)
	}
	return out, int(n)
}

// patch fills dst with the row of output position at.
func (q *patcher) patch(dst, src []byte, at int64) {
	rank := len(q.in)
	base := make([]int64, rank)
	size := int64(1) // of one channel
	for i := rank - 1; i >= 0; i-- {
		base[i] = at%q.out[i]*one(q.p.Strides, i) - q.pads[i]
		at /= q.out[i]
		size *= q.in[i]
	}
	per := q.channels / q.groups
	for tap := range q.taps {
		place, inside := q.tap(tap, base)
		if !inside {
			continue
		}
		for c := range q.channels {
			x := binary.LittleEndian.Uint32(src[4*((at*q.channels+c)*size+place):])
			col := (c/per*q.taps+tap)*per + c%per
			binary.LittleEndian.PutUint32(dst[4*col:], x)
		}
	}
}

// tap returns where a tap of the kernel lies within a channel; false where that
// is in the padding.
func (q *patcher) tap(tap int64, base []int64) (place int64, inside bool) {
	size := int64(1)
	for i := len(q.in) - 1; i >= 0; i-- {
		x := base[i] + tap%q.p.Kernel[i]*one(q.p.Dilations, i)
		tap /= q.p.Kernel[i]
		if x < 0 || x >= q.in[i] {
			return 0, false
		}
		place += x * size
		size *= q.in[i]
	}
	return place, true
}

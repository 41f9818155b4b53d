package eval

import "slices"

// window slides a kernel over the spatial axes of an input [N, C, spatial…].
// All its lists have one element per spatial axis.
type window struct {
	in, kernel, stride, dilation []int64
	begin, end                   []int64 // padding before and behind
	out                          []int64 // positions of the kernel
}

// tap is a cell of the kernel over an element of the input, both as row-major
// positions.
type tap struct{ cell, in int }

// window reads the attributes of a sliding window over an input of spatial
// sizes in.
func (c *call) window(in, kernel []int64) *window {
	w := c.kernelOver(in, kernel)
	n := len(in)
	pads := c.perAxis("pads", 2*n, 0, 0)
	w.begin, w.end = pads[:n], pads[n:]
	auto := c.str("auto_pad", "NOTSET")
	if auto != "NOTSET" && slices.Max(pads) > 0 {
		c.unsupported("auto_pad %s beside pads %v", auto, pads)
	}
	w.out = make([]int64, n)
	for i := range w.out {
		switch auto {
		case "NOTSET", "VALID":
		case "SAME_UPPER", "SAME_LOWER":
			positions := (in[i] + w.stride[i] - 1) / w.stride[i]
			w.begin[i], w.end[i] = halves((positions-1)*w.stride[i]+w.extent(i)-in[i], auto == "SAME_UPPER")
		default:
			c.fail("attribute \"auto_pad\" is %q", auto)
		}
		w.out[i] = c.positions(w, i)
	}
	return w
}

// kernelOver reads strides and dilations.
func (c *call) kernelOver(in, kernel []int64) *window {
	n := len(in)
	if len(kernel) != n {
		c.fail("a kernel of shape %v for spatial axes of sizes %v", kernel, in)
	}
	for _, k := range kernel {
		if k < 1 {
			c.fail("the kernel has shape %v", kernel)
		}
	}
	return &window{in: in, kernel: kernel, stride: c.perAxis("strides", n, 1, 1), dilation: c.perAxis("dilations", n, 1, 1)}
}

// perAxis returns an ints attribute of n elements that are least or more, def
// for each where it is absent.
func (c *call) perAxis(name string, n int, def, least int64) []int64 {
	v := slices.Clone(c.ints(name))
	if len(v) == 0 {
		return slices.Repeat([]int64{def}, n)
	}
	if len(v) != n {
		c.fail("attribute %q has %d elements, want %d", name, len(v), n)
	}
	for _, x := range v {
		if x < least || x > 1<<31 {
			c.unsupported("attribute %q is %v", name, v)
		}
	}
	return v
}

// halves splits padding in two; the odd one goes to the end if upper, else to
// the beginning. Negative padding is none.
func halves(pad int64, upper bool) (begin, end int64) {
	pad = max(pad, 0)
	if upper {
		return pad / 2, pad - pad/2
	}
	return pad - pad/2, pad / 2
}

// extent returns the span of the dilated kernel along axis i.
func (w *window) extent(i int) int64 { return (w.kernel[i]-1)*w.dilation[i] + 1 }

// positions returns how many places along axis i the kernel takes.
func (c *call) positions(w *window, i int) int64 {
	room := w.in[i] + w.begin[i] + w.end[i] - w.extent(i)
	if room < 0 {
		c.fail("a kernel of extent %d does not fit axis %d of padded size %d", w.extent(i), i, room+w.extent(i))
	}
	n := room/w.stride[i] + 1
	if c.int("ceil_mode", 0) == 0 || room%w.stride[i] == 0 {
		return n
	}
	if n*w.stride[i] < w.in[i]+w.begin[i] {
		return n + 1
	}
	// A window that would start in the padding behind the data is ignored; that
	// was not said before.
	if c.version < 22 {
		c.unsupported("a last window that starts in the padding, which runtimes do differently")
	}
	return n
}

// each calls f for every position of the kernel in row-major order, with its
// taps and the number of its cells that lie on the input or its padding.
func (w *window) each(f func(at int, taps []tap, cells int)) {
	pos := make([]int64, len(w.out))
	for at := range product(w.out) {
		taps, cells := w.taps(pos)
		f(at, taps, cells)
		next(pos, w.out)
	}
}

// taps returns what each does at one position.
func (w *window) taps(pos []int64) (taps []tap, cells int) {
	taps, cells = []tap{{}}, 1
	for d, size := range w.in {
		start := pos[d]*w.stride[d] - w.begin[d]
		var inner []tap
		for _, t := range taps {
			for k := range w.kernel[d] {
				if p := start + k*w.dilation[d]; p >= 0 && p < size {
					inner = append(inner, tap{t.cell*int(w.kernel[d]) + int(k), t.in*int(size) + int(p)})
				}
			}
		}
		covered := 0
		for k := range w.kernel[d] {
			if start+k*w.dilation[d] < size+w.end[d] {
				covered++
			}
		}
		taps, cells = inner, cells*covered
	}
	return taps, cells
}

// next advances pos over shape in row-major order.
func next(pos, shape []int64) {
	for d := len(pos) - 1; d >= 0; d-- {
		if pos[d]++; pos[d] < shape[d] {
			return
		}
		pos[d] = 0
	}
}

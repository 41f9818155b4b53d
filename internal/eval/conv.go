package eval

import (
	"slices"
)

const convAttrs = "auto_pad dilations group kernel_shape pads strides"

// convOperators are the convolutions of [N, C, spatial…] over any number of
// spatial axes, accumulating in float64.
func convOperators() []operator {
	return []operator{
		{"Conv", 1, latest, convAttrs, func(c *call) []*array { return one(c.conv(c.input(0), c.input(1), c.opt(2))) }},
		{"ConvTranspose", 1, latest, convAttrs + " output_padding output_shape", convTranspose},
	}
}

// sameFloats refuses operands that are not of one floating-point type.
func (c *call) sameFloats(first *array, others ...*array) {
	if !first.dt.IsFloat() {
		c.unsupported("element type %v", first.dt)
	}
	for _, a := range others {
		if a != nil && a.dt != first.dt {
			c.unsupported("operands of types %v and %v", first.dt, a.dt)
		}
	}
}

// filters checks a convolution's operands and returns its group count and the
// output channels per group; per is the axis of w that counts those.
func (c *call) filters(x, w, b *array, per int) (group, m int64) {
	c.sameFloats(x, w, b)
	group = c.int("group", 1)
	if x.rank() < 3 || w.rank() != x.rank() || group < 1 {
		c.fail("input %v, filters %v and group %d do not fit", x.shape, w.shape, group)
	}
	in, out := w.shape[1]*group, w.shape[0]/max(group, 1)
	if per == 1 {
		in, out = w.shape[0], w.shape[1]
	}
	if x.shape[1] != in || w.shape[0]%group != 0 {
		c.fail("input %v, filters %v and group %d do not fit", x.shape, w.shape, group)
	}
	if k := c.ints("kernel_shape"); len(k) > 0 && !slices.Equal(k, w.shape[2:]) {
		c.fail("kernel_shape is %v, the filters have shape %v", k, w.shape)
	}
	if b != nil && !slices.Equal(b.shape, []int64{out * group}) {
		c.fail("a bias of shape %v for %d channels", b.shape, out*group)
	}
	return group, out
}

// conv convolves x [N, C, spatial…] with w [M, C/group, kernel…].
func (c *call) conv(x, w, b *array) *array {
	group, m := c.filters(x, w, b, 0)
	win := c.window(x.shape[2:], w.shape[2:])
	shape := slices.Concat([]int64{x.shape[0], m * group}, win.out)
	c.count(x.dt, shape)
	c.work(slices.Concat(shape, w.shape[1:])...)
	out := biased(shape, b)
	xv, wv := load[float64](x), load[float64](w)
	channels, spatial, cells := int(w.shape[1]), product(win.in), product(win.kernel)
	places := product(win.out)
	win.each(func(at int, taps []tap, _ int) {
		for row := range product(shape[:2]) { // image and output channel
			filter := row % int(m*group)
			image := (row/int(m*group)*int(group) + filter/int(m)) * channels
			sum := 0.0
			for ch := range channels {
				for _, t := range taps {
					sum += xv[(image+ch)*spatial+t.in] * wv[(filter*channels+ch)*cells+t.cell]
				}
			}
			out[row*places+at] += sum
		}
	})
	return store(c, x.dt, shape, out)
}

// biased returns the elements of [N, M, spatial…] filled with b [M], or zeros.
func biased(shape []int64, b *array) []float64 {
	out := make([]float64, product(shape))
	if b == nil {
		return out
	}
	bias, places := load[float64](b), product(shape[2:])
	for i := range out {
		out[i] = bias[i/places%len(bias)]
	}
	return out
}

// convTranspose spreads each element of x [N, C, spatial…] by w [C, M/group,
// kernel…]: the transpose of the convolution that reads its result.
func convTranspose(c *call) []*array {
	x, w, b := c.input(0), c.input(1), c.opt(2)
	group, m := c.filters(x, w, b, 1)
	win := c.spread(x.shape[2:], w.shape[2:])
	shape := slices.Concat([]int64{x.shape[0], m * group}, win.in)
	c.count(x.dt, shape)
	c.work(slices.Concat(x.shape, w.shape[1:])...)
	out := biased(shape, b)
	xv, wv := load[float64](x), load[float64](w)
	channels, places, cells := int(x.shape[1]), product(win.out), product(win.kernel)
	area := product(win.in)
	win.each(func(at int, taps []tap, _ int) {
		for row := range product(x.shape[:2]) { // image and input channel
			ch := row % channels
			first := row/channels*int(group) + ch/(channels/int(group))
			for j := range int(m) {
				for _, t := range taps {
					out[(first*int(m)+j)*area+t.in] += xv[row*places+at] * wv[(ch*int(m)+j)*cells+t.cell]
				}
			}
		}
	})
	return one(store(c, x.dt, shape, out))
}

// spread returns the window that slides over the result of a transposed
// convolution: its positions are the elements of the input.
func (c *call) spread(in, kernel []int64) *window {
	w := c.kernelOver(in, kernel)
	n := len(in)
	w.in, w.out = make([]int64, n), in
	pads, extra := c.perAxis("pads", 2*n, 0, 0), c.perAxis("output_padding", n, 0, 0)
	w.begin, w.end = pads[:n], pads[n:]
	auto, want := c.str("auto_pad", "NOTSET"), c.ints("output_shape")
	if auto != "NOTSET" && slices.Max(pads) > 0 {
		c.unsupported("auto_pad %s beside pads %v", auto, pads)
	}
	if len(want) == n+2 {
		want = want[2:]
	}
	if len(want) > 0 && len(want) != n {
		c.fail("attribute \"output_shape\" has %d elements, want %d", len(want), n)
	}
	for i := range in {
		full := w.stride[i]*(in[i]-1) + extra[i] + w.extent(i)
		switch {
		case auto != "NOTSET" && auto != "VALID" && auto != "SAME_UPPER" && auto != "SAME_LOWER":
			c.fail("attribute \"auto_pad\" is %q", auto)
		case len(want) > 0:
			w.in[i] = want[i]
			w.begin[i], w.end[i] = halves(full-want[i], auto == "SAME_UPPER")
		case auto == "SAME_UPPER" || auto == "SAME_LOWER":
			w.in[i] = in[i] * w.stride[i]
			w.begin[i], w.end[i] = halves(full-w.in[i], auto == "SAME_UPPER")
		default:
			w.in[i] = full - w.begin[i] - w.end[i]
		}
		if w.in[i] < 1 {
			c.fail("axis %d of the result would have size %d", i, w.in[i])
		}
	}
	return w
}

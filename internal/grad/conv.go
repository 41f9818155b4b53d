package grad

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// convRules are the convolutions.
func convRules() []rule {
	return []rule{
		{name: "Conv", do: func(c *call) { c.conv(c.dy(), 0, 1, 2, c.x(0), c.x(1)) }},
		{name: "ConvTranspose", do: convTranspose},
	}
}

// windows is how windows slide over the spatial axes of an input [N, C, spatial…].
type windows struct {
	kernel, strides, dilations []int64
	begin                      sizes // padding in front of each axis
	in, out                    sizes // sizes of the input's and the output's axes
	extent                     sizes // what the windows cover of an axis, padding included: (out - 1)·stride + (kernel - 1)·dilation + 1
}

// windows reads the attributes of a convolution or pooling of x with result y. Where padding is found out by the operator it
// depends on the sizes.
func (c *call) windows(kernel []int64, x, y *onnx.Value) windows {
	n := len(kernel)
	if rank := c.rank(x); rank != n+2 {
		c.fail("windows of %d axes do not fit an input of rank %d", n, rank)
	}
	ones := slices.Repeat([]int64{1}, n)
	w := windows{kernel: kernel, strides: c.n.Ints("strides", ones), dilations: c.n.Ints("dilations", ones)}
	if len(w.strides) != n || len(w.dilations) != n {
		c.fail("strides %v and dilations %v do not fit windows of %d axes", w.strides, w.dilations, n)
	}
	w.in, w.out = c.sizesOf(x, 2, n+2), c.sizesOf(y, 2, n+2)
	w.extent = c.extent(w, w.out)
	switch auto := c.n.Str("auto_pad", "NOTSET"); auto {
	case "NOTSET", "":
		pads := c.n.Ints("pads", make([]int64, 2*n))
		if len(pads) != 2*n {
			c.fail("pads %v do not fit windows of %d axes", pads, n)
		}
		w.begin = fixed(pads[:n]...)
	case "VALID":
		w.begin = same(n, 0)
	case "SAME_UPPER", "SAME_LOWER":
		total := c.calc("Max", c.minusSizes(w.extent, w.in), same(n, 0))
		w.begin = c.calc("Div", total, same(n, 2))
		if auto == "SAME_LOWER" {
			w.begin = c.minusSizes(total, w.begin)
		}
	default:
		c.fail("attribute auto_pad is %q", auto)
	}
	return w
}

// extent returns (out - 1)·stride + (kernel - 1)·dilation + 1.
func (b *builder) extent(w windows, out sizes) sizes {
	beyond := make([]int64, len(w.kernel))
	for i, k := range w.kernel {
		beyond[i] = (k-1)*w.dilations[i] + 1 - w.strides[i]
	}
	return b.plusSizes(b.calc("Mul", out, fixed(w.strides...)), fixed(beyond...))
}

// kernelOf returns the spatial sizes of the weights.
func (c *call) kernelOf(w *onnx.Value) []int64 {
	dims := c.facts.Shape(w)
	if len(dims) < 3 {
		c.fail("the shape of weights %q is not known", w.Name())
	}
	kernel, ok := dims[2:].Static()
	if !ok {
		c.fail("the shape of weights %q is not known", w.Name())
	}
	return kernel
}

// conv gives the gradients of a convolution of x with w, which are those of inputs i and j, and of the bias, input k.
func (c *call) conv(dy *onnx.Value, i, j, k int, x, w *onnx.Value) {
	group := c.n.Int("group", 1)
	win := c.windows(c.kernelOf(w), x, dy)
	if c.wants(i) {
		c.give(i, c.spread(dy, w, win, group))
	}
	if c.wants(j) {
		c.give(j, c.convWeights(x, dy, win, group, w))
	}
	if c.wants(k) {
		c.give(k, c.perChannel(dy))
	}
}

// perChannel adds up g, [N, C, …], for each channel.
func (b *builder) perChannel(g *onnx.Value) *onnx.Value {
	return b.reduce("ReduceSum", g, append([]int64{0}, span(2, b.rank(g))...), false)
}

// spread is the adjoint of a convolution in its input: every element of dy, [N, M, out…], adds its multiple of the kernel to
// what its window covered. w is [M, C/group, kernel…]; the result is [N, C, in…].
func (b *builder) spread(dy, w *onnx.Value, win windows, group int64) *onnx.Value {
	n := len(win.kernel)
	a := attrs{"strides": win.strides, "dilations": win.dilations, "group": group, "kernel_shape": win.kernel}
	// What the windows do not reach at the end of the axis gets zeros; what they covered of the padding is cut off.
	rest := b.minusSizes(b.plusSizes(win.in, win.begin), win.extent)
	if !rest.isKnown() || !win.begin.isKnown() {
		full := b.opWith("ConvTranspose", a, dy, w)
		return b.padded(full, b.calc("Mul", win.begin, same(n, -1)), rest)
	}
	pads, more := append([]int64{}, win.begin.known...), make([]int64, n)
	for i, r := range rest.known {
		pads, more[i] = append(pads, max(-r, 0)), max(r, 0)
		if more[i] >= max(win.strides[i], win.dilations[i]) {
			return b.padded(b.opWith("ConvTranspose", a, dy, w), b.calc("Mul", win.begin, same(n, -1)), rest)
		}
	}
	a["pads"], a["output_padding"] = pads, more
	return b.opWith("ConvTranspose", a, dy, w)
}

// convWeights is the adjoint of a convolution in its weights: x, [N, C, in…], correlated with dy, [N, M, out…]. It is a
// convolution whose batch is the channels within a group, whose channels are the samples, and in which strides and dilations
// have changed places; the result, [C/group, M, kernel…], has its first two axes exchanged.
func (b *builder) convWeights(x, dy *onnx.Value, win windows, group int64, w *onnx.Value) *onnx.Value {
	end := b.minusSizes(win.extent, b.plusSizes(win.in, win.begin))
	x = b.padded(x, win.begin, end)
	if group == 1 {
		x, dy = b.batchLast(x), b.batchLast(dy)
	} else {
		x, dy = b.grouped(x, group, 2), b.grouped(dy, group, 1)
	}
	g := b.opWith("Conv", attrs{"strides": win.dilations, "dilations": win.strides, "group": group}, x, dy)
	return b.reshapeLike(b.batchLast(g), w)
}

// batchLast exchanges the first two axes.
func (b *builder) batchLast(x *onnx.Value) *onnx.Value {
	return b.transpose(x, append([]int64{1, 0}, span(2, b.rank(x))...)...)
}

// grouped takes x, [N, G·c, spatial…], apart by group: as [c, G·N, spatial…] where the group's axis comes second, as
// [G·c, N, spatial…] where it comes first.
func (b *builder) grouped(x *onnx.Value, group int64, place int) *onnx.Value {
	rank := b.rank(x)
	spatial := b.sizesOf(x, 2, rank)
	batch := b.sizesOf(x, 0, 1)
	apart := b.op("Reshape", x, b.value(b.joined(batch, fixed(group, -1), spatial)))
	perm, head := []int64{2, 1, 0}, b.joined(fixed(-1), b.calc("Mul", batch, fixed(group)))
	if place == 1 {
		perm, head = []int64{1, 2, 0}, b.joined(fixed(-1), batch)
	}
	apart = b.transpose(apart, append(perm, span(3, rank+1)...)...)
	return b.op("Reshape", apart, b.value(b.joined(head, spatial)))
}

// convTranspose is a convolution with input and output exchanged: its gradient is the convolution.
func convTranspose(c *call) {
	x, w, dy := c.x(0), c.x(1), c.dy()
	group, kernel := c.n.Int("group", 1), c.kernelOf(w)
	win := c.transposed(kernel, x, dy)
	if c.wants(0) {
		end := c.minusSizes(win.extent, c.plusSizes(win.in, win.begin))
		a := attrs{"strides": win.strides, "dilations": win.dilations, "group": group}
		c.give(0, c.opWith("Conv", a, c.padded(dy, win.begin, end), w))
	}
	if c.wants(1) {
		c.give(1, c.convWeights(dy, x, win, group, w))
	}
	if c.wants(2) {
		c.give(2, c.perChannel(dy))
	}
}

// transposed returns the windows of the convolution that a transposed one undoes: over its result dy, giving x.
func (c *call) transposed(kernel []int64, x, dy *onnx.Value) windows {
	n := len(kernel)
	ones := slices.Repeat([]int64{1}, n)
	w := windows{kernel: kernel, strides: c.n.Ints("strides", ones), dilations: c.n.Ints("dilations", ones)}
	w.in, w.out = c.sizesOf(dy, 2, n+2), c.sizesOf(x, 2, n+2)
	w.extent = c.extent(w, w.out)
	auto := c.n.Str("auto_pad", "NOTSET")
	pads := c.n.Ints("pads", make([]int64, 2*n))
	switch {
	case strings.HasPrefix(auto, "SAME") || c.n.Attr("output_shape") != nil:
		// total_padding of the specification, of which the half that is rounded down lies in front, or behind with SAME_UPPER
		extra := c.n.Ints("output_padding", make([]int64, n))
		total := c.calc("Max", c.minusSizes(c.plusSizes(w.extent, fixed(extra...)), w.in), same(n, 0))
		w.begin = c.calc("Div", total, same(n, 2))
		if auto != "SAME_UPPER" {
			w.begin = c.minusSizes(total, w.begin)
		}
	case auto == "VALID":
		w.begin = same(n, 0)
	default:
		w.begin = fixed(pads[:n]...)
	}
	return w
}

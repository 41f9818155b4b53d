package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// The attributes of a convolution.
const convAttrs = "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints"

// convRows are the convolutions and pooling operators, all [N, C, spatial…].
func convRows() []row {
	return []row{
		{"Conv", "1 11 22", "X W B?", "Y", convAttrs, 0, convType(0, 1, firstElem), costConv(1, 2)},
		{"ConvInteger", "10", "x w x_zero_point? w_zero_point?", "y", convAttrs, 0, convType(0, 1, elemIs(onnx.Int32)), costConv(1, -1)},
		{"QLinearConv", "10", "x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B?", "y", convAttrs, 0,
			convType(0, 3, elemOf(7)), costConv(3, 8)},
		{"DeformConv", "19 22", "X W offset B? mask?", "Y",
			"dilations:ints group:int=1 kernel_shape:ints offset_group:int=1 pads:ints strides:ints", 0, convType(0, 1, firstElem), costConv(1, 3)},
		{"ConvTranspose", "1 11 22", "X W B?", "Y", "auto_pad:string=NOTSET dilations:ints group:int=1 kernel_shape:ints " +
			"output_padding:ints output_shape:ints pads:ints strides:ints", 0, inferConvTranspose, costConvTranspose},
		{"AveragePool", "1 7 10 11 19 22", "X", "Y", "auto_pad:string=NOTSET kernel_shape:ints! pads:ints strides:ints " +
			"count_include_pad:int=0@7 ceil_mode:int=0@10 dilations:ints@19", 0, inferPool, costPool},
		{"MaxPool", "1 8 10 11 12 22", "X", "Y|8:Y Indices?", "auto_pad:string=NOTSET kernel_shape:ints! pads:ints strides:ints " +
			"storage_order:int=0@8 ceil_mode:int=0@10 dilations:ints@10", 0, inferPool, costPool},
		{"LpPool", "1 2 11 18 22", "X", "Y", "auto_pad:string=NOTSET kernel_shape:ints@..1 p:float=2@..1 pads:ints strides:ints " +
			"kernel_shape:ints!@2 p:int=2@2 ceil_mode:int=0@18 dilations:ints@18", 0, inferPool, costPool},
		{"GlobalAveragePool", "1 22", "X", "Y", "", 0, inferGlobalPool, perInput(1)},
		{"GlobalLpPool", "1 2 22", "X", "Y", "p:float=2@..1 p:int=2@2", 0, inferGlobalPool, perInput(2)},
		{"GlobalMaxPool", "1 22", "X", "Y", "", 0, inferGlobalPool, perInput(1)},
		{"MaxUnpool", "9 11 22", "X I output_shape?", "output", "kernel_shape:ints! pads:ints strides:ints", 0, inferMaxUnpool, nil},
		{"MaxRoiPool", "1 22", "X rois", "Y", "pooled_shape:ints! spatial_scale:float=1", 0, inferMaxRoiPool, nil},
		{"RoiAlign", "10 16 22", "X rois batch_indices", "Y", "mode:string=avg output_height:int=1 output_width:int=1 " +
			"sampling_ratio:int=0 spatial_scale:float=1 coordinate_transformation_mode:string=half_pixel@16", 0, inferRoiAlign, nil},
		{"Col2Im", "18", "input image_shape block_shape", "output", "dilations:ints pads:ints strides:ints", 0, inferCol2Im, nil},
	}
}

// firstElem gives the element type of the first input.
func firstElem(c *call) onnx.DType { return c.elem(0) }

// elemOf gives the element type of input i.
func elemOf(i int) func(*call) onnx.DType { return func(c *call) onnx.DType { return c.elem(i) } }

// elemIs gives one element type.
func elemIs(d onnx.DType) func(*call) onnx.DType { return func(*call) onnx.DType { return d } }

// window is a sliding window over n spatial axes.
type window struct {
	kernel    []*expr
	strides   []int64
	dilations []int64
	pads      []int64 // begins, then ends
	auto      string
	ceil      bool
}

// window reads the attributes of a sliding window over n axes; false where they
// are of the wrong number or not positive.
func (c *call) window(n int, kernel []*expr) (*window, bool) {
	w := &window{kernel: kernel, auto: c.str("auto_pad"), ceil: c.int("ceil_mode") != 0}
	if k := c.intList("kernel_shape"); k != nil {
		w.kernel = constants(k)
	}
	fill := func(name string, count int, def int64) []int64 {
		if l := c.intList(name); len(l) > 0 {
			return l
		}
		return slices.Repeat([]int64{def}, count)
	}
	w.strides, w.dilations, w.pads = fill("strides", n, 1), fill("dilations", n, 1), fill("pads", 2*n, 0)
	if len(w.kernel) != n || len(w.strides) != n || len(w.dilations) != n || len(w.pads) != 2*n {
		return nil, false
	}
	for i := range n {
		if k, ok := w.kernel[i].known(); w.strides[i] <= 0 || w.dilations[i] <= 0 || ok && k <= 0 {
			return nil, false
		}
	}
	return w, true
}

// extent returns (k-1)·dilation + 1 along axis i.
func (w *window) extent(i int) *expr {
	return add(mul(sub(w.kernel[i], constant(1)), constant(w.dilations[i])), constant(1))
}

// out returns the number of window positions along axis i of a size.
func (w *window) out(i int, size *expr) *expr {
	stride := constant(w.strides[i])
	begin, end := w.pads[i], w.pads[i+len(w.kernel)]
	switch w.auto {
	case "SAME_UPPER", "SAME_LOWER":
		return neg(floorDiv(neg(size), stride))
	case "VALID":
		begin, end = 0, 0
	}
	extent := w.extent(i)
	room := sub(add(size, add(constant(begin), constant(end))), extent)
	if lo, ok := room.known(); ok && lo < 0 {
		return nil
	}
	if !w.ceil {
		return add(floorDiv(room, stride), constant(1))
	}
	n := add(neg(floorDiv(neg(room), stride)), constant(1))
	// A last window that starts in the padding behind the data is dropped by some
	// runtimes and versions only, so such a size is left unknown.
	if x, ok := n.known(); ok {
		if s, ok := size.known(); ok && (x-1)*w.strides[i] >= s+begin {
			return nil
		}
		return n
	}
	if k, ok := extent.known(); ok && end+w.strides[i] <= k {
		return n
	}
	return nil
}

// spatial returns the output sizes of a window over s[2:], unknown where it
// does not fit.
func (c *call) spatial(s onnx.Shape, kernel []*expr) onnx.Shape {
	w, ok := c.window(len(s)-2, kernel)
	if !ok {
		return unknownShape(len(s) - 2)
	}
	out := make(onnx.Shape, len(s)-2)
	for i, d := range s[2:] {
		out[i] = c.asDim(w.out(i, c.ex(d)))
	}
	return out
}

// convType returns the inference of a convolution of input x by weight w
// [M, C/group, spatial…].
func convType(x, w int, elem func(*call) onnx.DType) func(*call) {
	return func(c *call) {
		in, weight := c.shape(x), c.shape(w)
		if in == nil && weight != nil {
			in = unknownShape(len(weight))
		}
		if len(in) < 3 || weight != nil && len(weight) != len(in) {
			c.set(0, elem(c), nil)
			return
		}
		m, kernel := onnx.Symbol(""), []*expr(nil)
		if weight != nil {
			m, kernel = weight[0], c.exprs(weight[2:])
		}
		c.set(0, elem(c), concatShape(onnx.Shape{in[0], m}, c.spatial(in, kernel)))
	}
}

// costConv counts one MAC per output element and weight of its filter, and one
// addition for the bias; w and bias are their inputs, -1 for none.
func costConv(w, bias int) func(*costing) {
	return func(c *costing) {
		out := c.outCount(0)
		c.cost.MACs = c.times(out, c.filterSize(w))
		if c.has(bias) {
			c.cost.FLOPs = out
		}
	}
}

// filterSize returns the number of elements of input w per element of its first axis.
func (c *costing) filterSize(w int) *expr {
	s := c.shape(w)
	if len(s) == 0 {
		return c.missing()
	}
	return c.count(s[1:])
}

// inferConvTranspose: weight is [C, M/group, spatial…].
func inferConvTranspose(c *call) {
	in, weight := c.shape(0), c.shape(1)
	if in == nil && weight != nil {
		in = unknownShape(len(weight))
	}
	if len(in) < 3 || weight != nil && len(weight) != len(in) {
		c.set(0, c.elem(0), nil)
		return
	}
	out := unknownShape(len(in))
	out[0] = in[0]
	var kernel []*expr
	if g := c.int("group"); weight != nil && g > 0 {
		out[1] = c.asDim(mul(c.ex(weight[1]), constant(g)))
		kernel = c.exprs(weight[2:])
	}
	n := len(in) - 2
	if w, ok := c.window(n, kernel); ok {
		for i := range n {
			out[2+i] = c.asDim(c.transposedSize(w, i, c.ex(in[2+i])))
		}
	}
	c.set(0, c.elem(0), out)
}

// transposedSize returns the output size of a transposed convolution along axis i.
func (c *call) transposedSize(w *window, i int, size *expr) *expr {
	n := len(w.kernel)
	if shape := c.intList("output_shape"); len(shape) > 0 {
		if len(shape) < n {
			return nil
		}
		return constant(shape[len(shape)-n+i])
	}
	stride := constant(w.strides[i])
	extra := constant(0)
	if p := c.intList("output_padding"); len(p) == n {
		extra = constant(p[i])
	} else if len(p) > 0 {
		return nil
	}
	pads := add(constant(w.pads[i]), constant(w.pads[i+n]))
	switch w.auto {
	case "SAME_UPPER", "SAME_LOWER":
		if !extra.is(0) {
			return nil
		}
		return mul(size, stride)
	case "VALID":
		pads = constant(0)
	}
	return sub(add(add(mul(stride, sub(size, constant(1))), extra), w.extent(i)), pads)
}

func costConvTranspose(c *costing) {
	c.cost.MACs = c.times(c.inCount(0), c.filterSize(1))
	if c.has(2) {
		c.cost.FLOPs = c.outCount(0)
	}
}

func inferPool(c *call) {
	s := c.shape(0)
	if s == nil {
		if k := c.intList("kernel_shape"); k != nil {
			s = unknownShape(len(k) + 2)
		}
	}
	if len(s) < 3 {
		c.set(0, c.elem(0), nil)
		c.set(1, onnx.Int64, nil)
		return
	}
	out := concatShape(s[:2], c.spatial(s, nil))
	c.set(0, c.elem(0), out)
	c.set(1, onnx.Int64, out)
}

// costPool counts one FLOP per output element and window element.
func costPool(c *costing) {
	n, ok := onnx.ElementCount(c.intList("kernel_shape"))
	if !ok {
		c.unknown = true
	}
	c.cost.FLOPs = c.times(c.outCount(0), constant(n))
}

func inferGlobalPool(c *call) {
	s := c.shape(0)
	if len(s) < 2 {
		c.set(0, c.elem(0), nil)
		return
	}
	out := append(onnx.Shape{}, s[:2]...)
	for range s[2:] {
		out = append(out, onnx.Fixed(1))
	}
	c.set(0, c.elem(0), out)
}

func inferMaxUnpool(c *call) {
	s := c.shape(0)
	if c.has(2) {
		c.set(0, c.elem(0), c.shapeFrom(2))
		return
	}
	if len(s) < 3 {
		c.set(0, c.elem(0), nil)
		return
	}
	out := append(onnx.Shape{}, s[:2]...)
	w, ok := c.window(len(s)-2, nil)
	for i, d := range s[2:] {
		var n *expr
		if ok {
			n = mul(sub(c.ex(d), constant(1)), constant(w.strides[i]))
			n = sub(add(n, w.kernel[i]), add(constant(w.pads[i]), constant(w.pads[i+len(s)-2])))
		}
		out = append(out, c.asDim(n))
	}
	c.set(0, c.elem(0), out)
}

func inferMaxRoiPool(c *call) {
	p := c.intList("pooled_shape")
	if len(p) != 2 {
		c.set(0, c.elem(0), unknownShape(4))
		return
	}
	c.set(0, c.elem(0), onnx.Shape{c.dim(1, 0), c.dim(0, 1), c.asDim(constant(p[0])), c.asDim(constant(p[1]))})
}

func inferRoiAlign(c *call) {
	c.set(0, c.elem(0), onnx.Shape{c.dim(1, 0), c.dim(0, 1),
		c.asDim(constant(c.int("output_height"))), c.asDim(constant(c.int("output_width")))})
}

// inferCol2Im: [N, C·Πblock, L] gives [N, C, image…].
func inferCol2Im(c *call) {
	image, block := c.ints(1), c.ints(2)
	if image == nil {
		c.set(0, c.elem(0), nil)
		return
	}
	channels := c.size(0, 1)
	if block == nil {
		channels = nil
	}
	for _, b := range block {
		if channels != nil && !b.is(0) {
			channels = quotient(channels, b)
		}
	}
	c.set(0, c.elem(0), concatShape(onnx.Shape{c.dim(0, 0), c.asDim(channels)}, c.asShape(image)))
}

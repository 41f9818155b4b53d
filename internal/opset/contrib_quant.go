package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// contribQuantRows are the quantised operators of com.microsoft.
func contribQuantRows() []row {
	const pair = "A A_scale A_zero_point? B B_scale B_zero_point? C_scale C_zero_point?"
	const qpool = "X x_scale x_zero_point? y_scale y_zero_point?"
	const qunary = "X X_scale X_zero_point? Y_scale Y_zero_point?"
	return []row{
		{"QuantizeLinear", "1", "x y_scale y_zero_point?", "y", "axis:int", 0, inferQuantize, perOutput(2)},
		{"DequantizeLinear", "1", "x x_scale x_zero_point?", "y", "axis:int", 0, func(c *call) { c.set(0, c.elem(1), c.shape(0)) }, perOutput(2)},
		{"QLinearAdd", "1", pair, "C", "", Elementwise, binaryOf(0, 3), perOutput(5)},
		{"QLinearMul", "1", pair, "C", "", Elementwise, binaryOf(0, 3), perOutput(5)},
		{"QLinearConcat", "1", "Y_scale Y_zero_point inputs*", "Y", "axis:int!", 0, inferQLinearConcat, nil},
		{"QLinearAveragePool", "1", qpool, "Y", "auto_pad:string=NOTSET ceil_mode:int=0 channels_last:int=0 count_include_pad:int=0 kernel_shape:ints! pads:ints strides:ints",
			0, maybeChannelsLast(inferPool), costPool},
		{"QLinearGlobalAveragePool", "1", "X x_scale x_zero_point y_scale y_zero_point", "Y", "channels_last:int=0", 0, maybeChannelsLast(inferGlobalPool), perInput(1)},
		{"QLinearConv", "1", "x x_scale x_zero_point w w_scale w_zero_point y_scale y_zero_point B?", "y", "auto_pad:string=NOTSET channels_last:int=0 " +
			"dilations:ints group:int=1 kernel_shape:ints pads:ints strides:ints", 0, maybeChannelsLast(convType(0, 3, elemOf(7))), costConv(3, 8)},
		{"QLinearLeakyRelu", "1", qunary, "Y", "alpha:float=0.01", Elementwise, sameAsFirst, perOutput(4)},
		{"QLinearSigmoid", "1", qunary, "Y", "", Elementwise, sameAsFirst, perOutput(6)},
		{"QLinearSoftmax", "1", "X X_scale x_zero_point? y_scale y_zero_point", "Y", "axis:int=-1 opset:int!", 0, sameAsFirst, perOutput(7)},
		{"QLinearReduceMean", "1", "data data_scale data_zero_point? reduced_scale reduced_zero_point?", "reduced", "axes:ints! keepdims:int!", 0, inferAttrReduce(0), perInput(1)},
		{"ReduceSumInteger", "1", "data", "reduced", "axes:ints! keepdims:int!", 0, inferAttrReduce(1), perInput(1)},
		{"QLinearWhere", "1", "condition X x_scale x_zero_point Y y_scale y_zero_point z_scale z_zero_point", "Z", "", Elementwise, inferQLinearWhere, nil},
		{"QGemm", "1", "A a_scale a_zero_point B b_scale b_zero_point C? y_scale? y_zero_point?", "Y", "alpha:float=1 transA:int=0 transB:int=0", 0, inferQGemm, costGemm2},
		{"DynamicQuantizeMatMul", "1", "A B b_scale b_zero_point? bias?", "Y", "", 0, inferMatMul, costMatMul},
		{"MatMulIntegerToFloat", "1", "A B a_scale b_scale a_zero_point? b_zero_point? bias?", "Y", "", 0, matmulType(0, 1, elemOf(2)), costMatMul},
		{"MatMulInteger16", "1", "A B", "Y", "", 0, inferMatMul16, costMatMul},
		{"MatMulNBits", "1", "A B scales zero_points? g_idx? bias?", "Y", "K:int! N:int! accuracy_level:int=0 bits:int=4 block_size:int! weight_prepacked:int=0",
			0, inferMatMulNBits, costMatMul},
		{"GatherBlockQuantized", "1", "data indices scales zero_points?", "output", "bits:int=4 block_size:int=128 gather_axis:int=0 quantize_axis:int=1",
			0, inferGatherBlock, perOutput(2)},
	}
}

// binaryOf returns the inference of an elementwise operator on inputs a and b.
func binaryOf(a, b int) func(*call) {
	return func(c *call) { c.set(0, c.elem(a), c.broadcast(c.shape(a), c.shape(b))) }
}

// maybeChannelsLast runs an inference of [N, C, spatial…] as attribute
// channels_last says.
func maybeChannelsLast(infer func(*call)) func(*call) {
	last := channelsLast(infer)
	return func(c *call) {
		if c.int("channels_last") != 0 {
			last(c)
			return
		}
		infer(c)
	}
}

// inferQLinearConcat: the inputs from the third on are triples of tensor, scale
// and zero point.
func inferQLinearConcat(c *call) {
	var parts []onnx.Shape
	for i := 2; i < len(c.n.Inputs()); i += 3 {
		parts = append(parts, c.shape(i))
	}
	elem := c.elem(1)
	c.set(0, elem, nil)
	if len(parts) == 0 || parts[0] == nil {
		return
	}
	axis, ok := axisOf(c.int("axis"), len(parts[0]))
	if !ok {
		return
	}
	out, sum := slices.Clone(parts[0]), constant(0)
	for _, s := range parts {
		if len(s) != len(out) {
			return
		}
		sum = add(sum, c.ex(s[axis]))
		for j, d := range s {
			if j != axis {
				out[j] = c.sharper(out[j], d)
			}
		}
	}
	out[axis] = c.asDim(sum)
	c.set(0, elem, out)
}

// inferAttrReduce reduces over attribute axes; wide 1 widens the elements to 32 bits.
func inferAttrReduce(wide int) func(*call) {
	return func(c *call) {
		elem := c.elem(0)
		if wide == 1 {
			elem = map[onnx.DType]onnx.DType{onnx.Int8: onnx.Int32, onnx.Uint8: onnx.Uint32}[elem]
		}
		c.set(0, elem, c.reducedShape())
	}
}

func inferQLinearWhere(c *call) {
	c.set(0, c.elem(1), c.broadcast(c.shape(0), c.shape(1), c.shape(4)))
}

func inferQGemm(c *call) {
	s := unknownShape(2)
	if a := transposed(c.shape(0), c.int("transA")); len(a) == 2 {
		s[0] = a[0]
	}
	if b := transposed(c.shape(3), c.int("transB")); len(b) == 2 {
		s[1] = b[1]
	}
	elem := onnx.Float
	if c.has(8) {
		elem = c.elem(8)
	}
	c.set(0, elem, s)
}

// costGemm2 counts the product of QGemm, whose depth is a dimension of input 0.
func costGemm2(c *costing) {
	at := 1
	if c.int("transA") != 0 {
		at = 0
	}
	c.cost.MACs = c.times(c.outCount(0), c.sizeAt(0, at))
}

func inferMatMul16(c *call) {
	elem := onnx.Int32
	if c.elem(0) == onnx.Uint16 && c.elem(1) == onnx.Uint16 {
		elem = onnx.Uint32
	}
	c.set(0, elem, c.matmulShape(c.shape(0), c.shape(1)))
}

func inferMatMulNBits(c *call) {
	s := slices.Clone(c.shape(0))
	if len(s) > 0 {
		s[len(s)-1] = c.asDim(constant(c.int("N")))
	}
	c.set(0, c.elem(0), s)
}

// inferGatherBlock gathers blocks of 4- or 8-bit numbers; uint8 data holds
// 8/bits of them per element along the last axis.
func inferGatherBlock(c *call) {
	s, idx := slices.Clone(c.shape(0)), c.shape(1)
	axis, ok := axisOf(c.int("gather_axis"), len(s))
	bits := c.int("bits")
	if !ok || idx == nil || bits != 4 && bits != 8 {
		c.set(0, c.elem(2), nil)
		return
	}
	if c.elem(0) == onnx.Uint8 && bits == 4 {
		s[len(s)-1] = c.asDim(mul(c.ex(s[len(s)-1]), constant(2)))
	}
	c.set(0, c.elem(2), concatShape(s[:axis], idx, s[axis+1:]))
}

package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// quantRows are the quantisation operators and the integer matrix products.
func quantRows() []row {
	return []row{
		{"QuantizeLinear", "10 13 19 21 23 24 25", "x y_scale y_zero_point?", "y",
			"axis:int=1@13 saturate:int=1@19 block_size:int=0@21 output_dtype:int=0@21 precision:int=0@23", 0, inferQuantize, perOutput(2)},
		{"DequantizeLinear", "10 13 19 21 23 24 25", "x x_scale x_zero_point?", "y",
			"axis:int=1@13 block_size:int=0@21 output_dtype:int=0@23", 0, inferDequantize, perOutput(2)},
		{"DynamicQuantizeLinear", "11", "x", "y y_scale y_zero_point", "", 0, inferDynamicQuantize, perInput(4)},
		{"MatMulInteger", "10", "A B a_zero_point? b_zero_point?", "Y", "", 0, matmulType(0, 1, elemIs(onnx.Int32)), costMatMul},
		{"QLinearMatMul", "10 21", "a a_scale a_zero_point b b_scale b_zero_point y_scale y_zero_point", "y", "", 0,
			matmulType(0, 3, elemOf(7)), costMatMul},
	}
}

func inferQuantize(c *call) {
	elem := onnx.Uint8
	if c.has(2) {
		elem = c.elem(2)
	} else if d := c.int("output_dtype"); d != 0 {
		elem = dtypeOf(d)
	}
	c.set(0, elem, c.shape(0))
}

func inferDequantize(c *call) {
	elem := onnx.Float
	if c.ver() >= 19 {
		elem = c.elem(1)
	}
	if d := c.int("output_dtype"); d != 0 {
		elem = dtypeOf(d)
	}
	c.set(0, elem, c.shape(0))
}

func inferDynamicQuantize(c *call) {
	c.set(0, onnx.Uint8, c.shape(0))
	c.set(1, onnx.Float, onnx.Shape{})
	c.set(2, onnx.Uint8, onnx.Shape{})
}

// matmulType returns the inference of a matrix product of inputs a and b.
func matmulType(a, b int, elem func(*call) onnx.DType) func(*call) {
	return func(c *call) { c.set(0, elem(c), c.matmulShape(c.shape(a), c.shape(b))) }
}

package opset

import "github.com/lapidary-ml/lapidary/internal/onnx"

// matmulRows are the matrix products.
func matmulRows() []row {
	return []row{
		{"MatMul", "1 9 13", "A B", "Y", "", 0, inferMatMul, costMatMul},
		{"Gemm", "1 6 7 9 11 13", "A B C|11:A B C?", "Y",
			"alpha:float=1 beta:float=1 broadcast:int=0@..6 transA:int=0 transB:int=0", 0, inferGemm, costGemm},
	}
}

func inferMatMul(c *call) { c.set(0, c.elem(0), c.matmulShape(c.shape(0), c.shape(1))) }

// matmulShape returns the shape of a NumPy-style matrix product; nil where a
// rank is unknown or the operands do not fit.
func (c *call) matmulShape(a, b onnx.Shape) onnx.Shape {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	inner := a[len(a)-1]
	var rows, cols onnx.Shape
	var batchA, batchB onnx.Shape
	if len(a) > 1 {
		rows, batchA = a[len(a)-2:len(a)-1], a[:len(a)-2]
	}
	k := b[0]
	if len(b) > 1 {
		k, cols, batchB = b[len(b)-2], b[len(b)-1:], b[:len(b)-2]
	}
	if k.Known() && inner.Known() && k.Value != inner.Value {
		return nil
	}
	batch := c.broadcast(append(onnx.Shape{}, batchA...), append(onnx.Shape{}, batchB...))
	if batch == nil {
		return nil
	}
	out := append(onnx.Shape{}, batch...)
	out = append(out, rows...)
	return append(out, cols...)
}

func costMatMul(c *costing) {
	c.cost.MACs = c.times(c.outCount(0), c.sizeAt(0, -1))
}

func inferGemm(c *call) {
	a, b := c.shape(0), c.shape(1)
	s := unknownShape(2)
	if len(a) == 2 {
		s[0] = a[0]
		if c.int("transA") != 0 {
			s[0] = a[1]
		}
	}
	if len(b) == 2 {
		s[1] = b[1]
		if c.int("transB") != 0 {
			s[1] = b[0]
		}
	}
	c.set(0, c.elem(0), s)
}

func costGemm(c *costing) {
	k := c.sizeAt(0, 1)
	if c.int("transA") != 0 {
		k = c.sizeAt(0, 0)
	}
	c.cost.MACs = c.times(c.outCount(0), k)
	if c.has(2) {
		c.cost.FLOPs = c.outCount(0)
	}
}

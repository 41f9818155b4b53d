package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// matmulAdd: a product of matrices plus a constant is one Gemm.
var matmulAdd = rewrite.Rule{
	Name: "matmul-add", Doc: "turns MatMul of two matrices and the addition of a constant into Gemm",
	Pattern: "Add(mm=MatMul(a, b), c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := soleUse(m.Node("mm")); err != nil {
			return err
		}
		if m.Opset() < 11 {
			return rewrite.Decline("the model's opset %d is below 11", m.Opset())
		}
		a, b, mm := m.Value("a"), m.Value("b"), m.Node("mm").Output(0)
		if left, right := m.Facts.Shape(a), m.Facts.Shape(b); len(left) != 2 || len(right) != 2 {
			return rewrite.Decline("the factors have shapes %v and %v, not two axes each", left, right)
		}
		switch m.Facts.DType(a) {
		case onnx.Float, onnx.Double, onnx.Float16, onnx.BFloat16:
		default:
			return rewrite.Decline("the element type is %v", m.Facts.DType(a))
		}
		c, err := m.Const("c")
		if err != nil {
			return err
		}
		if err := broadcastsTo(c.Shape, m.Facts.Shape(mm)); err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Gemm", []*onnx.Value{a, b, m.Value("c")}))
		return nil
	},
}

// broadcastsTo declines unless a constant of shape c is certain to broadcast to
// the matrix shape out without growing it.
func broadcastsTo(c []int64, out onnx.Shape) error {
	if len(c) > len(out) {
		return rewrite.Decline("the addend of shape %s has more axes than the product", dims(c))
	}
	for i := range c {
		d := out[len(out)-len(c)+i]
		if c[i] != 1 && !(d.Known() && d.Value == c[i]) {
			return rewrite.Decline("the addend of shape %s may not broadcast to %v", dims(c), out)
		}
	}
	return nil
}

// gemmAdd: adding to a Gemm of constant bias extends the bias.
var gemmAdd = rewrite.Rule{
	Name: "gemm-add", Doc: "folds the addition of a constant into the Gemm before it",
	Pattern: "Add(gemm=Gemm(a, b, ?bias), c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		gemm := m.Node("gemm")
		if err := soleUse(gemm); err != nil {
			return err
		}
		if m.Opset() < 11 {
			return rewrite.Decline("the model's opset %d is below 11", m.Opset())
		}
		c, err := m.Const("c")
		if err != nil {
			return err
		}
		out := m.Facts.Shape(gemm.Output(0))
		if len(out) != 2 {
			return rewrite.Decline("the shape of the product is %v", out)
		}
		if err := broadcastsTo(c.Shape, out); err != nil {
			return err
		}
		if m.Value("bias") == nil {
			p.Swap(m.Root.Output(0), p.Add("Gemm", []*onnx.Value{m.Value("a"), m.Value("b"), m.Value("c")}, withoutAttr(gemm, "beta")...))
			return nil
		}
		if !out[1].Known() {
			return rewrite.Decline("the number of columns is %v", out[1])
		}
		return extendBias(m, p, gemm, c, out[1].Value)
	},
}

func extendBias(m *rewrite.Match, p *rewrite.Patch, gemm *onnx.Node, c *onnx.Tensor, columns int64) error {
	old, err := gemmBias(m, gemm, "bias", columns)
	if err != nil {
		return err
	}
	add, err := rowBias(c, 1, columns)
	if err != nil {
		return err
	}
	x, err := old.Float64s()
	if err != nil {
		return err
	}
	y, err := add.Float64s()
	if err != nil {
		return err
	}
	for i := range x {
		x[i] += y[i]
	}
	sum, err := floatTensor(old.Name, old.DType, old.Shape, x)
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add("Gemm", []*onnx.Value{m.Value("a"), m.Value("b"), p.Const(sum)}, withoutAttr(gemm, "beta")...))
	return nil
}

package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// matmulAdd: a product of matrices plus something of its shape, or that
// broadcasts to it, is one Gemm.
var matmulAdd = rewrite.Rule{
	Name: "matmul-add", Doc: "turns MatMul of two matrices and an addition, or the subtraction of a constant, into Gemm",
	Pattern: "Add|Sub(mm=MatMul(a, b), c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := soleUse(m.Node("mm")); err != nil {
			return err
		}
		a, b, mm := m.Value("a"), m.Value("b"), m.Node("mm").Output(0)
		if err := gemmFactors(m, a, b); err != nil {
			return err
		}
		if err := broadcastsTo(m.Facts.Shape(m.Value("c")), m.Facts.Shape(mm)); err != nil {
			return err
		}
		bias := m.Value("c")
		if m.Root.Is("Sub") {
			c, err := m.Const("c")
			if err != nil {
				return err
			}
			if bias, err = addend(m, p, c); err != nil {
				return err
			}
		}
		p.Swap(m.Root.Output(0), p.Add("Gemm", []*onnx.Value{a, b, bias}))
		return nil
	},
}

// gemmFactors declines unless the product of a and b may be written as Gemm:
// matrices of floats, and no quantized ones, whose MatMul engines recognise.
func gemmFactors(m *rewrite.Match, a, b *onnx.Value) error {
	if m.Opset() < 7 {
		return rewrite.Decline("Gemm of opset %d broadcasts by an attribute", m.Opset())
	}
	if left, right := m.Facts.Shape(a), m.Facts.Shape(b); len(left) != 2 || len(right) != 2 {
		return rewrite.Decline("the factors have shapes %v and %v, not two axes each", left, right)
	}
	if d := m.Facts.DType(a); !isReal(d) {
		return rewrite.Decline("the element type is %v", d)
	}
	for _, v := range []*onnx.Value{a, b} {
		if v.Producer().Is("DequantizeLinear") {
			return rewrite.Decline("the factor %q is quantized", v.Name())
		}
	}
	return nil
}

// addend returns the constant c as what the Add or Sub at the root adds.
func addend(m *rewrite.Match, p *rewrite.Patch, c *onnx.Tensor) (*onnx.Value, error) {
	if !m.Root.Is("Sub") {
		return m.Value("c"), nil
	}
	v, err := c.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range v {
		v[i] = -v[i]
	}
	t, err := onnx.FromFloat64s(c.Name, c.DType, c.Shape, v)
	if err != nil {
		return nil, err
	}
	return p.Const(t), nil
}

// broadcastsTo declines unless a tensor of shape c is certain to broadcast to
// the matrix shape out without growing it.
func broadcastsTo(c, out onnx.Shape) error {
	if c == nil || len(c) > len(out) {
		return rewrite.Decline("the addend of shape %v has more axes than the product", c)
	}
	for i := range c {
		if d := out[len(out)-len(c)+i]; !(c[i].Known() && c[i].Value == 1) && !d.Same(c[i]) {
			return rewrite.Decline("the addend of shape %v may not broadcast to %v", c, out)
		}
	}
	return nil
}

// gemmAdd: adding to a Gemm of constant bias extends the bias.
func gemmAdd(t *Target) rewrite.Rule {
	extend := foldBackward(t)
	return rewrite.Rule{
		Name: "gemm-add", Doc: "folds the addition or subtraction of a constant into the Gemm before it",
		Pattern: "Add|Sub(gemm=Gemm(a, b, ?bias), c)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if m.Value("bias") != nil {
				return extend(m, p)
			}
			c, err := m.Const("c")
			if err != nil {
				return err
			}
			return giveBias(m, p, func() (*onnx.Value, error) { return addend(m, p, c) })
		},
	}
}

// gemmSum: what is added to a Gemm without a bias, constant or not, is its bias.
var gemmSum = rewrite.Rule{
	Name: "gemm-sum", Doc: "folds Sum of two into the Gemm without bias before it",
	Pattern: "Sum(gemm=Gemm(a, b), c); Sum(c, gemm=Gemm(a, b))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		return giveBias(m, p, func() (*onnx.Value, error) { return m.Value("c"), nil })
	},
}

// giveBias proposes the matched gemm, which has none, with the bias c.
func giveBias(m *rewrite.Match, p *rewrite.Patch, c func() (*onnx.Value, error)) error {
	gemm := m.Node("gemm")
	if err := soleUse(gemm); err != nil {
		return err
	}
	if m.Opset() < 11 {
		return rewrite.Decline("the model's opset %d is below 11", m.Opset())
	}
	out := m.Facts.Shape(gemm.Output(0))
	if len(out) != 2 {
		return rewrite.Decline("the shape of the product is %v", out)
	}
	if err := broadcastsTo(m.Facts.Shape(m.Value("c")), out); err != nil {
		return err
	}
	bias, err := c()
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add("Gemm", []*onnx.Value{m.Value("a"), m.Value("b"), bias}, withoutAttr(gemm, "beta")...))
	return nil
}

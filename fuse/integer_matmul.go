package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// integerMatMul returns the rule for products of integers that are scaled back
// to floats. ONNX Runtime has two operators for them: DynamicQuantizeMatMul,
// which also quantizes its first operand by DynamicQuantizeLinear, and
// MatMulIntegerToFloat, which takes it quantized.
func integerMatMul(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "integer-matmul", Doc: "makes DynamicQuantizeMatMul or MatMulIntegerToFloat of MatMulInteger, Cast and Mul (targets of ONNX Runtime)",
		Pattern: "Mul(cast=Cast(mm=MatMulInteger(a, b, ?az, ?bz)), scale=Mul(s1, s2))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			for _, label := range []string{"cast", "mm"} {
				if err := soleUse(m.Node(label)); err != nil {
					return err
				}
			}
			d := onnx.DType(m.Node("cast").Int("to", 0))
			if d != onnx.Float {
				return rewrite.Decline("the product becomes %v, the runtime's operators give float", d)
			}
			as, bs, err := scalesOf(m)
			if err != nil {
				return err
			}
			return emitIntegerMatMul(t, m, p, as, bs)
		},
	}
}

// scalesOf tells the scale of the first operand, of one element, from that of
// the second, of one element or one per column.
func scalesOf(m *rewrite.Match) (as, bs *onnx.Value, err error) {
	as, bs = m.Value("s1"), m.Value("s2")
	if quantizer(m.Value("a")) != nil && bs.Producer() == quantizer(m.Value("a")) {
		as, bs = bs, as
	}
	if !oneElement(m.Facts.Shape(as)) {
		as, bs = bs, as
	}
	b := m.Facts.Shape(m.Value("b"))
	columns := m.Facts.Shape(bs)
	switch {
	case !oneElement(m.Facts.Shape(as)):
		return nil, nil, rewrite.Decline("neither scale has one element")
	case len(b) < 2 || columns == nil:
		return nil, nil, rewrite.Decline("the shapes %v of the second operand and %v of its scale are not known well enough", b, columns)
	case !oneElement(columns) && !(len(columns) == 1 && columns[0].Same(b[len(b)-1])):
		return nil, nil, rewrite.Decline("the scale of shape %v is not one per column of %v", columns, b)
	case m.Value("bz") != nil && !sameLength(m.Facts.Shape(m.Value("bz")), columns):
		return nil, nil, rewrite.Decline("the zero point of shape %v does not go with the scale of shape %v", m.Facts.Shape(m.Value("bz")), columns)
	case m.Value("az") != nil && !oneElement(m.Facts.Shape(m.Value("az"))):
		return nil, nil, rewrite.Decline("the zero point of the first operand has shape %v", m.Facts.Shape(m.Value("az")))
	}
	return as, bs, nil
}

// quantizer returns the DynamicQuantizeLinear whose quantized output v is, nil if none.
func quantizer(v *onnx.Value) *onnx.Node {
	if n := v.Producer(); n != nil && n.Is("DynamicQuantizeLinear") && v.Index() == 0 {
		return n
	}
	return nil
}

// oneElement reports whether a shape is that of one number, or of a vector of one.
func oneElement(s onnx.Shape) bool { return s != nil && len(s) <= 1 && allOnes(s) }

func sameLength(a, b onnx.Shape) bool {
	return oneElement(a) && oneElement(b) || len(a) == 1 && len(b) == 1 && a[0].Same(b[0])
}

func emitIntegerMatMul(t *Target, m *rewrite.Match, p *rewrite.Patch, as, bs *onnx.Value) error {
	a, b, az, bz := m.Value("a"), m.Value("b"), m.Value("az"), m.Value("bz")
	const domain = "com.microsoft"
	if n := quantizer(a); n != nil && as == n.Output(1) && az == n.Output(2) {
		if err := t.offer(m, domain, "DynamicQuantizeMatMul", onnx.Float); err != nil {
			return err
		}
		// Another reader of the quantized operand would quantize it once more.
		if len(a.Uses()) == 1 && len(az.Uses()) == 1 {
			y := p.AddNode(domain, "DynamicQuantizeMatMul", []*onnx.Value{n.Input(0), b, bs, bz}, 1)
			p.Swap(m.Root.Output(0), y.Output(0))
			return nil
		}
	}
	if err := t.offer(m, domain, "MatMulIntegerToFloat", onnx.Float); err != nil {
		return err
	}
	y := p.AddNode(domain, "MatMulIntegerToFloat", []*onnx.Value{a, b, as, bs, az, bz}, 1)
	p.Swap(m.Root.Output(0), y.Output(0))
	return nil
}

// integerMatMulBias returns the rule that makes a bias of what is added to one
// of the operators of integer-matmul.
func integerMatMulBias(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "integer-matmul-bias", Doc: "makes a constant added to DynamicQuantizeMatMul or MatMulIntegerToFloat its bias",
		Pattern: "Add(mm=com.microsoft.DynamicQuantizeMatMul|com.microsoft.MatMulIntegerToFloat(a, b, c, ?d, ...), bias)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			mm := m.Node("mm")
			if err := soleUse(mm); err != nil {
				return err
			}
			at := 4
			if mm.Op == "MatMulIntegerToFloat" {
				at = 6
			}
			if mm.Input(at) != nil {
				return rewrite.Decline("%v has a bias", mm)
			}
			bias, err := m.Const("bias")
			if err != nil {
				return err
			}
			columns := m.Facts.Shape(mm.Output(0))
			if len(bias.Shape) != 1 || len(columns) < 2 || !columns[len(columns)-1].Same(onnx.Fixed(bias.Shape[0])) {
				return rewrite.Decline("the addend of shape %v is not one per column of %v", bias.Shape, columns)
			}
			in := append([]*onnx.Value(nil), mm.Inputs()...)
			for len(in) < at {
				in = append(in, nil)
			}
			y := p.AddNode(mm.Domain, mm.Op, append(in[:at:at], m.Value("bias")), 1)
			p.Swap(m.Root.Output(0), y.Output(0))
			return nil
		},
	}
}

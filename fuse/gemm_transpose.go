package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// swapped returns what the matrix v is the transpose of, nil if it is not one.
func swapped(v *onnx.Value) *onnx.Value {
	n := producerOf(v, "Transpose")
	if n == nil || !swapsMatrix(n) {
		return nil
	}
	return n.Input(0)
}

// swapsMatrix reports whether Transpose n, of a matrix, exchanges its axes.
func swapsMatrix(n *onnx.Node) bool {
	perm := n.Attr("perm")
	return perm == nil || perm.Ref == "" && slices.Equal(perm.Ints, []int64{1, 0})
}

// gemmTranspose: Gemm transposes its factors itself.
var gemmTranspose = rewrite.Rule{
	Name: "gemm-transpose", Doc: "takes Transpose of a factor into Gemm",
	Pattern: "Gemm(a, b, ?c)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		in := slices.Clone(m.Root.Inputs())
		attrs := m.Root.Attrs
		for i, name := range []string{"transA", "transB"} {
			x := swapped(in[i])
			if x == nil {
				continue
			}
			in[i] = x
			attrs = append(without(attrs, name), turned(m.Root, name, name))
		}
		if slices.Equal(in, m.Root.Inputs()) {
			return rewrite.Decline("no factor is a transpose")
		}
		p.Swap(m.Root.Output(0), p.Add("Gemm", in, attrs...))
		return nil
	},
}

// turned returns the attribute called name that is set where n does not set flag: any number but 0 sets it.
func turned(n *onnx.Node, flag, name string) *onnx.Attr {
	if n.Int(flag, 0) != 0 {
		return onnx.IntAttr(name, 0)
	}
	return onnx.IntAttr(name, 1)
}

func without(list []*onnx.Attr, name string) []*onnx.Attr {
	return slices.DeleteFunc(slices.Clone(list), func(a *onnx.Attr) bool { return a.Name == name })
}

// transposeGemm: the transpose of a product is the product of the transposes in
// the other order.
var transposeGemm = rewrite.Rule{
	Name: "transpose-gemm", Doc: "takes Transpose of the result into Gemm, where its bias is a scalar or constant",
	Pattern: "t=Transpose(gemm=Gemm(a, b, ?c))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		gemm := m.Node("gemm")
		if err := soleUse(gemm); err != nil {
			return err
		}
		if !swapsMatrix(m.Root) {
			return rewrite.Decline("the order of axes is %v", m.Root.Ints("perm", nil))
		}
		if m.Opset() < 7 {
			return rewrite.Decline("the bias is of fixed shape at opset %d", m.Opset())
		}
		in := []*onnx.Value{m.Value("b"), m.Value("a")}
		if m.Value("c") != nil {
			t, err := m.Const("c")
			if err != nil {
				return err
			}
			c, err := transposedBias(t)
			if err != nil {
				return err
			}
			in = append(in, p.Const(c))
		}
		attrs := without(without(gemm.Attrs, "transA"), "transB")
		attrs = append(attrs, turned(gemm, "transB", "transA"), turned(gemm, "transA", "transB"))
		p.Swap(m.Root.Output(0), p.Add("Gemm", in, attrs...))
		return nil
	},
}

// transposedBias returns the constant c, which broadcasts to a matrix, for the
// transposed matrix.
func transposedBias(c *onnx.Tensor) (*onnx.Tensor, error) {
	t := *c
	switch {
	case len(c.Shape) == 0:
	case len(c.Shape) == 1:
		t.Shape = []int64{c.Shape[0], 1}
	case c.Shape[0] == 1 || c.Shape[1] == 1:
		t.Shape = []int64{c.Shape[1], c.Shape[0]}
	default:
		return nil, rewrite.Decline("the bias is a matrix")
	}
	return &t, nil
}

// matmulTransposes: the product of two transposes is the transpose of the
// product in the other order.
var matmulTransposes = rewrite.Rule{
	Name: "matmul-transposes", Doc: "transposes a product once instead of both of its factors",
	Pattern: "MatMul(ta=Transpose(a), tb=Transpose(b))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		for _, name := range []string{"ta", "tb"} {
			n := m.Node(name)
			if err := soleUse(n); err != nil {
				return err
			}
			perm, err := permOf(m, n)
			if err != nil {
				return err
			}
			if !swapsLastTwo(perm) {
				return rewrite.Decline("%v has the order of axes %v", n, perm)
			}
		}
		perm, err := permOf(m, m.Node("ta"))
		if err != nil {
			return err
		}
		if other := m.Facts.Shape(m.Value("b")); len(perm) != len(other) {
			return rewrite.Decline("the factors have unequal ranks")
		}
		y := p.Add("MatMul", []*onnx.Value{m.Value("b"), m.Value("a")})
		p.Swap(m.Root.Output(0), p.Add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", perm...)))
		return nil
	},
}

// swapsLastTwo reports whether perm exchanges the last two axes and nothing else.
func swapsLastTwo(perm []int64) bool {
	n := len(perm)
	if n < 2 || perm[n-1] != int64(n-2) || perm[n-2] != int64(n-1) {
		return false
	}
	return inOrder(perm[:n-2])
}

// matmulTranspose: a matrix product with a transposed first factor is Gemm,
// which transposes itself. A constant second factor is folded instead.
var matmulTranspose = rewrite.Rule{
	Name: "matmul-transpose", Doc: "turns MatMul of matrices, one of them transposed, into Gemm",
	Pattern: "MatMul(a, b)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		in := []*onnx.Value{m.Value("a"), m.Value("b")}
		if len(m.Facts.Shape(in[0])) != 2 || len(m.Facts.Shape(in[1])) != 2 {
			return rewrite.Decline("the factors are not matrices")
		}
		var attrs []*onnx.Attr
		for i, name := range []string{"transA", "transB"} {
			if x := swapped(in[i]); x != nil {
				in[i] = x
				attrs = append(attrs, onnx.IntAttr(name, 1))
			}
		}
		switch {
		case attrs == nil:
			return rewrite.Decline("no factor is a transpose")
		case m.Opset() < 11:
			return rewrite.Decline("Gemm needs a bias at opset %d", m.Opset())
		case !isFloat(m.Facts.DType(in[0])):
			return rewrite.Decline("the element type is %v", m.Facts.DType(in[0]))
		}
		p.Swap(m.Root.Output(0), p.Add("Gemm", in, attrs...))
		return nil
	},
}

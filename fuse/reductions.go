package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// reduction returns a rule that makes one reduction of ReduceSum and what is
// computed before and after it. sum labels the ReduceSum, x its last input.
func reduction(name, op, pattern string) rewrite.Rule {
	return rewrite.Rule{
		Name: name, Doc: "recognises " + op, Pattern: pattern,
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			x, sum := m.Value("x"), m.Node("sum")
			if err := soleWithin(m, sum, "inner"); err != nil {
				return err
			}
			if m.Facts.DType(x) != m.Facts.DType(m.Root.Output(0)) {
				return rewrite.Decline("it goes from %v to %v", m.Facts.DType(x), m.Facts.DType(m.Root.Output(0)))
			}
			if mid := m.Facts.DType(sum.Output(0)); m.Root.Is("Cast") && mid != onnx.Double && !(mid == onnx.Float && m.Facts.DType(x) != onnx.Double) {
				return rewrite.Decline("it is computed in %v", mid)
			}
			if n := m.Node("square"); n != nil && n.Is("Pow") {
				if c, _, ok := scalarConst(n.Input(1)); !ok || c != 2 {
					return rewrite.Decline("the exponent is not 2")
				}
			}
			y, err := reduced(m, p, op, x, sum)
			if err != nil {
				return err
			}
			p.Swap(m.Root.Output(0), y)
			return nil
		},
	}
}

// soleWithin declines where the inner nodes of a match are read elsewhere.
func soleWithin(m *rewrite.Match, sum *onnx.Node, labels ...string) error {
	list := []*onnx.Node{}
	if sum != m.Root {
		list = append(list, sum)
	}
	for _, l := range append(labels, "square", "outer") {
		if n := m.Node(l); n != nil && n != m.Root {
			list = append(list, n)
		}
	}
	for _, n := range list {
		if err := soleUse(n); err != nil {
			return err
		}
	}
	return nil
}

// reduced proposes the reduction op of x over the axes of sum. ReduceSum takes
// its axes as an input since opset 13, the others since opset 18.
func reduced(m *rewrite.Match, p *rewrite.Patch, op string, x *onnx.Value, sum *onnx.Node) (*onnx.Value, error) {
	axes := sum.Input(1)
	if sum.Int("noop_with_empty_axes", 0) != 0 {
		if list, ok := knownInts(m.Facts, axes); !ok || len(list) == 0 {
			return nil, rewrite.Decline("it may have no axes, where operators differ in what they do")
		}
	}
	if axes == nil || m.Opset() >= 18 {
		return p.Add(op, []*onnx.Value{x, axes}, sum.Attrs...), nil
	}
	list, ok := knownInts(m.Facts, axes)
	if !ok {
		return nil, rewrite.Decline("the axes are not constant, and %s of opset %d has them as an attribute", op, m.Opset())
	}
	if len(list) == 0 {
		return nil, rewrite.Decline("there are no axes")
	}
	attrs := append(without(sum.Attrs, "noop_with_empty_axes"), onnx.IntsAttr("axes", list...))
	return p.Add(op, []*onnx.Value{x}, attrs...), nil
}

var (
	reduceL1 = reduction("reduce-l1", "ReduceL1", "sum=ReduceSum(inner=Abs(x), ?axes)")
	reduceL2 = reduction("reduce-l2", "ReduceL2",
		"Sqrt(sum=ReduceSum(square=Mul(x, x), ?axes)); Sqrt(sum=ReduceSum(square=Pow(x, two), ?axes)); Sqrt(sum=ReduceSumSquare(x, ?axes))")
	reduceSumSquare = reduction("reduce-sum-square", "ReduceSumSquare",
		"sum=ReduceSum(square=Mul(x, x), ?axes); sum=ReduceSum(square=Pow(x, two), ?axes)")
	reduceLogSum    = reduction("reduce-log-sum", "ReduceLogSum", "Log(sum=ReduceSum(x, ?axes))")
	reduceLogSumExp = reduction("reduce-log-sum-exp", "ReduceLogSumExp",
		"Log(sum=ReduceSum(inner=Exp(x), ?axes)); Cast(outer=Log(sum=ReduceSum(inner=Exp(Cast(x)), ?axes))); sum=ReduceLogSum(inner=Exp(x), ?axes); Cast(sum=ReduceLogSumExp(inner=Cast(x), ?axes))")
)

package fuse

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// softmaxForms returns Softmax and its logarithm along an axis, with and
// without the largest element taken away first.
func softmaxForms(x algebra.Poly, axis int64, log bool) []algebra.Poly {
	axes := []int64{axis}
	var out []algebra.Poly
	for _, d := range []algebra.Poly{algebra.Sub(x, algebra.Reduce("max", x, axes)), x} {
		e := algebra.Call("exp", "", d)
		total := algebra.Reduce("sum", e, axes)
		if log {
			out = append(out, algebra.Sub(d, algebra.Call("log", "", total)))
		} else {
			out = append(out, algebra.Mul(e, algebra.Pow(total, -1)))
		}
	}
	return out
}

// softmaxRule returns the rule that recognises Softmax, or its logarithm.
func softmaxRule(name, op, roots string, log bool) func(t *Target) rewrite.Rule {
	f := formula{
		name: name, doc: "recognises " + op + " in Exp and ReduceSum, with or without ReduceMax",
		roots: roots, inner: []string{"Exp", "ReduceLogSumExp"},
		read: func(e, x algebra.Poly, tol float64) ([]setting, bool) {
			for axis := range int64(8) {
				if closeToAny(e, tol, softmaxForms(x, axis, log)) {
					return []setting{{attr: onnx.IntAttr("axis", axis)}}, true
				}
			}
			return nil, false
		},
		emit: func(t *Target, m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, attrs []*onnx.Attr) (*onnx.Value, error) {
			axis, rank := attrs[0].I, int64(len(m.Facts.Shape(x)))
			if m.Opset() < 13 && axis != rank-1 {
				return nil, rewrite.Decline("%s of opset %d takes all axes from %d on together", op, m.Opset(), axis)
			}
			return standard(op)(t, m, p, x, attrs)
		},
	}
	return f.rule
}

var (
	softmax    = softmaxRule("softmax", "Softmax", "Div|Mul", false)
	logSoftmax = softmaxRule("logsoftmax", "LogSoftmax", "Sub", true)
)

// logOfSoftmax: the logarithm of Softmax is LogSoftmax, which does not vanish.
var logOfSoftmax = rewrite.Rule{
	Name: "log-softmax", Doc: "makes LogSoftmax of Log and Softmax", Pattern: "Log(s=Softmax(x))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := soleUse(m.Node("s")); err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("LogSoftmax", []*onnx.Value{m.Value("x")}, m.Node("s").Attrs...))
		return nil
	},
}

// expOfLogSoftmax: and exp of LogSoftmax is Softmax.
var expOfLogSoftmax = rewrite.Rule{
	Name: "exp-logsoftmax", Doc: "makes Softmax of Exp and LogSoftmax", Pattern: "Exp(s=LogSoftmax(x))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := soleUse(m.Node("s")); err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Add("Softmax", []*onnx.Value{m.Value("x")}, m.Node("s").Attrs...))
		return nil
	},
}

// softmaxReshape: along an axis that a reshape leaves in place, with all before
// it, Softmax does the same on the value before the reshape.
var softmaxReshape = rewrite.Rule{
	Name: "softmax-reshape", Doc: "takes away reshapes around Softmax and LogSoftmax that leave its axis in place",
	Pattern: "Reshape(s=Softmax|LogSoftmax(r=Reshape(x, _)), _)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		s := m.Node("s")
		for _, n := range []*onnx.Node{s, m.Node("r")} {
			if err := soleUse(n); err != nil {
				return err
			}
		}
		x, out, mid := m.Facts.Shape(m.Value("x")), m.Facts.Shape(m.Root.Output(0)), m.Facts.Shape(s.Output(0))
		if m.Opset() < 13 || !x.Equal(out) || mid == nil {
			return rewrite.Decline("the shape goes from %v by %v to %v", x, mid, out)
		}
		axis := s.Int("axis", -1)
		if axis < 0 {
			axis += int64(len(mid))
		}
		if axis < 0 || axis >= int64(min(len(x), len(mid))) || !x[:axis+1].Equal(mid[:axis+1]) {
			return rewrite.Decline("axis %d of %v is another in %v", axis, mid, x)
		}
		p.Swap(m.Root.Output(0), p.Add(s.Op, []*onnx.Value{m.Value("x")}, withAttr(s, onnx.IntAttr("axis", axis))...))
		return nil
	},
}

// crossEntropy: the likelihood loss of LogSoftmax over the classes.
var crossEntropy = rewrite.Rule{
	Name: "cross-entropy", Doc: "makes SoftmaxCrossEntropyLoss of LogSoftmax and NegativeLogLikelihoodLoss",
	Pattern: "NegativeLogLikelihoodLoss(s=LogSoftmax(x), target, ?weight)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		s := m.Node("s")
		axis, rank := s.Int("axis", -1), int64(len(m.Facts.Shape(m.Value("x"))))
		if m.Opset() < 13 || axis != 1 && (rank == 0 || axis+rank != 1) {
			return rewrite.Decline("LogSoftmax is along axis %d, not over the classes", axis)
		}
		outputs := 1
		if v := s.Output(0); v.IsOutput() || len(v.Uses()) > 1 {
			outputs = 2
		}
		n := p.AddNode("", "SoftmaxCrossEntropyLoss", []*onnx.Value{m.Value("x"), m.Value("target"), m.Value("weight")}, outputs, m.Root.Attrs...)
		p.Swap(m.Root.Output(0), n.Output(0))
		if outputs == 2 {
			p.Swap(s.Output(0), n.Output(1))
		}
		return nil
	},
}

// spread returns a constant vector that holds one number.
func spread(p *rewrite.Patch, name string, d onnx.DType, shape []int64, c float64) (*onnx.Value, error) {
	n, ok := onnx.ElementCount(shape)
	if !ok || n > 1<<24 {
		return nil, rewrite.Decline("a constant of shape %s would be needed", fmt.Sprint(shape))
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = c
	}
	t, err := floatTensor(name, d, shape, v)
	if err != nil {
		return nil, err
	}
	return p.Const(t), nil
}

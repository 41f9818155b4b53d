package fuse

import (
	"fmt"
	"slices"

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
		read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
			for axis := range int64(8) {
				if closeToAny(e, tol, softmaxForms(x, axis, log)) {
					return []*onnx.Attr{onnx.IntAttr("axis", axis)}, true
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

// logSumExpMax: ReduceLogSumExp of x less its largest element, plus that, or 0
// for either where the largest is not finite. Engines keep it from overflow
// themselves, but for TensorRT, which computes what the operator says.
func logSumExpMax(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "log-sum-exp-max", Doc: "makes ReduceLogSumExp of one that is kept from overflow by the largest element, which is taken away before and added after",
		Pattern: "Add(r=ReduceLogSumExp(d=Sub(x, m), ?axes), back)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			r, most := m.Node("r"), producerOf(unguarded(m.Value("m")), "ReduceMax")
			if most == nil || most.Input(0) != m.Value("x") {
				return rewrite.ErrNotHere
			}
			for _, label := range []string{"r", "d"} {
				if err := soleUse(m.Node(label)); err != nil {
					return err
				}
			}
			reader := &algebra.Reader{Facts: m.Facts}
			axes, ok1 := reader.Axes(r)
			of, ok2 := reader.Axes(most)
			switch back := m.Value("back"); {
			case t.Name == "tensorrt":
				return rewrite.Decline("the target %s does not keep ReduceLogSumExp from overflow", t.name())
			case !ok1 || !ok2 || !slices.Equal(axes, of) || most.Int("keepdims", 1) == 0:
				return rewrite.Decline("the largest element is along other axes")
			case !sameElements(back, m.Value("m")) || !m.Facts.Shape(back).Equal(m.Facts.Shape(r.Output(0))):
				return rewrite.Decline("what is added is not the largest element")
			}
			p.Swap(m.Root.Output(0), p.Add("ReduceLogSumExp", []*onnx.Value{m.Value("x"), m.Value("axes")}, r.Attrs...))
			return nil
		},
	}
}

// unguarded returns the value of which v is the elements that are finite, with 0
// in the place of others, or v.
func unguarded(v *onnx.Value) *onnx.Value {
	n := producerOf(v, "Where")
	if n == nil {
		return v
	}
	x, other := n.Input(1), n.Input(2)
	holds := finite(n.Input(0), x)
	if !holds {
		x, other = other, x
		holds = infinite(n.Input(0), x)
	}
	if c, _, ok := scalarConst(other); holds && ok && c == 0 {
		return x
	}
	return v
}

// finite reports whether cond is that v is finite, or at least not infinite.
func finite(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Not"); n != nil {
		return infinite(n.Input(0), v)
	}
	n := producerOf(cond, "And")
	return n != nil && finiteOrNumber(n.Input(0), n.Input(1), v)
}

// infinite reports whether cond is that v is infinite, or that or no number.
func infinite(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Or"); n != nil {
		a, b := n.Input(0), n.Input(1)
		return infinite(a, v) && isNaN(b, v) || infinite(b, v) && isNaN(a, v)
	}
	n := producerOf(cond, "IsInf")
	return n != nil && n.Input(0) == v && n.Int("detect_negative", 1) == 1 && n.Int("detect_positive", 1) == 1
}

// finiteOrNumber reports whether one of the conditions is that v is not infinite,
// and the other that it is a number.
func finiteOrNumber(a, b, v *onnx.Value) bool {
	number := func(c *onnx.Value) bool {
		if n := producerOf(c, "Not"); n != nil {
			return isNaN(n.Input(0), v)
		}
		n := producerOf(c, "Equal")
		return n != nil && n.Input(0) == v && n.Input(1) == v
	}
	return finite(a, v) && number(b) || finite(b, v) && number(a)
}

// isNaN reports whether cond is that v is no number.
func isNaN(cond, v *onnx.Value) bool {
	if n := producerOf(cond, "Not"); n != nil {
		n = producerOf(n.Input(0), "Equal")
		return n != nil && n.Input(0) == v && n.Input(1) == v
	}
	n := producerOf(cond, "IsNaN")
	return n != nil && n.Input(0) == v
}

// sameElements reports whether v is of, or of without some axes of size 1.
func sameElements(v, of *onnx.Value) bool {
	if n := v.Producer(); v != of && n != nil && (n.Is("Squeeze") || n.Is("Reshape")) {
		return n.Input(0) == of
	}
	return v == of
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

package quantize

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// refuse says why n cannot be quantized whatever its neighbours are; "" if it can.
func (p *plan) refuse(n *onnx.Node) string {
	var w *onnx.Value
	if place(n) == anchor {
		w = n.Input(1)
	}
	if why := p.s.o.excluded(n, w); why != "" {
		return why
	}
	if why := p.s.choices.float[outputName(n)]; why != "" {
		return why
	}
	if place(n) == anchor {
		if why := refuseWeights(n); why != "" {
			return why
		}
	} else if why := refuseFollower(n); why != "" {
		return why
	}
	if why := p.s.unfit[n.Op]; why != "" {
		return why
	}
	if p.selective() {
		if why := p.refuseTensorRT(n); why != "" {
			return why
		}
	}
	values := []*onnx.Value{n.Output(0)}
	for i, v := range n.Inputs() {
		if v != nil && activation(n, i) {
			values = append(values, v)
		}
	}
	for _, v := range values {
		if why := p.refuseValue(v); why != "" {
			return why
		}
	}
	return p.refuseJoin(n)
}

func (p *plan) refuseValue(v *onnx.Value) string {
	if v == nil {
		return "an input or output is omitted"
	}
	if p.facts.DType(v) != onnx.Float {
		return fmt.Sprintf("%q is not known to be float32", v.Name())
	}
	if v.Const != nil && v.Constant() == nil {
		return fmt.Sprintf("%q is an input with a default, which a caller may override", v.Name())
	}
	if _, _, ok := p.rangeOf(v); ok {
		return ""
	}
	if r := p.s.choices.stats[v.Name()]; r != nil && r.Invalid > 0 {
		return fmt.Sprintf("%q had NaN or infinite elements in %d calibration runs", v.Name(), r.Invalid)
	}
	if v.Graph().Owner() != nil {
		return fmt.Sprintf("no calibration run computed %q: its branch was never taken, or its loop never entered", v.Name())
	}
	return fmt.Sprintf("%q had no finite elements during calibration", v.Name())
}

// refuseWeights says why the weights of an anchor cannot be quantized.
func refuseWeights(n *onnx.Node) string {
	w := n.Input(1)
	if w == nil || n.Input(0) == nil {
		return "an input is omitted"
	}
	t := w.Constant()
	switch {
	case t == nil && w.Const != nil:
		return fmt.Sprintf("%q is an input with a default, which a caller may override; freeze it with fuse", w.Name())
	case t == nil:
		return "it multiplies two activations"
	case t.DType != onnx.Float:
		return fmt.Sprintf("its weight %q has elements of type %v", w.Name(), t.DType)
	case t.Size() == 0 || len(t.Shape) < 2:
		return fmt.Sprintf("its weight %q of shape %v is no matrix", w.Name(), t.Shape)
	case n.Input(0).Constant() != nil:
		return "its input is constant"
	}
	if n.Is("Gemm") && (n.Float("alpha", 1) != 1 || n.Input(2) != nil && n.Float("beta", 1) != 1 || n.Int("transA", 0) != 0) {
		return "alpha, beta or transA is set, which the int8 kernel does not take"
	}
	return refuseBias(n, t)
}

func refuseBias(n *onnx.Node, w *onnx.Tensor) string {
	b := n.Input(2)
	if b == nil {
		return ""
	}
	t := b.Constant()
	if t == nil || t.DType != onnx.Float {
		return fmt.Sprintf("its bias %q is not a float32 constant", b.Name())
	}
	channels := w.Shape[0]
	if n.Is("Gemm") && n.Int("transB", 0) == 0 {
		channels = w.Shape[1]
	}
	count, _ := t.Elements()
	if count != channels || t.Shape[len(t.Shape)-1] != channels {
		return fmt.Sprintf("its bias %q of shape %v is not one number per output channel", b.Name(), t.Shape)
	}
	return ""
}

// refuseFollower says why an operator without weights has no int8 form.
func refuseFollower(n *onnx.Node) string {
	constants := 0
	for i, v := range n.Inputs() {
		if v != nil && activation(n, i) && v.Constant() != nil {
			constants++
		}
	}
	switch {
	case constants == len(n.Inputs()) || place(n) == mover && constants > 0:
		return "its input is constant"
	case n.Is("Resize") && n.Str("mode", "nearest") == "cubic":
		return "cubic interpolation leaves the range of its input"
	case len(n.Outputs()) > 1 && n.Output(1) != nil:
		return "it has a second output"
	}
	return ""
}

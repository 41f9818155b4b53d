package quantize

import (
	"fmt"
	"path"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// quantizedOps are operators that only a quantized model has.
var quantizedOps = map[string]bool{
	"QuantizeLinear": true, "DequantizeLinear": true, "DynamicQuantizeLinear": true, "MatMulInteger": true,
	"ConvInteger": true, "MatMulNBits": true, "QGemm": true,
	"GatherBlockQuantized": true,
	"QAttention":           true, "DynamicQuantizeMatMul": true, "DynamicQuantizeLSTM": true, "MatMulIntegerToFloat": true,
}

// refuseQuantized fails where m is quantized already: a second rounding only
// adds error.
func refuseQuantized(m *onnx.Model) error {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if quantizedOps[n.Op] || strings.HasPrefix(n.Op, "QLinear") {
				return fmt.Errorf("the model is quantized already: it has %v; quantize the floating-point model that it was made from", n)
			}
		}
	}
	return nil
}

// excluded says why n, with weight w or nil, is not to be quantized; "" if it may.
func (o *Options) excluded(n *onnx.Node, w *onnx.Value) string {
	switch {
	case len(o.Include) > 0 && !matches(o.Include, n, w):
		return "not among those to include"
	case matches(o.Exclude, n, w):
		return "excluded"
	}
	return ""
}

// matches reports whether a pattern fits the operator, the node, its first
// output or its weight.
func matches(patterns []string, n *onnx.Node, w *onnx.Value) bool {
	names := []string{n.Op, n.Name}
	if out := n.Output(0); out != nil {
		names = append(names, out.Name())
	}
	if w != nil {
		names = append(names, w.Name())
	}
	for _, p := range patterns {
		for _, name := range names {
			if ok, _ := path.Match(p, name); ok || p == name {
				return true
			}
		}
	}
	return false
}

func checkPatterns(list []string) error {
	for _, p := range list {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q is malformed: %v", p, err)
		}
	}
	return nil
}

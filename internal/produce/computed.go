package produce

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// narrowOutputs returns the element types that outputs are computed in where that is float16 or bfloat16, and a Cast at the end makes them
// another one: models in such types keep their callers' float32. They are held to the class of what they are computed in.
func narrowOutputs(m *onnx.Model) map[string]onnx.DType {
	var facts *opset.Facts
	out := map[string]onnx.DType{}
	for _, v := range m.Graph.Outputs() {
		n := v.Producer()
		if n == nil || !n.Is("Cast") || v.DType() != onnx.Float && v.DType() != onnx.Double {
			continue
		}
		if facts == nil {
			var err error
			if facts, err = opset.Infer(m, opset.Options{ReadOnly: true}); err != nil {
				return nil
			}
		}
		if d := facts.DType(n.Input(0)); d == onnx.Float16 || d == onnx.BFloat16 {
			out[v.Name()] = d
		}
	}
	return out
}

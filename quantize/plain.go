package quantize

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// plainConstants makes the weights of models before IR version 4, which list
// them as inputs that no caller can override, constants that are no inputs, as
// later versions have them.
func plainConstants(m *onnx.Model) {
	if m.IRVersion >= 4 {
		return
	}
	m.IRVersion = 4
	for _, v := range slices.Clone(m.Graph.Inputs()) {
		if v.Const != nil {
			// An input with a default is never refused.
			_ = m.Graph.RemoveInput(v)
		}
	}
}

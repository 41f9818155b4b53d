package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// arithmeticThrough moves arithmetic with a constant back through operators that
// it commutes with, into all weights that its input is made from.
func arithmeticThrough(t *Target) rewrite.Rule {
	const inner = "(MaxPool|AveragePool|GlobalAveragePool|GlobalMaxPool|Concat|Pad|Transpose|Reshape|Flatten|Squeeze|Unsqueeze|Relu|LeakyRelu|Add|Sub|Mul|Div|BatchNormalization(_, ...), c)"
	fold := foldBackward(t)
	return rewrite.Rule{
		Name: "arithmetic-through", Doc: "folds arithmetic with a constant into the weights before pooling, Concat, Pad, Transpose, reshapes, Relu or other arithmetic where that is exact",
		Pattern: "Add|Sub|Mul|Div" + inner,
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if m.Root.Is("Mul") || m.Root.Is("Div") {
				if q := scoresReader(m.Root.Output(0), 2); q != nil {
					return rewrite.Decline("it may be the scale of an attention: %v multiplies two activations", q)
				}
			}
			return fold(m, p)
		},
	}
}

// scoresReader returns a MatMul of two values that are not constant that reads v
// within depth steps through Transpose.
func scoresReader(v *onnx.Value, depth int) *onnx.Node {
	for _, u := range v.Uses() {
		switch n := u.Node; {
		case n.Is("MatMul") && n.Input(1-u.Index).Constant() == nil:
			return n
		case n.Is("Transpose") && depth > 0:
			if q := scoresReader(n.Output(0), depth-1); q != nil {
				return q
			}
		}
	}
	return nil
}

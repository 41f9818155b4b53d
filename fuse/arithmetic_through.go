package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// arithmeticThrough moves arithmetic with a constant back through operators that
// it commutes with, into all weights that its input is made from.
func arithmeticThrough(t *Target) rewrite.Rule {
	const inner = "(MaxPool|AveragePool|GlobalAveragePool|GlobalMaxPool|Concat|Pad|Transpose|Reshape|Flatten|Squeeze|Unsqueeze|Relu|LeakyRelu|Add|Sub|Mul|Div|BatchNormalization(_, ...), c)"
	return rewrite.Rule{
		Name: "arithmetic-through", Doc: "folds arithmetic with a constant into the weights before pooling, Concat, Pad, Transpose, reshapes, Relu or other arithmetic where that is exact",
		Pattern: "Add|Sub|Mul|Div" + inner,
		Rewrite: scaleBackward(t),
	}
}

// scaleBackward is foldBackward for scales that may be those of an attention.
func scaleBackward(t *Target) func(*rewrite.Match, *rewrite.Patch) error {
	fold := foldBackward(t)
	return func(m *rewrite.Match, p *rewrite.Patch) error {
		if err := noAttentionScale(m.Root); err != nil {
			return err
		}
		return fold(m, p)
	}
}

// noAttentionScale declines where the Mul or Div n may be the scale of an
// attention, which stands on the way to a product of two activations: engines
// look for it there.
func noAttentionScale(n *onnx.Node) error {
	if n.Is("Mul") || n.Is("Div") {
		if q := scoresReader(n.Output(0), 4); q != nil {
			return rewrite.Decline("it may be the scale of an attention: %v multiplies two activations", q)
		}
	}
	return nil
}

// scoresReader returns a MatMul of two values that are not constant that reads v
// within depth steps through Transpose and reshapes.
func scoresReader(v *onnx.Value, depth int) *onnx.Node {
	for _, u := range v.Uses() {
		switch n := u.Node; {
		case n.Is("MatMul") && n.Input(1-u.Index).Constant() == nil:
			return n
		case (n.Is("Transpose") || u.Index == 0 && (n.Is("Reshape") || n.Is("Squeeze") || n.Is("Unsqueeze"))) && depth > 0:
			if q := scoresReader(n.Output(0), depth-1); q != nil {
				return q
			}
		}
	}
	return nil
}

package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// convMul: multiplying each output channel of Conv by a number scales its filters and its bias.
func convMul(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "conv-mul", Doc: "folds multiplication with or division by a constant per channel into the Conv or ConvTranspose before it",
		Pattern: "Mul|Div(Conv|ConvTranspose(_, w, ?b), c)",
		Rewrite: foldBackward(t),
	}
}

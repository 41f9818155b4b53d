package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// batchNormThrough moves BatchNormalization back through operators that it
// commutes with, into all weights that its input is made from.
func batchNormThrough(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "batchnorm-through", Doc: "folds BatchNormalization into the weights before pooling, Concat, Pad, Transpose, reshapes or arithmetic where that is exact",
		Pattern: "BatchNormalization(_, s, c, mean, variance)",
		Rewrite: foldBackward(t),
	}
}

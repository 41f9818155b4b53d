package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// convAdd: adding one number per output channel to Conv is its bias.
func convAdd(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "conv-add", Doc: "folds the addition or subtraction of a constant per channel into the Conv or ConvTranspose before it",
		Pattern: "Add|Sub(Conv|ConvTranspose(_, w, ?b), c); Sub(c, Conv|ConvTranspose(_, w, ?b))",
		Rewrite: foldBackward(t),
	}
}

package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// affineOrMoved are the operators that [folder.strip] looks at.
const affineOrMoved = "Add|Sub|Mul|Div|Neg|BatchNormalization|Transpose|Reshape|Flatten|Squeeze|Unsqueeze|Concat|GlobalAveragePool|AveragePool|MaxPool"

// convInput: scaling or, without padding, shifting what Conv reads is a scale of
// its filters and a shift of its bias, as in (x − mean)/std before the first Conv.
func convInput(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "conv-input", Doc: "folds arithmetic with a constant per channel, or BatchNormalization, into the Conv or ConvTranspose after it where that is exact",
		Pattern: "Conv|ConvTranspose(" + affineOrMoved + "(_, ...), w, ?b)",
		Rewrite: foldForward(t, convOf),
	}
}

// matmulInput is convInput for the other factor of MatMul.
func matmulInput(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "matmul-input", Doc: "folds arithmetic with a constant per channel, or BatchNormalization, into the weights of the MatMul after it",
		Pattern: "MatMul(" + affineOrMoved + "(_, ...), w); MatMul(w, Add|Sub|Mul|Div|BatchNormalization(_, ...))",
		Rewrite: foldForward(t, matrixOf),
	}
}

// gemmInput is convInput for Gemm.
func gemmInput(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "gemm-input", Doc: "folds arithmetic with a constant per channel, or BatchNormalization, into the Gemm after it",
		Pattern: "Gemm(" + affineOrMoved + "(_, ...), w, ?b)",
		Rewrite: foldForward(t, gemmOf),
	}
}

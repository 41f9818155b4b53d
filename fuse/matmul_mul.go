package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// matmulMul: multiplying each column of a product by a number scales the weights
// that make it.
func matmulMul(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "matmul-mul", Doc: "folds multiplication with or division by a constant per column into the weights of the MatMul before it",
		Pattern: "Mul|Div(MatMul(_, _), c)",
		Rewrite: scaleBackward(t),
	}
}

// gemmMul is matmulMul for Gemm, whose alpha and beta take one number for all.
func gemmMul(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "gemm-mul", Doc: "folds multiplication with or division by a constant per column into the Gemm before it",
		Pattern: "Mul|Div(Gemm(_, _, ?b), c); Sub(c, Gemm(_, _, ?b))",
		Rewrite: scaleBackward(t),
	}
}

package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// gemmBatchNorm: on a matrix [N, C], BatchNormalization scales and shifts the
// columns that Gemm makes.
func gemmBatchNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "gemm-batchnorm", Doc: "folds BatchNormalization of a matrix into the Gemm before it",
		Pattern: "BatchNormalization(Gemm(_, w, ?b), s, c, mean, variance)",
		Rewrite: foldBackward(t),
	}
}

package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// matmulBatchNorm: BatchNormalization scales and shifts the columns of a matrix
// product, or the rows of a batch of them, that the weights make.
func matmulBatchNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "matmul-batchnorm", Doc: "folds BatchNormalization into the MatMul before it, which becomes Gemm or is followed by Add",
		Pattern: "BatchNormalization(MatMul(_, _), s, c, mean, variance)",
		Rewrite: foldBackward(t),
	}
}

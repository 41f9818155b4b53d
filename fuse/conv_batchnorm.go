package fuse

import "github.com/lapidary-ml/lapidary/internal/rewrite"

// convBatchNorm: BatchNormalization over the output channels of Conv is a
// scale of the filters and a shift of the bias, whatever the group count.
func convBatchNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "conv-batchnorm", Doc: "folds BatchNormalization into the Conv before it",
		Pattern: "BatchNormalization(Conv(_, w, ?b), s, c, mean, variance)",
		Rewrite: foldBackward(t),
	}
}

// convTransposeBatchNorm is convBatchNorm for ConvTranspose.
func convTransposeBatchNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "convtranspose-batchnorm", Doc: "folds BatchNormalization into the ConvTranspose before it",
		Pattern: "BatchNormalization(ConvTranspose(_, w, ?b), s, c, mean, variance)",
		Rewrite: foldBackward(t),
	}
}

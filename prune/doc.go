// Package prune sets weights of an ONNX model to zero where that is expected to
// matter least.
//
// [File] takes a model file to a model file. The pattern implemented here is
// unstructured pruning by magnitude (Han et al., "Learning both Weights and
// Connections for Efficient Neural Networks", 2015): the weights of least
// absolute value go, over the whole model or within each layer. The files keep
// their size and ONNX Runtime its speed; what is gained is compressibility and
// what sparse hardware makes of it.
package prune

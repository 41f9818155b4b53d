// Package fuse simplifies an ONNX model without changing what it computes:
// constants are folded, operators that do nothing and results computed twice
// are removed, and normalizations and biases are folded into the weights before
// them.
//
// [File] takes a model file to a model file, checking by execution that both
// compute the same. [Passes] is the same rewriting on a model in memory.
//
// A rule is one file with a [rewrite.Rule], a file of test cases under
// testdata, and one line in the list in list.go.
package fuse

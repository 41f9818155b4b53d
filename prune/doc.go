// Package prune removes from an ONNX model what is expected to matter least.
//
// [Shrink] removes units: channels, neurons, attention heads, the width of a
// transformer, residual blocks. What goes together is found by following every
// position along every axis through the model, by what each operator's row says
// (opset.Relations); the tensors get smaller. What is left makes up for it by
// ridge regression on data.
//
// [File] takes a model file to a model file. Shapes stay: single weights go, N of
// each M that are summed, or blocks, by [MaskOptions.Pattern]. They are ranked by
// magnitude (Han et al., "Learning both Weights and Connections for Efficient Neural
// Networks", 2015), by magnitude and the norm of what they multiply (Wanda, Sun et
// al., 2023), or by what their removal costs once the others have made up for it
// (SparseGPT, Frantar and Alistarh, 2023); the latter two, and repairs, run the model
// on data. The files keep their size and ONNX Runtime its speed; what is gained is
// compressibility and what sparse hardware makes of it.
package prune

// Package grad differentiates models: [Build] adds to a model the nodes that compute the gradient of one of its outputs, as
// operators that every ONNX runtime has, so that what runs the model runs its gradient too.
//
// It is reverse-mode differentiation. The model gets one more input, the seed: the weight of each element of the output, in
// the output's type and shape. From the output backwards each node's rule turns the gradients of what the node produces into
// those of what it reads; a value that several nodes read gets their sum. With seed s the gradient of a value v is
//
//	∂⟨s, output⟩ / ∂v, in the shape of v.
//
// A rule is one entry of the table in rules.go and belongs to the file of its family. A node without a rule, or a form of an
// operator that its rule does not know, is an error that names the node: nothing is ever left out in silence.
//
// # Where a function has no derivative
//
// At the kinks of piecewise functions one of the possible slopes is taken: 0 for Relu and Abs at 0; the greatest of several
// equal elements share the gradient (Max, ReduceMax, GlobalMaxPool), or the first takes it (MaxPool). A path that becomes
// integer, such as the result of ArgMax or of a cast to int64, ends there, since steps have no slope: [Result.Cuts] lists
// these nodes, and it is an error if nothing else connects the output with what is asked for.
//
// # Straight through
//
// Quantized models are staircases, whose slope is 0 almost everywhere. Their gradient is that of a surrogate, as in Bengio,
// Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons" (arXiv:1308.3432): rounding counts as
// the identity within the range of the integers, and as a constant beyond. The nodes where that was done are in
// [Result.StraightThrough]; what is computed from such a gradient is to be labelled by it.
package grad

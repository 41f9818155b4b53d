// Package profile says what a model is and what it costs to run: what can be
// read off the file, and what an engine takes for it.
//
// [StaticFile] counts parameters, arithmetic, traffic and memory. It needs no
// engine, reads no weight, and never fails on a model that opens: operators
// that are not known go into a bucket of their own, and the coverage says how
// much was counted. [Timed] measures latency, cold start and memory in fresh
// sessions, and the time of each node in one more session whose overhead is
// stated beside the result. [RunSweep] does so under several settings in turn,
// [RunLoad] under requests that arrive by themselves. [New] puts both into the document that is written
// as JSON or as a table.
//
// # What is counted
//
//   - Parameters are elements of constants of any floating-point type and of
//     integers up to 32 bits; 64-bit integers, booleans and strings are shapes,
//     indices and text. A constant that several nodes read counts once. Weights
//     that the model generates (ConstantOfShape of a constant shape, read as a
//     weight) and values held by attributes of ai.onnx.ml operators count too.
//   - A MAC is one multiplication with its addition in a matrix product or
//     convolution. FLOPs are 2 per MAC plus one per elementwise arithmetic step.
//   - Bytes read and written are packed sizes of what a node reads and writes,
//     as if nothing stayed in a cache. Arithmetic intensity is FLOPs per byte.
//   - Activations are inputs and computed values that are alive at the same
//     time, in the order of the file: an input from the start to its last
//     reader, an output to the end. A node's inputs and outputs are alive
//     together, since reuse in place is not assumed. Constants are not activations.
//   - A branch of If counts where it is sure to be taken, else the branch with
//     more FLOPs; bodies of Loop and Scan count as often as they run where that
//     is known, else once, which is then stated.
package profile

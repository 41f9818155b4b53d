// Package onnx holds an ONNX model in memory: a linked graph of nodes and
// values over immutable tensors, and the methods that edit it.
//
// It does no I/O. Package onnxfile reads and writes model files, package
// onnxtext the text form; both import this package, never the reverse.
//
// # Shape of a model
//
// A [Model] owns one main [Graph], its local [Function] bodies and its opset
// imports. A graph is a doubly linked list of [Node]s in execution order. A
// node reads and produces [Value]s. A value knows its producer and every
// reader of it, in its own graph and in the subgraphs of If, Loop and Scan
// nodes that capture it, so "who reads this" is always one lookup.
//
// # Invariants kept by the edit methods
//
//   - A node is a reader of its inputs only while it is in a graph.
//   - The names of graph inputs and outputs never change.
//   - A [Tensor] is never modified once it is reachable from a model; an edit
//     makes a new tensor under a fresh name.
//   - An omitted optional input or output is a nil *Value in its slot.
//
// [Model.Check] verifies the rest of what the ONNX IR specification demands.
package onnx

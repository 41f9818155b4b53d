// Package opset knows the operators of ONNX: one row per operator with its
// slots, attributes and defaults, versions, and the functions that give the
// types, shapes, small integer values and cost of a call.
//
// [Lookup] finds a row. [Infer] runs the rows over a whole model and returns
// [Facts]. An operator without a row is carried as unknown and never an error.
//
// # Symbols
//
// A dimension is a number, an expression over symbols, or unknown. Expressions
// are sums of products, printed in one canonical order, so that equal
// expressions are equal strings in [onnx.Dim.Param]: "N", "2*N", "H+4",
// "N/2" (a division known to be exact), "floor((H+1)/2)", "max(A,B)". A
// symbol of the model whose name has operator characters stands in braces.
// Sizes that depend on data get fresh symbols, which live in Facts only.
//
// A symbol is taken to be at least 1 where Slice resolves an index against it
// and where it is a target size of Reshape or Expand, in which 0 and -1 would
// mean something else; elsewhere it may be 0.
//
// # Adding an operator
//
// Add a row to the list of its family (elementwise.go, conv.go, …). A row is
// the operator's name, the versions of its domain in which it changed, its
// slots and attributes in the notation of spec.go, and its functions. A new
// kind of knowledge about operators is a new function field of the row.
package opset

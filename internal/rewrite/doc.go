// Package rewrite runs rewrites over a model: a rule proposes, the driver disposes.
//
// A [Rule] names a pattern and a function that reads the match and proposes a
// [Patch]: new nodes and constants, and old values to be swapped for new ones.
// It cannot delete; the driver sweeps what nobody reads any more. Where it does
// not apply it declines with a reason, which the [Log] keeps.
//
// The driver ([Run]) owns what every rule would otherwise repeat or forget:
// subgraph bodies and function bodies, omitted inputs, captured values, shared
// constants (never edited), overridable inputs (not constants), the names of
// graph outputs, types and shapes (a patch that changes them is refused), the
// structural check, termination, and limits for bisecting.
//
// What one pattern cannot express is a [Pass].
package rewrite

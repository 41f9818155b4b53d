// Package nets builds models shaped like well-known networks, as the usual
// exporters write them, for tests and benchmarks. No command imports it.
//
// Build makes a network by name in one of its exporters' styles, small for a
// test or in its published size. Weights come from a seeded generator when
// someone asks for their bytes, so a network of any size costs nothing until it
// is written. Truth counts what a network is made of (attention blocks, norms,
// activations), however its style spells them, for a test to compare with.
//
// A network is one file with a function that calls the layers of layers.go,
// cnn.go and attention.go; these spell a layer the way the style does. What the
// styles stand for is said at their names in style.go.
package nets

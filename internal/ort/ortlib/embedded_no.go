//go:build !lapidary_embedded

package ortlib

// Embedded is the ONNX Runtime library that this program carries: none. Programs built with the tag lapidary_embedded
// carry one.
func Embedded() string { return "" }

//go:build lapidary_embedded

package ortlib

import _ "embed"

// The file is laid there by the build of a release (go build -overlay), not kept in the repository.
//
//go:embed embedded/onnxruntime
var embedded string

// Embedded is the ONNX Runtime library that this program carries, byte for byte.
func Embedded() string { return embedded }

// Package ort runs models with ONNX Runtime, behind [session.Opener].
//
// The shared library is driven through github.com/yalue/onnxruntime_go, which
// loads it, makes its process-wide environment, and owns sessions, their
// options and cancellation. What the binding cannot carry (16-bit and smaller
// types, scalars, optionals, symbolic dimensions, preallocated outputs, the
// log) goes through the same library's function table; see api.go.
//
// This is the only package of the module with cgo and with global state: a
// process has at most one ONNX Runtime. Without cgo every Opener fails with an
// error that says so.
package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// MinVersion is the oldest release of ONNX Runtime that the binding can drive.
const MinVersion = "1.24"

// digest returns the SHA-256 of a file in hex.
func digest(path string) (string, error) {
	f, _, err := readfile.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the ONNX Runtime library: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading the ONNX Runtime library: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

//go:build !unix

package onnxfile

import (
	"io"
	"io/fs"
	"os"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// mapping is a file read into memory, where mapping is not available.
type mapping struct {
	b    []byte
	size int64
}

func mapFile(f *os.File, size int64) (*mapping, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return &mapping{b, size}, nil
}

func (m *mapping) scattered(bool) {}

// window returns n bytes from offset off, which the caller has checked.
func (m *mapping) window(off, n int64) (onnx.Data, error) {
	return window{m.b[off : off+n : off+n], m, off}, nil
}

func (m *mapping) readAt([]byte, int64) (int, bool) { return 0, false }

func (m *mapping) close() error { return nil }

// Fault returns nil: files are not mapped here.
func Fault(any) error { return nil }

func links(fs.FileInfo) uint64 { return 1 }

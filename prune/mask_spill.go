package prune

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// spillAbove is the size from which new weights wait in a file until they are written.
const spillAbove = 1 << 20

// maskSpill is a folder for weights that were computed and not written yet.
type maskSpill struct {
	dir   string
	count int
}

// keep returns b as tensor content that takes no memory where it is large.
func (s *maskSpill) keep(b []byte) (onnx.Data, error) {
	if len(b) < spillAbove {
		return onnx.Raw(b), nil
	}
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "lapidary-prune-")
		if err != nil {
			return nil, err
		}
		s.dir = dir
	}
	s.count++
	path := filepath.Join(s.dir, strconv.Itoa(s.count))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("keeping new weights: %w", err)
	}
	return &spilled{path, int64(len(b))}, nil
}

// close removes the folder.
func (s *maskSpill) close() {
	if s.dir != "" {
		os.RemoveAll(s.dir)
		s.dir = ""
	}
}

// spilled is tensor content in a file.
type spilled struct {
	path string
	size int64
}

// Len returns the number of bytes.
func (s *spilled) Len() int64 { return s.size }

// Bytes reads the content.
func (s *spilled) Bytes() ([]byte, error) {
	b, err := os.ReadFile(s.path)
	if err == nil && int64(len(b)) != s.size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("new weights: %w", err)
	}
	return b, nil
}

// WriteTo copies the content.
func (s *spilled) WriteTo(w io.Writer) (int64, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return 0, fmt.Errorf("new weights: %w", err)
	}
	defer f.Close()
	return io.Copy(w, f)
}

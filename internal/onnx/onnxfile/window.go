package onnxfile

import "io"

// window is tensor content that lies in a mapped file.
type window struct {
	b   []byte
	m   *mapping
	off int64
}

// Len returns the number of bytes.
func (w window) Len() int64 { return int64(len(w.b)) }

// Bytes returns the mapped bytes, valid until the model is closed.
func (w window) Bytes() ([]byte, error) { return w.b, nil }

// copyFrom is the size from which content is copied by the kernel.
const copyFrom = 256 << 10

// WriteTo writes the content, where possible without bringing it into this process.
func (w window) WriteTo(dst io.Writer) (int64, error) {
	var done int64
	if len(w.b) >= copyFrom {
		done = w.m.copyTo(dst, w.off, int64(len(w.b)))
	}
	n, err := dst.Write(w.b[done:])
	return done + int64(n), err
}

// ReadAt reads from the file, past the mapping.
func (w window) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(w.b)) || int64(len(p)) > int64(len(w.b))-off {
		return 0, io.ErrUnexpectedEOF
	}
	if n, ok := w.m.readAt(p, w.off+off); ok {
		return n, nil
	}
	return copy(p, w.b[off:]), nil
}

package onnx

import "io"

// Data is the content of a tensor: little-endian elements packed as in
// TensorProto.raw_data. Implementations are immutable and safe for concurrent use.
type Data interface {
	// Len returns the number of bytes, without reading them.
	Len() int64
	// Bytes returns the content, which the caller must not modify. It may be a
	// window of a mapped file, valid until the model is closed.
	Bytes() ([]byte, error)
}

// Raw is tensor content held in memory.
type Raw []byte

// Len returns the number of bytes.
func (r Raw) Len() int64 { return int64(len(r)) }

// Bytes returns r itself.
func (r Raw) Bytes() ([]byte, error) { return r, nil }

// WriteData writes the content of d to w, using d's own WriteTo where it has one.
func WriteData(w io.Writer, d Data) (int64, error) {
	if wt, ok := d.(io.WriterTo); ok {
		return wt.WriteTo(w)
	}
	b, err := d.Bytes()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(b)
	return int64(n), err
}

// ReadDataAt fills p with the content of d from offset off on. Content in a
// mapped file is read from the file, so that none of it stays in this process.
func ReadDataAt(d Data, p []byte, off int64) error {
	if r, ok := d.(io.ReaderAt); ok {
		_, err := r.ReadAt(p, off)
		return err
	}
	b, err := d.Bytes()
	if err != nil {
		return err
	}
	if off < 0 || off > int64(len(b)) || copy(p, b[off:]) < len(p) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

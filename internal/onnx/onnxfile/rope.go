package onnxfile

import (
	"io"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// inlineBelow is the size under which tensor content is copied into the rope.
const inlineBelow = 4096

// rope is an encoded message whose large tensor contents are references, so
// that a model is written without being held in memory a second time.
type rope struct {
	buf  []byte
	refs []ref
	size int64 // of buf and all references together
}

// ref is content that belongs at position at of buf.
type ref struct {
	at   int
	data onnx.Data
}

func (r *rope) grow(before int) { r.size += int64(len(r.buf) - before) }

func (r *rope) tag(num protowire.Number, typ protowire.Type) {
	n := len(r.buf)
	r.buf = protowire.AppendTag(r.buf, num, typ)
	r.grow(n)
}

func (r *rope) varint(num protowire.Number, v int64) {
	n := len(r.buf)
	r.buf = protowire.AppendTag(r.buf, num, protowire.VarintType)
	r.buf = protowire.AppendVarint(r.buf, uint64(v))
	r.grow(n)
}

func (r *rope) fixed32(num protowire.Number, v uint32) {
	n := len(r.buf)
	r.buf = protowire.AppendTag(r.buf, num, protowire.Fixed32Type)
	r.buf = protowire.AppendFixed32(r.buf, v)
	r.grow(n)
}

func (r *rope) bytes(num protowire.Number, b []byte) {
	n := len(r.buf)
	r.buf = protowire.AppendTag(r.buf, num, protowire.BytesType)
	r.buf = protowire.AppendBytes(r.buf, b)
	r.grow(n)
}

// str writes a string field; an empty string is left out.
func (r *rope) str(num protowire.Number, s string) {
	if s != "" {
		r.bytes(num, []byte(s))
	}
}

// raw appends encoded fields as they are.
func (r *rope) raw(b []byte) {
	r.buf = append(r.buf, b...)
	r.size += int64(len(b))
}

// content writes tensor content as a bytes field.
func (r *rope) content(num protowire.Number, d onnx.Data) error {
	n := d.Len()
	if n < inlineBelow {
		b, err := d.Bytes()
		if err != nil {
			return err
		}
		r.bytes(num, b)
		return nil
	}
	r.tag(num, protowire.BytesType)
	before := len(r.buf)
	r.buf = protowire.AppendVarint(r.buf, uint64(n))
	r.grow(before)
	r.refs = append(r.refs, ref{len(r.buf), d})
	r.size += n
	return nil
}

// message writes child as a message field.
func (r *rope) message(num protowire.Number, child *rope) {
	r.tag(num, protowire.BytesType)
	before := len(r.buf)
	r.buf = protowire.AppendVarint(r.buf, uint64(child.size))
	r.grow(before)
	base := len(r.buf)
	r.buf = append(r.buf, child.buf...)
	for _, c := range child.refs {
		r.refs = append(r.refs, ref{base + c.at, c.data})
	}
	r.size += child.size
}

// WriteTo streams the message; a file, which must be empty, may get its parts in any order.
func (r *rope) WriteTo(w io.Writer) (int64, error) {
	if f, ok := w.(io.WriterAt); ok && r.computed() {
		return r.size, r.writeAt(f)
	}
	var total int64
	at := 0
	for _, c := range r.refs {
		n, err := w.Write(r.buf[at:c.at])
		total += int64(n)
		if err != nil {
			return total, err
		}
		m, err := onnx.WriteData(w, c.data)
		total += m
		if err != nil {
			return total, err
		}
		at = c.at
	}
	n, err := w.Write(r.buf[at:])
	return total + int64(n), err
}

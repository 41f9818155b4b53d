package prune

import (
	"io"
	"math/bits"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maskBits is a set of elements.
type maskBits []uint64

func newMask(n int) maskBits { return make(maskBits, (n+63)/64) }

func (m maskBits) set(i int) { m[i/64] |= 1 << (i % 64) }

func (m maskBits) has(i int) bool { return m[i/64]&(1<<(i%64)) != 0 }

func (m maskBits) count() int64 {
	n := 0
	for _, w := range m {
		n += bits.OnesCount64(w)
	}
	return int64(n)
}

// stored turns a mask by rows and columns into one by elements.
func (m maskBits) stored(v maskView) maskBits {
	out := newMask(v.rows * v.cols)
	for i := range v.rows * v.cols {
		if m.has(i) {
			out.set(v.index(i/v.cols, i%v.cols))
		}
	}
	return out
}

// byRow turns a mask by elements into one by rows and columns.
func (m maskBits) byRow(v maskView) maskBits {
	out := newMask(v.rows * v.cols)
	for i := range v.rows * v.cols {
		if m.has(v.index(i/v.cols, i%v.cols)) {
			out.set(i)
		}
	}
	return out
}

// zeroed is tensor content in which the elements of a mask read as zero. It is
// computed when it is read, a window at a time when it is written.
type zeroed struct {
	src  onnx.Data
	size int // bytes of an element
	mask maskBits
}

// zeroedOf returns the content of t without the elements of a mask, in a form that can
// be read in parts where that of t can.
func zeroedOf(t *onnx.Tensor, mask maskBits) onnx.Data {
	z := &zeroed{src: t.Data, size: t.DType.Bits() / 8, mask: mask}
	if from, ok := t.Data.(io.ReaderAt); ok {
		return &zeroedAt{z, from}
	}
	return z
}

// zeroedAt is zeroed content of what can be read in parts.
type zeroedAt struct {
	*zeroed
	from io.ReaderAt
}

// ReadAt fills b from offset off on.
func (z *zeroedAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := z.from.ReadAt(b, off)
	size := int64(z.size)
	for i := off / size; i*size < off+int64(n); i++ {
		if z.mask.has(int(i)) {
			clear(b[max(i*size-off, 0):min((i+1)*size-off, int64(n))])
		}
	}
	return n, err
}

// Len returns the number of bytes.
func (z *zeroed) Len() int64 { return z.src.Len() }

// Bytes returns the content in new memory.
func (z *zeroed) Bytes() ([]byte, error) {
	src, err := z.src.Bytes()
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), src...)
	z.clear(out, 0)
	return out, nil
}

// WriteTo streams the content.
func (z *zeroed) WriteTo(w io.Writer) (int64, error) {
	at := 0
	return writeEdited(w, z.src, func(b []byte) {
		z.clear(b, at)
		at += len(b) / z.size
	})
}

// clear zeroes elements of b, which begins with element first.
func (z *zeroed) clear(b []byte, first int) {
	for i := range len(b) / z.size {
		if z.mask.has(first + i) {
			clear(b[i*z.size : (i+1)*z.size])
		}
	}
}

// writeEdited writes the content of src, each window after edit has changed it.
func writeEdited(w io.Writer, src onnx.Data, edit func(b []byte)) (int64, error) {
	b, err := src.Bytes()
	if err != nil {
		return 0, err
	}
	var total int64
	buf := make([]byte, min(window, len(b)))
	for len(b) > 0 {
		n := copy(buf, b)
		edit(buf[:n])
		k, err := w.Write(buf[:n])
		total += int64(k)
		if err != nil {
			return total, err
		}
		b = b[n:]
	}
	return total, nil
}

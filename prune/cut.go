package prune

import (
	"context"
	"encoding/binary"
	"io"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// cut separates what is zeroed from what is kept: magnitudes below the float32
// with these bits, and ties of those equal to it, in order.
type cut struct {
	bits uint32
	ties int64
}

// nanBits is above every number, so that NaN weights are never the smallest.
const nanBits = 0x7fffffff

// magnitudeBits returns the bits of |x| as float32, which order as magnitudes do.
func magnitudeBits(x float32) uint32 {
	if x != x {
		return nanBits
	}
	return math.Float32bits(x) &^ (1 << 31)
}

// findCut returns the cut below which k of the weights lie.
func findCut(ctx context.Context, list []candidate, k int64) (cut, error) {
	if k <= 0 {
		return cut{}, nil
	}
	var high [1 << 16]int64
	if err := each(ctx, list, func(b uint32) { high[b>>16]++ }); err != nil {
		return cut{}, err
	}
	top, before := locate(high[:], k)
	var low [1 << 16]int64
	err := each(ctx, list, func(b uint32) {
		if b>>16 == top {
			low[b&0xffff]++
		}
	})
	if err != nil {
		return cut{}, err
	}
	bottom, within := locate(low[:], k-before)
	return cut{top<<16 | bottom, k - before - within}, nil
}

// locate returns the bin that the k-th smallest element is in (counting from 1)
// and how many elements lie below that bin.
func locate(bins []int64, k int64) (bin uint32, below int64) {
	for i, n := range bins {
		if below+n >= k {
			return uint32(i), below
		}
		below += n
	}
	return uint32(len(bins) - 1), below
}

func each(ctx context.Context, list []candidate, f func(uint32)) error {
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := c.value.Const.Bytes()
		if err != nil {
			return err
		}
		visit(b, c.value.Const.DType, func(_ int, bits uint32) { f(bits) })
	}
	return nil
}

// visit calls f with the index and magnitude of each element.
func visit(b []byte, d onnx.DType, f func(i int, bits uint32)) {
	le := binary.LittleEndian
	switch d {
	case onnx.Float:
		for i := 0; i+4 <= len(b); i += 4 {
			f(i/4, magnitudeBits(math.Float32frombits(le.Uint32(b[i:]))))
		}
	case onnx.Double:
		for i := 0; i+8 <= len(b); i += 8 {
			f(i/8, magnitudeBits(float32(math.Float64frombits(le.Uint64(b[i:])))))
		}
	case onnx.Float16:
		for i := 0; i+2 <= len(b); i += 2 {
			f(i/2, magnitudeBits(onnx.Float16ToFloat(le.Uint16(b[i:]))))
		}
	case onnx.BFloat16:
		for i := 0; i+2 <= len(b); i += 2 {
			f(i/2, magnitudeBits(onnx.BFloat16ToFloat(le.Uint16(b[i:]))))
		}
	}
}

// counts describes a tensor with respect to a cut.
type counts struct{ all, zero, below, equal int64 }

func count(t *onnx.Tensor, c cut) (counts, error) {
	var n counts
	b, err := t.Bytes()
	if err != nil {
		return n, err
	}
	visit(b, t.DType, func(_ int, bits uint32) {
		n.all++
		switch {
		case bits < c.bits:
			n.below++
		case bits == c.bits:
			n.equal++
		}
		if bits == 0 {
			n.zero++
		}
	})
	return n, nil
}

// masked is tensor content in which small magnitudes read as zero. It is
// computed when it is read, a window at a time when it is written.
type masked struct {
	src   onnx.Data
	dtype onnx.DType
	cut   uint32
	ties  int64
}

// window is how much is masked at once, a multiple of every element size.
const window = 1 << 20

// Len returns the number of bytes.
func (m *masked) Len() int64 { return m.src.Len() }

// Bytes returns the masked content in new memory.
func (m *masked) Bytes() ([]byte, error) {
	src, err := m.src.Bytes()
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), src...)
	ties := m.ties
	m.mask(out, &ties)
	return out, nil
}

// WriteTo streams the masked content.
func (m *masked) WriteTo(w io.Writer) (int64, error) {
	src, err := m.src.Bytes()
	if err != nil {
		return 0, err
	}
	var total int64
	buf := make([]byte, min(window, len(src)))
	ties := m.ties
	for len(src) > 0 {
		n := copy(buf, src)
		m.mask(buf[:n], &ties)
		k, err := w.Write(buf[:n])
		total += int64(k)
		if err != nil {
			return total, err
		}
		src = src[n:]
	}
	return total, nil
}

// mask zeroes the elements of b that the cut takes away.
func (m *masked) mask(b []byte, ties *int64) {
	size := m.dtype.Bits() / 8
	visit(b, m.dtype, func(i int, bits uint32) {
		if bits > m.cut || bits == m.cut && *ties == 0 {
			return
		}
		if bits == m.cut {
			*ties--
		}
		clear(b[i*size : (i+1)*size])
	})
}

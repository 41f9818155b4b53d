package prune

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"sync"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
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
func magnitudeBits(x float32) uint32 { return orderedBits(math.Float32bits(x)) }

// orderedBits is magnitudeBits of the float32 with these bits.
func orderedBits(bits uint32) uint32 {
	const infinity = 0x7f800000
	if bits &^= 1 << 31; bits > infinity {
		return nanBits
	}
	return bits
}

// findCut returns the cut below which k of the weights lie.
func findCut(ctx context.Context, list []candidate, k int64) (cut, error) {
	if k <= 0 {
		return cut{}, nil
	}
	high, err := tally(ctx, list, allTops)
	if err != nil {
		return cut{}, err
	}
	top, before := locate(high, k)
	low, err := tally(ctx, list, int(top))
	if err != nil {
		return cut{}, err
	}
	bottom, within := locate(low, k-before)
	return cut{top<<16 | bottom, k - before - within}, nil
}

// allTops asks [tally] for the upper halves of magnitudes.
const allTops = -1

// tally counts the weights by the upper half of their magnitude, or those whose
// upper half is top by the lower half, on all processors.
func tally(ctx context.Context, list []candidate, top int) ([]int64, error) {
	bins := make([]int64, 1<<16)
	var mu sync.Mutex
	err := ofAll(ctx, list, func(parts <-chan part) {
		var own [1 << 16]int64
		for p := range parts {
			tallyPart(p.b, p.dtype, top, &own)
		}
		mu.Lock()
		defer mu.Unlock()
		for i, n := range own {
			bins[i] += n
		}
	})
	return bins, err
}

// part is a piece of a tensor's content.
type part struct {
	b     []byte
	dtype onnx.DType
}

// ofAll hands out the content of all weights to a worker for each processor: of
// thousands of small ones as of a large one.
func ofAll(ctx context.Context, list []candidate, work func(parts <-chan part)) error {
	parts := make(chan part, 8)
	var g parallel.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() {
			defer func() { // where work panics, nobody waits for it to read on
				for range parts {
				}
			}()
			work(parts)
		})
	}
	defer g.Wait()
	defer close(parts)
	for _, c := range list {
		t := c.value.Constant()
		b, err := t.Bytes()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for len(b) > 0 {
			n := min(partBytes, len(b))
			parts <- part{b[:n], t.DType}
			b = b[n:]
		}
	}
	return nil
}

// tallyPart enters the weights of b into bins.
func tallyPart(b []byte, d onnx.DType, top int, bins *[1 << 16]int64) {
	enter := func(bits uint32) {
		if top == allTops {
			bins[bits>>16]++
		} else if int(bits>>16) == top {
			bins[bits&0xffff]++
		}
	}
	if d != onnx.Float {
		visit(b, d, func(_ int, bits uint32) { enter(bits) })
		return
	}
	if top == allTops {
		for ; len(b) >= 4; b = b[4:] {
			bins[orderedBits(binary.LittleEndian.Uint32(b))>>16]++
		}
		return
	}
	for ; len(b) >= 4; b = b[4:] {
		if x := orderedBits(binary.LittleEndian.Uint32(b)); int(x>>16) == top {
			bins[x&0xffff]++
		}
	}
}

// partBytes is how much of a tensor is looked at by one processor at once.
const partBytes = 4 << 20

// inParts hands out the content of t to a worker for each processor.
func inParts(t *onnx.Tensor, work func(parts <-chan []byte)) error {
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	count := (len(b) + partBytes - 1) / partBytes
	parts := make(chan []byte, count) // all of them, so that nobody waits for a worker that failed
	for len(b) > 0 {
		n := min(partBytes, len(b))
		parts <- b[:n]
		b = b[n:]
	}
	close(parts)
	var wg parallel.Group
	for range min(runtime.GOMAXPROCS(0), count) {
		wg.Go(func() { work(parts) })
	}
	wg.Wait()
	return nil
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

// visit calls f with the index and magnitude of each element.
func visit(b []byte, d onnx.DType, f func(i int, bits uint32)) {
	le := binary.LittleEndian
	switch d {
	case onnx.Float:
		for i := 0; i+4 <= len(b); i += 4 {
			f(i/4, orderedBits(le.Uint32(b[i:])))
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
	var all counts
	var mu sync.Mutex
	err := inParts(t, func(parts <-chan []byte) {
		var n counts
		for b := range parts {
			n.add(b, t.DType, c)
		}
		mu.Lock()
		defer mu.Unlock()
		all.all, all.zero, all.below, all.equal = all.all+n.all, all.zero+n.zero, all.below+n.below, all.equal+n.equal
	})
	return all, err
}

// add counts the elements of b.
func (n *counts) add(b []byte, d onnx.DType, c cut) {
	if d == onnx.Float {
		n.addFloats(b, c)
		return
	}
	visit(b, d, func(_ int, bits uint32) {
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
}

// addFloats is add for float32, without a call for each element.
func (n *counts) addFloats(b []byte, c cut) {
	var zero, below, equal int64
	n.all += int64(len(b) / 4)
	for ; len(b) >= 4; b = b[4:] {
		x := orderedBits(binary.LittleEndian.Uint32(b))
		below += int64(uint64(int64(x)-int64(c.bits)) >> 63) // 1 where x is below
		if x == c.bits {
			equal++
		}
		if x == 0 {
			zero++
		}
	}
	n.zero, n.below, n.equal = n.zero+zero, n.below+below, n.equal+equal
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
	ties := m.ties
	return writeEdited(w, m.src, func(b []byte) { m.mask(b, &ties) })
}

// mask zeroes the elements of b that the cut takes away.
func (m *masked) mask(b []byte, ties *int64) {
	if m.dtype == onnx.Float {
		m.maskFloats(b, ties)
		return
	}
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

// maskFloats is mask for float32, without a call for each element.
func (m *masked) maskFloats(b []byte, ties *int64) {
	left := *ties
	for ; len(b) >= 4; b = b[4:] {
		u := binary.LittleEndian.Uint32(b)
		x := orderedBits(u)
		if x == m.cut {
			if left > 0 {
				left--
				binary.LittleEndian.PutUint32(b, 0)
			}
			continue
		}
		keep := uint32((int64(m.cut) - int64(x)) >> 63) // all ones where x is above
		binary.LittleEndian.PutUint32(b, u&keep)
	}
	*ties = left
}

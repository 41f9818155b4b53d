package quantize

import (
	"encoding/binary"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// window is how many elements are looked at or coded at once: they stay in the
// cache of one processor.
const window = 1 << 16

func floatAt(b []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
}

// coded is content computed from float32 content when it is read, a window at a
// time when it is written, so that a model is never held twice.
type coded struct {
	src  onnx.Data
	size int // bytes of one code
	// fill codes all numbers of src, of which the first is element first.
	fill func(out, src []byte, first int)
}

// each codes number by number into size bytes.
func each(size int, put func(out []byte, x float32)) func(out, src []byte, first int) {
	return func(out, src []byte, _ int) {
		for i := range len(src) / 4 {
			put(out[i*size:], floatAt(src, i))
		}
	}
}

// Len returns the number of bytes. A tensor without elements may have no data.
func (c *coded) Len() int64 {
	if c.src == nil {
		return 0
	}
	return c.src.Len() / 4 * int64(c.size)
}

// Bytes returns the codes in new memory.
func (c *coded) Bytes() ([]byte, error) {
	out := make([]byte, c.Len())
	return out, c.parts(out, 0)
}

// ReadAt codes what p has room for, on the caller's processor.
func (c *coded) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > c.Len() || int64(len(p)) > c.Len()-off {
		return 0, io.ErrUnexpectedEOF
	}
	size := int64(c.size)
	first, last := off/size, (off+int64(len(p))+size-1)/size
	out := p
	if off%size != 0 || int64(len(p))%size != 0 {
		out = make([]byte, (last-first)*size)
	}
	buf := buffers.Get().(*[4 * window]byte)
	defer buffers.Put(buf)
	for at := first; at < last; at += window {
		n := min(window, last-at)
		src := buf[:4*n]
		if err := onnx.ReadDataAt(c.src, src, 4*at); err != nil {
			return 0, err
		}
		c.fill(out[(at-first)*size:(at-first+n)*size], src, int(at))
	}
	if len(out) != len(p) {
		copy(p, out[off-first*size:])
	}
	return len(p), nil
}

// parts codes what out has room for, from element first on, on all processors.
func (c *coded) parts(out []byte, first int) error {
	return inWindows(c.src, first, len(out)/c.size, func(src []byte, at int) {
		c.fill(out[(at-first)*c.size:(at-first+len(src)/4)*c.size], src, at)
	})
}

// inWindows calls f for parts of n float32 elements of d from element first on,
// on all processors. Content in a mapped file is read from the file, so that none
// of it stays in this process.
func inWindows(d onnx.Data, first, n int, f func(src []byte, at int)) error {
	var all parallel.Group
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), (n+window-1)/window) {
		all.Go(func() {
			buf := buffers.Get().(*[4 * window]byte)
			defer buffers.Put(buf)
			for failed.Load() == nil {
				at := int(next.Add(window)) - window
				if at >= n {
					return
				}
				src := buf[:4*min(window, n-at)]
				if err := onnx.ReadDataAt(d, src, 4*int64(first+at)); err != nil {
					failed.Store(&err)
					return
				}
				f(src, first+at)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// buffers hold a window each.
var buffers = sync.Pool{New: func() any { return new([4 * window]byte) }}

// WriteTo streams the codes, some windows at a time.
func (c *coded) WriteTo(w io.Writer) (int64, error) {
	var total int64
	count := int(c.src.Len() / 4)
	step := window * runtime.GOMAXPROCS(0)
	buf := make([]byte, min(step, count)*c.size)
	for at := 0; at < count; at += step {
		part := buf[:min(step, count-at)*c.size]
		if err := c.parts(part, at); err != nil {
			return total, err
		}
		k, err := w.Write(part)
		total += int64(k)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// coded returns the codes of m under s.
func (m matrix) coded(name string, s weightSteps) *onnx.Tensor {
	return &onnx.Tensor{Name: name, DType: s.t.dtype, Shape: m.t.Shape, Data: &coded{src: m.t.Data, size: 1,
		fill: func(out, src []byte, first int) {
			m.runs(first, len(src)/4, func(at, n, c, step int) {
				switch limit := float32(s.t.max); {
				case s.t.dtype != onnx.Int8 || s.zero != 0 || s.t.min != -s.t.max:
					s.codeRun(out[at:at+n], src[4*at:], s.scales[c:], step)
				case step == 0:
					codesSame(out[at:at+n], src[4*at:4*(at+n)], s.scales[c], limit)
				default:
					codesEach(out[at:at+n], src[4*at:4*(at+n)], s.scales[c:c+n], limit)
				}
			})
		}}}
}

// half-even is what adding and taking away this number rounds to, for magnitudes
// below 2^22.
const halfEven = 0x1.8p23

// codeRun codes len(out) numbers by scales that are step apart.
func (s weightSteps) codeRun(out, src []byte, scales []float32, step int) {
	lo, hi, zero := float32(s.t.min-s.zero), float32(s.t.max-s.zero), int32(s.zero)
	for i := range out {
		v := math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])) / scales[i*step]
		if v > hi {
			v = hi
		} else if v < lo {
			v = lo
		}
		out[i] = byte(int32(v+halfEven-halfEven) + zero)
	}
}

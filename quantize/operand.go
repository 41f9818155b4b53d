package quantize

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// operand is the constant right operand of a product, or a table of embeddings:
// n channels of k weights each, for each matrix of a batch. Blocks run along k.
type operand struct {
	t           *onnx.Tensor // float32, float16 or bfloat16
	k, n, batch int
	rows        bool // stored [n, k]: the weights of a channel are neighbours; else [k, n]

	// gain multiplies the weights of each row of k before they are coded; nil: 1.
	gain []float32
}

// blockPart is some blocks of some channels of one matrix, read from where they are stored.
type blockPart struct {
	batch, n0, n1 int
	first, last   int // blocks, the last one excluded
	k0, width     int
	w             []float32 // channel by channel, width weights each
}

// channel returns the weights of channel n.
func (p *blockPart) channel(n int) []float32 { return p.w[(n-p.n0)*p.width : (n-p.n0+1)*p.width] }

// block returns block b of channel n, which may be shorter than a full one.
func (p *blockPart) block(n, b, size int) []float32 {
	from := b*size - p.k0
	return p.channel(n)[from:min(from+size, p.width)]
}

// partElements is about how many weights are read at once.
const partElements = 1 << 20

// parts lists what the operand is read as: each matrix in stretches of its file.
// Channels come in even numbers, so that two parts share no byte of 4-bit codes.
func (o operand) parts(size int) []blockPart {
	var out []blockPart
	blocks := (o.k + size - 1) / size
	for b := range o.batch {
		if o.rows {
			step := max(partElements/max(o.k, 1), 1) * 8
			for n := 0; n < o.n; n += step {
				out = append(out, blockPart{batch: b, n0: n, n1: min(n+step, o.n), last: blocks, width: o.k})
			}
			continue
		}
		for i := range blocks {
			k0 := i * size
			out = append(out, blockPart{batch: b, n1: o.n, first: i, last: i + 1, k0: k0, width: min(size, o.k-k0)})
		}
	}
	return out
}

// read fills p; buf is used again for the next one.
func (o operand) read(p *blockPart, buf *readBuffer) error {
	width := o.t.DType.Bits() / 8
	from := p.batch*o.k*o.n + p.k0*o.n
	if o.rows {
		from = p.batch*o.k*o.n + p.n0*o.k
	}
	count := (p.n1 - p.n0) * p.width
	buf.raw, buf.w = resize(buf.raw, count*width), resize(buf.w, count)
	if err := onnx.ReadDataAt(o.t.Data, buf.raw, int64(from)*int64(width)); err != nil {
		return fmt.Errorf("weight %q: %w", o.t.Name, err)
	}
	p.w = buf.w
	switch {
	case o.rows:
		convert(p.w, buf.raw, o.t.DType)
	case width == 4:
		transposeBytes(p.w, buf.raw, p.width, o.n)
	default:
		buf.flat = resize(buf.flat, count)
		convert(buf.flat, buf.raw, o.t.DType)
		transpose(p.w, buf.flat, p.width, o.n)
	}
	if o.gain != nil {
		for i := range p.w {
			p.w[i] *= o.gain[p.k0+i%p.width]
		}
	}
	return nil
}

// readBuffer is memory for one part.
type readBuffer struct {
	raw     []byte
	flat, w []float32
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// tiles calls do with one row after the other of tiles of a matrix. They are so low that
// their rows fit the nearest cache together, also where these are a power of two apart.
func tiles(rows, cols int, do func(row, from, to int)) {
	const high, wide = 8, 16
	for r0 := 0; r0 < rows; r0 += high {
		for c0 := 0; c0 < cols; c0 += wide {
			for r := r0; r < min(r0+high, rows); r++ {
				do(r, c0, min(c0+wide, cols))
			}
		}
	}
}

// transpose writes src [rows, cols] into dst [cols, rows].
func transpose(dst, src []float32, rows, cols int) {
	tiles(rows, cols, func(row, from, to int) {
		at := from*rows + row
		for _, x := range src[row*cols+from : row*cols+to] {
			dst[at] = x
			at += rows
		}
	})
}

// transposeBytes does it with the bytes of float32.
func transposeBytes(dst []float32, src []byte, rows, cols int) {
	tiles(rows, cols, func(row, from, to int) {
		at := from*rows + row
		for line := src[4*(row*cols+from) : 4*(row*cols+to)]; len(line) >= 4; line = line[4:] {
			dst[at] = math.Float32frombits(binary.LittleEndian.Uint32(line))
			at += rows
		}
	})
}

// convert reads little-endian numbers of type d.
func convert(dst []float32, src []byte, d onnx.DType) {
	switch d {
	case onnx.Float16:
		for i := range dst {
			dst[i] = onnx.Float16ToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case onnx.BFloat16:
		for i := range dst {
			dst[i] = onnx.BFloat16ToFloat(binary.LittleEndian.Uint16(src[2*i:]))
		}
	default:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	}
}

// each reads all parts and calls do with them, on all processors; do must not
// share memory between parts. The first error ends it.
func (o operand) each(size int, do func(p *blockPart) error) error {
	list := o.parts(size)
	for len(list) > 0 { // matrix by matrix: two of them may share a byte of codes
		same := slices.IndexFunc(list, func(p blockPart) bool { return p.batch != list[0].batch })
		if same < 0 {
			same = len(list)
		}
		if err := o.eachOf(list[:same], do); err != nil {
			return err
		}
		list = list[same:]
	}
	return nil
}

func (o operand) eachOf(list []blockPart, do func(p *blockPart) error) error {
	workers := min(runtime.GOMAXPROCS(0), len(list))
	errs := make([]error, workers)
	var wg parallel.Group
	for i := range workers {
		wg.Go(func() {
			var buf readBuffer
			for j := i; j < len(list) && errs[i] == nil; j += workers {
				if errs[i] = o.read(&list[j], &buf); errs[i] == nil {
					errs[i] = do(&list[j])
				}
				list[j].w = nil
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// dense returns the only matrix in float64, [k, n].
func (o operand) dense() ([]float64, error) {
	out := make([]float64, o.k*o.n)
	err := o.each(max(o.k, 1), func(p *blockPart) error {
		for n := p.n0; n < p.n1; n++ {
			for i, x := range p.channel(n) {
				out[(p.k0+i)*o.n+n] = float64(x)
			}
		}
		return nil
	})
	return out, err
}

package quantize

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// blockwise is an operand in blocks. Its codes are computed when they are written;
// what is kept of it is a scale and a zero point per block, or less.
type blockwise struct {
	f     blocks
	op    operand
	steps *steps // nil: fitted anew whenever they are asked for
	codes []byte // packed as MatMulNBits reads them; nil: those nearest to the weights
	// clipped says that steps are of less than the range of the weights.
	clipped bool
	// turned says that plain codes lie as the transpose of the weights, which are
	// stored [n, k], would lie.
	turned bool
	// check looks at codes before they are written; nil: nobody does.
	check func(codes []byte) error
}

// steps are those of all blocks: of matrix m, channel n and block b the one at
// (m·channels + n)·blocks + b.
type steps struct {
	mid   float32 // zero point of all, where zero and real are nil
	scale []float32
	zero  []byte    // zero points that are codes
	real  []float32 // zero points that are not
}

func newSteps(f blocks, count int) *steps {
	s := &steps{mid: f.mid(), scale: make([]float32, count)}
	if f.asymmetric {
		s.zero = make([]byte, count)
	}
	return s
}

func (s *steps) at(i int) step {
	switch {
	case s.real != nil:
		return step{s.scale[i], s.real[i]}
	case s.zero != nil:
		return step{s.scale[i], float32(s.zero[i])}
	}
	return step{s.scale[i], s.mid}
}

func (s *steps) set(i int, v step) {
	s.scale[i] = v.scale
	switch {
	case s.real != nil:
		s.real[i] = v.zero
	case s.zero != nil:
		s.zero[i] = byte(v.zero)
	}
}

// size is the memory that s takes.
func (s *steps) size() int64 { return int64(4*len(s.scale) + len(s.zero) + 4*len(s.real)) }

// count returns how many blocks a channel has, total how many there are.
func (c *blockwise) count() int { return c.f.count(c.op.k) }
func (c *blockwise) total() int { return c.op.batch * c.op.n * c.count() }

func (c *blockwise) index(batch, n, b int) int { return (batch*c.op.n+n)*c.count() + b }

// fit returns the steps nearest to the weights. It fails on weights that are not finite.
func (c *blockwise) fit() (*steps, error) {
	s := newSteps(c.f, c.total())
	var bad atomic.Bool
	err := c.op.each(c.f.size, func(p *blockPart) error {
		for n := p.n0; n < p.n1; n++ {
			for b := p.first; b < p.last; b++ {
				lo, hi := ends(p.block(n, b, c.f.size))
				v := c.f.between(lo, hi)
				s.set(c.index(p.batch, n, b), v)
				if !finite32(v.scale) || !finite32(hi-lo) {
					bad.Store(true)
				}
			}
		}
		return nil
	})
	if err == nil && bad.Load() {
		err = errNotFinite
	}
	return s, err
}

var errNotFinite = fmt.Errorf("its weights are not all finite, or their range is not")

// known returns the steps, fitted if they are not kept.
func (c *blockwise) known() (*steps, error) {
	if c.steps != nil {
		return c.steps, nil
	}
	return c.fit()
}

// each calls put with the codes of every block, those of several at once. The
// last block of a channel may be shorter than a full one.
func (c *blockwise) each(s *steps, put func(batch, n, b int, codes []byte)) error {
	if c.codes != nil {
		buf := make([]byte, c.f.size)
		for n := range c.op.n {
			for b := range c.count() {
				at := c.index(0, n, b)
				out := buf[:min(c.f.size, c.op.k-b*c.f.size)]
				for i := range out {
					out[i] = unpack(c.codes[at*c.f.bytes():], i, c.f.bits)
				}
				put(0, n, b, out)
			}
		}
		return nil
	}
	return c.op.each(c.f.size, func(p *blockPart) error {
		buf := make([]byte, c.f.size)
		for n := p.n0; n < p.n1; n++ {
			for b := p.first; b < p.last; b++ {
				w := p.block(n, b, c.f.size)
				c.f.code(buf[:len(w)], w, s.at(c.index(p.batch, n, b)))
				put(p.batch, n, b, buf[:len(w)])
			}
		}
		return nil
	})
}

// layout is how a blockwise operand lies in tensors.
type layout struct {
	c      *blockwise
	plain  bool // codes in the order and shape of the weights, as DequantizeLinear reads them; else as MatMulNBits does
	signed bool // plain: codes less the middle one, in two's complement
}

// rows reports whether the codes of a channel are neighbours.
func (l layout) rows() bool { return l.c.op.rows && !l.c.turned }

// shape is that of plain codes.
func (l layout) shape() []int64 {
	shape := slices.Clone(l.c.op.t.Shape)
	if l.c.turned {
		slices.Reverse(shape)
	}
	return shape
}

// dtype is the element type of codes and zero points.
func (l layout) dtype() onnx.DType {
	switch {
	case !l.plain || l.c.f.bits == 8 && !l.signed:
		return onnx.Uint8
	case l.c.f.bits == 8:
		return onnx.Int8
	case l.signed:
		return onnx.Int4
	}
	return onnx.Uint4
}

// codes returns the tensor of the codes.
func (l layout) codes(name string) *onnx.Tensor {
	f, op := l.c.f, l.c.op
	t := &onnx.Tensor{Name: name, DType: l.dtype(), Shape: l.shape()}
	length := (op.batch*op.k*op.n*f.bits + 7) / 8
	if !l.plain {
		t.Shape = []int64{int64(op.n), int64(l.c.count()), int64(f.bytes())}
		length = l.c.total() * f.bytes()
	}
	t.Data = lazyData{length, func() ([]byte, error) { return l.packCodes(length) }}
	return t
}

// packCodes returns the packed codes.
func (l layout) packCodes(length int) ([]byte, error) {
	c := l.c
	s, err := c.known()
	if err != nil {
		return nil, err
	}
	out := make([]byte, length)
	put := func(batch, n, b int, codes []byte) {
		i := c.index(batch, n, b)
		for len(codes)*c.f.bits%8 != 0 { // nobody reads these; the tool repeats those of the byte before, where there is one
			pad := byte(0)
			if before := len(codes) - 8/c.f.bits; before >= 0 {
				pad = codes[before]
			}
			codes = append(codes, pad)
		}
		c.f.pack(out[i*c.f.bytes():(i+1)*c.f.bytes()], codes)
	}
	if l.plain {
		put = func(batch, n, b int, codes []byte) { l.place(out, batch, n, b, codes) }
	}
	if err := c.each(s, put); err != nil {
		return nil, err
	}
	if c.check != nil {
		if err := c.check(out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// place puts the codes of one block where their weights are.
func (l layout) place(out []byte, batch, n, b int, codes []byte) {
	f, op := l.c.f, l.c.op
	flip := byte(0)
	if l.signed {
		flip = byte(f.mid())
	}
	at, stride := (batch*op.k+b*f.size)*op.n+n, op.n
	if l.rows() {
		at, stride = (batch*op.n+n)*op.k+b*f.size, 1
	}
	for _, code := range codes {
		if code ^= flip; f.bits == 8 {
			out[at] = code
		} else {
			out[at/2] |= code << (at % 2 * 4)
		}
		at += stride
	}
}

// paramShape is the shape of scales, and of zero points that are not packed.
func (l layout) paramShape() []int64 {
	op, count := l.c.op, int64(l.c.count())
	if !l.plain {
		return []int64{int64(op.n), count}
	}
	shape := l.shape()
	shape[l.axis()] = count
	return shape
}

// axis is that along which plain blocks run.
func (l layout) axis() int64 {
	rank := int64(len(l.c.op.t.Shape))
	if l.rows() {
		return rank - 1
	}
	return rank - 2
}

// order calls do with each place in the tensor of scales and the index of its step.
func (l layout) order(do func(place, index int)) {
	op, count := l.c.op, l.c.count()
	for batch := range op.batch {
		for n := range op.n {
			for b := range count {
				place := l.c.index(batch, n, b)
				if l.plain && !l.rows() {
					place = (batch*count+b)*op.n + n
				}
				do(place, l.c.index(batch, n, b))
			}
		}
	}
}

// scales returns the tensor of the scales.
func (l layout) scales(name string) *onnx.Tensor {
	d := l.c.f.dtype
	return l.floats(name, func(s *steps) []float32 { return s.scale }, d)
}

// floats returns a tensor of one number per block.
func (l layout) floats(name string, of func(s *steps) []float32, d onnx.DType) *onnx.Tensor {
	width := d.Bits() / 8
	length := l.c.total() * width
	return &onnx.Tensor{Name: name, DType: d, Shape: l.paramShape(), Data: lazyData{length, func() ([]byte, error) {
		s, err := l.c.known()
		if err != nil {
			return nil, err
		}
		v, out := of(s), make([]byte, length)
		l.order(func(place, index int) { putFloat(out[place*width:], v[index], d) })
		return out, nil
	}}}
}

func putFloat(out []byte, x float32, d onnx.DType) {
	switch d {
	case onnx.Float16:
		binary.LittleEndian.PutUint16(out, onnx.FloatToFloat16(float64(x)))
	case onnx.BFloat16:
		binary.LittleEndian.PutUint16(out, onnx.FloatToBFloat16(x))
	default:
		binary.LittleEndian.PutUint32(out, math.Float32bits(x))
	}
}

// zeros returns the tensor of the zero points, nil where they are not stored.
func (l layout) zeros(name string) *onnx.Tensor {
	f, op := l.c.f, l.c.op
	switch {
	case !f.asymmetric:
		return nil
	case l.c.steps != nil && l.c.steps.real != nil:
		return l.floats(name, func(s *steps) []float32 { return s.real }, f.dtype)
	}
	t := &onnx.Tensor{Name: name, DType: l.dtype(), Shape: l.paramShape()}
	length := (l.c.total()*f.bits + 7) / 8
	row := f.zeroBytes(l.c.count())
	if !l.plain {
		t.Shape, length = []int64{int64(op.n), int64(row)}, op.n*row
	}
	t.Data = lazyData{length, func() ([]byte, error) {
		s, err := l.c.known()
		if err != nil {
			return nil, err
		}
		return l.packZeros(s, length, row), nil
	}}
	return t
}

// packZeros packs zero points: row by row of a multiple of bytes, filled up with
// the middle code, or one behind the other.
func (l layout) packZeros(s *steps, length, row int) []byte {
	f, out := l.c.f, make([]byte, length)
	if l.plain {
		l.order(func(place, index int) {
			at := place * f.bits
			out[at/8] |= s.zero[index] << (at % 8)
		})
		return out
	}
	count := l.c.count()
	codes := make([]byte, row*8/f.bits)
	for n := range l.c.op.n {
		for i := range codes {
			codes[i] = byte(f.mid())
			if i < count {
				codes[i] = s.zero[n*count+i]
			}
		}
		f.pack(out[n*row:(n+1)*row], codes)
	}
	return out
}

// lazyData is content that is computed each time it is read.
type lazyData struct {
	length  int
	compute func() ([]byte, error)
}

// Len returns the number of bytes.
func (c lazyData) Len() int64 { return int64(c.length) }

// Bytes computes the content.
func (c lazyData) Bytes() ([]byte, error) { return c.compute() }

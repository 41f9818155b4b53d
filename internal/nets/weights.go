package nets

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// generated is tensor content that is computed when asked for: element i is
// uniform in mean ± spread and depends on seed and i only.
type generated struct {
	dtype        onnx.DType
	elements     int64
	seed         uint64
	mean, spread float64
}

// Len returns the number of bytes.
func (g *generated) Len() int64 {
	n, _ := g.dtype.ByteSize(g.elements)
	return n
}

// Bytes computes the whole content, anew each time.
func (g *generated) Bytes() ([]byte, error) {
	b := make([]byte, g.Len())
	g.fill(b, 0)
	return b, nil
}

// WriteTo writes the content in pieces, so that it is never held as a whole.
func (g *generated) WriteTo(w io.Writer) (int64, error) {
	const piece = 1 << 16 // elements
	width := int64(g.dtype.Bits() / 8)
	buf := make([]byte, piece*width)
	var done int64
	for from := int64(0); from < g.elements; from += piece {
		b := buf[:min(piece, g.elements-from)*width]
		g.fill(b, from)
		n, err := w.Write(b)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// fill computes the elements from index from on into b.
func (g *generated) fill(b []byte, from int64) {
	width := g.dtype.Bits() / 8
	scale := g.spread / (1 << 31)
	for o := 0; o+width <= len(b); o += width {
		x := g.mean + scale*float64(int32(mix(g.seed+uint64(from))>>32))
		from++
		switch g.dtype {
		case onnx.Float:
			binary.LittleEndian.PutUint32(b[o:], math.Float32bits(float32(x)))
		case onnx.Float16:
			binary.LittleEndian.PutUint16(b[o:], onnx.FloatToFloat16(x))
		case onnx.BFloat16:
			binary.LittleEndian.PutUint16(b[o:], onnx.FloatToBFloat16(float32(x)))
		case onnx.Double:
			binary.LittleEndian.PutUint64(b[o:], math.Float64bits(x))
		}
	}
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x + 1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

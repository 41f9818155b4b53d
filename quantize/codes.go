package quantize

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// window is how many elements are coded at once when content is written.
const window = 1 << 18

func floatAt(b []byte, i int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
}

// coded is content computed from float32 content when it is read, a window at a
// time when it is written, so that a model is never held twice.
type coded struct {
	src  onnx.Data
	size int // bytes of one code
	put  func(out []byte, i int, x float32)
}

// Len returns the number of bytes.
func (c *coded) Len() int64 { return c.src.Len() / 4 * int64(c.size) }

// Bytes returns the codes in new memory.
func (c *coded) Bytes() ([]byte, error) {
	src, err := c.src.Bytes()
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(src)/4*c.size)
	c.fill(out, src, 0)
	return out, nil
}

// WriteTo streams the codes.
func (c *coded) WriteTo(w io.Writer) (int64, error) {
	src, err := c.src.Bytes()
	if err != nil {
		return 0, err
	}
	var total int64
	buf := make([]byte, min(window, len(src)/4)*c.size)
	for at := 0; at < len(src)/4; at += window {
		n := min(window, len(src)/4-at)
		c.fill(buf[:n*c.size], src[4*at:4*(at+n)], at)
		k, err := w.Write(buf[:n*c.size])
		total += int64(k)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (c *coded) fill(out, src []byte, first int) {
	for i := range len(src) / 4 {
		c.put(out[i*c.size:], first+i, floatAt(src, i))
	}
}

// int8Codes returns the symmetric codes of m under scales, one per channel.
func (m matrix) int8Codes(name string, scales []float32, limit int) *onnx.Tensor {
	lim := float64(limit)
	return &onnx.Tensor{Name: name, DType: onnx.Int8, Shape: m.t.Shape, Data: &coded{src: m.t.Data, size: 1,
		put: func(out []byte, i int, x float32) {
			out[0] = byte(int8(min(max(code(x, scales[m.channel(i)]), -lim), lim)))
		}}}
}

// uint8Codes returns the codes of t with one scale.
func uint8Codes(name string, t *onnx.Tensor, scale float32, zero uint8) *onnx.Tensor {
	return &onnx.Tensor{Name: name, DType: onnx.Uint8, Shape: t.Shape, Data: &coded{src: t.Data, size: 1,
		put: func(out []byte, _ int, x float32) { out[0] = uint8(min(max(code(x, scale)+float64(zero), 0), 255)) }}}
}

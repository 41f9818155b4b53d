package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// matMulNBits multiplies with the transpose of weights [N, K] that are packed in
// blocks along K, the first in the lowest bits, each block with a scale and
// perhaps a zero point.
func matMulNBits(c *call) []*array {
	x, packed := c.input(0), c.input(1)
	k, n, bits, block := c.int("K", 0), c.int("N", 0), c.int("bits", 4), c.int("block_size", 0)
	if bits != 2 && bits != 4 && bits != 8 || block < 1 || k < 1 || n < 1 || c.opt(4) != nil {
		c.unsupported("%d bits in blocks of %d, or a group index", bits, block)
	}
	c.sameFloats(x, c.input(2), c.opt(5))
	blocks := (k + block - 1) / block
	if packed.dt != onnx.Uint8 || int64(packed.len()) != n*blocks*block*bits/8 || int64(c.input(2).len()) != n*blocks || x.shape[x.rank()-1] != k {
		c.fail("packed weights of shape %v for K %d and N %d", packed.shape, k, n)
	}
	scale, zero := load[float64](c.input(2)), c.blockZeros(n, blocks, bits)
	w := make([]float64, k*n)
	for row := range n {
		for col := range k {
			b := row*blocks + col/block
			w[col*n+row] = (code(packed.raw, b*block+col%block, bits) - zero[b]) * scale[b]
		}
	}
	y := c.matmul(x, &array{dt: x.dt, shape: []int64{k, n}, wide: w})
	if c.opt(5) != nil {
		y = c.exact(c.withBias(y, c.opt(5)))
	}
	return one(y)
}

// code returns element i of bits each, the first in the lowest bits of a byte.
func code(b []byte, i, bits int64) float64 {
	per := 8 / bits
	return float64(b[i/per] >> (i % per * bits) & byte(1<<bits-1))
}

// blockZeros returns the zero point of each block: half the range where none is
// given, else packed row by row or as floats.
func (c *call) blockZeros(n, blocks, bits int64) []float64 {
	z := c.opt(3)
	if z == nil {
		return slices.Repeat([]float64{math.Ldexp(1, int(bits)-1)}, int(n*blocks))
	}
	if z.dt.IsFloat() {
		if int64(z.len()) != n*blocks {
			c.fail("zero points of shape %v", z.shape)
		}
		return load[float64](z)
	}
	bytes := (blocks*bits + 7) / 8
	if z.dt != onnx.Uint8 || int64(z.len()) != n*bytes {
		c.fail("zero points %v%v", z.dt, z.shape)
	}
	out := make([]float64, n*blocks)
	for i := range out {
		row, b := int64(i)/blocks, int64(i)%blocks
		out[i] = code(z.raw[row*bytes:], b, bits)
	}
	return out
}

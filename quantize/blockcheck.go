package quantize

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/parallel"
)

// blockReader decodes one weight after the definition of an operator, from the
// node and its tensors alone: it shares nothing with what packed them.
type blockReader struct {
	codes       []byte
	scale, zero []float64
	k, n        int64
	code        func(codes []byte, n, k int64) int64
	param       func(n, k int64) int64
}

// weight returns the weight of channel n at k.
func (r *blockReader) weight(n, k int64) float64 {
	p := r.param(n, k)
	return (float64(r.code(r.codes, n, k)) - r.zero[p]) * r.scale[p]
}

// readerOf returns a reader for the operator that n is; codes stands for the
// content of its tensor of codes.
func readerOf(n *onnx.Node, codes []byte) (*blockReader, error) {
	switch n.Op {
	case "MatMulNBits":
		return nbitsReader(n, codes)
	case "DequantizeLinear":
		return plainReader(n, codes, 0, 1, 2, n.Int("axis", 1))
	case "GatherBlockQuantized":
		return plainReader(n, codes, 0, 2, 3, n.Int("quantize_axis", 1))
	}
	return nil, fmt.Errorf("%s reads no blocks", n.Op)
}

func nbitsReader(n *onnx.Node, codes []byte) (*blockReader, error) {
	bits, size := n.Int("bits", 4), n.Int("block_size", 0)
	r := &blockReader{codes: codes, k: n.Int("K", 0), n: n.Int("N", 0)}
	if size < 16 || size&(size-1) != 0 || bits < 2 || bits > 8 {
		return nil, fmt.Errorf("it has %d bits in blocks of %d", bits, size)
	}
	blocks := (r.k + size - 1) / size
	want := []int64{r.n, blocks, size * bits / 8}
	if !slices.Equal(n.Input(1).Constant().Shape, want) || int64(len(codes)) != r.n*blocks*size*bits/8 {
		return nil, fmt.Errorf("its codes have the shape %v, want %v", n.Input(1).Constant().Shape, want)
	}
	var err error
	if r.scale, err = n.Input(2).Constant().Float64s(); err != nil {
		return nil, err
	}
	if int64(len(r.scale)) != r.n*blocks {
		return nil, fmt.Errorf("it has %d scales for %d×%d blocks", len(r.scale), r.n, blocks)
	}
	r.zero = slices.Repeat([]float64{math.Ldexp(1, int(bits)-1)}, len(r.scale))
	if z := n.Input(3); z != nil {
		if err := packedZeros(r.zero, z.Constant(), r.n, blocks, bits); err != nil {
			return nil, err
		}
	}
	r.param = func(n, k int64) int64 { return n*blocks + k/size }
	r.code = func(codes []byte, n, k int64) int64 {
		at := ((n*blocks+k/size)*size + k%size) * bits
		return bitsAt(codes, at, bits)
	}
	return r, nil
}

// bitsAt returns a number of some bits, the lowest at bit at.
func bitsAt(b []byte, at, bits int64) int64 {
	v := int64(0)
	for i := range bits {
		v |= int64(b[(at+i)/8]>>((at+i)%8)&1) << i
	}
	return v
}

// packedZeros reads the zero points of MatMulNBits: numbers, or codes that fill
// whole bytes for each channel.
func packedZeros(out []float64, t *onnx.Tensor, n, blocks, bits int64) error {
	if t.DType != onnx.Uint8 {
		v, err := t.Float64s()
		if err == nil && len(v) != len(out) {
			err = fmt.Errorf("it has %d zero points for %d blocks", len(v), len(out))
		}
		copy(out, v)
		return err
	}
	row := (blocks*bits + 7) / 8
	b, err := t.Bytes()
	if err != nil || int64(len(b)) != n*row {
		return fmt.Errorf("its zero points have %d bytes, want %d (%v)", len(b), n*row, err)
	}
	for i := range out {
		c, k := int64(i)/blocks, int64(i)%blocks
		out[i] = float64(bitsAt(b[c*row:], k*bits, bits))
	}
	return nil
}

// plainReader reads codes that lie as the weights do. Channels are all indices
// but that of the axis of the blocks.
func plainReader(n *onnx.Node, codes []byte, data, scale, zero int, axis int64) (*blockReader, error) {
	t, s := n.Input(data).Constant(), n.Input(scale).Constant()
	size := n.Int("block_size", 0)
	if axis < 0 {
		axis += int64(len(t.Shape))
	}
	if size < 1 || axis < 0 || axis >= int64(len(t.Shape)) {
		return nil, fmt.Errorf("it has blocks of %d along axis %d", size, axis)
	}
	want := slices.Clone(t.Shape)
	want[axis] = (want[axis] + size - 1) / size
	if !slices.Equal(s.Shape, want) {
		return nil, fmt.Errorf("its scales have the shape %v, want %v", s.Shape, want)
	}
	r := &blockReader{codes: codes, k: t.Shape[axis]}
	inner := int64(1)
	for _, d := range t.Shape[axis+1:] {
		inner *= d
	}
	total, _ := t.Elements()
	if r.n = total / max(r.k, 1); int64(len(codes)) != t.Size() {
		return nil, fmt.Errorf("its codes have %d bytes, want %d", len(codes), t.Size())
	}
	blocks := want[axis]
	r.param = func(n, k int64) int64 { return (n/inner*blocks+k/size)*inner + n%inner }
	bits, signed := int64(t.DType.Bits()), t.DType.IsSigned()
	r.code = func(codes []byte, n, k int64) int64 {
		v := bitsAt(codes, ((n/inner*r.k+k)*inner+n%inner)*bits, bits)
		if signed && v >= 1<<(bits-1) {
			v -= 1 << bits
		}
		return v
	}
	var err error
	if r.scale, err = s.Float64s(); err != nil {
		return nil, err
	}
	r.zero = make([]float64, len(r.scale))
	switch z := n.Input(zero); {
	case z != nil:
		if !slices.Equal(z.Constant().Shape, want) || z.Constant().DType != t.DType {
			return nil, fmt.Errorf("its zero points are %v%v, want %v%v", z.Constant().DType, z.Constant().Shape, t.DType, want)
		}
		r.zero, err = z.Constant().Float64s()
	case n.Op == "GatherBlockQuantized" && t.DType == onnx.Uint8:
		r.zero = slices.Repeat([]float64{math.Ldexp(1, int(n.Int("bits", 4))-1)}, len(r.scale))
	}
	return r, err
}

// sampled is how many channels of a weight are decoded to check them, strip how many
// neighbours of them are read at once where the weights of a channel are far apart.
const sampled, strip = 24, 8

// mostNoise is the share of the power of a weight that its error may have where codes
// are not the nearest: a wrong layout leaves an error as large as the weight.
const mostNoise = 0.6

// nothing is the power of an error that is none: weights below the normal numbers
// have steps that are not exact.
const nothing = 1e-60

// checkBlocks decodes a spread of channels of what n reads and compares them with
// the weights: to within half a step where the codes are the nearest ones, else
// roughly. called is how messages name the node.
func checkBlocks(called string, n *onnx.Node, codes []byte, b *blockwise) error {
	r, err := readerOf(n, codes)
	if err == nil && (r.k != int64(b.op.k) || r.n != int64(b.op.n*b.op.batch)) {
		err = fmt.Errorf("it is read as %d×%d weights, want %d×%d", r.k, r.n, b.op.k, b.op.n*b.op.batch)
	}
	var diff, sum float64
	if err == nil {
		diff, sum, err = r.compare(b)
	}
	if err == nil && !(diff <= mostNoise*sum+nothing) {
		err = fmt.Errorf("they decode to something else than the weights: the error has %.2f of their power", diff/sum)
	}
	if err != nil {
		return fmt.Errorf("%s: the codes of weight %q are wrong: %w", called, b.op.t.Name, err)
	}
	return nil
}

// channels are neighbours of one matrix, counted over all matrices.
type channels struct{ first, count int }

// samples spreads channels over the operand: single ones, or strips of neighbours.
func (o operand) samples() []channels {
	width := strip
	if o.rows {
		width = 1
	}
	var out []channels
	last := o.batch*o.n - 1
	for i, end := 0, -1; i < sampled/width; i++ {
		c := channels{first: last * i / max(sampled/width-1, 1)}
		if c.first = min(c.first, last-last%o.n+max(o.n-width, 0)); c.first > end {
			c.count = min(width, o.n-c.first%o.n)
			out, end = append(out, c), c.first+c.count-1
		}
	}
	return out
}

// compare compares samples side by side, and returns the power of the error and of
// the weights.
func (r *blockReader) compare(b *blockwise) (diff, sum float64, err error) {
	list := b.op.samples()
	diffs, sums, errs := make([]float64, len(list)), make([]float64, len(list)), make([]error, len(list))
	var wg parallel.Group
	for i, c := range list {
		wg.Go(func() { diffs[i], sums[i], errs[i] = r.strip(c, b) })
	}
	wg.Wait()
	for i := range list {
		diff, sum, err = diff+diffs[i], sum+sums[i], cmp.Or(err, errs[i])
	}
	return diff, sum, err
}

// strip compares channels.
func (r *blockReader) strip(c channels, b *blockwise) (diff, sum float64, err error) {
	w, err := b.op.strip(c)
	for i := 0; i < c.count && err == nil; i++ {
		err = r.channel(int64(c.first+i), w[i*b.op.k:(i+1)*b.op.k], b, &diff, &sum)
	}
	return diff, sum, err
}

// channel enters channel c, whose weights are w, into the sums.
func (r *blockReader) channel(c int64, w []float32, b *blockwise, diff, sum *float64) error {
	nearest := b.codes == nil && !b.clipped
	for k, x := range w {
		got := r.weight(c, int64(k))
		p := r.param(c, int64(k))
		step := math.Abs(r.scale[p])
		err := math.Abs(got - float64(x))
		*diff, *sum = *diff+err*err, *sum+float64(x)*float64(x)
		limit := step * (0.5 + 1e-3)
		if code := r.code(r.codes, c, int64(k)); b.end(code, r.zero[p]) {
			limit = step * (1 + 1e-2) // the range need not reach the last code, nor end at it
		}
		if b.f.dtype == onnx.Float16 {
			limit += float64(b.f.top()) * 0x1p-24 // scales may be subnormal
		}
		if nearest && err > limit+1e-30 {
			return fmt.Errorf("element %d of channel %d decodes to %v, not to %v, with a step of %v", k, c, got, x, step)
		}
	}
	return nil
}

// end reports whether a code is the first or the last one.
func (b *blockwise) end(code int64, zero float64) bool {
	top := int64(b.f.top())
	if !b.f.asymmetric && zero == 0 { // signed
		code += int64(b.f.mid())
	}
	return code == 0 || code == top
}

// strip returns the weights of channels, one after the other, as they are coded.
func (o operand) strip(c channels) ([]float32, error) {
	batch, n := c.first/o.n, c.first%o.n
	width := o.t.DType.Bits() / 8
	raw, out := make([]byte, o.k*c.count*width), make([]float32, o.k*c.count)
	if o.rows {
		if err := onnx.ReadDataAt(o.t.Data, raw, int64((batch*o.n+n)*o.k*width)); err != nil {
			return nil, err
		}
		convert(out, raw, o.t.DType)
	} else {
		for k := range o.k {
			row := raw[k*c.count*width : (k+1)*c.count*width]
			if err := onnx.ReadDataAt(o.t.Data, row, int64(((batch*o.k+k)*o.n+n)*width)); err != nil {
				return nil, err
			}
		}
		flat := make([]float32, len(out))
		convert(flat, raw, o.t.DType)
		transpose(out, flat, o.k, c.count)
	}
	if o.gain != nil {
		for i := range out {
			out[i] *= o.gain[i%o.k]
		}
	}
	return out, nil
}

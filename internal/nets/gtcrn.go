package nets

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gtcrnSize is the size of a speech enhancer of many tiny nodes.
type gtcrnSize struct{ channels, frames, bands, blocks int64 }

// gtcrn is shaped like GTCRN (Rong et al., 2024): grouped convolutions, a GRU
// along frames and one along bands in each block, gates over time, and a loop
// over frames that tracing has unrolled. Work is small, nodes are many.
func gtcrn(b *builder) {
	c := pick(b, gtcrnSize{16, 63, 33, 6}, gtcrnSize{4, 6, 8, 2})
	b.o.Batch, b.o.Seq = 1, c.frames
	x := b.input("spectrum", anyBatch, 2, c.frames, c.bands)
	e := b.at("encoder")
	y := e.prelu(e.batchNorm("bn", e.conv("conv", x, convSpec{in: 2, out: c.channels, kernel: 1, stride: 1, bias: true}), c.channels, 1), c.channels)
	for i := range c.blocks {
		y = b.at("blocks.%d", i).gtBlock(y, c)
		y = b.at("dpgrnn.%d", i).dualPath(y, c)
	}
	d := b.at("decoder")
	y = d.op("Tanh", d.conv("conv", y, convSpec{in: c.channels, out: 2, kernel: 1, stride: 1, bias: true, gain: 1}))
	b.output("enhanced", b.at("filter").frameFilter(b.op("Mul", x, y), c), anyBatch, 2, c.frames, c.bands)
}

func (b *builder) prelu(x *onnx.Value, dim int64) *onnx.Value {
	return b.op("PRelu", x, b.around("act.weight", 0.25, 0.05, dim, 1, 1))
}

// gtBlock widens by neighbouring bands, convolves, gates over time, and shuffles channels.
func (b *builder) gtBlock(x *onnx.Value, c gtcrnSize) *onnx.Value {
	n := c.channels
	pad := b.op("Pad", x, b.ints(0, 0, 0, 1, 0, 0, 0, 1), b.scalar(0))
	var near []*onnx.Value
	for i := range int64(3) {
		near = append(near, b.slice(pad, 3, i, i+c.bands))
	}
	y := b.concat(1, near...)
	y = b.at("1").prelu(b.batchNorm("bn1", b.conv("point1", y, convSpec{in: 3 * n, out: n, kernel: 1, stride: 1, bias: true}), n, 1), n)
	y = b.at("2").prelu(b.batchNorm("bn2", b.conv("depth", y, convSpec{in: n, out: n, kernel: 3, stride: 1, pad: 1, groups: n, bias: true}), n, 1), n)
	y = b.batchNorm("bn3", b.conv("point2", y, convSpec{in: n, out: n, kernel: 1, stride: 1, bias: true, gain: 1}), n, 1)
	y = b.at("tra").gate(y, c)
	s := b.reshape(b.concat(1, x, y), num(1), num(2), num(n), num(c.frames), num(c.bands))
	s = b.reshape(b.transpose(s, 0, 2, 1, 3, 4), num(1), num(2*n), num(c.frames), num(c.bands))
	return b.conv("mix", s, convSpec{in: 2 * n, out: n, kernel: 1, stride: 1, gain: 1})
}

// gate scales each frame of each channel by a GRU over the channels' energies.
func (b *builder) gate(x *onnx.Value, c gtcrnSize) *onnx.Value {
	n := c.channels
	energy := b.mean(b.op("Pow", x, b.scalar(2)), false, -1)
	seq := b.transpose(energy, 2, 0, 1)
	start := b.constant(mustTensor(b.o.DType, []int64{1, 1, n}, make([]float64, n)...))
	y := b.squeeze(b.recurrent("GRU", seq, start, n, n, 3, false), 1)
	y = b.op("Sigmoid", b.linear("fc", b.transpose(y, 1, 0, 2), n, n, true))
	return b.op("Mul", x, b.unsqueeze(b.transpose(y, 0, 2, 1), 3))
}

// dualPath runs a GRU along the bands of each frame, then one along the frames of each band.
func (b *builder) dualPath(x *onnx.Value, c gtcrnSize) *onnx.Value {
	y := b.at("intra").halves(b.transpose(x, 0, 2, 3, 1), c.frames, c.bands, c.channels)
	y = b.at("inter").halves(b.transpose(y, 0, 2, 1, 3), c.bands, c.frames, c.channels)
	return b.transpose(y, 0, 3, 2, 1)
}

// halves runs two GRUs, each over half of the channels, along the third axis of x
// [1, rows, steps, channels], then a dense layer and a norm, and adds x.
func (b *builder) halves(x *onnx.Value, rows, steps, channels int64) *onnx.Value {
	half := channels / 2
	flat := b.transpose(b.reshape(x, num(rows), num(steps), num(channels)), 1, 0, 2)
	start := b.constant(mustTensor(b.o.DType, []int64{1, rows, half}, make([]float64, rows*half)...))
	var out []*onnx.Value
	for i, part := range b.split(flat, 2, half, half) {
		out = append(out, b.squeeze(b.at("rnn%d", i+1).recurrent("GRU", part, start, half, half, 3, false), 1))
	}
	y := b.transpose(b.concat(2, out...), 1, 0, 2)
	y = b.layerNorm("ln", b.linear("fc", y, channels, channels, true), channels, 1e-8)
	return b.op("Add", x, b.reshape(y, num(1), num(rows), num(steps), num(channels)))
}

// frameFilter smooths frame by frame, as a loop that tracing has unrolled.
func (b *builder) frameFilter(x *onnx.Value, c gtcrnSize) *onnx.Value {
	keep := b.around("keep", 0.7, 0.1, c.bands)
	var last *onnx.Value
	var all []*onnx.Value
	for i := range c.frames {
		y := b.call("Gather", axis(2), x, b.index(i))
		if last != nil {
			y = b.op("Add", b.op("Mul", y, keep), b.op("Mul", last, b.op("Sub", b.scalar(1), keep)))
		}
		last = y
		all = append(all, b.unsqueeze(y, 2))
	}
	return b.concat(2, all...)
}

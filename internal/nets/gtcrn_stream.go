package nets

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gtcrnStream is GTCRN as it is deployed: one frame at a time, with what the
// convolutions and GRUs remember as inputs and outputs, packed by kind. Sizes are
// read from the values, as the published code does, so most nodes compute shapes.
func gtcrnStream(b *builder) {
	c := pick(b, gtcrnSize{16, 1, 33, 6}, gtcrnSize{4, 1, 8, 2})
	n := c.channels
	x := b.input("mix", 1, 2, 1, c.bands)
	s := &frameState{b: b,
		conv:  b.input("conv_cache", c.blocks, 1, n, 2, c.bands),
		gates: b.input("tra_cache", c.blocks, 1, 1, n),
		inter: b.input("inter_cache", c.blocks, 2, c.bands, n/2),
	}
	e := b.at("encoder")
	y := e.prelu(e.batchNorm("bn", e.conv("conv", x, convSpec{in: 2, out: n, kernel: 1, stride: 1, bias: true}), n, 1), n)
	for i := range c.blocks {
		y = b.at("blocks.%d", i).frameBlock(y, s, i, c)
		y = b.at("dpgrnn.%d", i).frameRNN(y, s, i, c)
	}
	d := b.at("decoder")
	y = d.op("Tanh", d.conv("conv", y, convSpec{in: n, out: 2, kernel: 1, stride: 1, bias: true, gain: 1}))
	b.output("enh", b.op("Mul", x, y), 1, 2, 1, c.bands)
	s.outputs(c)
}

// frameState is what a stream remembers from frame to frame: inputs of the
// network by kind, and what follows from them by block.
type frameState struct {
	b                  *builder
	conv, gates, inter *onnx.Value
	next               [3][]*onnx.Value
}

// at is the state of block i, without the axis of the blocks.
func (s *frameState) at(b *builder, of *onnx.Value, i int64) *onnx.Value {
	return b.call("Gather", axis(0), of, b.index(i))
}

// keep remembers v as the next state of a kind, for the next block.
func (s *frameState) keep(kind int, v *onnx.Value) { s.next[kind] = append(s.next[kind], v) }

// outputs stacks what was kept.
func (s *frameState) outputs(c gtcrnSize) {
	half := c.channels / 2
	for i, shape := range [][]int64{{1, c.channels, 2, c.bands}, {1, 1, c.channels}, {2, c.bands, half}} {
		var list []*onnx.Value
		for _, v := range s.next[i] {
			list = append(list, s.b.unsqueeze(v, 0))
		}
		name := fmt.Sprintf("%s_cache_out", []string{"conv", "tra", "inter"}[i])
		s.b.output(name, s.b.concat(0, list...), append([]int64{c.blocks}, shape...)...)
	}
}

// frameBlock is gtBlock over one frame: the convolution along time reads the two
// frames before from the state.
func (b *builder) frameBlock(x *onnx.Value, s *frameState, i int64, c gtcrnSize) *onnx.Value {
	n := c.channels
	pad := b.op("Pad", x, b.ints(0, 0, 0, 1, 0, 0, 0, 1), b.scalar(0))
	var near []*onnx.Value
	for k := range int64(3) {
		near = append(near, b.slice(pad, 3, k, k+c.bands))
	}
	y := b.concat(1, near...)
	y = b.at("1").prelu(b.batchNorm("bn1", b.conv("point1", y, convSpec{in: 3 * n, out: n, kernel: 1, stride: 1, bias: true}), n, 1), n)
	frames := b.concat(2, s.at(b, s.conv, i), y)
	s.keep(0, b.slice(frames, 2, 1, 3))
	wide := b.op("Pad", frames, b.ints(0, 0, 0, 1, 0, 0, 0, 1), b.scalar(0))
	y = b.at("2").prelu(b.batchNorm("bn2", b.conv("depth", wide, convSpec{in: n, out: n, kernel: 3, stride: 1, groups: n, bias: true}), n, 1), n)
	y = b.batchNorm("bn3", b.conv("point2", y, convSpec{in: n, out: n, kernel: 1, stride: 1, bias: true, gain: 1}), n, 1)
	y = b.at("tra").frameGate(y, s, i, c)
	both := b.reshape(b.concat(1, x, y), size{of: x}, num(2), size{of: x, axis: 1}, size{of: x, axis: 2}, size{of: x, axis: 3})
	mixed := b.transpose(both, 0, 2, 1, 3, 4)
	flat := b.reshape(mixed, size{of: mixed}, num(2*n), size{of: mixed, axis: 3}, size{of: mixed, axis: 4})
	return b.conv("mix", flat, convSpec{in: 2 * n, out: n, kernel: 1, stride: 1, gain: 1})
}

// frameGate is gate with the GRU's state kept.
func (b *builder) frameGate(x *onnx.Value, s *frameState, i int64, c gtcrnSize) *onnx.Value {
	n := c.channels
	energy := b.mean(b.op("Pow", x, b.scalar(2)), false, -1)
	rnn := b.recurrent("GRU", b.transpose(energy, 2, 0, 1), s.at(b, s.gates, i), n, n, 3, false).Producer()
	s.keep(1, b.also(rnn))
	y := b.op("Sigmoid", b.linear("fc", b.transpose(b.squeeze(rnn.Output(0), 1), 1, 0, 2), n, n, true))
	return b.op("Mul", x, b.unsqueeze(b.transpose(y, 0, 2, 1), 3))
}

// also adds the last state of a recurrent node as its second output.
func (b *builder) also(n *onnx.Node) *onnx.Value {
	return n.AddOutput(b.valueName(n.Name, n.Op, 1))
}

// frameRNN is dualPath over one frame: along the bands from nothing, along time
// from the state.
func (b *builder) frameRNN(x *onnx.Value, s *frameState, i int64, c gtcrnSize) *onnx.Value {
	half := c.channels / 2
	y := b.transpose(x, 0, 2, 3, 1)
	intra := b.at("intra")
	start := intra.call("ConstantOfShape", attrs(onnx.TensorAttr("value", mustTensor(b.o.DType, []int64{1}, 0))),
		intra.sizes(num(1), size{of: y, axis: 1}, num(half)))
	y, _ = intra.frameHalves(y, [2]*onnx.Value{start, start}, c, 1, 2)
	y = b.transpose(y, 0, 2, 1, 3)
	inter := b.at("inter")
	state := inter.split(s.at(inter, s.inter, i), 0, 1, 1)
	y, next := inter.frameHalves(y, [2]*onnx.Value{state[0], state[1]}, c, 1, 2)
	s.keep(2, inter.concat(0, next[:]...))
	return b.transpose(y, 0, 3, 2, 1)
}

// frameHalves is halves with sizes read from x [1, rows, steps, channels], and
// states from which each half starts.
func (b *builder) frameHalves(x *onnx.Value, start [2]*onnx.Value, c gtcrnSize, rows, steps int64) (y *onnx.Value, last [2]*onnx.Value) {
	half := c.channels / 2
	flat := b.reshape(x, size{of: x, axis: rows}, size{of: x, axis: steps}, size{of: x, axis: 3})
	var out []*onnx.Value
	for i, part := range b.split(b.transpose(flat, 1, 0, 2), 2, half, half) {
		rnn := b.at("rnn%d", i+1).recurrent("GRU", part, start[i], half, half, 3, false).Producer()
		last[i] = b.also(rnn)
		out = append(out, b.squeeze(rnn.Output(0), 1))
	}
	y = b.transpose(b.concat(2, out...), 1, 0, 2)
	y = b.layerNorm("ln", b.linear("fc", y, c.channels, c.channels, true), c.channels, 1e-8)
	return b.op("Add", x, b.reshape(y, size{of: x}, size{of: x, axis: rows}, size{of: x, axis: steps}, size{of: x, axis: 3})), last
}

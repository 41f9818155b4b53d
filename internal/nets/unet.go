package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// unetSize are the hyperparameters of a denoising U-Net.
type unetSize struct {
	side, groups int64
	widths       [4]int64 // channels of each level
	layers       int64    // residual blocks of each level on the way down, one more on the way up
}

// unetModel is a U-Net under construction.
type unetModel struct {
	*builder
	c     unetSize
	steps *onnx.Value   // embedded time steps [batch, 4·widths[0]], behind their activation
	skips []*onnx.Value // what the way down leaves for the way up
	wide  []int64       // channels of each skip
}

// unet is UNet2DModel of diffusers; full has the size of ddpm-cifar10-32 (Ho et
// al., 2020): 35.7 million parameters.
func unet(b *builder) {
	c := pick(b, unetSize{32, 32, [4]int64{128, 256, 256, 256}, 2}, unetSize{16, 4, [4]int64{8, 16, 16, 16}, 1})
	x := b.image("sample", 3, c.side)
	u := &unetModel{builder: b, c: c, steps: b.timeEmbedding(c.widths[0])}
	in := c.widths[0]
	x = b.conv("conv_in", x, convSpec{in: 3, out: in, kernel: 3, stride: 1, pad: 1, bias: true, gain: 1})
	u.skip(x, in)
	x, in = u.down(x, in)
	m := b.at("mid_block")
	x = u.residual(m.at("resnets.0"), x, in, in)
	x = u.attention(m.at("attentions.0"), x, in, c.side/8)
	x = u.residual(m.at("resnets.1"), x, in, in)
	x, in = u.up(x, in)
	x = b.at("conv_act").silu(b.groupNorm("conv_norm_out", x, c.groups, in, 1e-6))
	x = b.conv("conv_out", x, convSpec{in: in, out: 3, kernel: 3, stride: 1, pad: 1, bias: true, gain: 1})
	b.output("out_sample", x, anyBatch, 3, c.side, c.side)
}

// timeEmbedding takes time steps to sines and cosines, and those through two layers.
func (b *builder) timeEmbedding(dim int64) *onnx.Value {
	step := b.g.AddInput("timestep", onnx.TensorType(onnx.Int64, b.dims(anyBatch)))
	freq := make([]float64, dim/2)
	for i := range freq {
		freq[i] = math.Exp(-math.Log(10000) * float64(i) / (float64(dim/2) - 1))
	}
	p := b.at("time_proj")
	angle := p.op("Mul", p.unsqueeze(p.cast(step, b.o.DType), 1), p.typed(b.o.DType, []int64{1, dim / 2}, freq...))
	y := p.concat(-1, p.op("Sin", angle), p.op("Cos", angle))
	e := b.at("time_embedding")
	return e.silu(e.dense("linear_2", e.silu(e.dense("linear_1", y, dim, 4*dim)), 4*dim, 4*dim))
}

func (u *unetModel) skip(x *onnx.Value, width int64) {
	u.skips, u.wide = append(u.skips, x), append(u.wide, width)
}

// down is the way to the lowest level; the second level attends.
func (u *unetModel) down(x *onnx.Value, in int64) (*onnx.Value, int64) {
	side := u.c.side
	for i, out := range u.c.widths {
		l := u.at("down_blocks.%d", i)
		for j := range u.c.layers {
			x = u.residual(l.at("resnets.%d", j), x, in, out)
			if in = out; i == 1 {
				x = u.attention(l.at("attentions.%d", j), x, out, side)
			}
			u.skip(x, out)
		}
		if i < 3 {
			pad := l.op("Pad", x, l.ints(0, 0, 0, 0, 0, 0, 1, 1), l.scalar(0))
			x = l.at("downsamplers.0").conv("conv", pad, convSpec{in: out, out: out, kernel: 3, stride: 2, bias: true, gain: 1})
			u.skip(x, out)
			side /= 2
		}
	}
	return x, in
}

// up is the way back; each block reads what the way down left.
func (u *unetModel) up(x *onnx.Value, in int64) (*onnx.Value, int64) {
	side := u.c.side / 8
	for i := range 4 {
		l, out := u.at("up_blocks.%d", i), u.c.widths[3-i]
		for j := range u.c.layers + 1 {
			last := len(u.skips) - 1
			x, in = l.concat(1, x, u.skips[last]), in+u.wide[last]
			u.skips, u.wide = u.skips[:last], u.wide[:last]
			x = u.residual(l.at("resnets.%d", j), x, in, out)
			if in = out; i == 2 {
				x = u.attention(l.at("attentions.%d", j), x, out, side)
			}
		}
		if i < 3 {
			s := l.at("upsamplers.0")
			x = s.conv("conv", s.upsample(x), convSpec{in: out, out: out, kernel: 3, stride: 1, pad: 1, bias: true, gain: 1})
			side *= 2
		}
	}
	return x, in
}

// residual is a block of two convolutions that adds the time step in between.
func (u *unetModel) residual(b *builder, x *onnx.Value, in, out int64) *onnx.Value {
	spec := convSpec{in: in, out: out, kernel: 3, stride: 1, pad: 1, bias: true, gain: 1}
	y := b.conv("conv1", b.at("nonlinearity").silu(b.groupNorm("norm1", x, u.c.groups, in, 1e-6)), spec)
	t := b.dense("time_emb_proj", u.steps, 4*u.c.widths[0], out)
	y = b.op("Add", y, b.unsqueeze(b.unsqueeze(t, 2), 3))
	spec.in = out
	y = b.conv("conv2", b.at("nonlinearity").silu(b.groupNorm("norm2", y, u.c.groups, out, 1e-6)), spec)
	if in != out {
		x = b.conv("conv_shortcut", x, convSpec{in: in, out: out, kernel: 1, stride: 1, bias: true, gain: 1})
	}
	return b.op("Add", x, y)
}

// attention lets the pixels of x [batch, dim, side, side] attend to each other, with one head.
func (u *unetModel) attention(b *builder, x *onnx.Value, dim, side int64) *onnx.Value {
	b.o.Seq = side * side
	h := heads{1, 1, dim}
	y := b.groupNorm("group_norm", x, u.c.groups, dim, 1e-6)
	y = b.transpose(b.reshape(y, b.batch(y), num(dim), num(side*side)), 0, 2, 1)
	y = b.selfAttention(y, mask{}, h, [3]string{"to_q", "to_k", "to_v"}, true)
	y = b.transpose(b.linear("to_out.0", y, dim, dim, true), 0, 2, 1)
	return b.op("Add", b.reshape(y, b.batch(y), num(dim), num(side), num(side)), x)
}

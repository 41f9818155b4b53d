package nets

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func itoa(i int) string { return strconv.Itoa(i) }

// mobilenetV2 is the classifier of Sandler et al. (2018): 3.5 million parameters,
// 0.30 billion multiply-accumulates.
func mobilenetV2(b *builder) {
	f := b.at("features")
	in := b.thin(32)
	x := f.at("0").convNorm("0", b.image("input", 3, pick[int64](b, 224, 32)), convSpec{in: 3, out: in, kernel: 3, stride: 2, pad: 1})
	x = f.at("0").relu6(x)
	layer := 1
	for _, s := range [][4]int64{{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}} {
		for i := range b.few(s[2]) {
			stride, out := int64(1), b.thin(s[1])
			if i == 0 {
				stride = s[3]
			}
			x = f.at("%d", layer).invertedResidual(x, in, out, s[0], stride)
			in, layer = out, layer+1
		}
	}
	last := b.thin(1280)
	x = f.at("%d", layer).convNorm("0", x, convSpec{in: in, out: last, kernel: 1, stride: 1})
	b.classify("classifier.1", b.globalPool(f.at("%d", layer).relu6(x), last), last)
}

// invertedResidual widens, convolves each channel, and narrows again.
func (b *builder) invertedResidual(x *onnx.Value, in, out, expand, stride int64) *onnx.Value {
	c, y, wide, part := b.at("conv"), x, in*expand, 0
	if expand != 1 {
		y = c.relu6(c.convNorm("0", y, convSpec{in: in, out: wide, kernel: 1, stride: 1}))
		part = 1
	}
	y = c.relu6(c.convNorm(itoa(part), y, convSpec{in: wide, out: wide, kernel: 3, stride: stride, pad: 1, groups: wide}))
	y = c.conv(itoa(part+1), y, convSpec{in: wide, out: out, kernel: 1, stride: 1, gain: 1})
	y = c.batchNorm(itoa(part+2), y, out, 1)
	if stride == 1 && in == out {
		return b.op("Add", x, y)
	}
	return y
}

// inverted is a block of MobileNetV3.
type inverted struct {
	kernel, wide, out int64
	squeeze, hard     bool // squeeze-and-excitation; hard-swish instead of ReLU
	stride            int64
}

// mobilenetV3Large is the table of the paper.
var mobilenetV3Large = []inverted{
	{3, 16, 16, false, false, 1}, {3, 64, 24, false, false, 2}, {3, 72, 24, false, false, 1},
	{5, 72, 40, true, false, 2}, {5, 120, 40, true, false, 1}, {5, 120, 40, true, false, 1},
	{3, 240, 80, false, true, 2}, {3, 200, 80, false, true, 1}, {3, 184, 80, false, true, 1}, {3, 184, 80, false, true, 1},
	{3, 480, 112, true, true, 1}, {3, 672, 112, true, true, 1},
	{5, 672, 160, true, true, 2}, {5, 960, 160, true, true, 1}, {5, 960, 160, true, true, 1},
}

// mobilenetV3 is the large classifier of Howard et al. (2019): 5.5 million parameters.
func mobilenetV3(b *builder) {
	f := b.at("features")
	in := b.thin(16)
	x := f.at("0").convNorm("0", b.image("input", 3, pick[int64](b, 224, 32)), convSpec{in: 3, out: in, kernel: 3, stride: 2, pad: 1})
	x = f.at("0").hardSwish(x)
	for i, c := range mobilenetV3Large {
		c.wide, c.out = b.thin(c.wide), b.thin(c.out)
		x = f.at("%d", i+1).mobileBlock(x, in, c)
		in = c.out
	}
	last, hidden := b.thin(960), b.thin(1280)
	l := f.at("16")
	x = l.hardSwish(l.convNorm("0", x, convSpec{in: in, out: last, kernel: 1, stride: 1}))
	c := b.at("classifier")
	c.classify("3", c.hardSwish(c.dense("0", b.globalPool(x, last), last, hidden)), hidden)
}

func (b *builder) mobileBlock(x *onnx.Value, in int64, c inverted) *onnx.Value {
	s, y, part := b.at("block"), x, 0
	act := func(l *builder, v *onnx.Value) *onnx.Value {
		if c.hard {
			return l.hardSwish(v)
		}
		return l.op("Relu", v)
	}
	if c.wide != in {
		y = act(s, s.at("0").convNorm("0", y, convSpec{in: in, out: c.wide, kernel: 1, stride: 1}))
		part = 1
	}
	spec := convSpec{in: c.wide, out: c.wide, kernel: c.kernel, stride: c.stride, pad: c.kernel / 2, groups: c.wide}
	y = act(s, s.at("%d", part).convNorm("0", y, spec))
	if c.squeeze {
		part++
		relu := func(l *builder, v *onnx.Value) *onnx.Value { return l.op("Relu", v) }
		y = s.at("%d", part).squeezeExcite(y, c.wide, divisible(c.wide/4), relu, (*builder).hardSigmoid)
	}
	y = s.at("%d", part+1).convNorm("0", y, convSpec{in: c.wide, out: c.out, kernel: 1, stride: 1, gain: 1})
	if c.stride == 1 && in == c.out {
		return b.op("Add", y, x)
	}
	return y
}

// divisible rounds to a multiple of 8, not below nine tenths of n.
func divisible(n int64) int64 {
	r := max(8, (n+4)/8*8)
	if 10*r < 9*n {
		r += 8
	}
	return r
}

// efficientnet is EfficientNet-B0 of Tan and Le (2019): 5.3 million parameters,
// 0.39 billion multiply-accumulates.
func efficientnet(b *builder) {
	f := b.at("features")
	in := b.thin(32)
	x := f.at("0").convNorm("0", b.image("input", 3, pick[int64](b, 224, 32)), convSpec{in: 3, out: in, kernel: 3, stride: 2, pad: 1})
	x = f.at("0").silu(x)
	stages := [][5]int64{{1, 3, 1, 16, 1}, {6, 3, 2, 24, 2}, {6, 5, 2, 40, 2}, {6, 3, 2, 80, 3}, {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4}, {6, 3, 1, 320, 1}}
	for i, s := range stages {
		for j := range b.few(s[4]) {
			stride, out := int64(1), b.thin(s[3])
			if j == 0 {
				stride = s[2]
			}
			x = f.at("%d", i+1).at("%d", j).efficientBlock(x, in, out, s[0], s[1], stride)
			in = out
		}
	}
	last := b.thin(1280)
	l := f.at("%d", len(stages)+1)
	x = l.silu(l.convNorm("0", x, convSpec{in: in, out: last, kernel: 1, stride: 1}))
	b.classify("classifier.1", b.globalPool(x, last), last)
}

func (b *builder) efficientBlock(x *onnx.Value, in, out, expand, kernel, stride int64) *onnx.Value {
	s, y, wide, part := b.at("block"), x, in*expand, 0
	if expand != 1 {
		y = s.silu(s.at("0").convNorm("0", y, convSpec{in: in, out: wide, kernel: 1, stride: 1, gain: 1.7}))
		part = 1
	}
	spec := convSpec{in: wide, out: wide, kernel: kernel, stride: stride, pad: kernel / 2, groups: wide, gain: 1.7}
	y = s.silu(s.at("%d", part).convNorm("0", y, spec))
	sigmoid := func(l *builder, v *onnx.Value) *onnx.Value { return l.op("Sigmoid", v) }
	y = s.at("%d", part+1).squeezeExcite(y, wide, max(1, in/4), (*builder).silu, sigmoid)
	y = s.at("%d", part+2).convNorm("0", y, convSpec{in: wide, out: out, kernel: 1, stride: 1, gain: 1.7})
	if stride == 1 && in == out {
		return b.op("Add", y, x)
	}
	return y
}

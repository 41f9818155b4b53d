package nets

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// convSpec is a convolution over square windows.
type convSpec struct {
	in, out, kernel, stride int64
	pad                     int64 // on every side
	groups                  int64 // 0: 1
	bias                    bool
	rank                    int     // spatial axes; 0: 2
	gain                    float64 // of the standard deviation over 1/√fan-in; 0: √2, for a ReLU behind
}

// image adds an input of pictures in the layout of the style.
func (b *builder) image(name string, channels, side int64) *onnx.Value {
	if b.o.Style.nhwc() {
		return b.input(name, anyBatch, side, side, channels)
	}
	return b.input(name, anyBatch, channels, side, side)
}

// conv is a convolution; channels last it stands between two Transposes.
func (b *builder) conv(name string, x *onnx.Value, c convSpec) *onnx.Value {
	l := b.at("%s", name)
	c.groups = max(c.groups, 1)
	if c.rank == 0 {
		c.rank = 2
	}
	if c.gain == 0 {
		c.gain = math.Sqrt2
	}
	repeat := func(n int64, times int) (out []int64) {
		for range times {
			out = append(out, n)
		}
		return out
	}
	window := repeat(c.kernel, c.rank)
	fan := c.in / c.groups
	for range c.rank {
		fan *= c.kernel
	}
	in := []*onnx.Value{nil, l.weight("weight", c.gain/math.Sqrt(float64(fan)), append([]int64{c.out, c.in / c.groups}, window...)...)}
	if c.bias {
		in = append(in, l.weight(l.biasName(), 0.02, c.out))
	}
	a := attrs(onnx.IntsAttr("dilations", repeat(1, c.rank)...), onnx.IntAttr("group", c.groups), onnx.IntsAttr("kernel_shape", window...),
		onnx.IntsAttr("pads", repeat(c.pad, 2*c.rank)...), onnx.IntsAttr("strides", repeat(c.stride, c.rank)...))
	return l.channelsFirst(x, func(x *onnx.Value) *onnx.Value {
		in[0] = x
		return l.call("Conv", a, in...)
	})
}

// channelsFirst runs f on x [batch, channels, height, width], whatever the style's layout.
func (b *builder) channelsFirst(x *onnx.Value, f func(*onnx.Value) *onnx.Value) *onnx.Value {
	if !b.o.Style.nhwc() {
		return f(x)
	}
	return b.transpose(f(b.transpose(x, 0, 3, 1, 2)), 0, 2, 3, 1)
}

// batchNorm normalizes channels by stored moments. The last of a residual
// branch has a small gain, so that the sum does not grow with depth.
func (b *builder) batchNorm(name string, x *onnx.Value, dim int64, gain float64) *onnx.Value {
	b.saw(BatchNorm)
	l := b.at("%s", name)
	scale, bias, mean, variance := "weight", "bias", "running_mean", "running_var"
	if b.o.Style.nhwc() {
		scale, bias, mean, variance = "gamma", "beta", "moving_mean", "moving_variance"
	}
	g, c := l.around(scale, gain, 0.1*gain, dim), l.weight(bias, 0.1, dim)
	m, v := l.weight(mean, 0.1, dim), l.around(variance, 1, 0.2, dim)
	if b.o.Style == JAX {
		r := l.op("Mul", l.op("Reciprocal", l.op("Sqrt", l.op("Add", v, l.scalar(1e-5)))), g)
		return l.op("Add", l.op("Mul", l.op("Sub", x, m), r), c)
	}
	a := attrs(onnx.FloatAttr("epsilon", 1e-5), onnx.FloatAttr("momentum", 0.9))
	if b.o.Opset >= 14 {
		a = append(a, onnx.IntAttr("training_mode", 0))
	}
	return l.channelsFirst(x, func(x *onnx.Value) *onnx.Value { return l.call("BatchNormalization", a, x, g, c, m, v) })
}

// maxPool takes the greatest of each window.
func (b *builder) maxPool(x *onnx.Value, kernel, stride, pad int64) *onnx.Value {
	a := attrs(onnx.IntAttr("ceil_mode", 0), onnx.IntsAttr("kernel_shape", kernel, kernel),
		onnx.IntsAttr("pads", pad, pad, pad, pad), onnx.IntsAttr("strides", stride, stride))
	return b.channelsFirst(x, func(x *onnx.Value) *onnx.Value { return b.call("MaxPool", a, x) })
}

// averagePool takes the mean of each window, which is also the step.
func (b *builder) averagePool(x *onnx.Value, kernel int64) *onnx.Value {
	a := attrs(onnx.IntsAttr("kernel_shape", kernel, kernel), onnx.IntsAttr("strides", kernel, kernel))
	return b.channelsFirst(x, func(x *onnx.Value) *onnx.Value { return b.call("AveragePool", a, x) })
}

// globalPool takes the mean of each channel and returns [batch, dim].
func (b *builder) globalPool(x *onnx.Value, dim int64) *onnx.Value {
	switch {
	case b.o.Style.nhwc():
		return b.mean(x, false, 1, 2)
	case b.o.Style == TorchScript:
		return b.call("Flatten", axis(1), b.op("GlobalAveragePool", x))
	}
	return b.reshape(b.mean(x, true, -1, -2), b.batch(x), num(dim))
}

// convNorm is a convolution without bias and its batch norm, called as PyTorch's
// Sequential names them: name.0 and name.1.
func (b *builder) convNorm(name string, x *onnx.Value, c convSpec) *onnx.Value {
	y := b.conv(fmt.Sprintf("%s.0", name), x, c)
	return b.batchNorm(fmt.Sprintf("%s.1", name), y, c.out, 1)
}

// squeezeExcite scales channels by what their means say (Hu et al., 2017).
func (b *builder) squeezeExcite(x *onnx.Value, dim, reduced int64, act, gate func(*builder, *onnx.Value) *onnx.Value) *onnx.Value {
	var y *onnx.Value
	if b.o.Style.traced() {
		y = b.mean(x, true, -1, -2)
	} else {
		y = b.op("GlobalAveragePool", x)
	}
	y = act(b, b.conv("fc1", y, convSpec{in: dim, out: reduced, kernel: 1, stride: 1, bias: true}))
	y = gate(b, b.conv("fc2", y, convSpec{in: reduced, out: dim, kernel: 1, stride: 1, bias: true, gain: 1}))
	return b.op("Mul", y, x)
}

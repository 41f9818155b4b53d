package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gelu is x·Φ(x) by the error function.
func (b *builder) gelu(x *onnx.Value) *onnx.Value {
	b.saw(Gelu)
	l := b.at("act")
	switch {
	case b.o.Style == TorchScript:
		e := l.op("Erf", l.op("Div", x, l.scalar(math.Sqrt2)))
		return l.op("Mul", l.op("Mul", x, l.op("Add", e, l.scalar(1))), l.scalar(0.5))
	case b.o.Style == Dynamo && b.o.Opset >= 20 && !b.o.Spelled:
		return l.call("Gelu", attrs(onnx.StringAttr("approximate", "none")), x)
	case b.o.Style == DynamoFunctions:
		return l.function("aten_gelu", func(f *builder, in []*onnx.Value) *onnx.Value { return f.reciprocalGelu(in[0]) }, x)
	case b.o.Style == Keras:
		e := l.op("Add", l.scalar(1), l.op("Erf", l.op("Div", x, l.scalar(math.Sqrt2))))
		return l.op("Mul", l.op("Mul", l.scalar(0.5), x), e)
	case b.o.Style == JAX:
		e := l.op("Add", l.op("Erf", l.op("Div", x, l.scalar(math.Sqrt2))), l.scalar(1))
		return l.op("Div", l.op("Mul", x, e), l.scalar(2))
	}
	return l.reciprocalGelu(x)
}

func (b *builder) reciprocalGelu(x *onnx.Value) *onnx.Value {
	e := b.op("Erf", b.op("Mul", x, b.scalar(math.Sqrt2/2)))
	return b.op("Mul", b.op("Mul", x, b.scalar(0.5)), b.op("Add", e, b.scalar(1)))
}

// geluTanh is the approximation of gelu by tanh.
func (b *builder) geluTanh(x *onnx.Value) *onnx.Value {
	b.saw(GeluTanh)
	l := b.at("act")
	if b.o.Style == DynamoFunctions {
		return l.function("aten_gelu_tanh", func(f *builder, in []*onnx.Value) *onnx.Value { return f.cubeGelu(in[0]) }, x)
	}
	return l.cubeGelu(x)
}

func (b *builder) cubeGelu(x *onnx.Value) *onnx.Value {
	if b.o.Style == TorchScript {
		cube := b.op("Mul", b.op("Pow", x, b.scalar(3)), b.scalar(0.044715))
		t := b.op("Tanh", b.op("Mul", b.op("Add", x, cube), b.scalar(math.Sqrt(2/math.Pi))))
		return b.op("Mul", b.op("Mul", x, b.scalar(0.5)), b.op("Add", t, b.scalar(1)))
	}
	cube := b.op("Mul", b.scalar(0.044715), b.op("Mul", b.op("Mul", x, x), x))
	t := b.op("Tanh", b.op("Mul", b.scalar(math.Sqrt(2/math.Pi)), b.op("Add", x, cube)))
	return b.op("Mul", b.scalar(0.5), b.op("Mul", x, b.op("Add", t, b.scalar(1))))
}

// silu is x·sigmoid(x).
func (b *builder) silu(x *onnx.Value) *onnx.Value {
	b.saw(Swish)
	l := b.at("act")
	if b.o.Style == DynamoFunctions {
		return l.function("aten_silu", func(f *builder, in []*onnx.Value) *onnx.Value {
			return f.op("Mul", in[0], f.op("Sigmoid", in[0]))
		}, x)
	}
	return l.op("Mul", x, l.op("Sigmoid", x))
}

// hardSwish is x·min(max(x+3, 0), 6)/6.
func (b *builder) hardSwish(x *onnx.Value) *onnx.Value {
	b.saw(HardSwish)
	l := b.at("act")
	c := l.op("Clip", l.op("Add", x, l.scalar(3)), l.scalar(0), l.scalar(6))
	if b.o.Style == TorchScript {
		return l.op("Div", l.op("Mul", x, c), l.scalar(6))
	}
	return l.op("Mul", x, l.op("Mul", c, l.scalar(1.0/6)))
}

// hardSigmoid is min(max(x+3, 0), 6)/6.
func (b *builder) hardSigmoid(x *onnx.Value) *onnx.Value {
	b.saw(Sigmoid6)
	l := b.at("scale_activation")
	c := l.op("Clip", l.op("Add", x, l.scalar(3)), l.scalar(0), l.scalar(6))
	if b.o.Style == TorchScript {
		return l.op("Div", c, l.scalar(6))
	}
	return l.op("Mul", c, l.scalar(1.0/6))
}

// relu6 is min(max(x, 0), 6).
func (b *builder) relu6(x *onnx.Value) *onnx.Value {
	l := b.at("act")
	return l.op("Clip", x, l.scalar(0), l.scalar(6))
}

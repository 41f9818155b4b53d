package nets

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// linear is a dense layer over the last axis of x [batch, seq, in].
func (b *builder) linear(name string, x *onnx.Value, in, out int64, bias bool) *onnx.Value {
	l := b.at("%s", name)
	std := 1 / math.Sqrt(float64(in))
	var c *onnx.Value
	addBias := func(y *onnx.Value) *onnx.Value {
		switch {
		case !bias:
			return y
		case b.o.Style == TorchScript:
			return l.op("Add", c, y)
		}
		return l.op("Add", y, c)
	}
	if bias {
		c = l.weight(l.biasName(), 0.02, out)
	}
	switch b.o.Style {
	case TorchScript:
		return addBias(l.op("MatMul", x, b.generate(b.unique("onnx::MatMul"), 0, std*math.Sqrt(3), in, out)))
	case Dynamo:
		return addBias(l.op("MatMul", x, b.generate(b.unique("val"), 0, std*math.Sqrt(3), in, out)))
	case DynamoFunctions:
		return l.linearFunction(x, l.weight("weight", std, out, in), c)
	case Keras:
		flat := l.op("MatMul", l.reshape(x, num(-1), num(in)), l.weight("Tensordot", std, in, out))
		return addBias(l.reshape(flat, b.batch(x), b.seq(x), num(out)))
	}
	return addBias(l.call("Einsum", attrs(onnx.StringAttr("equation", "abc,cd->abd")), x, l.weight("kernel", std, in, out)))
}

func (b *builder) biasName() string {
	if b.o.Style == Keras {
		return "BiasAdd"
	}
	return "bias"
}

// linearFunction calls the local function of a dense layer, weight [out, in].
func (b *builder) linearFunction(x, w, bias *onnx.Value) *onnx.Value {
	product := func(f *builder, in []*onnx.Value) *onnx.Value {
		y := f.op("MatMul", in[0], f.transpose(in[1], 1, 0))
		if len(in) > 2 {
			y = f.op("Add", y, in[2])
		}
		return y
	}
	if bias == nil {
		return b.function("aten_linear", product, x, w)
	}
	return b.function("aten_linear_bias", product, x, w, bias)
}

// dense is a dense layer over a matrix x [batch, in].
func (b *builder) dense(name string, x *onnx.Value, in, out int64) *onnx.Value {
	l := b.at("%s", name)
	std := 1 / math.Sqrt(float64(in))
	if b.o.Style.nhwc() {
		return l.op("Add", l.op("MatMul", x, l.weight("MatMul", std, in, out)), l.weight("BiasAdd", 0.02, out))
	}
	a := attrs(onnx.FloatAttr("alpha", 1), onnx.FloatAttr("beta", 1), onnx.IntAttr("transB", 1))
	return l.call("Gemm", a, x, l.weight("weight", std, out, in), l.weight("bias", 0.02, out))
}

// layerNorm normalizes the last axis.
func (b *builder) layerNorm(name string, x *onnx.Value, dim int64, eps float64) *onnx.Value {
	b.saw(LayerNorm)
	l := b.at("%s", name)
	scale, bias := "weight", "bias"
	if b.o.Style.nhwc() {
		scale, bias = "gamma", "beta"
	}
	g, c := l.around(scale, 1, 0.1, dim), l.weight(bias, 0.02, dim)
	switch {
	case !b.o.Style.nhwc() && b.o.Style != DynamoFunctions && b.o.Opset >= 17 && !b.o.Spelled:
		return l.call("LayerNormalization", attrs(onnx.IntAttr("axis", -1), onnx.FloatAttr("epsilon", float32(eps))), x, g, c)
	case b.o.Style == TorchScript:
		d := l.op("Sub", x, l.mean(x, true, -1))
		v := l.mean(l.op("Pow", d, l.scalar(2)), true, -1)
		y := l.op("Div", d, l.op("Sqrt", l.op("Add", v, l.scalar(eps))))
		return l.op("Add", l.op("Mul", y, g), c)
	case b.o.Style == Dynamo:
		return l.squareNorm(x, g, c, eps)
	case b.o.Style == DynamoFunctions:
		return l.function(fmt.Sprintf("aten_layer_norm_eps%g", eps), func(f *builder, in []*onnx.Value) *onnx.Value {
			return f.squareNorm(in[0], in[1], in[2], eps)
		}, x, g, c)
	}
	return l.moments(x, g, c, eps)
}

// squareNorm is a layer norm with d·d for d² and a reciprocal for the division.
func (b *builder) squareNorm(x, g, c *onnx.Value, eps float64) *onnx.Value {
	d := b.op("Sub", x, b.mean(x, true, -1))
	r := b.op("Reciprocal", b.op("Sqrt", b.op("Add", b.mean(b.op("Mul", d, d), true, -1), b.scalar(eps))))
	return b.op("Add", b.op("Mul", b.op("Mul", d, r), g), c)
}

// moments is a layer norm as TensorFlow's batch_normalization computes it from
// moments, with scale and shift gathered; JAX's takes E[x²] - E[x]².
func (b *builder) moments(x, g, c *onnx.Value, eps float64) *onnx.Value {
	m := b.mean(x, true, -1)
	if b.o.Style == JAX {
		v := b.op("Sub", b.mean(b.op("Mul", x, x), true, -1), b.op("Mul", m, m))
		r := b.op("Mul", b.op("Reciprocal", b.op("Sqrt", b.op("Add", v, b.scalar(eps)))), g)
		return b.op("Add", b.op("Mul", b.op("Sub", x, m), r), c)
	}
	d := b.op("Sub", x, m)
	v := b.mean(b.op("Mul", d, d), true, -1)
	r := b.op("Mul", b.op("Reciprocal", b.op("Sqrt", b.op("Add", v, b.scalar(eps)))), g)
	return b.op("Add", b.op("Mul", x, r), b.op("Sub", c, b.op("Mul", m, r)))
}

// rmsNorm divides by the root mean square of the last axis, in float32.
func (b *builder) rmsNorm(name string, x *onnx.Value, dim int64, eps float64) *onnx.Value {
	b.saw(RMSNorm)
	l := b.at("%s", name)
	g := l.around("weight", 1, 0.1, dim)
	if b.o.Style == DynamoFunctions {
		return l.function("rms_norm", func(f *builder, in []*onnx.Value) *onnx.Value {
			return f.rootMeanSquare(in[0], in[1], eps)
		}, x, g)
	}
	return l.rootMeanSquare(x, g, eps)
}

func (b *builder) rootMeanSquare(x, g *onnx.Value, eps float64) *onnx.Value {
	wide := x
	if b.o.DType != onnx.Float {
		wide = b.cast(x, onnx.Float)
	}
	f32 := func(v float64) *onnx.Value { return b.typed(onnx.Float, []int64{}, v) }
	root := b.op("Sqrt", b.op("Add", b.mean(b.op("Pow", wide, f32(2)), true, -1), f32(eps)))
	var y *onnx.Value
	if b.o.Style == TorchScript {
		y = b.op("Mul", wide, b.op("Div", f32(1), root))
	} else {
		y = b.op("Mul", wide, b.op("Reciprocal", root))
	}
	if b.o.DType != onnx.Float {
		y = b.cast(y, b.o.DType)
	}
	return b.op("Mul", g, y)
}

// groupNorm normalizes groups of channels of x [batch, dim, height, width].
func (b *builder) groupNorm(name string, x *onnx.Value, groups, dim int64, eps float64) *onnx.Value {
	b.saw(GroupNorm)
	l := b.at("%s", name)
	g, c := l.around("weight", 1, 0.1, dim, 1, 1), l.weight("bias", 0.02, dim, 1, 1)
	flat := l.call("Reshape", nil, x, l.ints(0, groups, -1))
	ones, zeros := make([]float64, groups), make([]float64, groups)
	for i := range ones {
		ones[i] = 1
	}
	d := b.o.DType
	y := l.call("InstanceNormalization", attrs(onnx.FloatAttr("epsilon", float32(eps))), flat,
		l.typed(d, []int64{groups}, ones...), l.typed(d, []int64{groups}, zeros...))
	y = l.op("Reshape", y, l.op("Shape", x))
	return l.op("Add", l.op("Mul", y, g), c)
}

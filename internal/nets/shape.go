package nets

import "github.com/lapidary-ml/lapidary/internal/onnx"

// size is a target size of Reshape: a number, or a dimension of a value.
type size struct {
	n    int64
	of   *onnx.Value
	axis int64
}

// num is a size known when the model was exported.
func num(n int64) size { return size{n: n} }

// batch is the size of x's first axis.
func (b *builder) batch(x *onnx.Value) size {
	if b.o.Batch > 0 {
		return num(b.o.Batch)
	}
	return size{of: x}
}

// seq is the size of x's second axis, the sequence.
func (b *builder) seq(x *onnx.Value) size { return b.length(x, 1) }

// length is the size of an axis of x that holds the sequence.
func (b *builder) length(x *onnx.Value, along int64) size {
	if b.o.Seq > 0 {
		return num(b.o.Seq)
	}
	return size{of: x, axis: along}
}

// scalarSize is s as an int64 scalar.
func (b *builder) scalarSize(s size) *onnx.Value {
	switch {
	case s.of == nil:
		return b.index(s.n)
	case b.o.Style.traced():
		return b.squeeze(b.vectorSize(s), 0)
	case b.o.Style == Keras:
		sh := b.call("Cast", attrs(onnx.IntAttr("to", int64(onnx.Int32))), b.op("Shape", s.of))
		one := b.op("Slice", sh, b.ints(s.axis), b.ints(s.axis+1), b.ints(0))
		return b.call("Cast", attrs(onnx.IntAttr("to", int64(onnx.Int64))), b.squeeze(one, 0))
	}
	return b.call("Gather", axis(0), b.op("Shape", s.of), b.index(s.axis))
}

// vectorSize is s as an int64 vector of one element.
func (b *builder) vectorSize(s size) *onnx.Value {
	if s.of == nil {
		return b.ints(s.n)
	}
	if b.o.Style.traced() {
		return b.call("Shape", attrs(onnx.IntAttr("start", s.axis), onnx.IntAttr("end", s.axis+1)), s.of)
	}
	return b.unsqueeze(b.scalarSize(s), 0)
}

// sizes is a list of sizes as an int64 vector.
func (b *builder) sizes(list ...size) *onnx.Value {
	known := true
	var ns []int64
	var vs []*onnx.Value
	for _, s := range list {
		known = known && s.of == nil
		ns = append(ns, s.n)
	}
	if known {
		return b.ints(ns...)
	}
	for _, s := range list {
		vs = append(vs, b.vectorSize(s))
	}
	return b.call("Concat", axis(0), vs...)
}

// reshape gives x the sizes listed.
func (b *builder) reshape(x *onnx.Value, list ...size) *onnx.Value {
	var a []*onnx.Attr
	if b.o.Style.traced() {
		a = attrs(onnx.IntAttr("allowzero", 0))
	}
	return b.call("Reshape", a, x, b.sizes(list...))
}

func (b *builder) transpose(x *onnx.Value, p ...int64) *onnx.Value {
	return b.call("Transpose", perm(p...), x)
}

// unsqueeze inserts axes of size 1.
func (b *builder) unsqueeze(x *onnx.Value, axes ...int64) *onnx.Value {
	if b.o.Opset < 13 {
		return b.call("Unsqueeze", attrs(onnx.IntsAttr("axes", axes...)), x)
	}
	return b.op("Unsqueeze", x, b.ints(axes...))
}

// squeeze removes axes of size 1.
func (b *builder) squeeze(x *onnx.Value, axes ...int64) *onnx.Value {
	if b.o.Opset < 13 {
		return b.call("Squeeze", attrs(onnx.IntsAttr("axes", axes...)), x)
	}
	return b.op("Squeeze", x, b.ints(axes...))
}

// mean is the mean over axes, which stay with size 1 where keep is set.
func (b *builder) mean(x *onnx.Value, keep bool, axes ...int64) *onnx.Value {
	k := onnx.IntAttr("keepdims", 0)
	if keep {
		k.I = 1
	}
	if b.o.Opset < 18 {
		return b.call("ReduceMean", attrs(onnx.IntsAttr("axes", axes...), k), x)
	}
	return b.call("ReduceMean", attrs(k), x, b.ints(axes...))
}

// split cuts x along an axis into parts of the given sizes.
func (b *builder) split(x *onnx.Value, along int64, parts ...int64) []*onnx.Value {
	if b.o.Opset < 13 {
		return b.node("Split", attrs(onnx.IntAttr("axis", along), onnx.IntsAttr("split", parts...)), len(parts), x).Outputs()
	}
	return b.node("Split", axis(along), len(parts), x, b.ints(parts...)).Outputs()
}

// slice takes the elements from start up to end along an axis.
func (b *builder) slice(x *onnx.Value, along, start, end int64) *onnx.Value {
	return b.op("Slice", x, b.ints(start), b.ints(end), b.ints(along), b.ints(1))
}

// concat joins values along an axis.
func (b *builder) concat(along int64, in ...*onnx.Value) *onnx.Value {
	return b.call("Concat", axis(along), in...)
}

// cast converts x.
func (b *builder) cast(x *onnx.Value, d onnx.DType) *onnx.Value {
	return b.call("Cast", attrs(onnx.IntAttr("to", int64(d))), x)
}

// expand repeats x to the sizes listed.
func (b *builder) expand(x *onnx.Value, list ...size) *onnx.Value {
	if b.o.Style != TorchScript {
		return b.op("Expand", x, b.sizes(list...))
	}
	// A size of -1 means "as it is" to PyTorch, so the exporter compares and replaces.
	s := b.sizes(list...)
	ones := b.call("ConstantOfShape", attrs(onnx.TensorAttr("value", onnx.FromInts("", []int64{1}, []int64{1}))), b.ints(int64(len(list))))
	minus := b.op("Mul", ones, b.index(-1))
	return b.op("Expand", x, b.op("Where", b.op("Equal", s, minus), ones, s))
}

package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// nodes is how many nodes a network of any size has.
func (b *builder) nodes(full, tiny int) int {
	if b.o.Nodes > 0 {
		return b.o.Nodes
	}
	return pick(b, full, tiny)
}

// layerWidth is that of the matrices of [layers]: 4 MiB each in float32.
const layerWidth = 1024

// layers has weights of any size in matrices of 4 MiB.
func layers(b *builder) {
	width := pick[int64](b, layerWidth, 32)
	count := pick[int64](b, 10, 4)
	if b.o.Bytes > 0 {
		width = layerWidth
		count = max(1, b.o.Bytes/(width*width*int64(b.o.DType.Bits()/8)))
	}
	x := b.input("x", anyBatch, width)
	for i := range count {
		l := b.at("layers.%d", i)
		x = l.op("Relu", l.op("MatMul", x, l.weight("weight", math.Sqrt2/math.Sqrt(float64(width)), width, width)))
	}
	b.output("y", b.op("Identity", x), anyBatch, width)
}

// deep is a perceptron of any depth with a connection around every layer, and with
// what exporters leave behind: half as many weights as nodes.
func deep(b *builder) {
	const width = 8
	n := b.nodes(20000, 200)
	x := b.input("x", anyBatch, width)
	y := x
	for i := 0; b.g.Len() < n; i++ {
		l := b.at("layers.%d", i)
		skip := y
		y = l.op("MatMul", y, l.weight("weight", 1/math.Sqrt(width), width, width))
		y = l.op("Tanh", l.op("Add", y, l.weight("bias", 0.1, width)))
		y = l.op("Mul", l.op("Identity", y), l.around("scale", 0.5, 0.1, width))
		y = l.op("Add", y, skip)
	}
	b.output("y", b.op("Identity", y), anyBatch, width)
}

// fan has thousands of small products that all read one value, and one sum that
// reads them all: as many weights as branches.
func fan(b *builder) {
	const width = 8
	n := b.nodes(20000, 200)
	x := b.input("x", anyBatch, width)
	var all []*onnx.Value
	for i := 0; b.g.Len() < n; i++ {
		l := b.at("branch.%d", i)
		y := l.op("MatMul", x, l.weight("weight", 1/math.Sqrt(width), width, width))
		y = l.op("Add", y, l.weight("bias", 0.1, width))
		all = append(all, l.op("Relu", y))
	}
	b.output("y", b.op("Sum", all...), anyBatch, width)
}

// branchWidth is that of what [branches] compute with.
const branchWidth = 8

// branchDepth is how deep the bodies of [branches] are nested.
const branchDepth = 8

// branches is a line of conditions whose bodies hold conditions, and at last a
// loop, all reading what lies around them.
func branches(b *builder) {
	n := b.nodes(20000, 200)
	x := b.input("x", anyBatch, branchWidth)
	cond := b.g.AddInput("c", onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	y := x
	for i, total := 0, 0; total < n; i++ {
		l := b.at("block.%d", i)
		var made int
		y, made = l.nested(y, cond, branchDepth)
		total += made
	}
	b.output("y", b.op("Identity", y), anyBatch, branchWidth)
}

// nested adds an If whose branches compute with x and hold another one, down to
// depth, and counts the nodes.
func (b *builder) nested(x, cond *onnx.Value, depth int) (*onnx.Value, int) {
	made := 1
	branch := func(name string, body func(c *builder) *onnx.Value) *onnx.Attr {
		c := b.at("%s", name)
		c.g = onnx.NewGraph(b.unique(name))
		out := body(c)
		c.g.AddOutput(out)
		return &onnx.Attr{Name: name, Type: onnx.AttrGraph, G: c.g}
	}
	then := branch("then_branch", func(c *builder) *onnx.Value {
		made += 2
		y := c.op("Relu", c.op("Identity", x))
		if depth > 1 {
			var more int
			y, more = c.nested(y, cond, depth-1)
			made += more
			return y
		}
		return c.looped(y, &made)
	})
	other := branch("else_branch", func(c *builder) *onnx.Value {
		made += 2
		return c.op("Neg", c.op("Identity", x))
	})
	return b.call("If", attrs(then, other), cond), made
}

// looped adds a loop of two rounds that adds x, from around it, to what it carries.
func (b *builder) looped(x *onnx.Value, made *int) *onnx.Value {
	c := b.at("loop")
	c.g = onnx.NewGraph(b.unique("body"))
	c.g.AddInput(b.unique("i"), onnx.TensorType(onnx.Int64, onnx.ShapeOf()))
	more := c.g.AddInput(b.unique("more"), onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	held := c.g.AddInput(b.unique("held"), onnx.TensorType(b.o.DType, b.dims(anyBatch, branchWidth)))
	goOn := c.op("Identity", more)
	sum := c.op("Tanh", c.op("Add", held, x))
	c.g.AddOutput(goOn)
	c.g.AddOutput(sum)
	*made += 7
	trips := b.index(2)
	y := b.call("Loop", attrs(&onnx.Attr{Name: "body", Type: onnx.AttrGraph, G: c.g}), trips, nil, x)
	return b.op("Reshape", y, b.ints(-1, branchWidth))
}

package nets

import "math"

// chain is one long line of small elementwise and shape operators: 20,000 nodes.
func chain(b *builder) {
	const width = 64
	x := b.input("x", anyBatch, width)
	y := x
	for i := 0; b.g.Len() < b.nodes(20000, 200); i++ {
		l := b.at("step.%d", i)
		y = l.op("Mul", y, l.around("scale", 1.2, 0.1, width))
		y = l.op("Tanh", l.op("Add", y, l.weight("shift", 0.1, width)))
		y = l.op("Neg", l.op("Identity", y))
		y = l.transpose(l.transpose(y, 1, 0), 1, 0)
		y = l.reshape(l.unsqueeze(y, 1), b.batch(x), num(width))
	}
	b.output("y", b.op("Identity", y), anyBatch, width)
}

// wide has 2 GiB of weights in few nodes.
func wide(b *builder) {
	width, layers := pick[int64](b, 4096, 32), pick(b, 33, 4)
	x := b.input("x", anyBatch, width)
	for i := range layers {
		l := b.at("layers.%d", i)
		x = l.op("Relu", l.op("MatMul", x, l.weight("weight", math.Sqrt2/math.Sqrt(float64(width)), width, width)))
	}
	b.output("y", b.op("Identity", x), anyBatch, width)
}

package nets

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// lstm is a speech tagger of two bidirectional LSTM layers over features.
func lstm(b *builder) { b.tagger("LSTM", 4) }

// gru is the same with GRU layers.
func gru(b *builder) { b.tagger("GRU", 3) }

// tagger runs two layers of a recurrent operator of so many gates.
func (b *builder) tagger(op string, gates int64) {
	features, hidden, classes := pick[int64](b, 80, 8), pick[int64](b, 512, 8), pick[int64](b, 40, 5)
	x := b.input("features", anyBatch, anySeq, features)
	r := b.at("rnn")
	y := r.transpose(x, 1, 0, 2)
	start := r.op("ConstantOfShape", r.sizes(num(4), b.batch(x), num(hidden)))
	start.Producer().Attrs = attrs(onnx.TensorAttr("value", mustTensor(b.o.DType, []int64{1}, 0)))
	in := features
	for i := range int64(2) {
		y = r.recurrent(op, y, r.slice(start, 0, 2*i, 2*i+2), in, hidden, gates, true)
		y = r.call("Reshape", nil, r.transpose(y, 0, 2, 1, 3), r.ints(0, 0, -1))
		in = 2 * hidden
	}
	y = r.transpose(y, 1, 0, 2)
	b.output("logits", b.linear("fc", y, in, classes, true), anyBatch, anySeq, classes)
}

// recurrent is one layer over x [seq, batch, in], giving [seq, directions, batch, hidden].
func (b *builder) recurrent(op string, x, start *onnx.Value, in, hidden, gates int64, both bool) *onnx.Value {
	directions, direction := int64(1), "forward"
	if both {
		directions, direction = 2, "bidirectional"
	}
	std := 1 / math.Sqrt(float64(hidden))
	w := b.weight("onnx::"+op+"_w", std, directions, gates*hidden, in)
	r := b.weight("onnx::"+op+"_r", std, directions, gates*hidden, hidden)
	c := b.weight("onnx::"+op+"_b", std, directions, 2*gates*hidden)
	a := attrs(onnx.StringAttr("direction", direction), onnx.IntAttr("hidden_size", hidden))
	if op == "LSTM" {
		return b.node(op, a, 1, x, w, r, c, nil, start, start).Output(0)
	}
	return b.node(op, append(a, onnx.IntAttr("linear_before_reset", 1)), 1, x, w, r, c, nil, start).Output(0)
}

// mustTensor is a tensor of numbers whose count fits.
func mustTensor(d onnx.DType, shape []int64, v ...float64) *onnx.Tensor {
	t, err := onnx.FromFloat64s("", d, shape, v)
	if err != nil {
		panic("nets: " + err.Error())
	}
	return t
}

// tabular is a classifier of rows with numbers and categories.
func tabular(b *builder) {
	numbers, width := pick[int64](b, 39, 5), pick[int64](b, 512, 16)
	x := b.batchNorm("bn", b.input("numbers", anyBatch, numbers), numbers, 1)
	categories := b.g.AddInput("categories", onnx.TensorType(onnx.Int64, b.dims(anyBatch, 4)))
	all, in := []*onnx.Value{x}, numbers
	for i, n := range []int64{2, 7, 12, 31} {
		e := b.at("embeds.%d", i)
		code := e.call("Gather", axis(1), categories, e.index(int64(i)))
		all = append(all, e.op("Gather", e.weight("weight", 1, n, 4), code))
		in += 4
	}
	y := b.concat(1, all...)
	for i := range int64(3) {
		l := b.at("layers")
		y = l.op("Relu", l.dense(itoa(int(3*i)), y, in, width))
		y = l.batchNorm(itoa(int(3*i+2)), y, width, 1)
		in = width
	}
	y = b.dense("head", y, in, 7)
	b.saw(DotSoftmax)
	b.output("probabilities", b.call("Softmax", axis(b.lastAxis(2)), y), anyBatch, 7)
}

package nets

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// yoloModel builds a detector in the manner of Ultralytics' YOLOv8: layer i is
// module model.i.
type yoloModel struct {
	*builder
	layer int
}

// yolo is the smallest YOLOv8 for 80 classes: 3.2 million parameters, 4.4
// billion multiply-accumulates at 640 pixels.
func yolo(b *builder) {
	side, classes := pick[int64](b, 640, 64), pick[int64](b, 80, 5)
	b.o.Batch = max(b.o.Batch, 1) // Ultralytics exports a fixed batch unless told otherwise
	y := &yoloModel{builder: b.at("model")}
	w := []int64{b.thin(16), b.thin(32), b.thin(64), b.thin(128), b.thin(256)}
	x := y.next().convAct("", b.image("images", 3, side), 3, w[0], 3, 2)
	x = y.next().convAct("", x, w[0], w[1], 3, 2)
	x = y.next().c2f(x, w[1], w[1], 1, true)
	x = y.next().convAct("", x, w[1], w[2], 3, 2)
	p3 := y.next().c2f(x, w[2], w[2], 2, true)
	x = y.next().convAct("", p3, w[2], w[3], 3, 2)
	p4 := y.next().c2f(x, w[3], w[3], 2, true)
	x = y.next().convAct("", p4, w[3], w[4], 3, 2)
	x = y.next().c2f(x, w[4], w[4], 1, true)
	p5 := y.next().sppf(x, w[4])
	u := y.next()
	x = y.next().concat(1, u.upsample(p5), p4)
	p4 = y.next().c2f(x, w[4]+w[3], w[3], 1, false)
	u = y.next()
	x = y.next().concat(1, u.upsample(p4), p3)
	p3 = y.next().c2f(x, w[3]+w[2], w[2], 1, false)
	x = y.next().convAct("", p3, w[2], w[2], 3, 2)
	x = y.next().concat(1, x, p4)
	p4 = y.next().c2f(x, w[2]+w[3], w[3], 1, false)
	x = y.next().convAct("", p4, w[3], w[3], 3, 2)
	x = y.next().concat(1, x, p5)
	p5 = y.next().c2f(x, w[3]+w[4], w[4], 1, false)
	y.next().detect([]*onnx.Value{p3, p4, p5}, w[2:], side, classes)
}

// next is the module of the next layer.
func (y *yoloModel) next() *builder {
	y.layer++
	return y.at("model.%d", y.layer-1)
}

// convAct is a convolution, its batch norm, and SiLU; name "" is the module itself.
func (b *builder) convAct(name string, x *onnx.Value, in, out, kernel, stride int64) *onnx.Value {
	l := b
	if name != "" {
		l = b.at("%s", name)
	}
	x = l.conv("conv", x, convSpec{in: in, out: out, kernel: kernel, stride: stride, pad: kernel / 2})
	return l.silu(l.batchNorm("bn", x, out, 1))
}

// c2f splits its channels and appends the output of each of n bottlenecks.
func (b *builder) c2f(x *onnx.Value, in, out, n int64, shortcut bool) *onnx.Value {
	half := out / 2
	parts := b.split(b.convAct("cv1", x, in, 2*half, 1, 1), 1, half, half)
	all := append([]*onnx.Value(nil), parts...)
	for i := range n {
		m := b.at("m.%d", i)
		last := all[len(all)-1]
		y := m.convAct("cv2", m.convAct("cv1", last, half, half, 3, 1), half, half, 3, 1)
		if shortcut {
			y = m.op("Add", last, y)
		}
		all = append(all, y)
	}
	return b.convAct("cv2", b.concat(1, all...), (2+n)*half, out, 1, 1)
}

// sppf pools three times and joins all.
func (b *builder) sppf(x *onnx.Value, dim int64) *onnx.Value {
	y := b.convAct("cv1", x, dim, dim/2, 1, 1)
	all := []*onnx.Value{y}
	for range 3 {
		y = b.maxPool(y, 5, 1, 2)
		all = append(all, y)
	}
	return b.convAct("cv2", b.concat(1, all...), 2*dim, dim, 1, 1)
}

// upsample doubles height and width.
func (b *builder) upsample(x *onnx.Value) *onnx.Value {
	a := attrs(onnx.StringAttr("coordinate_transformation_mode", "asymmetric"), onnx.StringAttr("mode", "nearest"), onnx.StringAttr("nearest_mode", "floor"))
	scales := b.typed(onnx.Float, []int64{4}, 1, 1, 2, 2)
	var roi *onnx.Value
	if b.o.Opset < 13 {
		roi = b.typed(onnx.Float, []int64{0})
	}
	return b.call("Resize", a, x, roi, scales)
}

// bins is how many distances from an anchor to a side of its box are weighed.
const bins = 16

// detect turns the three scales into boxes and class scores [batch, 4+classes, anchors].
func (b *builder) detect(scales []*onnx.Value, widths []int64, side, classes int64) {
	boxes, scores := max(16, widths[0]/4, 4*bins), max(widths[0], min(classes, 100))
	var parts []*onnx.Value
	for i, x := range scales {
		y := b.head(fmt.Sprintf("cv2.%d", i), x, widths[i], boxes, 4*bins)
		z := b.head(fmt.Sprintf("cv3.%d", i), x, widths[i], scores, classes)
		parts = append(parts, b.reshape(b.concat(1, y, z), num(b.o.Batch), num(4*bins+classes), num(-1)))
	}
	all := b.split(b.concat(2, parts...), 1, 4*bins, classes)
	centers, steps := anchors(side)
	n := int64(len(steps))
	corners := b.split(b.at("dfl").distances(all[0], n), 1, 2, 2)
	center := b.typed(b.o.DType, []int64{1, 2, n}, centers...)
	low, high := b.op("Sub", center, corners[0]), b.op("Add", corners[1], center)
	middle, extent := b.op("Div", b.op("Add", low, high), b.scalar(2)), b.op("Sub", high, low)
	box := b.op("Mul", b.concat(1, middle, extent), b.typed(b.o.DType, []int64{1, n}, steps...))
	b.output("output0", b.concat(1, box, b.op("Sigmoid", all[1])), anyBatch, 4+classes, n)
}

// head is two convolutions with SiLU and one without.
func (b *builder) head(name string, x *onnx.Value, in, width, out int64) *onnx.Value {
	y := b.convAct(name+".1", b.convAct(name+".0", x, in, width, 3, 1), width, width, 3, 1)
	return b.conv(name+".2", y, convSpec{in: width, out: out, kernel: 1, stride: 1, bias: true})
}

// distances takes x [batch, 4·bins, anchors] to the mean bin of each side.
func (b *builder) distances(x *onnx.Value, anchors int64) *onnx.Value {
	b.saw(DotSoftmax)
	d := b.transpose(b.reshape(x, num(b.o.Batch), num(4), num(bins), num(anchors)), 0, 2, 1, 3)
	d = b.conv("conv", b.call("Softmax", axis(1), d), convSpec{in: bins, out: 1, kernel: 1, stride: 1})
	return b.reshape(d, num(b.o.Batch), num(4), num(anchors))
}

// anchors are the centers, all x before all y, and the strides of the three scales.
func anchors(side int64) (centers, steps []float64) {
	var x, y []float64
	for _, step := range []int64{8, 16, 32} {
		n := side / step
		for j := range n * n {
			x, y = append(x, float64(j%n)+0.5), append(y, float64(j/n)+0.5)
			steps = append(steps, float64(step))
		}
	}
	return append(x, y...), steps
}

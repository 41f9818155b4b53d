package nets

import "github.com/lapidary-ml/lapidary/internal/onnx"

// thin is a number of channels: an eighth of the published one in tests.
func (b *builder) thin(channels int64) int64 {
	if b.o.Full {
		return channels
	}
	return max(4, (channels/8+3)/4*4)
}

// few is how often a block is repeated: at most twice in tests.
func (b *builder) few(n int64) int64 {
	if b.o.Full {
		return n
	}
	return min(n, 2)
}

// classify is the last layer of an image classifier over x [batch, dim].
func (b *builder) classify(name string, x *onnx.Value, dim int64) {
	classes := pick[int64](b, 1000, 10)
	b.output("logits", b.dense(name, x, dim, classes), anyBatch, classes)
}

// resnet50 is the classifier of He et al. (2015) with the stride on the 3×3
// convolution: 25.6 million parameters and 4.1 billion multiply-accumulates.
func resnet50(b *builder) {
	x := b.image("input", 3, pick[int64](b, 224, 32))
	in := b.thin(64)
	x = b.op("Relu", b.batchNorm("bn1", b.conv("conv1", x, convSpec{in: 3, out: in, kernel: 7, stride: 2, pad: 3}), in, 1))
	x = b.maxPool(x, 3, 2, 1)
	for i, repeats := range []int64{3, 4, 6, 3} {
		width, stride := b.thin(64<<i), int64(2)
		if i == 0 {
			stride = 1
		}
		for j := range b.few(repeats) {
			x = b.at("layer%d", i+1).at("layer%d.%d", i+1, j).bottleneck(x, in, width, stride)
			in, stride = 4*width, 1
		}
	}
	b.classify("fc", b.globalPool(x, in), in)
}

// bottleneck is a residual block of three convolutions.
func (b *builder) bottleneck(x *onnx.Value, in, width, stride int64) *onnx.Value {
	y := b.op("Relu", b.batchNorm("bn1", b.conv("conv1", x, convSpec{in: in, out: width, kernel: 1, stride: 1}), width, 1))
	y = b.op("Relu", b.batchNorm("bn2", b.conv("conv2", y, convSpec{in: width, out: width, kernel: 3, stride: stride, pad: 1}), width, 1))
	y = b.batchNorm("bn3", b.conv("conv3", y, convSpec{in: width, out: 4 * width, kernel: 1, stride: 1}), 4*width, 0.3)
	if stride != 1 || in != 4*width {
		d := b.at("downsample")
		x = d.convNorm("downsample", x, convSpec{in: in, out: 4 * width, kernel: 1, stride: stride, gain: 1})
	}
	return b.op("Relu", b.op("Add", y, x))
}

// densenet is DenseNet-121, the classifier of Huang et al. (2016): 8.0 million
// parameters.
func densenet(b *builder) {
	growth := b.thin(32)
	x := b.image("input", 3, pick[int64](b, 224, 32))
	f := b.at("features")
	dim := 2 * growth
	x = f.op("Relu", f.batchNorm("norm0", f.conv("conv0", x, convSpec{in: 3, out: dim, kernel: 7, stride: 2, pad: 3}), dim, 1))
	x = f.maxPool(x, 3, 2, 1)
	for i, layers := range []int64{6, 12, 24, 16} {
		d := f.at("denseblock%d", i+1)
		for j := range b.few(layers) {
			x = d.concat(1, x, d.at("denselayer%d", j+1).denseLayer(x, dim, growth))
			dim += growth
		}
		if i < 3 {
			t := f.at("transition%d", i+1)
			x = t.op("Relu", t.batchNorm("norm", x, dim, 1))
			x = t.averagePool(t.conv("conv", x, convSpec{in: dim, out: dim / 2, kernel: 1, stride: 1}), 2)
			dim /= 2
		}
	}
	x = b.op("Relu", f.batchNorm("norm5", x, dim, 1))
	b.classify("classifier", b.globalPool(x, dim), dim)
}

// denseLayer normalizes before it convolves.
func (b *builder) denseLayer(x *onnx.Value, in, growth int64) *onnx.Value {
	y := b.op("Relu", b.batchNorm("norm1", x, in, 1))
	y = b.conv("conv1", y, convSpec{in: in, out: 4 * growth, kernel: 1, stride: 1})
	y = b.op("Relu", b.batchNorm("norm2", y, 4*growth, 1))
	return b.conv("conv2", y, convSpec{in: 4 * growth, out: growth, kernel: 3, stride: 1, pad: 1})
}

// vgg is VGG-19 without batch norm (Simonyan and Zisserman, 2014): 143.7
// million parameters.
func vgg(b *builder) {
	side := pick[int64](b, 224, 32)
	x := b.image("input", 3, side)
	f, in, layer := b.at("features"), int64(3), 0
	for i, convs := range []int64{2, 2, 4, 4, 4} {
		width := b.thin(min(int64(64)<<i, 512))
		for range b.few(convs) {
			x = f.conv(itoa(layer), x, convSpec{in: in, out: width, kernel: 3, stride: 1, pad: 1, bias: true})
			x = f.op("Relu", x)
			in, layer = width, layer+2
		}
		x, layer, side = f.maxPool(x, 2, 2, 0), layer+1, side/2
	}
	x = b.call("Flatten", axis(1), x)
	flat, width := in*side*side, b.thin(4096)
	c := b.at("classifier")
	x = c.op("Relu", c.dense("0", x, flat, width))
	x = c.op("Relu", c.dense("3", x, width, width))
	c.classify("6", x, width)
}

package eval

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// contribOperators are operators of com.microsoft that fusions emit.
func contribOperators() []operator {
	const act = " activation activation_alpha activation_beta activation_gamma"
	return []operator{
		{"Gelu", 1, 1, "", func(c *call) []*array { return one(c.mapFloats(c.input(0), erfGelu)) }},
		{"QuickGelu", 1, 1, "alpha", func(c *call) []*array {
			alpha := c.float("alpha", 1.702)
			return one(c.mapFloats(c.input(0), func(x float64) float64 { return x * sigmoid(alpha*x) }))
		}},
		{"FastGelu", 1, 1, "", biased1(tanhGelu)},
		{"BiasGelu", 1, 1, "", biased1(erfGelu)},
		{"FusedMatMul", 1, 1, "alpha transA transB transBatchA transBatchB", fusedMatMul},
		{"FusedConv", 1, 1, convAttrs + " activation activation_params", fusedConv},
		{"FusedGemm", 1, 1, "alpha beta transA transB" + act, fusedGemm},
		{"SkipLayerNormalization", 1, 1, "epsilon", skipLayerNorm},
		{"SkipSimplifiedLayerNormalization", 1, 1, "epsilon", skipSimplifiedLayerNorm},
		{"EmbedLayerNormalization", 1, 1, "epsilon mask_index_type", embedLayerNorm},
		{"GroupNorm", 1, 1, "activation channels_last epsilon groups", contribGroupNorm},
	}
}

// biased1 computes f of the first input plus a bias along its last axis.
func biased1(f func(float64) float64) func(*call) []*array {
	return func(c *call) []*array {
		x := c.input(0)
		if bias := c.opt(1); bias != nil {
			x = c.withBias(x, bias)
		}
		return one(c.mapFloats(x, f))
	}
}

// withBias adds a vector along the last axis of x. The sum is not rounded.
func (c *call) withBias(x, bias *array) *array {
	c.sameFloats(x, bias)
	if bias.rank() != 1 {
		c.fail("a bias of shape %v", bias.shape)
	}
	return c.plus(x, bias)
}

// plus adds floating-point arrays, of which the others broadcast to the first;
// nil is none. The sum is not rounded.
func (c *call) plus(first *array, others ...*array) *array {
	c.sameFloats(first, others...)
	out := slices.Clone(load[float64](first))
	for _, a := range others {
		for i, x := range c.stretch(a, first.shape) {
			out[i] += x
		}
	}
	return &array{dt: first.dt, shape: first.shape, wide: out}
}

// exact rounds an array that was computed without rounding to its type.
func (c *call) exact(a *array) *array { return store(c, a.dt, a.shape, load[float64](a)) }

// fusedMatMul multiplies alpha·A'·B'; transBatchA moves the first axis of A
// behind its other batch axes, transA exchanges the last two.
func fusedMatMul(c *call) []*array {
	a := c.operand(c.input(0), "transA", "transBatchA")
	b := c.operand(c.input(1), "transB", "transBatchB")
	alpha := c.float("alpha", 1)
	return one(c.mapFloats(c.matmul(a, b), func(x float64) float64 { return alpha * x }))
}

func (c *call) operand(a *array, trans, transBatch string) *array {
	perm := make([]int, a.rank())
	for i := range perm {
		perm[i] = i
	}
	n := len(perm)
	if c.int(transBatch, 0) != 0 {
		if n < 3 {
			c.unsupported("attribute %q with shape %v", transBatch, a.shape)
		}
		perm = slices.Concat(perm[1:n-1], perm[:1], perm[n-1:])
	}
	if c.int(trans, 0) != 0 && n > 1 {
		perm[n-2], perm[n-1] = perm[n-1], perm[n-2]
	}
	return c.permute(a, perm)
}

// activation returns a function by its name; p are its parameters.
func (c *call) activation(name string, p ...float64) func(float64) float64 {
	p = append(p, 0, 0)
	switch name {
	case "Relu":
		return relu
	case "Sigmoid":
		return sigmoid
	case "Tanh":
		return math.Tanh
	case "LeakyRelu":
		return func(x float64) float64 { return negative(x, p[0]*x) }
	case "HardSigmoid":
		return func(x float64) float64 { return hardSigmoid(x, p[0], p[1]) }
	case "Clip":
		return func(x float64) float64 { return min(max(x, p[0]), p[1]) }
	case "Elu":
		return func(x float64) float64 { return negative(x, p[0]*math.Expm1(x)) }
	case "Softplus":
		return softplus
	}
	c.unsupported("activation %q", name)
	return nil
}

// fusedConv is a convolution, then a sum, then an activation.
func fusedConv(c *call) []*array {
	y := c.conv(c.input(0), c.input(1), c.opt(2))
	if z := c.opt(3); z != nil {
		if !slices.Equal(z.shape, y.shape) {
			c.fail("a sum with shape %v for a result of shape %v", z.shape, y.shape)
		}
		y = c.plus(y, z)
	}
	name := c.str("activation", "")
	if name == "" {
		return one(c.exact(y))
	}
	var p []float64
	if a := c.typed("activation_params", onnx.AttrFloats); a != nil {
		p = convert[float64](a.Floats)
	}
	if want := map[string]int{"LeakyRelu": 1, "HardSigmoid": 2, "Clip": 2, "Elu": 1}[name]; len(p) != want {
		c.fail("%d parameters of activation %s, want %d", len(p), name, want)
	}
	return one(c.mapFloats(y, c.activation(name, p...)))
}

func fusedGemm(c *call) []*array {
	y := gemm(c)[0]
	name := c.str("activation", "")
	if name == "" {
		return one(y)
	}
	alpha, beta := c.float("activation_alpha", 0), c.float("activation_beta", 0)
	switch name {
	case "LeakyRelu", "Elu":
		if !c.has("activation_alpha") {
			c.unsupported("activation %s without its parameter", name)
		}
	case "HardSigmoid", "Clip":
		if !c.has("activation_alpha") || !c.has("activation_beta") {
			c.unsupported("activation %s without its parameters", name)
		}
	}
	return one(c.mapFloats(y, c.activation(name, alpha, beta)))
}

// skipNorm normalizes the sum of input, skip and the bias of input at along the
// last axis. The sum is also the fourth output; statistics are not computed.
func (c *call) skipNorm(at int, beta *array, stat func(row []float64) (float64, float64)) []*array {
	x, skip := c.input(0), c.input(1)
	if c.n.Output(1) != nil || c.n.Output(2) != nil {
		c.unsupported("outputs for training")
	}
	if x.rank() < 2 || x.rank() > 3 {
		c.fail("want [batch, length, width], have shape %v", x.shape)
	}
	sum := c.plus(x, skip, c.opt(at))
	y, _, _ := c.normalized(sum, x.rank()-1, c.input(2), beta, stat)
	return []*array{y, nil, nil, c.exact(sum)}
}

func skipLayerNorm(c *call) []*array {
	return c.skipNorm(4, c.opt(3), deviating(c.float("epsilon", 1e-12)))
}

func skipSimplifiedLayerNorm(c *call) []*array {
	return c.skipNorm(3, nil, rootMeanSquare(c.float("epsilon", 1e-12)))
}

// embedLayerNorm adds the rows of two or three tables and normalizes the sum.
func embedLayerNorm(c *call) []*array {
	ids, words, places := c.input(0), c.input(2), c.input(3)
	if c.opt(7) != nil || c.n.Output(1) != nil && c.int("mask_index_type", 0) != 0 {
		c.unsupported("a mask")
	}
	for i, a := range []*array{ids, words, places, c.opt(4)} {
		if a != nil && a.rank() != 2 {
			c.fail("identifiers and tables are matrices, number %d has shape %v", i, a.shape)
		}
	}
	if ids.shape[1] > places.shape[0] && c.opt(8) == nil {
		c.fail("%d positions of a table of %d rows", ids.shape[1], places.shape[0])
	}
	sum := c.gathered(words, 0, c.indices(0, words.shape[0]), ids.shape)
	if c.opt(8) != nil {
		at := c.input(8)
		sum = c.plus(sum, c.gathered(places, 0, c.indices(8, places.shape[0]), at.shape))
	} else {
		sum = c.plus(sum, c.part(places, 0, 0, ids.shape[1]))
	}
	if segments := c.opt(4); segments != nil {
		sum = c.plus(sum, c.gathered(segments, 0, c.indices(1, segments.shape[0]), c.input(1).shape))
	}
	y, _, _ := c.normalized(sum, 2, c.input(5), c.input(6), deviating(c.float("epsilon", 1e-12)))
	var mask *array
	if c.n.Output(1) != nil {
		mask = store(c, onnx.Int32, []int64{ids.shape[0]}, make([]int64, ids.shape[0]))
	}
	return []*array{y, mask, c.exact(sum)}
}

package eval

import (
	"slices"
)

// lossOperators compare scores [N, C, positions…] with classes [N, positions…].
func lossOperators() []operator {
	return []operator{
		{"NegativeLogLikelihoodLoss", 12, latest, "ignore_index reduction", func(c *call) []*array { return one(c.likelihood(c.input(0))) }},
		{"SoftmaxCrossEntropyLoss", 12, latest, "ignore_index reduction", crossEntropy},
	}
}

// crossEntropy takes the logarithm of softmax over the classes first, which is
// also its second output.
func crossEntropy(c *call) []*array {
	x := c.input(0)
	if x.rank() < 2 {
		c.fail("scores of shape %v", x.shape)
	}
	logs := c.alongAxis(x, 1, logSoftmax)
	return []*array{c.likelihood(logs), logs}
}

// likelihood is the weighted mean, sum or list of the negative scores of the
// classes in input 1.
func (c *call) likelihood(x *array) *array {
	c.sameFloats(x, c.opt(2))
	target := c.input(1)
	if x.rank() < 2 || !slices.Equal(target.shape, slices.Delete(slices.Clone(x.shape), 1, 2)) || !target.dt.IsInt() {
		c.fail("scores of shape %v for classes %v%v", x.shape, target.dt, target.shape)
	}
	classes, inner := int(x.shape[1]), product(x.shape[2:])
	weights := slices.Repeat([]float64{1}, classes)
	if c.opt(2) != nil {
		weights = c.perChannel(2, x.shape[1])
	}
	v, list := load[float64](x), make([]float64, c.count(x.dt, target.shape))
	sum, weight := 0.0, 0.0
	for i, t := range load[int64](target) {
		if c.has("ignore_index") && t == c.int("ignore_index", 0) {
			continue
		}
		if t < 0 || t >= int64(classes) {
			c.fail("class %d of %d", t, classes)
		}
		list[i] = -v[(i/inner*classes+int(t))*inner+i%inner] * weights[t]
		sum += list[i]
		weight += weights[t]
	}
	switch r := c.str("reduction", "mean"); r {
	case "none":
		return store(c, x.dt, target.shape, list)
	case "sum":
	case "mean":
		sum /= weight
	default:
		c.fail("attribute \"reduction\" is %q", r)
	}
	return store(c, x.dt, nil, []float64{sum})
}

package eval

import (
	"math"
	"slices"
)

// channelNormOperators normalize [N, C, spatial…] with a scale per channel or
// group of channels.
func channelNormOperators() []operator {
	const attrs = "epsilon momentum"
	return []operator{
		{"BatchNormalization", 6, 6, attrs + " spatial is_test", batchNorm},
		{"BatchNormalization", 7, 8, attrs + " spatial", batchNorm},
		{"BatchNormalization", 9, 13, attrs, batchNorm},
		{"BatchNormalization", 14, latest, attrs + " training_mode", batchNorm},
		{"InstanceNormalization", 6, latest, "epsilon", instanceNorm},
		{"GroupNormalization", 18, 20, "epsilon num_groups", groupNorm},
		{"GroupNormalization", 21, latest, "epsilon num_groups stash_type", groupNorm},
		{"LRN", 1, latest, "alpha beta bias size", localResponseNorm},
	}
}

// perChannel returns the elements of input i, one for each of n channels.
func (c *call) perChannel(i int, n int64) []float64 {
	a := c.input(i)
	c.sameFloats(a)
	if !slices.Equal(a.shape, []int64{n}) {
		c.fail("input %d: want shape [%d], have %v", i, n, a.shape)
	}
	return load[float64](a)
}

// batchNorm normalizes by given statistics; training is not computed.
func batchNorm(c *call) []*array {
	x := c.input(0)
	c.sameFloats(x)
	if c.version < 7 && c.int("is_test", 0) == 0 || c.int("training_mode", 0) != 0 || c.int("spatial", 1) != 1 || len(c.n.Outputs()) > 1 {
		c.unsupported("training, or statistics per element")
	}
	if x.rank() < 2 {
		c.fail("want [N, C, spatial…], have shape %v", x.shape)
	}
	n := x.shape[1]
	scale, bias, mean, variance := c.perChannel(1, n), c.perChannel(2, n), c.perChannel(3, n), c.perChannel(4, n)
	epsilon := c.float("epsilon", 1e-5)
	c.count(x.dt, x.shape)
	v, area := load[float64](x), product(x.shape[2:])
	out := make([]float64, len(v))
	for i, e := range v {
		k := i / area % int(n)
		out[i] = (e-mean[k])/math.Sqrt(variance[k]+epsilon)*scale[k] + bias[k]
	}
	return one(store(c, x.dt, x.shape, out))
}

// channelAffine puts the channel parameters of inputs 1 and 2 on x that has
// been normalized to y; per channels share one parameter.
func (c *call) channelAffine(x, y *array, per int64) *array {
	scale, bias := c.perChannel(1, x.shape[1]/per), c.perChannel(2, x.shape[1]/per)
	v, area := load[float64](y), product(x.shape[2:])
	out := make([]float64, len(v))
	for i, e := range v {
		k := i / area % int(x.shape[1]) / int(per)
		out[i] = e*scale[k] + bias[k]
	}
	return store(c, x.dt, x.shape, out)
}

func instanceNorm(c *call) []*array {
	x := c.input(0)
	if x.rank() < 3 {
		c.fail("want [N, C, spatial…], have shape %v", x.shape)
	}
	y, _, _ := c.normalized(x, 2, nil, nil, deviating(c.float("epsilon", 1e-5)))
	return one(c.channelAffine(x, y, 1))
}

// groupNorm normalizes over groups of channels; scale and bias are per group
// before opset 21, per channel from there on.
func groupNorm(c *call) []*array {
	x, groups := c.input(0), c.int("num_groups", 0)
	c.stashed()
	per := int64(1)
	y := c.grouped(x, groups)
	if c.version < 21 {
		per = x.shape[1] / groups
	}
	return one(c.channelAffine(x, y, per))
}

// grouped normalizes x over groups of its channels.
func (c *call) grouped(x *array, groups int64) *array {
	if x.rank() < 2 || groups < 1 || x.shape[1] < groups || x.shape[1]%groups != 0 {
		c.fail("%d groups of the channels of %v", groups, x.shape)
	}
	grouped := x.reshaped(slices.Concat([]int64{x.shape[0], groups, x.shape[1] / groups}, x.shape[2:]))
	y, _, _ := c.normalized(grouped, 2, nil, nil, deviating(c.float("epsilon", 1e-5)))
	return y.reshaped(x.shape)
}

// contribGroupNorm is the GroupNorm of com.microsoft: an image with its channels
// last unless told otherwise, scale and shift of float32, and perhaps Swish.
func contribGroupNorm(c *call) []*array {
	x, last := c.input(0), c.int("channels_last", 1) != 0
	if x.rank() != 4 {
		c.fail("want an image, have shape %v", x.shape)
	}
	if last {
		x = c.permute(x, []int{0, 3, 1, 2})
	}
	y := c.grouped(x, c.int("groups", 0))
	scale, shift := load[float64](c.input(1)), load[float64](c.input(2))
	if n := int(x.shape[1]); len(scale) != n || len(shift) != n {
		c.fail("%d scales and %d shifts for %d channels", len(scale), len(shift), n)
	}
	out, area := slices.Clone(load[float64](y)), product(x.shape[2:])
	for i := range out {
		k := i / area % int(x.shape[1])
		if out[i] = out[i]*scale[k] + shift[k]; c.int("activation", 0) == 1 {
			out[i] *= sigmoid(out[i])
		}
	}
	if y = store(c, x.dt, x.shape, out); last {
		y = c.permute(y, []int{0, 2, 3, 1})
	}
	return one(y)
}

// localResponseNorm divides by a power of the squares in the channels around.
func localResponseNorm(c *call) []*array {
	x, size := c.input(0), int(c.int("size", 0))
	c.sameFloats(x)
	if x.rank() < 3 || size < 1 {
		c.fail("size %d over an input of shape %v", size, x.shape)
	}
	alpha, beta, bias := c.float("alpha", 1e-4), c.float("beta", 0.75), c.float("bias", 1)
	c.count(x.dt, x.shape)
	v, area, n := load[float64](x), product(x.shape[2:]), int(x.shape[1])
	out := make([]float64, len(v))
	for i, e := range v {
		ch, sum := i/area%n, 0.0
		for k := max(0, ch-(size-1)/2); k < min(n, ch+size/2+1); k++ {
			near := v[i+(k-ch)*area]
			sum += near * near
		}
		out[i] = e / math.Pow(bias+alpha/float64(size)*sum, beta)
	}
	return one(store(c, x.dt, x.shape, out))
}

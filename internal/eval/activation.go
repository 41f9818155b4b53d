package eval

import (
	"math"
	"slices"
)

// activationOperators are the activation functions with parameters, and those
// made of several others.
func activationOperators() []operator {
	fixed := func(name string, from int64, f func(float64) float64) operator {
		return operator{name, from, latest, "", func(c *call) []*array { return one(c.mapFloats(c.input(0), f)) }}
	}
	alpha := func(name string, from int64, def float32, f func(x, alpha float64) float64) operator {
		return operator{name, from, latest, "alpha", func(c *call) []*array {
			a := c.float("alpha", def)
			return one(c.mapFloats(c.input(0), func(x float64) float64 { return f(x, a) }))
		}}
	}
	return []operator{
		fixed("Sigmoid", 6, sigmoid), fixed("Softplus", 1, softplus),
		fixed("Softsign", 1, func(x float64) float64 { return x / (1 + math.Abs(x)) }),
		fixed("HardSwish", 14, func(x float64) float64 { return x * hardSigmoid(x, 1.0/6, 0.5) }),
		fixed("Mish", 18, func(x float64) float64 { return x * math.Tanh(softplus(x)) }),
		alpha("LeakyRelu", 6, 0.01, func(x, a float64) float64 { return negative(x, a*x) }),
		alpha("Elu", 6, 1, func(x, a float64) float64 { return negative(x, a*math.Expm1(x)) }),
		alpha("Celu", 12, 1, func(x, a float64) float64 { return max(x, 0) + min(0, a*math.Expm1(x/a)) }),
		alpha("Swish", 24, 1, func(x, a float64) float64 { return x * sigmoid(a*x) }),
		alpha("ThresholdedRelu", 10, 1, func(x, a float64) float64 {
			if x > a {
				return x
			}
			return 0 // also of NaN
		}),
		{"Relu", 6, latest, "", func(c *call) []*array { return one(c.mapNumbers(c.input(0), relu, reluInt)) }},
		{"Gelu", 20, latest, "approximate", gelu},
		{"Selu", 6, latest, "alpha gamma", selu},
		{"HardSigmoid", 6, latest, "alpha beta", func(c *call) []*array {
			a, b := c.float("alpha", 0.2), c.float("beta", 0.5)
			return one(c.mapFloats(c.input(0), func(x float64) float64 { return hardSigmoid(x, a, b) }))
		}},
		{"Shrink", 9, latest, "bias lambd", shrink},
		{"PRelu", 7, latest, "", func(c *call) []*array { return pRelu(c, c.input(1)) }},
		{"PRelu", 6, 6, "", pReluPerChannel},
	}
}

// negative returns y where x is below 0, else x.
func negative(x, y float64) float64 {
	if x < 0 {
		return y
	}
	return x // NaN among them
}

func relu(x float64) float64 { return negative(x, 0) }

func reluInt(x int64) int64 { return max(x, 0) }

func sigmoid(x float64) float64 {
	if x >= 0 {
		return 1 / (1 + math.Exp(-x))
	}
	e := math.Exp(x)
	return e / (1 + e)
}

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func hardSigmoid(x, alpha, beta float64) float64 { return max(0, min(1, alpha*x+beta)) }

// erfGelu is x·Φ(x), Φ being the normal distribution.
func erfGelu(x float64) float64 { return x / 2 * (1 + math.Erf(x/math.Sqrt2)) }

// tanhGelu is the approximation of [erfGelu] by tanh.
func tanhGelu(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

func gelu(c *call) []*array {
	f := erfGelu
	switch a := c.str("approximate", "none"); a {
	case "none":
	case "tanh":
		f = tanhGelu
	default:
		c.fail("attribute \"approximate\" is %q", a)
	}
	return one(c.mapFloats(c.input(0), f))
}

func selu(c *call) []*array {
	alpha, gamma := c.float("alpha", 1.67326319217681884765625), c.float("gamma", 1.05070102214813232421875)
	return one(c.mapFloats(c.input(0), func(x float64) float64 { return gamma * negative(x, alpha*math.Expm1(x)) }))
}

// shrink moves elements toward 0 by bias, and to 0 what is within lambd of it.
func shrink(c *call) []*array {
	bias, lambd := c.float("bias", 0), c.float("lambd", 0.5)
	return one(c.mapFloats(c.input(0), func(x float64) float64 {
		switch {
		case x < -lambd:
			return x + bias
		case x > lambd:
			return x - bias
		}
		return 0
	}))
}

// pReluPerChannel is PRelu before opset 7: one slope for all, or one per channel.
func pReluPerChannel(c *call) []*array {
	x, slope := c.input(0), c.input(1)
	if slope.len() == 1 {
		return pRelu(c, slope.reshaped([]int64{}))
	}
	if x.rank() < 2 || !slices.Equal(slope.shape, []int64{x.shape[1]}) {
		c.fail("slopes of shape %v for an input of shape %v", slope.shape, x.shape)
	}
	return pRelu(c, slope.reshaped(slices.Concat(slope.shape, slices.Repeat([]int64{1}, x.rank()-2))))
}

func pRelu(c *call, slope *array) []*array {
	x := c.input(0)
	c.sameFloats(x, slope)
	c.count(x.dt, x.shape)
	v, s := load[float64](x), c.stretch(slope, x.shape)
	out := make([]float64, len(v))
	for i, e := range v {
		out[i] = negative(e, e*s[i])
	}
	return one(store(c, x.dt, x.shape, out))
}

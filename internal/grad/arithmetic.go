package grad

import "github.com/lapidary-ml/lapidary/internal/onnx"

// arithmeticRules are the operators of several variables that broadcast, and the choice between them.
func arithmeticRules() []rule {
	return []rule{
		{name: "Add", do: func(c *call) { c.giveSum(0, c.dy()); c.giveSum(1, c.dy()) }},
		{name: "Sub", do: func(c *call) {
			c.giveSum(0, c.dy())
			if c.wants(1) {
				c.giveSum(1, c.neg(c.dy()))
			}
		}},
		{name: "Mul", do: multiply},
		{name: "Div", do: divide},
		{name: "Pow", do: power},
		{name: "Sum", do: func(c *call) { c.giveAll(c.dy()) }},
		{name: "Mean", do: func(c *call) { c.giveAll(c.scale(c.dy(), 1/float64(len(c.n.Inputs())))) }},
		{name: "Max", do: extreme},
		{name: "Min", do: extreme},
		{name: "Where", do: choice},
	}
}

// giveAll gives every input the same gradient.
func (c *call) giveAll(g *onnx.Value) {
	for i := range c.n.Inputs() {
		c.giveSum(i, g)
	}
}

func multiply(c *call) {
	if c.wants(0) {
		c.giveSum(0, c.mul(c.dy(), c.x(1)))
	}
	if c.wants(1) {
		c.giveSum(1, c.mul(c.dy(), c.x(0)))
	}
}

func divide(c *call) {
	g := c.div(c.dy(), c.x(1))
	c.giveSum(0, g)
	if c.wants(1) {
		c.giveSum(1, c.neg(c.mul(g, c.y())))
	}
}

// power is x^p: p·x^(p-1), and x^p·ln x, which is real for x > 0 only and 0 at x = 0.
func power(c *call) {
	x, p, dy := c.x(0), c.castLike(c.x(1), c.x(0)), c.dy()
	if c.wants(0) {
		c.giveSum(0, c.mul(dy, c.mul(p, c.op("Pow", x, c.plus(p, -1)))))
	}
	if c.wants(1) {
		positive := c.op("Where", c.greater(x, 0), x, c.num(x, 1)) // ln 1 is 0
		c.giveSum(1, c.castLike(c.mul(dy, c.mul(c.y(), c.op("Log", positive))), c.x(1)))
	}
}

// extreme gives the gradient to the greatest or least input; equal ones share it.
func extreme(c *call) {
	dy := c.dy()
	if len(c.n.Inputs()) == 1 {
		c.give(0, dy)
		return
	}
	chosen := make([]*onnx.Value, len(c.n.Inputs()))
	for i := range chosen {
		chosen[i] = c.castLike(c.op("Equal", c.x(i), c.y()), dy)
	}
	share := c.div(dy, c.op("Sum", chosen...))
	for i, m := range chosen {
		if c.wants(i) {
			c.giveSum(i, c.mul(m, share))
		}
	}
}

func choice(c *call) {
	cond, dy := c.x(0), c.dy()
	zero := c.num(dy, 0)
	if c.wants(1) {
		c.giveSum(1, c.op("Where", cond, dy, zero))
	}
	if c.wants(2) {
		c.giveSum(2, c.op("Where", cond, zero, dy))
	}
}

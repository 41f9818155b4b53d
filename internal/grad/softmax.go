package grad

// softmaxRules are the operators that make probabilities along an axis.
func softmaxRules() []rule {
	return []rule{
		{name: "Softmax", do: func(c *call) {
			y, dy := c.y(), c.dy()
			c.give(0, c.mul(y, c.sub(dy, c.reduce("ReduceSum", c.mul(dy, y), c.softmaxAxis(), true))))
		}},
		{name: "LogSoftmax", do: func(c *call) {
			dy := c.dy()
			c.give(0, c.sub(dy, c.mul(c.op("Exp", c.y()), c.reduce("ReduceSum", dy, c.softmaxAxis(), true))))
		}},
	}
}

func (c *call) softmaxAxis() []int64 { return []int64{c.n.Int("axis", -1)} }

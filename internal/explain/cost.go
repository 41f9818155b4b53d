package explain

import "fmt"

// Cost is how many inferences a comparison takes at most, of both models together.
type Cost struct {
	Whole int // inferences of a whole model
	Heads int // inferences of a split model's tail
}

// CostOf returns what comparing maps of n samples like s takes: of each sample its own inferences, both maps and five curves, and of the
// first NoiseFloor samples the maps that the noise floor and the calibration compare.
func CostOf(s Sample, input string, n int, o Options) (Cost, error) {
	o, err := o.filled()
	if err != nil {
		return Cost{}, err
	}
	t := s.Inputs[input]
	if t == nil {
		return Cost{}, fmt.Errorf("sample %q has no input %q", s.ID, input)
	}
	p, err := newPartition(t.Shape, o)
	if err != nil {
		return Cost{}, err
	}
	fill, err := fillOf(o, t.DType)
	if err != nil {
		return Cost{}, err
	}
	again := 2
	if o.Method.Random {
		again++
	}
	maps := 2*n + again*min(n, max(o.NoiseFloor, 0))
	c := Cost{Whole: 4 * n}
	if !o.SkipCurves {
		c.Whole += n * 5 * (1 + min(curveSteps, len(p.features)))
	}
	switch one := o.runs(p, fill, n) + 1; {
	case o.Method.Splits:
		c.Whole, c.Heads = c.Whole+maps, maps*one
	default:
		c.Whole += maps * one
	}
	return c, nil
}

// runs is what one map takes, where there are n samples to take rows from.
func (o Options) runs(p *partition, fill Fill, n int) int {
	rows := 1
	if o.Method.Rows && fill != FillToken {
		switch {
		case o.Rows > 0:
			rows = min(o.Rows, n)
		case o.Rows == 0 && fill == FillMean && p.layout == Flat && p.single:
			rows = min(defaultRows, n)
		}
	}
	return o.Method.Runs(p, rows, o)
}

package eval

import (
	"math"
	"slices"
)

// softmaxOperators turn scores into probabilities. Before opset 13 they see
// their input as a matrix that is cut before the axis.
func softmaxOperators() []operator {
	row := func(name string, f func(line []float64)) operator {
		return operator{name, 1, latest, "axis", func(c *call) []*array { return one(c.overScores(f)) }}
	}
	return []operator{row("Softmax", softmax), row("LogSoftmax", logSoftmax), row("Hardmax", hardmax)}
}

// overScores computes f in place on each line of scores.
func (c *call) overScores(f func(line []float64)) *array {
	x := c.input(0)
	if c.version >= 13 {
		return c.alongAxis(x, c.axis(c.int("axis", -1), x.rank()), f)
	}
	axis := c.axis(c.int("axis", 1), x.rank())
	flat := x.reshaped([]int64{int64(product(x.shape[:axis])), int64(product(x.shape[axis:]))})
	return c.alongAxis(flat, 1, f).reshaped(x.shape)
}

func softmax(line []float64) {
	if len(line) == 0 {
		return
	}
	top, sum := slices.Max(line), 0.0
	for i, x := range line {
		line[i] = math.Exp(x - top)
		sum += line[i]
	}
	for i := range line {
		line[i] /= sum
	}
}

func logSoftmax(line []float64) {
	if len(line) == 0 {
		return
	}
	top, sum := slices.Max(line), 0.0
	for _, x := range line {
		sum += math.Exp(x - top)
	}
	for i := range line {
		line[i] -= top + math.Log(sum)
	}
}

// hardmax gives 1 to the first greatest element and 0 to the others.
func hardmax(line []float64) {
	best := 0
	for i, x := range line {
		if x > line[best] {
			best = i
		}
	}
	for i := range line {
		line[i] = 0
		if i == best {
			line[i] = 1
		}
	}
}

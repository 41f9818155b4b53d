package explain

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/score"
)

// target turns an output row into the number that is explained.
type target struct {
	class     int       // for a margin
	direction []float64 // for a projection: unit vector along the baseline's output; nil for a margin
}

// newTarget fixes what is explained by the baseline's output for the unperturbed sample.
func newTarget(row []float64, projection bool) target {
	if !projection {
		return target{class: argmax(row)}
	}
	norm := 0.0
	for _, v := range row {
		norm += v * v
	}
	t := target{direction: make([]float64, len(row))}
	for i, v := range row {
		if norm > 0 {
			t.direction[i] = v / math.Sqrt(norm)
		}
	}
	return t
}

// value is the margin of the target class over the best other one, in logits: of probabilities their logarithms are taken,
// which differ from the logits by a constant and so have the same margin. For a projection it is the dot product.
func (t target) value(row []float64, kind score.Kind) float64 {
	if t.direction != nil {
		sum := 0.0
		for i, v := range row {
			sum += v * t.direction[i]
		}
		return sum
	}
	other := math.Inf(-1)
	for i, v := range row {
		if math.IsNaN(v) {
			return math.NaN()
		}
		if i != t.class {
			other = max(other, v)
		}
	}
	if kind == score.Probabilities {
		return math.Log(max(row[t.class], 1e-7)) - math.Log(max(other, 1e-7))
	}
	return row[t.class] - other
}

// slope returns the derivative of value by each element of an output row, in which several best other classes count as the first.
func (t target) slope(row []float64, kind score.Kind) []float64 {
	if t.direction != nil {
		return t.direction
	}
	other := -1
	for i, v := range row {
		if i != t.class && (other < 0 || v > row[other]) {
			other = i
		}
	}
	out := make([]float64, len(row))
	for i, weight := range map[int]float64{t.class: 1, other: -1} {
		switch {
		case i < 0:
		case kind != score.Probabilities:
			out[i] = weight
		case row[i] > 1e-7: // below it the logarithm is cut off
			out[i] = weight / row[i]
		}
	}
	return out
}

func argmax(row []float64) int {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return best
}

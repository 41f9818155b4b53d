package trial

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Score is how near a model's outputs are to the original's on held-out data,
// in dB: 10·log10 of the inverse of a relative noise.
type Score struct {
	// DB decides. It is SQNR, or where the first output is a distribution the noise
	// of its log-probabilities below one nat: of what goes into the softmax, where
	// every sample counts alike and few samples tell small differences.
	DB   float64
	SQNR float64 // of all float outputs, over all samples
	KL   float64 // of the first output, by the divergence; 0 where it is no distribution

	Nats                       float64 // mean divergence of the rows of the first output, logits made a distribution
	Right, Rows, Gains, Losses int     // rows of the first output whose largest element is at the label, where there are labels

	Runs []float64 `json:"-"` // the relative noise behind DB of each run
}

// Check returns an error where no comparison can have given the score: it may come
// from a file.
func (s Score) Check() error {
	ok := s.Rows >= 0 && s.Right >= 0 && s.Right <= s.Rows && s.Gains >= 0 && s.Losses >= 0 && s.Gains <= s.Right && s.Losses <= s.Rows-s.Right &&
		math.Abs(s.DB) <= Most && math.Abs(s.SQNR) <= Most
	if !ok {
		return fmt.Errorf("a score of %+v cannot be", s)
	}
	return nil
}

// Most is the score of equal outputs, which have no finite ratio.
const Most = 300

// Decibels returns 10·log10 of the inverse of a relative noise, within ±[Most].
func Decibels(noise float64) float64 {
	if math.IsNaN(noise) {
		return -Most
	}
	return math.Max(math.Min(-10*math.Log10(noise), Most), -Most)
}

// noise collects the differences of outputs.
type noise struct {
	signal, error []float64 // sums of squares, by output
	runs          []float64 // relative noise of each run
	divergence    float64
	rows          int
	nats          float64 // divergence of rows of the first output, logits made a distribution
	natRows       int
	labelled      Score // Right, Rows, Gains and Losses
}

// add enters the outputs of run k; false where they cannot be compared.
func (n *noise) add(h *Held, k int, got map[string]*onnx.Tensor) bool {
	want := h.want[k]
	run, outputs := 0., 0
	for i, name := range h.names {
		a, b := want[name], got[name]
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		x, err1 := a.Float64s()
		y, err2 := b.Float64s()
		if err1 != nil || err2 != nil || len(x) != len(y) {
			return false
		}
		signal, error := 0., 0.
		for k := range x {
			if x[k]-x[k] != 0 {
				continue // no finite number to be near to
			}
			d := x[k] - y[k]
			signal += x[k] * x[k]
			error += d * d
		}
		n.signal[i] += signal
		n.error[i] += error
		if signal > 0 {
			run, outputs = run+error/signal, outputs+1
		}
		if i == 0 {
			p, _ := rowsOf(a)
			q, _ := rowsOf(b)
			n.first(h, k, p, q)
			if h.distribution {
				n.runs = append(n.runs, n.compare(p, q))
			}
		}
	}
	if !h.distribution && outputs > 0 {
		n.runs = append(n.runs, run/float64(outputs))
	}
	return true
}

// first enters the rows of the first output.
func (n *noise) first(h *Held, k int, p, q [][]float64) {
	for r := range p {
		if h.Labels != nil {
			n.labelled.label(h.Labels[k][r], p[r], q[r])
		}
		if len(p[r]) < 2 {
			continue
		}
		a, b := p[r], q[r]
		if !h.distribution {
			a, b = softmax(a), softmax(b)
		}
		n.nats += klOf(a, b)
		n.natRows++
	}
}

// label enters whether both models are right about a row.
func (x *Score) label(label int64, p, q []float64) {
	before, after := largest(p) == label, largest(q) == label
	x.Rows++
	if after {
		x.Right++
	}
	switch {
	case after && !before:
		x.Gains++
	case before && !after:
		x.Losses++
	}
}

func largest(row []float64) int64 {
	best := 0
	for i, x := range row {
		if x > row[best] {
			best = i
		}
	}
	return int64(best)
}

// softmax returns the distribution of which a row holds the logits.
func softmax(row []float64) []float64 {
	out := make([]float64, len(row))
	top, sum := row[largest(row)], 0.
	for i, x := range row {
		out[i] = math.Exp(x - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// klOf is the Kullback-Leibler divergence of q from p in nats.
func klOf(p, q []float64) float64 {
	const least = 1e-12
	d := 0.
	for i := range p {
		if p[i] > 0 {
			d += p[i] * math.Log(p[i]/math.Max(q[i], least))
		}
		d += q[i] - p[i] // which sum to nothing, and keep every term above zero
	}
	return d
}

// leastShare is the probability below which classes count as one that cannot be.
const leastShare = 1e-12

// compare enters the distributions of one run and returns the mean square of the
// change of their logarithms, in nats, without the mean of each row, which a
// softmax does not see. Classes weigh by the fourth root of their probability:
// with equal weights those that never matter decide, with the probabilities
// themselves the few samples that are in doubt.
func (n *noise) compare(p, q [][]float64) float64 {
	sum := 0.
	for r := range p {
		var all, mean, squares float64
		for i := range p[r] {
			a, b := math.Max(p[r][i], leastShare), math.Max(q[r][i], leastShare)
			d, w := math.Log(b)-math.Log(a), math.Sqrt(math.Sqrt(a))
			all, mean, squares = all+w, mean+w*d, squares+w*d*d
			// The difference of the shares sums to nothing, and keeps every term above zero.
			n.divergence += b - a - a*d
		}
		mean /= all
		sum += squares/all - mean*mean
		n.rows++
	}
	return math.Max(sum/float64(len(p)), 0)
}

func (n *noise) score(h *Held) Score {
	mean, count := 0., 0
	for i := range n.signal {
		switch {
		case n.signal[i] > 0:
			mean, count = mean+n.error[i]/n.signal[i], count+1
		case n.error[i] > 0:
			mean, count = mean+1, count+1
		}
	}
	s := n.labelled
	s.SQNR, s.Runs = Decibels(mean/math.Max(float64(count), 1)), n.runs
	if n.natRows > 0 {
		s.Nats = n.nats / float64(n.natRows)
	}
	if s.DB = s.SQNR; h.distribution {
		s.KL = Decibels(n.divergence / float64(n.rows))
		sum := 0.
		for _, r := range n.runs {
			sum += r
		}
		s.DB = Decibels(sum / float64(len(n.runs)))
	}
	return s
}

package prune

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/linalg"
)

// maskEvidence is what was seen of the inputs of a layer, in means over rows: one
// part of the rows to fit to, one to judge by.
type maskEvidence struct {
	k, parts  int
	diagonal  bool
	fit, held calibrate.Moments
	factors   []*maskFactor // by part
}

// maskFactor is what OBS has to know of one part.
type maskFactor struct {
	u    []float64 // nil: the products cannot be inverted
	dead []bool
}

// maskEvidences are those of some layers.
type maskEvidences struct {
	stats  map[string]*calibrate.Stats
	joined map[string]*maskEvidence // by the keys of a layer's inputs
}

// newMaskEvidences adds up what the readers of shared weights read, before the
// sums become means.
func newMaskEvidences(stats map[string]*calibrate.Stats, layers []*maskLayer, todo []int) *maskEvidences {
	out := &maskEvidences{stats, map[string]*maskEvidence{}}
	for _, single := range []bool{false, true} {
		for _, k := range todo {
			l := layers[k]
			key := l.key()
			if single != (len(l.inputs) == 1) || out.joined[key] != nil || out.unusable(l) != "" {
				continue
			}
			out.joined[key] = out.join(l)
		}
	}
	return out
}

// key tells layers that read the same from others.
func (l *maskLayer) key() string {
	var keys []string
	for _, in := range l.inputs {
		keys = append(keys, in.key())
	}
	return strings.Join(keys, "\n\n")
}

// join returns the moments of all that the readers of l read.
func (s *maskEvidences) join(l *maskLayer) *maskEvidence {
	g := s.stats[l.inputs[0].key()].Gram
	e := &maskEvidence{k: g.K, parts: g.Blocks, fit: g.Fit, held: g.Held, factors: make([]*maskFactor, g.Blocks),
		diagonal: len(g.Fit.Sum) == len(g.Fit.Abs) && g.K > 1}
	if len(l.inputs) > 1 {
		e.fit, e.held = copyMoments(g.Fit), copyMoments(g.Held)
		for _, in := range l.inputs[1:] {
			more := s.stats[in.key()].Gram
			e.fit.Add(&more.Fit)
			e.held.Add(&more.Held)
		}
	}
	e.fit.Mean()
	e.held.Mean()
	return e
}

func copyMoments(m calibrate.Moments) calibrate.Moments {
	m.Sum, m.Abs, m.Total = append([]float64(nil), m.Sum...), append([]float64(nil), m.Abs...), append([]float64(nil), m.Total...)
	return m
}

// of returns the evidence of a layer, or why there is none.
func (s *maskEvidences) of(l *maskLayer) (*maskEvidence, string) {
	if why := s.unusable(l); why != "" {
		return nil, why
	}
	return s.joined[l.key()], ""
}

// unusable says why what was measured decides nothing about l.
func (s *maskEvidences) unusable(l *maskLayer) string {
	for _, in := range l.inputs {
		stats := s.stats[in.key()]
		switch {
		case stats == nil || stats.Runs == 0 && stats.Invalid == 0:
			return fmt.Sprintf("its input %q had no elements", in.tensor)
		case stats.Invalid > 0:
			return fmt.Sprintf("its input %q had NaN or infinite elements", in.tensor)
		case stats.Gram == nil || stats.Gram.K != l.view.cols || stats.Gram.Blocks != l.view.parts:
			return fmt.Sprintf("the shape of its input %q does not fit its weights", in.tensor)
		case stats.Gram.Fit.Rows == 0 || stats.Gram.Held.Rows == 0:
			return "there are too few rows of data to hold some out"
		}
	}
	return ""
}

// norm is proportional to the norm of column c of part g.
func (e *maskEvidence) norm(g, c int) float64 {
	if e.diagonal {
		return math.Sqrt(e.fit.Sum[g*e.k+c])
	}
	return math.Sqrt(e.fit.Sum[(g*e.k+c)*e.k+c])
}

// fewRows is how many rows of data per weight of a row there must be for little damping.
const fewRows = 2

// factor returns what OBS has to know of part g.
func (e *maskEvidence) factor(g int) *maskFactor {
	if e.factors[g] != nil {
		return e.factors[g]
	}
	h := append([]float64(nil), e.fit.Sum[g*e.k*e.k:(g+1)*e.k*e.k]...)
	f, order := &maskFactor{dead: make([]bool, e.k)}, make([]int, e.k)
	for i := range e.k {
		order[i] = i
		if h[i*e.k+i] == 0 {
			h[i*e.k+i], f.dead[i] = 1, true
		}
	}
	f.u = linalg.InverseFactor(h, order, e.fit.Rows < fewRows*int64(e.k))
	e.factors[g] = f
	return f
}

// heldPowers returns, for each column of d [k, n], the mean square of its product
// with the held-out rows of part g.
func (e *maskEvidence) heldPowers(g int, d []float64, n int) []float64 {
	return linalg.Powers(e.held.Sum[g*e.k*e.k:(g+1)*e.k*e.k], e.k, d, n)
}

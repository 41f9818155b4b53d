package quantize

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/linalg"
)

// gramMoments are the mean products of the columns of what a layer reads, K×K: an
// error D of its weights [K, N] costs the output tr(Dᵀ·H·D) per row.
type gramMoments struct {
	k    int
	h    []float64 // whole, by rows
	abs  []float64 // mean magnitudes
	rows int64
}

func newMoments(m calibrate.Moments, k int) gramMoments {
	m.Mean()
	return gramMoments{k: k, h: m.Sum, abs: m.Abs, rows: m.Rows}
}

// power returns tr(Dᵀ·H·D) for D [k, n].
func (m gramMoments) power(d []float64, n int) float64 { return linalg.Power(m.h, m.k, d, n) }

// evidence is what was seen of a layer's input: one part to fit to, one to judge by.
type evidence struct {
	fit, held gramMoments
	factors   map[bool]*factor
}

func newEvidence(g *calibrate.Gram) *evidence {
	return &evidence{fit: newMoments(g.Fit, g.K), held: newMoments(g.Held, g.K)}
}

// judged is the most channels of a layer whose outputs are compared: the error
// is a sum over channels, of which those are a sample.
const judged = 256

// spread returns m of n channels at equal distances, or all n.
func spread(n, m int) []int {
	m = min(n, m)
	out := make([]int, m)
	for i := range out {
		out[i] = i * n / m
	}
	return out
}

// pick returns the columns in some of w [k, n].
func pick(w []float64, n int, some []int) []float64 {
	out := make([]float64, len(w)/n*len(some))
	for i := range out {
		out[i] = w[i/len(some)*n+some[i%len(some)]]
	}
	return out
}

// decoded returns the weights [k, m] that the codes of some channels stand for,
// less the gain.
func (b *blockwise) decoded(some []int) ([]float64, error) {
	place := make([]int, b.op.n)
	for i := range place {
		place[i] = -1
	}
	for i, n := range some {
		place[n] = i
	}
	out := make([]float64, b.op.k*len(some))
	err := b.each(b.steps, func(_, n, block int, codes []byte) {
		if place[n] < 0 {
			return
		}
		s := b.steps.at(b.index(0, n, block))
		for i, code := range codes {
			k := block*b.f.size + i
			x := float64(s.value(code))
			if b.op.gain != nil {
				x /= float64(b.op.gain[k])
			}
			out[k*len(some)+place[n]] = x
		}
	})
	return out, err
}

// fitTrial is the search for the codes of one layer.
type fitTrial struct {
	d      *evidence
	l      *layer
	w      []float64 // [k, n]
	some   []int     // channels that are judged by
	want   []float64 // their weights [k, m]
	power  float64   // of the output, on held-out rows
	errors map[string]float64
	best   *fitted
	least  float64
}

func newTrialOf(d *evidence, l *layer, w []float64) *fitTrial {
	t := &fitTrial{d: d, l: l, w: w, some: spread(l.op.n, judged), errors: map[string]float64{}}
	t.want = pick(w, l.op.n, t.some)
	t.power = d.held.power(t.want, len(t.some))
	return t
}

// enter judges codes by held-out rows.
func (t *fitTrial) enter(method string, b *blockwise) error {
	got, err := b.decoded(t.some)
	if err != nil {
		return err
	}
	for i, x := range t.want {
		got[i] -= x
	}
	e := t.d.held.power(got, len(t.some))
	share := 0.0
	if e > 0 {
		share = e / t.power
	}
	if math.IsNaN(e+share) || math.IsInf(share, 0) { // beyond the numbers, or of an output that is always zero
		if method != "rtn" {
			return nil
		}
		share, e = math.MaxFloat64, math.MaxFloat64
	}
	if old, known := t.errors[method]; !known || share < old {
		t.errors[method] = share
	}
	if t.best == nil || e < t.least {
		t.best, t.least = fittedOf(method, b), e
	}
	return nil
}

func fittedOf(method string, b *blockwise) *fitted {
	f := &fitted{method: method, steps: b.steps, codes: b.codes, clipped: b.clipped, gain: b.op.gain, asymmetric: b.f.asymmetric}
	if method == "rtn" {
		return &fitted{method: method, asymmetric: b.f.asymmetric}
	}
	return f
}

// verdict returns the best codes, and says why they are.
func (t *fitTrial) verdict() *fitted {
	names := slices.SortedFunc(maps.Keys(t.errors), func(a, b string) int { return cmp.Compare(t.errors[a], t.errors[b]) })
	text := ""
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %.3g", name, t.errors[name])
	}
	t.best.errors = t.errors
	t.best.why = fmt.Sprintf("error of the output on %d held-out rows: %s", t.d.held.rows, text)
	return t.best
}

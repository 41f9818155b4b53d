package quantize

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// moments are the mean products of the columns of what a layer reads, K×K: an
// error D of its weights [K, N] costs the output tr(Dᵀ·H·D) per row.
type moments struct {
	k    int
	h    []float64 // whole, by rows
	abs  []float64 // mean magnitudes
	rows int64
}

func newMoments(m calibrate.Moments, k int) moments {
	out := moments{k: k, h: m.Sum, abs: m.Abs, rows: m.Rows}
	scale := 1 / float64(max(m.Rows, 1))
	for i := range k {
		out.abs[i] *= scale
		for j := i; j < k; j++ {
			x := out.h[i*k+j] * scale
			out.h[i*k+j], out.h[j*k+i] = x, x
		}
	}
	return out
}

// power returns tr(Dᵀ·H·D) for D [k, n].
func (m moments) power(d []float64, n int) float64 {
	e := make([]float64, len(d))
	blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, general(m.h, m.k, m.k), general(d, m.k, n), 0, general(e, m.k, n))
	sum := 0.0
	for i, x := range d {
		sum += x * e[i]
	}
	return sum
}

func general(data []float64, rows, cols int) blas64.General {
	return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: data}
}

// evidence is what was seen of a layer's input: one part to fit to, one to judge by.
type evidence struct{ fit, held moments }

func newEvidence(g *calibrate.Gram) *evidence {
	return &evidence{newMoments(g.Fit, g.K), newMoments(g.Held, g.K)}
}

// decoded returns the weights [k, n] that codes stand for, less the gain.
func (b *blockwise) decoded() ([]float64, error) {
	out := make([]float64, b.op.k*b.op.n)
	err := b.each(b.steps, func(_, n, block int, codes []byte) {
		s := b.steps.at(b.index(0, n, block))
		for i, code := range codes {
			k := block*b.f.size + i
			x := float64(s.value(code))
			if b.op.gain != nil {
				x /= float64(b.op.gain[k])
			}
			out[k*b.op.n+n] = x
		}
	})
	return out, err
}

// trial is the search for the codes of one layer.
type trial struct {
	d      *evidence
	l      *layer
	w      []float64 // [k, n]
	power  float64   // of the output, on held-out rows
	errors map[string]float64
	best   *fitted
	least  float64
}

// enter judges codes by held-out rows.
func (t *trial) enter(method string, b *blockwise) error {
	got, err := b.decoded()
	if err != nil {
		return err
	}
	for i, x := range t.w {
		got[i] -= x
	}
	e := t.d.held.power(got, t.l.op.n)
	share := e / max(t.power, 1e-300)
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
func (t *trial) verdict() *fitted {
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

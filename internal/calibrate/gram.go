package calibrate

import (
	"encoding/binary"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// Gram is what the error of a product with a tensor depends on. Its rows are of
// Blocks parts of K elements each, of which only those of the same part are
// multiplied with each other; those rows that are held out are summed apart. The
// size of two K×K matrices for each part does not depend on how much data there is.
type Gram struct {
	K, Blocks int
	Fit, Held Moments

	rows []byte // those of one run that are not summed up yet, float32
	fit  int    // how many of them are not held out; these come first
	diag bool
}

// Moments are sums over rows.
type Moments struct {
	Rows int64
	// Sum is Σ x·xᵀ of each part, K×K by rows; on and above the diagonal, zero
	// below. Of a diagonal alone it has as many elements as there are columns.
	Sum   []float64
	Abs   []float64 // Σ |x|, by column
	Total []float64 // Σ x, by column
}

// heldShare is what share of the rows is held out, as 1/heldShare.
const heldShare = 5

// newGram keeps the rows of run k until they are summed in the order of the runs;
// nil where the tensor has no rows, or none that the patches of w fit.
func newGram(b []byte, shape []int64, w *Want, k int64) *Gram {
	if len(shape) == 0 || shape[len(shape)-1] == 0 {
		return nil
	}
	width, blocks := int(shape[len(shape)-1]), 1
	if w.Patches != nil {
		if b, width = w.Patches.rows(b, shape, k); width == 0 {
			return nil
		}
		blocks = max(w.Patches.Groups, 1)
	}
	g := &Gram{K: width / blocks, Blocks: blocks, rows: b, diag: w.Diagonal}
	rows := len(b) / 4 / width
	every := w.HoldEvery
	switch {
	case every > 0 && k%int64(every) == int64(every)-1:
		g.fit = 0
	case every > 0:
		g.fit = rows
	default:
		g.fit = rows - rows/heldShare
	}
	return g
}

// width is the number of columns.
func (g *Gram) width() int { return g.K * g.Blocks }

// summed returns g with its rows summed up.
func (g *Gram) summed() *Gram {
	if g == nil {
		return nil
	}
	s := &Gram{K: g.K, Blocks: g.Blocks, diag: g.diag, Fit: newMoments(g), Held: newMoments(g)}
	s.merge(g)
	return s
}

func newMoments(g *Gram) Moments {
	n := g.width()
	if !g.diag {
		n *= g.K
	}
	return Moments{Sum: make([]float64, n), Abs: make([]float64, g.width()), Total: make([]float64, g.width())}
}

// merge enters the rows of a later run. Runs of another width are left out.
func (g *Gram) merge(t *Gram) {
	if g == nil || t == nil || g.K != t.K || g.Blocks != t.Blocks {
		return
	}
	at := 4 * g.width() * t.fit
	g.Fit.add(t.rows[:at], g)
	g.Held.add(t.rows[at:], g)
}

// rowsAtOnce bounds the memory for rows in float64.
const rowsAtOnce = 256

// add enters rows.
func (m *Moments) add(b []byte, g *Gram) {
	width := g.width()
	buf := make([]float64, min(rowsAtOnce, len(b)/4/width)*width)
	for len(b) > 0 {
		n := min(len(b)/4, len(buf))
		for i := range n {
			x := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
			buf[i] = x
			m.Abs[i%width] += math.Abs(x)
			m.Total[i%width] += x
			if g.diag {
				m.Sum[i%width] += x * x
			}
		}
		if !g.diag {
			m.multiply(buf[:n], g)
		}
		m.Rows += int64(n / width)
		b = b[4*n:]
	}
}

// multiply enters the products of the columns of each part of rows.
func (m *Moments) multiply(rows []float64, g *Gram) {
	k, width := g.K, g.width()
	for i := range g.Blocks {
		blas64.Syrk(blas.Trans, 1, blas64.General{Rows: len(rows) / width, Cols: k, Stride: width, Data: rows[i*k:]},
			1, blas64.Symmetric{N: k, Stride: k, Data: m.Sum[i*k*k : (i+1)*k*k], Uplo: blas.Upper})
	}
}

// Add enters the sums of other rows of the same columns.
func (m *Moments) Add(o *Moments) {
	m.Rows += o.Rows
	for _, p := range [][2][]float64{{m.Sum, o.Sum}, {m.Abs, o.Abs}, {m.Total, o.Total}} {
		for i, x := range p[1] {
			p[0][i] += x
		}
	}
}

// Mean turns the sums into means, in place, and fills in the products below the
// diagonal.
func (m *Moments) Mean() {
	scale := 1 / float64(max(m.Rows, 1))
	for _, v := range [][]float64{m.Sum, m.Abs, m.Total} {
		for i := range v {
			v[i] *= scale
		}
	}
	if len(m.Abs) == 0 {
		return
	}
	k := len(m.Sum) / len(m.Abs)
	for at := 0; k > 1 && at < len(m.Sum); at += k * k {
		h := m.Sum[at : at+k*k]
		for i := range k {
			for j := i + 1; j < k; j++ {
				h[j*k+i] = h[i*k+j]
			}
		}
	}
}

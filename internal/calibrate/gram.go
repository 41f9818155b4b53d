package calibrate

import (
	"encoding/binary"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// Gram is what the error of a product with a tensor depends on. Its rows, over
// all leading axes, are x of K elements; those that are held out are summed apart.
// The size of two K×K matrices does not depend on how much data there is.
type Gram struct {
	K         int
	Fit, Held Moments

	rows []byte // those of one run that are not summed up yet, float32
	fit  int    // how many of them are not held out; these come first
}

// Moments are sums over rows.
type Moments struct {
	Rows int64
	// Sum is Σ x·xᵀ, K×K by rows; on and above the diagonal, zero below.
	Sum []float64
	Abs []float64 // Σ |x|
}

// heldShare is what share of the rows is held out, as 1/heldShare.
const heldShare = 5

// newGram keeps the rows of run k until they are summed in the order of the runs;
// nil where the tensor has no rows.
func newGram(b []byte, shape []int64, every int, k int64) *Gram {
	if len(shape) == 0 || shape[len(shape)-1] == 0 {
		return nil
	}
	g := &Gram{K: int(shape[len(shape)-1]), rows: b}
	rows := len(b) / 4 / g.K
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

// summed returns g with its rows summed up.
func (g *Gram) summed() *Gram {
	if g == nil {
		return nil
	}
	s := &Gram{K: g.K, Fit: newMoments(g.K), Held: newMoments(g.K)}
	s.merge(g)
	return s
}

func newMoments(k int) Moments { return Moments{Sum: make([]float64, k*k), Abs: make([]float64, k)} }

// merge enters the rows of a later run. Runs of another width are left out.
func (g *Gram) merge(t *Gram) {
	if g == nil || t == nil || g.K != t.K {
		return
	}
	at := 4 * g.K * t.fit
	g.Fit.add(t.rows[:at], g.K)
	g.Held.add(t.rows[at:], g.K)
}

// rowsAtOnce bounds the memory for rows in float64.
const rowsAtOnce = 256

// add enters rows.
func (m *Moments) add(b []byte, k int) {
	buf := make([]float64, min(rowsAtOnce, len(b)/4/k)*k)
	for len(b) > 0 {
		n := min(len(b)/4, len(buf))
		for i := range n {
			x := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
			buf[i] = x
			m.Abs[i%k] += math.Abs(x)
		}
		rows := n / k
		blas64.Syrk(blas.Trans, 1, blas64.General{Rows: rows, Cols: k, Stride: k, Data: buf[:n]},
			1, blas64.Symmetric{N: k, Stride: k, Data: m.Sum, Uplo: blas.Upper})
		m.Rows += int64(rows)
		b = b[4*n:]
	}
}

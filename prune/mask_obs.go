package prune

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/linalg"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// lazyColumns is how many weights of a row are pruned between two updates of all
// that follow, as the authors of SparseGPT set it.
const lazyColumns = 128

// obs prunes the weights of one part of a layer, the weights of each output from
// the first to the last, and has those that follow make up for each one that goes:
// with U the upper Cholesky factor of the inverse of the products of the inputs, a
// weight w that goes from place i takes U[i,j]·w/U[i,i] off that in place j
// (Frantar and Alistarh, 2023).
type obs struct {
	k, n int
	u    []float64 // [k, k]
	dead []bool    // inputs that are always zero
	w    []float64 // [k, n], by the weights' place in a row, then by output
	gone []bool    // likewise; given, or chosen on the way

	choose   bool
	pattern  maskPattern
	seg      int
	sparsity float64
	byRow    bool  // as many of each output
	first    []int // byRow for each output, else in all: how many go between two updates, one after the other
	seen     int   // weights in blocks that could have been chosen so far
	taken    int64 // those that were
}

func (o *obs) run() {
	errs := make([]float64, o.widest()*o.n)
	for i1 := 0; i1 < o.k; {
		i2 := o.stop(i1)
		if o.choose && !o.pattern.grouped() {
			o.chooseFrom(i1, i2)
		}
		linalg.Stripes(o.n, func(c0, c1 int) { o.columns(i1, i2, c0, c1, errs) })
		if i2 < o.k {
			blas64.Gemm(blas.Trans, blas.NoTrans, -1,
				blas64.General{Rows: i2 - i1, Cols: o.k - i2, Stride: o.k, Data: o.u[i1*o.k+i2:]},
				linalg.General(errs[:(i2-i1)*o.n], i2-i1, o.n), 1, linalg.General(o.w[i2*o.n:], o.k-i2, o.n))
		}
		i1 = i2
	}
}

// widest is the most places between two updates.
func (o *obs) widest() int { return max(lazyColumns, o.pattern.unit()) }

// stop returns where the places from i1 on that are pruned between two updates
// end: at the end of a group or a block.
func (o *obs) stop(i1 int) int {
	unit := o.pattern.unit()
	if unit == 1 {
		return min(i1+lazyColumns, o.k)
	}
	return min(i1+max(lazyColumns/unit, 1)*unit, (i1/o.seg+1)*o.seg, o.k)
}

// columns prunes the places from i1 to i2 of outputs c0 to c1, and leaves in errs
// what each one takes off the places from i2 on.
func (o *obs) columns(i1, i2, c0, c1 int, errs []float64) {
	for i := i1; i < i2; i++ {
		if o.choose && o.pattern.grouped() && i%o.seg%o.pattern.m == 0 {
			o.chooseGroup(i, min(i+o.pattern.m, i2), c0, c1)
		}
		row, e := o.w[i*o.n+c0:i*o.n+c1], errs[(i-i1)*o.n+c0:(i-i1)*o.n+c1]
		d := o.u[i*o.k+i]
		for c := range row {
			e[c] = 0
			if !o.gone[i*o.n+c0+c] {
				continue
			}
			if !o.dead[i] {
				e[c] = row[c] / d
			}
			row[c] = 0
		}
		for j := i + 1; j < i2; j++ {
			linalg.Axpy(-o.u[i*o.k+j], e, o.w[j*o.n+c0:j*o.n+c1])
		}
	}
}

// score is the root of what the square of the output grows by where weight i of
// output c goes and those behind it make up for it.
func (o *obs) score(i, c int) float32 {
	if o.dead[i] {
		return 0
	}
	return float32(math.Abs(o.w[i*o.n+c]) / o.u[i*o.k+i])
}

// chooseGroup chooses which of the weights from i1 to i2 go, for each output.
func (o *obs) chooseGroup(i1, i2, c0, c1 int) {
	group := make([]float32, i2-i1)
	for c := c0; c < c1; c++ {
		for i := range group {
			group[i] = o.score(i1+i, c)
		}
		o.pattern.least(group, func(i int) { o.gone[(i1+i)*o.n+c] = true })
	}
}

// chooseFrom chooses which of the weights from i1 to i2 of all outputs go.
func (o *obs) chooseFrom(i1, i2 int) {
	scores := make([]float32, (i2-i1)*o.n)
	for i := range scores {
		scores[i] = o.score(i1+i/o.n, i%o.n)
	}
	if !o.pattern.blocked() {
		o.chooseSingle(i1, i2, scores)
		return
	}
	v := maskView{rows: o.n, cols: i2 - i1, seg: i2 - i1, parts: 1}
	turned := make([]float32, len(scores))
	for i, x := range scores {
		turned[i%o.n*v.cols+i/o.n] = x
	}
	list, mask := o.pattern.blockScores(v, turned), newMask(len(scores))
	o.seen += len(scores)
	c := blockCut([][]maskScore{list}, shareOf(o.sparsity, o.seen)-o.taken)
	o.pattern.markBlocks(v, list, &c, mask)
	o.taken += mask.count()
	for i := range scores {
		if mask.has(i%o.n*v.cols + i/o.n) {
			o.gone[i1*o.n+i] = true
		}
	}
}

// chooseSingle chooses as many as [obs.shares] says, by scores [i2−i1, n].
func (o *obs) chooseSingle(i1, i2 int, scores []float32) {
	if o.first == nil {
		o.shares()
	}
	at := i1 / lazyColumns
	if !o.byRow {
		c := cutOf([][]float32{scores}, int64(o.first[at]))
		c.mark(scores, func(i int) { o.gone[i1*o.n+i] = true })
		return
	}
	row := make([]float32, i2-i1)
	for c := range o.n {
		for i := range row {
			row[i] = scores[i*o.n+c]
		}
		least := cutOf([][]float32{row}, int64(o.first[at*o.n+c]))
		least.mark(row, func(i int) { o.gone[(i1+i)*o.n+c] = true })
	}
}

// shares settles how many weights go between two updates: as many as would if all
// were ranked as they are at first. The authors of SparseGPT take an equal share each
// time, which costs much where some inputs are far more active than others.
func (o *obs) shares() {
	stretches := (o.k + lazyColumns - 1) / lazyColumns
	all := make([]float32, o.k*o.n) // by output where byRow
	for i := range o.k {
		for c := range o.n {
			if o.byRow {
				all[c*o.k+i] = o.score(i, c)
			} else {
				all[i*o.n+c] = o.score(i, c)
			}
		}
	}
	if !o.byRow {
		o.first = make([]int, stretches)
		c := cutOf([][]float32{all}, shareOf(o.sparsity, len(all)))
		c.mark(all, func(i int) { o.first[i/o.n/lazyColumns]++ })
		return
	}
	o.first = make([]int, stretches*o.n)
	for r := range o.n {
		row := all[r*o.k : (r+1)*o.k]
		c := cutOf([][]float32{row}, shareOf(o.sparsity, o.k))
		c.mark(row, func(i int) { o.first[i/lazyColumns*o.n+r]++ })
	}
}

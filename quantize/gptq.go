package quantize

import (
	"cmp"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/linalg"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// The constants of GPTQ (Frantar et al., 2022) as its authors set them.
const (
	lazy        = 128 // rows between two updates of all that follow
	shrinkSteps = 100 // of the search for the range of a block
	mostShrink  = 0.8
	shrinkNorm  = 2.4
	fewRows     = 2 // rows of data per row of weights below which the damping is ten times as much
)

// gptq enters codes that make up for the error of each row of weights in the rows
// that follow, with steps that are searched for: of blocks as they are when their
// turn comes, and of those before with the rows that matter most first.
func (t *fitTrial) gptq() error {
	for _, v := range []gptqVariant{{shrink: true}, {shrink: true, ordered: true}} {
		f := t.d.factor(v.ordered)
		if f.u == nil {
			return nil
		}
		if err := t.enter("gptq", gptq(t.l, t.w, f, v)); err != nil {
			return err
		}
	}
	return nil
}

type gptqVariant struct{ shrink, ordered bool }

// factor is what GPTQ has to know of what layers read.
type factor struct {
	order []int     // of the rows
	dead  []bool    // rows that only ever meet zeros
	u     []float64 // upper Cholesky factor of the inverse of 2·H, its rows in order; nil: there is none
}

// factor returns the factor for all layers that read the same.
func (d *evidence) factor(ordered bool) *factor {
	if f := d.factors[ordered]; f != nil {
		return f
	}
	k := d.fit.k
	h, f := make([]float64, k*k), &factor{order: make([]int, k), dead: make([]bool, k)}
	for i, x := range d.fit.h {
		h[i] = 2 * x
	}
	for i := range k {
		f.order[i] = i
		if h[i*k+i] == 0 {
			h[i*k+i], f.dead[i] = 1, true
		}
	}
	if ordered {
		slices.SortStableFunc(f.order, func(a, b int) int { return cmp.Compare(h[b*k+b], h[a*k+a]) })
	}
	f.u = linalg.InverseFactor(h, f.order, d.fit.rows < fewRows*int64(k))
	if d.factors == nil {
		d.factors = map[bool]*factor{}
	}
	d.factors[ordered] = f
	return f
}

// gptq codes w [k, n] row by row.
func gptq(l *layer, w []float64, by *factor, v gptqVariant) *blockwise {
	k, n := l.op.k, l.op.n
	out := &blockwise{f: l.f, op: l.op, steps: newSteps(l.f, n*l.f.count(k)), codes: make([]byte, n*l.f.count(k)*l.f.bytes())}
	linalg.Stripes(n, func(c0, c1 int) {
		g := &gptqRun{l: l, k: k, c0: c0, n: c1 - c0, u: by.u, v: v, order: by.order, out: out}
		g.w, g.raw = make([]float64, k*g.n), make([]byte, k*g.n)
		for i, from := range by.order {
			if !by.dead[from] {
				copy(g.w[i*g.n:(i+1)*g.n], w[from*n+c0:from*n+c1])
			}
		}
		if v.ordered { // the steps are those of the weights before the sorting
			for b := range l.f.count(k) {
				g.fitBlock(b, func(i int) []float64 { return w[i*n+c0 : i*n+c1] })
			}
		}
		g.run()
		g.pack()
	})
	return out
}

// gptqRun is the loop over the rows, for n channels from c0 on.
type gptqRun struct {
	l        *layer
	k, c0, n int
	u        []float64 // [k, k]
	w        []float64 // [k, n], rows in order
	raw      []byte    // codes [k, n], rows as in the operand
	v        gptqVariant
	order    []int
	out      *blockwise
}

func (g *gptqRun) run() {
	errs := make([]float64, lazy*g.n)
	for i1 := 0; i1 < g.k; i1 += lazy {
		i2 := min(i1+lazy, g.k)
		for i := i1; i < i2; i++ {
			if !g.v.ordered && i%g.l.f.size == 0 {
				g.fitBlock(i/g.l.f.size, func(r int) []float64 { return g.w[r*g.n : (r+1)*g.n] })
			}
			e := errs[(i-i1)*g.n : (i-i1+1)*g.n]
			g.row(i, e)
			for j := i + 1; j < i2; j++ {
				linalg.Axpy(-g.u[i*g.k+j], e, g.w[j*g.n:(j+1)*g.n])
			}
		}
		if i2 < g.k {
			blas64.Gemm(blas.Trans, blas.NoTrans, -1,
				blas64.General{Rows: i2 - i1, Cols: g.k - i2, Stride: g.k, Data: g.u[i1*g.k+i2:]},
				linalg.General(errs[:(i2-i1)*g.n], i2-i1, g.n), 1, linalg.General(g.w[i2*g.n:], g.k-i2, g.n))
		}
	}
}

// row codes row i and leaves its error, over the diagonal, in e.
func (g *gptqRun) row(i int, e []float64) {
	at, d := g.order[i], g.u[i*g.k+i]
	block, count := at/g.l.f.size, g.l.f.count(g.k)
	var one [1]float32
	for n := range g.n {
		w := g.w[i*g.n+n]
		s := g.out.steps.at((g.c0+n)*count + block)
		one[0] = float32(w)
		g.l.f.code(g.raw[at*g.n+n:at*g.n+n+1], one[:], s)
		e[n] = (w - float64(s.value(g.raw[at*g.n+n]))) / d
	}
}

// fitBlock finds the steps of block b from the rows of the weights.
func (g *gptqRun) fitBlock(b int, rows func(i int) []float64) {
	f, count := g.l.f, g.l.f.count(g.k)
	from, to := b*f.size, min((b+1)*f.size, g.k)
	w := make([]float32, to-from)
	buf := make([]byte, len(w))
	for n := range g.n {
		for i := range w {
			w[i] = float32(rows(from + i)[n])
		}
		s := f.fit(w)
		if g.v.shrink {
			s = f.shrunk(w, buf)
		}
		g.out.steps.set((g.c0+n)*count+b, s)
	}
}

// pack puts the codes where MatMulNBits reads them.
func (g *gptqRun) pack() {
	f, count := g.l.f, g.l.f.count(g.k)
	buf := make([]byte, f.size)
	for n := range g.n {
		for b := range count {
			w := buf[:min(f.size, g.k-b*f.size)]
			for i := range w {
				w[i] = g.raw[(b*f.size+i)*g.n+n]
			}
			at := ((g.c0+n)*count + b) * f.bytes()
			f.pack(g.out.codes[at:at+f.bytes()], w)
		}
	}
}

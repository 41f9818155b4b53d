package quantize

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/linalg"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// The constants of AWQ (Lin et al., 2023).
const (
	gainSteps = 20   // of the exponent, from 0 to 1
	leastGain = 1e-4 // gains are from this to its inverse
	clipSteps = 20   // of the search for the range of a block
	leastClip = 0.5
)

// gainFor returns the gain of each row of weights, the same for all layers that
// read one tensor, with which their nearest codes cost the output least; nil for
// none. What layers read is divided by it.
func (s *weightOnly) gainFor(d *evidence, g *shared) ([]float32, error) {
	if !s.wants("awq") {
		return nil, nil
	}
	g, weights, err := g.thinned()
	if err != nil {
		return nil, err
	}
	typical := typicalWeights(g, weights)
	cost := func(gain []float32) (float64, error) {
		sum := 0.0
		for i, l := range g.layers {
			b := &blockwise{f: l.f, op: l.op}
			b.op.gain = gain
			var err error
			if b.steps, err = b.fit(); err != nil {
				return math.Inf(1), nil
			}
			got, err := b.decoded(spread(l.op.n, l.op.n))
			if err != nil {
				return 0, err
			}
			for j, x := range weights[i] {
				got[j] -= x
			}
			sum += d.fit.power(got, l.op.n)
		}
		return sum, nil
	}
	least, err := cost(nil)
	if err != nil {
		return nil, err
	}
	var best []float32
	for i := range gainSteps + 1 {
		gain := gainOf(d.fit.abs, typical, float64(i)/gainSteps)
		c, err := cost(gain)
		if err != nil {
			return nil, err
		}
		if c < least {
			best, least = gain, c
		}
	}
	return best, nil
}

// thinned returns g with some channels of each layer, in memory, and their
// weights [k, n].
func (g *shared) thinned() (*shared, [][]float64, error) {
	out := &shared{input: g.input, k: g.k}
	var weights [][]float64
	for _, l := range g.layers {
		w, err := l.op.dense()
		if err != nil {
			return nil, nil, err
		}
		kept := pick(w, l.op.n, spread(l.op.n, judged))
		n := len(kept) / g.k
		some := make([]float32, len(kept))
		for i, x := range kept {
			some[i] = float32(x)
		}
		op := operand{t: onnx.FromFloats(l.op.t.Name, []int64{int64(g.k), int64(n)}, some), k: g.k, n: n, batch: 1}
		out.layers, weights = append(out.layers, &layer{l.name, l.f, op}), append(weights, kept)
	}
	return out, weights, nil
}

// typicalWeights returns the mean magnitude of each row of weights, those of a
// block as shares of its largest.
func typicalWeights(g *shared, weights [][]float64) []float64 {
	out, columns := make([]float64, g.k), 0
	for i, l := range g.layers {
		n := l.op.n
		columns += n
		for from := 0; from < g.k; from += l.f.size {
			to := min(from+l.f.size, g.k)
			for c := range n {
				peak := 0.0
				for k := from; k < to; k++ {
					peak = max(peak, math.Abs(weights[i][k*n+c]))
				}
				if peak == 0 {
					continue
				}
				for k := from; k < to; k++ {
					out[k] += math.Abs(weights[i][k*n+c]) / peak
				}
			}
		}
	}
	for k := range out {
		out[k] /= float64(columns)
	}
	return out
}

// gainOf returns x^a / w^(1−a), scaled so that its extremes are inverse to each other.
func gainOf(x, w []float64, a float64) []float32 {
	out := make([]float64, len(x))
	lo, hi := math.Inf(1), 0.0
	for i := range out {
		out[i] = min(max(math.Pow(max(x[i], leastGain), a)/math.Pow(max(w[i], leastGain), 1-a), leastGain), 1/leastGain)
		lo, hi = min(lo, out[i]), max(hi, out[i])
	}
	gain := make([]float32, len(x))
	for i, v := range out {
		gain[i] = float32(v / math.Sqrt(lo*hi))
	}
	return gain
}

// awq enters nearest codes of the weights times a gain, with the ranges of blocks
// clipped, and those without a gain.
func (t *fitTrial) awq(gain []float32) error {
	for _, g := range [][]float32{nil, gain} {
		b := &blockwise{f: t.l.f, op: t.l.op, clipped: true}
		b.op.gain = g
		var err error
		if b.steps, err = t.clipped(b); err != nil {
			return err
		}
		if err := t.enter("awq", b); err != nil || gain == nil {
			return err
		}
	}
	return nil
}

// clipped returns the steps of b, each of the range of its block or of a smaller
// one, with the least error of the block's share of the output.
func (t *fitTrial) clipped(b *blockwise) (*steps, error) {
	s := newSteps(b.f, b.total())
	err := b.op.each(b.f.size, func(p *blockPart) error {
		for i := p.first; i < p.last; i++ {
			t.clipBlock(b, s, p, i)
		}
		return nil
	})
	return s, err
}

// clipBlock finds the steps of block i for the channels of p.
func (t *fitTrial) clipBlock(b *blockwise, s *steps, p *blockPart, i int) {
	from := i * b.f.size
	size := min(b.f.size, b.op.k-from)
	n := p.n1 - p.n0
	h := t.local(b, from, size)
	least, tries := make([]float64, n), make([]step, n)
	d, e, codes := make([]float64, size*n), make([]float64, size*n), make([]byte, size)
	for try := range clipSteps + 1 {
		shrink := 1 - float32(try)*(1-leastClip)/clipSteps
		for c := range n {
			w := p.block(p.n0+c, i, b.f.size)
			lo, hi := extremes(w)
			v := b.f.between(lo*shrink, hi*shrink)
			b.f.code(codes, w, v)
			tries[c] = v
			for j, x := range w {
				d[j*n+c] = float64(x) - float64(v.value(codes[j]))
			}
		}
		blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, linalg.General(h, size, size), linalg.General(d, size, n), 0, linalg.General(e, size, n))
		for c := range n {
			sum := 0.0
			for j := range size {
				sum += d[j*n+c] * e[j*n+c]
			}
			if try == 0 || sum < least[c] {
				least[c] = sum
				s.set(b.index(0, p.n0+c, i), tries[c])
			}
		}
	}
}

// local returns the products of the columns of one block, of what is read after
// the division by the gain.
func (t *fitTrial) local(b *blockwise, from, size int) []float64 {
	out, k := make([]float64, size*size), t.d.fit.k
	for i := range size {
		for j := range size {
			x := t.d.fit.h[(from+i)*k+from+j]
			if g := b.op.gain; g != nil {
				x /= float64(g[from+i]) * float64(g[from+j])
			}
			out[i*size+j] = x
		}
	}
	return out
}

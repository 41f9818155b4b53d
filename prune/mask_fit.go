package prune

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maskFit is what becomes of a weight.
type maskFit struct {
	mask  maskBits  // elements that become zero
	data  onnx.Data // the content with the others changed too; nil: they stay
	shift []float64 // what is added to each output; nil: nothing

	importance string
	blind      string   // why nothing was measured
	error      *float64 // share of the power of the output, on held-out rows; nil: not known
	repairs    []Repaired
}

// Repaired is what became of one repair of a weight.
type Repaired struct {
	Name   string  `json:"name"`
	Before float64 `json:"error_before"` // share of the power of the output on rows that nothing was fitted to
	After  float64 `json:"error_after"`
	Kept   bool    `json:"kept"`
	Note   string  `json:"note,omitempty"` // why it was not tried, or not kept
}

// maskWork is the decision about one weight.
type maskWork struct {
	p    *maskPlan
	l    *maskLayer
	e    *maskEvidence
	w    []float64 // as they were, by rows and columns
	mask maskBits  // by rows and columns
	obs  []float64 // what OBS makes of w; nil: it was not run

	some  []int     // rows of each part that are judged by
	power float64   // of their outputs, on held-out rows
	now   []float64 // the weights that are best so far
	f     *maskFit
}

// fit decides about a layer, by what was measured where e is not nil.
func (p *maskPlan) fit(at int, l *maskLayer, e *maskEvidence) error {
	w, err := denseRows(l)
	if err != nil {
		return err
	}
	x := &maskWork{p: p, l: l, e: e, w: w, f: &maskFit{importance: p.o.Importance, blind: l.blind}}
	if e != nil && !finiteAll(w) {
		x.e, x.f.blind = nil, "some of its weights are NaN or infinite"
	}
	if x.e == nil {
		x.f.importance = Magnitude
	}
	if err := x.choose(); err != nil {
		return err
	}
	x.f.mask = x.mask.stored(l.view)
	p.fits[at] = x.f
	if x.e == nil || x.e.diagonal {
		return nil
	}
	return x.repair()
}

// choose finds the mask.
func (x *maskWork) choose() error {
	o, v := x.p.o, x.l.view
	scores := magnitudes(x.w)
	switch {
	case x.f.importance == Wanda:
		part := v.part()
		for i := range scores {
			scores[i] = float32(math.Abs(x.w[i]) * x.e.norm(i/v.cols/part, i%v.cols))
		}
	case x.f.importance == SparseGPT:
		x.mask = newMask(len(x.w))
		if x.prune(true) {
			return nil
		}
		x.f.importance = Magnitude
		x.f.blind = "the products of its inputs cannot be inverted"
	case o.masks.whole && o.masks.pattern.blocked():
		x.mask = newMask(len(x.w))
		o.masks.pattern.markBlocks(v, o.masks.pattern.blockScores(v, scores), &x.p.blocks, x.mask)
		return nil
	case o.masks.whole:
		return x.chooseTogether()
	}
	x.mask = o.masks.pattern.choose(v, scores, o.masks.byRow, o.Sparsity)
	return nil
}

// chooseTogether takes the weights below the threshold of all tensors, in the
// order of their elements.
func (x *maskWork) chooseTogether() error {
	t := x.l.value.Constant()
	b, err := t.Bytes()
	if err != nil {
		return err
	}
	stored, c := newMask(len(x.w)), &x.p.zeros
	visit(b, t.DType, func(i int, bits uint32) {
		if c.takes(bits) {
			stored.set(i)
		}
	})
	x.mask = stored.byRow(x.l.view)
	return nil
}

// prune runs OBS on all parts, with the mask that is there or choosing it on the
// way; false where the products of the inputs cannot be inverted.
func (x *maskWork) prune(choose bool) bool {
	v := x.l.view
	part, all := v.part(), everyRow(v.part(), v.part())
	out := make([]float64, len(x.w))
	for g := range v.parts {
		f := x.e.factor(g)
		if f.u == nil {
			return false
		}
		run := &obs{k: v.cols, n: part, u: f.u, dead: f.dead, w: columnsOf(x.w, v.cols, g*part, all), gone: make([]bool, v.cols*part),
			choose: choose, pattern: x.p.o.masks.pattern, seg: v.seg, sparsity: x.p.o.Sparsity,
			byRow: x.p.o.masks.byRow}
		for i := range run.gone {
			run.gone[i] = x.mask.has((g*part+i%part)*v.cols + i/part)
		}
		run.run()
		for i, y := range run.w {
			at := (g*part+i%part)*v.cols + i/part
			out[at] = y
			if run.gone[i] {
				x.mask.set(at)
			}
		}
	}
	x.obs = out
	return true
}

// mostJudged is how many outputs of each part are judged by: the error is a sum
// over outputs, of which those are a sample.
const mostJudged = 512

// repair keeps what lowers the error on held-out rows.
func (x *maskWork) repair() error {
	v := x.l.view
	x.some = everyRow(v.part(), mostJudged)
	x.power = x.errorOf(make([]float64, len(x.w)), nil)
	x.now = append([]float64(nil), x.w...)
	for i := range x.now {
		if x.mask.has(i) {
			x.now[i] = 0
		}
	}
	e := x.share(x.errorOf(x.now, nil))
	x.f.error = &e
	if x.p.o.repairing(RepairOBS) {
		if err := x.tryOBS(); err != nil {
			return err
		}
	}
	if x.p.o.repairing(RepairBias) {
		x.tryBias()
	}
	return nil
}

// share is an error as a share of the power of the output.
func (x *maskWork) share(e float64) float64 {
	switch {
	case e <= 0:
		return 0
	case x.power <= 0:
		return 1
	}
	return e / x.power
}

// errorOf returns the mean square, over held-out rows and summed over some outputs,
// of what w changes about the layer's output, with a shift added to it or not.
func (x *maskWork) errorOf(w, shift []float64) float64 {
	v, sum := x.l.view, 0.0
	n := len(x.some)
	for g := range v.parts {
		r0 := g * v.part()
		d := columnsOf(x.w, v.cols, r0, x.some)
		for i, y := range columnsOf(w, v.cols, r0, x.some) {
			d[i] -= y
		}
		for j, p := range x.e.heldPowers(g, d, n) {
			if shift != nil {
				s := shift[r0+x.some[j]]
				mean := 0.0
				for c := range v.cols {
					mean += d[c*n+j] * x.e.held.Total[g*v.cols+c]
				}
				p += s*s - 2*s*mean
			}
			sum += max(p, 0)
		}
	}
	return sum
}

// tryOBS keeps the weights of OBS where they are better.
func (x *maskWork) tryOBS() error {
	r := Repaired{Name: RepairOBS, Before: *x.f.error, After: *x.f.error}
	defer func() { x.f.repairs = append(x.f.repairs, r) }()
	if x.obs == nil && !x.prune(false) {
		r.Note = "the products of its inputs cannot be inverted"
		return nil
	}
	b, rounded, fits, err := encodeRows(x.l.value.Constant(), x.l.view, x.obs)
	if err != nil {
		return err
	}
	if !fits {
		r.Note = fmt.Sprintf("some of the new weights are beyond what %v holds", x.l.value.Constant().DType)
		return nil
	}
	if r.After = x.share(x.errorOf(rounded, nil)); !(r.After < r.Before) {
		r.Note = "the error on held-out rows does not fall"
		return nil
	}
	if x.f.data, err = x.p.spill.keep(b); err != nil {
		return err
	}
	r.Kept, x.now, x.f.error = true, rounded, &r.After
	return nil
}

// leastGain is by which share the error must fall for an operator to be added.
const leastGain = 0.1

// tryBias keeps the mean of what went as a shift of the output where that is better.
func (x *maskWork) tryBias() {
	r := Repaired{Name: RepairBias, Before: *x.f.error, After: *x.f.error}
	defer func() { x.f.repairs = append(x.f.repairs, r) }()
	place, why := biasPlaceOf(x.l.value)
	if r.Note = why; why != "" {
		return
	}
	v := x.l.view
	shift := make([]float64, v.rows)
	for i := range x.w {
		row := i / v.cols
		shift[row] += (x.w[i] - x.now[i]) * x.e.fit.Total[row/v.part()*v.cols+i%v.cols]
	}
	r.After = x.share(x.errorOf(x.now, shift))
	least := r.Before
	if place.made {
		least *= 1 - leastGain
	}
	switch {
	case r.After < least:
		r.Kept, x.f.shift, x.f.error = true, shift, &r.After
	case r.After < r.Before:
		r.Note = "the error on held-out rows falls by less than an operator is worth"
	default:
		r.Note = "the error on held-out rows does not fall"
	}
}

package prune

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"gonum.org/v1/gonum/mat"
)

// RepairChain refits each layer, from the first to the last, to what the original
// gives there, by what it reads once all layers before it are pruned and refitted.
const RepairChain = "chain"

// mostPasses is in how many passes over the data the layers of a chain are refitted.
const mostPasses = 40

// widestChain is the most columns, of both models together, whose products are measured.
const widestChain = 6000

// refitting fits the layers of a shrunken model m to those of the original.
type refitting struct {
	p         *structured
	plan      *plan
	whole     *onnx.Model // the original, as it was analysed
	small     *onnx.Model
	wholeRead map[string]contraction // by weight
	smallRead map[string]contraction
}

// link is one layer in both models.
type link struct {
	whole, small contraction
	joined       string // tensor that has what both read, one behind the other
	patches      *calibrate.Patches
	c0, c1, taps int // channels that each reads, and taps
}

// chain refits the layers of m, a shrunken copy of whole by plan pl, where that
// brings the outputs nearer to the original's.
func (p *structured) chain(ctx context.Context, whole, m *onnx.Model, pl *plan, r *unitRepairs) error {
	if !slices.Contains(p.o.repairs, RepairChain) || r.chained != nil && !r.keepChain {
		return nil
	}
	if r.chained == nil {
		if err := p.refit(ctx, whole, m, pl, r); err != nil {
			return err
		}
	}
	if r.keepChain {
		return r.rewire(m)
	}
	return nil
}

// refit finds the new weights on a copy of m.
func (p *structured) refit(ctx context.Context, whole, m *onnx.Model, pl *plan, r *unitRepairs) error {
	r.chained = map[string]refitted{}
	before, err := p.held.Score(ctx, m)
	if err != nil {
		return err
	}
	c := &refitting{p: p, plan: pl, whole: whole, small: m.Clone(), wholeRead: reads(whole)}
	names := c.order(r)
	passes := min(len(names), mostPasses)
	for k := range passes {
		p.progress(fmt.Sprintf("refitting layers %d/%d", k+1, passes))
		if err := c.pass(ctx, names[k*len(names)/passes:(k+1)*len(names)/passes], r); err != nil {
			return err
		}
	}
	after, err := p.held.Score(ctx, c.small)
	if err != nil {
		return err
	}
	r.keepChain = nearer(after, before)
	r.log = append(r.log, UnitRepair{"all layers, one after the other", Repaired{Name: RepairChain, Before: noiseOf(before.DB),
		After: noiseOf(after.DB), Kept: r.keepChain}})
	return nil
}

// refitted is what a layer's weights and the shift of its output become.
type refitted struct {
	weight *onnx.Tensor
	shift  []float64 // nil: none
}

// rewire gives m the weights that were found.
func (r *unitRepairs) rewire(m *onnx.Model) error {
	for name, c := range reads(m) {
		f, ok := r.chained[name]
		if !ok {
			continue
		}
		if err := f.put(c); err != nil {
			return err
		}
	}
	m.Graph.Sweep()
	return nil
}

// put gives a layer its new weights.
func (f refitted) put(c contraction) error {
	c.weight.SetConst(f.weight)
	if f.shift == nil {
		return nil
	}
	place, why := biasPlaceOf(c.weight)
	if why != "" {
		return fmt.Errorf("%v: %s", c.node, why)
	}
	return place.put(c.weight, f.shift)
}

// reads returns the layers of m's main graph that a chain can refit, by the names of their weights.
func reads(m *onnx.Model) map[string]contraction {
	out := map[string]contraction{}
	for n := range m.Graph.Nodes() {
		if len(n.Inputs()) < 2 || n.Input(1).Constant() == nil || n.Input(1).Const == nil || n.Input(0).Constant() != nil || len(n.Input(1).Uses()) > 1 {
			continue
		}
		t := n.Input(1).Const
		switch {
		case n.Is("Conv") && n.Int("group", 1) == 1 && len(t.Shape) > 2, n.Is("MatMul") && len(t.Shape) == 2,
			n.Is("Gemm") && n.Int("transA", 0) == 0 && len(t.Shape) == 2:
			out[n.Input(1).Name()] = contraction{node: n, input: n.Input(0), weight: n.Input(1)}
		}
	}
	return out
}

// order lists the layers behind the first that changed, in order of the graph.
func (c *refitting) order(r *unitRepairs) []string {
	touched := map[*onnx.Value]bool{}
	var out []string
	for n := range c.small.Graph.Nodes() {
		changed := false
		for _, v := range n.Inputs() {
			changed = changed || v != nil && touched[v]
		}
		if len(n.Inputs()) > 1 && n.Input(1) != nil && n.Input(1).Const != nil {
			name := n.Input(1).Name()
			w, ok := c.wholeRead[name]
			if ok && refits(n) && changed {
				out = append(out, name)
			}
			changed = changed || r.data[name] != nil || r.shifts[name] != nil || ok && !slices.Equal(w.weight.Const.Shape, n.Input(1).Const.Shape)
		}
		for _, v := range n.Outputs() {
			if v != nil && changed {
				touched[v] = true
			}
		}
	}
	return out
}

// refits reports whether n is a layer of the kind.
func refits(n *onnx.Node) bool {
	return n.Is("Conv") && n.Int("group", 1) == 1 || n.Is("MatMul") || n.Is("Gemm")
}

// pass refits some layers by one pass over the data.
func (c *refitting) pass(ctx context.Context, names []string, r *unitRepairs) error {
	c.smallRead = reads(c.small)
	joined, links, err := c.join(names)
	if err != nil {
		return err
	}
	if len(links) == 0 {
		return nil
	}
	var wants []calibrate.Want
	for _, l := range links {
		wants = append(wants, calibrate.Want{Tensor: l.joined, Key: l.joined, Patches: l.patches, Extremes: true, MaybeEmpty: true, Gram: true,
			HoldEvery: c.holdEvery()})
	}
	o := c.p.o.Data
	stats, err := calibrate.Measure(ctx, joined, wants, func() calibrate.Pass { return calibrate.Over(ctx, o.Data, o.Batch) },
		calibrate.Options{Open: o.Open, Session: o.Session, MaxBytes: c.p.o.MaxMemory})
	if err != nil {
		return fmt.Errorf("refitting layers: %w", err)
	}
	for _, l := range links {
		s := stats.Stats[l.joined]
		if s == nil || s.Gram == nil || s.Invalid > 0 || s.Gram.K != (l.c0+l.c1)*l.taps || s.Gram.Fit.Rows == 0 || s.Gram.Held.Rows == 0 {
			continue
		}
		f, err := c.fit(l, s.Gram)
		if err != nil {
			return err
		}
		if f != nil {
			r.chained[l.small.weight.Name()] = *f
			if err := f.put(l.small); err != nil {
				return err
			}
		}
	}
	c.small.Graph.Sweep()
	return nil
}

func (c *refitting) holdEvery() int {
	return holdEvery(int(c.p.o.Data.Data.Len()) / max(c.p.o.Data.Batch, 1))
}

// join returns a model that runs both, with what their layers read side by side.
func (c *refitting) join(names []string) (*onnx.Model, []link, error) {
	m := c.whole.Clone()
	whole := reads(m)
	m.IRVersion = max(m.IRVersion, 4) // whose weights need not be inputs
	both := joinModels(m, c.small)
	var links []link
	for _, name := range names {
		w, s := whole[name], c.smallRead[name]
		if w.node == nil || s.node == nil {
			continue
		}
		l := link{whole: c.wholeRead[name], small: s, taps: 1}
		axis, shape := int64(-1), w.weight.Const.Shape
		l.c0, l.c1 = int(inputs(l.whole)), int(inputs(s))
		if w.node.Is("Conv") {
			axis = 1
			l.patches = convPatches(w.node, shape)
			l.taps = maskProduct(toInts(shape[2:]))
		}
		k := (l.c0 + l.c1) * l.taps
		if k > widestChain {
			continue
		}
		if l.patches != nil {
			l.patches.Most = (&maskPlan{o: &Options{DataOptions: DataOptions{Calibration: c.p.o.Data.Data, Batch: c.p.o.Data.Batch}}}).positions(k)
		}
		cat := onnx.NewNode("Concat", []*onnx.Value{w.input, both[s.input]}, m.Fresh("joined"))
		cat.SetAttr(onnx.IntAttr("axis", axis))
		m.Graph.Append(cat)
		l.joined = cat.Output(0).Name()
		links = append(links, l)
	}
	return m, links, nil
}

func toInts(list []int64) []int {
	out := make([]int, len(list))
	for i, x := range list {
		out[i] = int(x)
	}
	return out
}

// inputs returns how many channels a layer reads.
func inputs(c contraction) int64 {
	s := c.weight.Const.Shape
	if c.node.Is("MatMul") || c.node.Is("Gemm") && c.node.Int("transB", 0) == 0 {
		return s[0]
	}
	return s[1]
}

// joinModels puts a copy of all nodes of src behind those of dst, reading dst's inputs,
// and returns the copies of src's values.
func joinModels(dst, src *onnx.Model) map[*onnx.Value]*onnx.Value {
	byName := map[string]*onnx.Value{}
	for _, v := range dst.Graph.Inputs() {
		byName[v.Name()] = v
	}
	at := map[*onnx.Value]*onnx.Value{}
	for _, v := range src.Graph.Inputs() {
		at[v] = byName[v.Name()]
	}
	for _, v := range src.Graph.Initializers() {
		if v.Constant() == nil {
			continue
		}
		t := *v.Const
		t.Name = dst.Fresh(v.Name())
		at[v] = dst.Graph.NewConst(&t)
	}
	for n := range src.Graph.Nodes() {
		ins, outs := make([]*onnx.Value, len(n.Inputs())), make([]string, len(n.Outputs()))
		for i, v := range n.Inputs() {
			if v != nil {
				ins[i] = at[v]
			}
		}
		for i, v := range n.Outputs() {
			if v != nil {
				outs[i] = dst.Fresh(v.Name())
			}
		}
		k := onnx.CloneNodeInto(n, ins, outs, at)
		k.Name = ""
		dst.Graph.Append(k)
		for i, v := range n.Outputs() {
			if v != nil {
				at[v] = k.Output(i)
			}
		}
	}
	return at
}

// fit returns new weights for a layer: those with which it comes nearest to what
// the original's layer gives, on rows to fit to; nil where the error on held-out
// rows does not fall.
func (c *refitting) fit(l link, g *calibrate.Gram) (*refitted, error) {
	g.Fit.Mean()
	g.Held.Mean()
	w0, b0, err := c.original(l)
	if err != nil {
		return nil, err
	}
	lay, why := layerOf(c.small, candidate{value: l.small.weight, node: l.small.node})
	if why != "" {
		return nil, nil
	}
	w1, err := denseRows(lay)
	if err != nil || !finiteAll(w1) || !finiteAll(w0) {
		return nil, err
	}
	b1, place := biasNow(l.small.weight, lay.view.rows)
	rows, k0, k1 := lay.view.rows, l.c0*l.taps, l.c1*l.taps
	if len(w0) != rows*k0 || len(w1) != rows*k1 {
		return nil, nil
	}
	fit, held := newSides(l, &g.Fit), newSides(l, &g.Held)
	least := held.error(w0, b0, w1, b1, rows)
	var best *refitted
	for _, damp := range dampings {
		w2 := fit.solve(w0, w1, rows, place, damp)
		if w2 == nil {
			continue
		}
		t := lay.value.Const
		b, rounded, fits, err := encodeRows(t, lay.view, w2)
		if err != nil || !fits {
			return nil, err
		}
		b2 := slices.Clone(b1)
		if place {
			for r := range rows {
				b2[r] = b0[r] + dot(w0[r*k0:(r+1)*k0], fit.mean0) - dot(rounded[r*k1:(r+1)*k1], fit.mean1)
			}
		}
		if e := held.error(w0, b0, rounded, b2, rows); e < least {
			least = e
			if best, err = newRefitted(t, b, b1, b2, place); err != nil {
				return nil, err
			}
		}
	}
	return best, nil
}

// dampings are tried for a layer, as shares of the mean of the diagonal; which is
// best is for the held-out rows to say.
var dampings = []float64{1e-3, 1e-2, 1e-1, 1}

// newRefitted holds content b for a weight like t, with what its outputs shift by
// where they can.
func newRefitted(t *onnx.Tensor, b []byte, before, after []float64, shifts bool) (*refitted, error) {
	made, err := onnx.NewTensor(t.Name, t.DType, t.Shape, b)
	out := &refitted{weight: made}
	if shifts {
		out.shift = make([]float64, len(after))
		for r := range after {
			out.shift[r] = after[r] - before[r]
		}
	}
	return out, err
}

// original returns the weights and biases of the original's layer, for the outputs that stay.
func (c *refitting) original(l link) (w, b []float64, err error) {
	lay, why := layerOf(c.whole, candidate{value: l.whole.weight, node: l.whole.node})
	if why != "" {
		return nil, nil, nil
	}
	all, err := denseRows(lay)
	if err != nil {
		return nil, nil, err
	}
	bias, _ := biasNow(l.whole.weight, lay.view.rows)
	keep := c.plan.keptRows(l.whole, lay.view.rows)
	for _, r := range keep {
		w = append(w, all[r*lay.view.cols:(r+1)*lay.view.cols]...)
		b = append(b, bias[r])
	}
	return w, b, nil
}

// keptRows returns the outputs of a layer that stay.
func (pl *plan) keptRows(c contraction, rows int) []int {
	last := len(c.weight.Const.Shape) - 1
	if c.node.Is("Conv") || c.node.Is("Gemm") && c.node.Int("transB", 0) != 0 {
		last = 0
	}
	var out []int
	at, ok := pl.named(c.weight.Name(), last)
	for k := range rows {
		if !ok || !pl.removed[pl.d.find(int32(at.base+k))] {
			out = append(out, k)
		}
	}
	return out
}

// named returns the axis of an initializer, as it was before the model shrank.
func (pl *plan) named(name string, i int) (axis, bool) {
	for _, v := range pl.d.model.Graph.Initializers() {
		if v.Name() == name {
			at, ok := pl.d.index[opset.Axis{Value: v, Axis: i}]
			if !ok {
				return axis{}, false
			}
			return pl.d.axes[at], true
		}
	}
	return axis{}, false
}

// biasNow returns the bias of a weight's reader, one number per output, and
// whether it can be changed.
func biasNow(w *onnx.Value, rows int) ([]float64, bool) {
	out := make([]float64, rows)
	place, why := biasPlaceOf(w)
	if why != "" {
		return out, false
	}
	if place.made || place.node.Input(place.input) == nil {
		return out, true
	}
	old, err := place.node.Input(place.input).Constant().Float64s()
	if err != nil || len(old) == 0 {
		return out, false
	}
	for i := range out {
		out[i] = old[i%len(old)] / place.gain
	}
	return out, true
}

// sides are the mean products of what both models' layers read.
type sides struct {
	k0, k1       int
	g00, g01     *mat.Dense // original with itself, and with the other
	g11          *mat.SymDense
	mean0, mean1 []float64
}

// newSides takes the products of joined columns apart: per tap, the original's
// channels come first.
func newSides(l link, m *calibrate.Moments) *sides {
	c := l.c0 + l.c1
	k := c * l.taps
	var at0, at1 []int
	for t := range l.taps {
		for i := range c {
			if i < l.c0 {
				at0 = append(at0, t*c+i)
			} else {
				at1 = append(at1, t*c+i)
			}
		}
	}
	s := &sides{k0: len(at0), k1: len(at1)}
	s.g00, s.g01, s.g11 = mat.NewDense(s.k0, s.k0, nil), mat.NewDense(s.k0, s.k1, nil), mat.NewSymDense(s.k1, nil)
	for i, a := range at0 {
		s.mean0 = append(s.mean0, m.Total[a])
		for j, b := range at0 {
			s.g00.Set(i, j, m.Sum[a*k+b])
		}
		for j, b := range at1 {
			s.g01.Set(i, j, m.Sum[a*k+b])
		}
	}
	for i, a := range at1 {
		s.mean1 = append(s.mean1, m.Total[a])
		for j := i; j < s.k1; j++ {
			s.g11.SetSym(i, j, m.Sum[a*k+at1[j]])
		}
	}
	return s
}

// solve returns weights [rows, k1] of less error against w0 [rows, k0] than w1 has,
// from which damping holds them back; deviations from the means are what counts
// where a bias takes those.
func (s *sides) solve(w0, w1 []float64, rows int, centred bool, damp float64) []float64 {
	a, b := mat.NewSymDense(s.k1, nil), mat.NewDense(s.k0, s.k1, nil)
	a.CopySym(s.g11)
	b.Copy(s.g01)
	if centred {
		for i := range s.k1 {
			for j := i; j < s.k1; j++ {
				a.SetSym(i, j, a.At(i, j)-s.mean1[i]*s.mean1[j])
			}
		}
		for i := range s.k0 {
			for j := range s.k1 {
				b.Set(i, j, b.At(i, j)-s.mean0[i]*s.mean1[j])
			}
		}
	}
	var target, now mat.Dense
	target.Mul(mat.NewDense(rows, s.k0, w0), b)
	now.Mul(mat.NewDense(rows, s.k1, w1), a)
	target.Sub(&target, &now)
	mean := mat.Trace(a) / float64(s.k1)
	if !(mean > 0) {
		return nil
	}
	for i := range s.k1 {
		a.SetSym(i, i, a.At(i, i)+damp*mean)
	}
	var c mat.Cholesky
	var x mat.Dense
	if !c.Factorize(a) || c.SolveTo(&x, target.T()) != nil {
		return nil
	}
	out := mat.DenseCopyOf(x.T()).RawMatrix().Data
	for i := range out {
		out[i] += w1[i]
	}
	return out
}

// error returns the mean square of what the original's layer gives beyond the
// other's, summed over the outputs.
func (s *sides) error(w0, b0, w1, b1 []float64, rows int) float64 {
	a, b := mat.NewDense(rows, s.k0, w0), mat.NewDense(rows, s.k1, w1)
	var p, q, r mat.Dense
	p.Mul(a, s.g00)
	q.Mul(a, s.g01)
	r.Mul(b, s.g11)
	sum := 0.0
	for i := range rows {
		x, y := w0[i*s.k0:(i+1)*s.k0], w1[i*s.k1:(i+1)*s.k1]
		d := b0[i] - b1[i]
		sum += dot(p.RawRowView(i), x) - 2*dot(q.RawRowView(i), y) + dot(r.RawRowView(i), y) +
			2*d*(dot(x, s.mean0)-dot(y, s.mean1)) + d*d
	}
	if sum-sum != 0 {
		return math.Inf(1)
	}
	return sum
}

func dot(a, b []float64) float64 {
	sum := 0.0
	for i, x := range a {
		sum += x * b[i]
	}
	return sum
}

package prune

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/linalg"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// The repairs after removal by structure, in the order in which they are tried.
const (
	RepairLeastSquares = "lstsq" // the weights that stay make up for those that went, by ridge regression
	RepairStatistics   = "bn"    // mean and variance of BatchNormalization are measured anew
)

// UnitRepairs returns the names of the repairs after removal by structure.
func UnitRepairs() []string {
	return []string{RepairLeastSquares, RepairBias, RepairStatistics, RepairChain}
}

// UnitRepair is what became of one repair of one layer.
type UnitRepair struct {
	Layer string `json:"layer"`
	Repaired
}

// unitRepairs is what is done about one choice of units.
type unitRepairs struct {
	data   map[string]*onnx.Tensor // new weights, by name
	shifts map[string][]float64    // what is added to each output of a weight's reader, by the weight's name
	log    []UnitRepair
	scores *[2]float64 // outputs before and after new statistics, in dB; nil: not tried
	keepBN bool

	confirmed bool // data and shifts were held against the outputs

	chained   map[string]refitted // by weight; nil: not tried
	keepChain bool
}

// repairLayer is a weight that loses columns.
type repairLayer struct {
	contraction
	*maskLayer
	gone func(part, col int) bool
}

// repair decides, for the units that go, how the layers that read them make up for
// it: m is the model with all units, of which pl is the plan. What was decided for
// the same units before is kept.
func (p *structured) repair(ctx context.Context, m *onnx.Model, pl *plan) (*unitRepairs, error) {
	key := pl.removedKey()
	if p.repaired[key] != nil {
		return p.repaired[key], nil
	}
	out := &unitRepairs{data: map[string]*onnx.Tensor{}, shifts: map[string][]float64{}}
	p.repaired = map[string]*unitRepairs{key: out}
	if !slices.Contains(p.o.repairs, RepairLeastSquares) && !slices.Contains(p.o.repairs, RepairBias) {
		return out, nil
	}
	list := pl.losers(m)
	mp := &maskPlan{o: &Options{DataOptions: DataOptions{Calibration: p.o.Data.Data, Batch: p.o.Data.Batch, Open: p.o.Data.Open,
		Session: p.o.Data.Session, MaxMemory: p.o.MaxMemory}, masks: masks{repairs: Repairs()}}}
	defer mp.spill.close()
	var layers []*maskLayer
	var todo []int
	for _, l := range list {
		mp.prepare(l.maskLayer, m)
		layers = append(layers, l.maskLayer)
		if l.blind == "" {
			todo = append(todo, len(layers)-1)
		} else {
			out.log = append(out.log, UnitRepair{nodeName(l.contraction.node), Repaired{Name: RepairLeastSquares, Note: l.blind}})
		}
	}
	for len(todo) > 0 {
		n := mp.atOnce(layers, todo)
		seen, err := mp.measure(ctx, m, layers, todo[:n])
		if err != nil {
			return nil, err
		}
		for _, k := range todo[:n] {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := p.repairOne(out, mp, list[k], seen); err != nil {
				return nil, err
			}
		}
		todo = todo[n:]
	}
	return out, nil
}

// confirm takes the repairs of single layers back where with all of them the
// outputs are farther from the original's, on samples that nothing was fitted to:
// what is best for each layer need not be for those behind it.
func (p *structured) confirm(ctx context.Context, m *onnx.Model, pl *plan, r *unitRepairs) error {
	if r.confirmed || len(r.data) == 0 && len(r.shifts) == 0 {
		return nil
	}
	r.confirmed = true
	var scores [2]trial.Score
	for i, with := range []*unitRepairs{{}, r} {
		c := m.Clone()
		d, err := newDims(c, p.o.Dims, p.blocked)
		if err != nil {
			return err
		}
		with.weights(c)
		if err := d.shrink(pl.removed); err != nil {
			return err
		}
		if err := with.biases(d, pl.removed); err != nil {
			return err
		}
		if scores[i], err = p.held.Score(ctx, c); err != nil {
			return err
		}
	}
	if nearer(scores[1], scores[0]) {
		return nil
	}
	r.data, r.shifts = map[string]*onnx.Tensor{}, map[string][]float64{}
	for i := range r.log {
		if r.log[i].Kept {
			r.log[i].Kept = false
			r.log[i].Note = fmt.Sprintf("with the repairs of all layers the outputs are farther from the original's: %.1f dB instead of %.1f dB", scores[1].DB, scores[0].DB)
		}
	}
	return nil
}

// nearer reports whether outputs are nearer to the original's by every measure:
// few held-out samples can favour one of them by chance.
func nearer(a, than trial.Score) bool {
	return a.DB > than.DB && a.SQNR > than.SQNR && a.Nats <= than.Nats
}

// removedKey tells one choice of units from another.
func (pl *plan) removedKey() string {
	var roots []int32
	for r := range pl.removed {
		roots = append(roots, r)
	}
	slices.Sort(roots)
	return fmt.Sprint(roots)
}

// losers lists the weights that read what goes.
func (pl *plan) losers(m *onnx.Model) []*repairLayer {
	var out []*repairLayer
	seen := map[*onnx.Value]bool{}
	for _, c := range pl.d.contractions() {
		at, ok := pl.d.index[opset.Axis{Value: c.input, Axis: c.axis}]
		if !ok || seen[c.weight] {
			continue
		}
		a := pl.d.axes[at]
		lost := func(k int) bool { return pl.removed[pl.d.find(int32(a.base+k))] }
		any := false
		for k := range a.size {
			any = any || lost(k)
		}
		if !any || c.weight.Const == nil {
			continue
		}
		l, why := layerOf(m, candidate{value: c.weight, node: c.node})
		if why != "" || len(l.inputs) > 1 {
			continue
		}
		seen[c.weight] = true
		grouped := c.along < 0
		seg := l.view.seg
		out = append(out, &repairLayer{c, l, func(part, col int) bool {
			if grouped {
				return lost(part*seg + col%seg)
			}
			return lost(col % seg)
		}})
	}
	return out
}

// repairOne tries least squares and the shift of means on one layer; each is kept
// where the error on held-out rows falls.
func (p *structured) repairOne(out *unitRepairs, mp *maskPlan, l *repairLayer, seen *maskEvidences) error {
	name := nodeName(l.contraction.node)
	e, why := seen.of(l.maskLayer)
	w, err := denseRows(l.maskLayer)
	if err != nil {
		return err
	}
	if why == "" && !finiteAll(w) {
		why = "some of its weights are NaN or infinite"
	}
	if why != "" {
		out.log = append(out.log, UnitRepair{name, Repaired{Name: RepairLeastSquares, Note: why}})
		return nil
	}
	x := &maskWork{p: mp, l: l.maskLayer, e: e, w: w, mask: newMask(len(w)), f: &maskFit{}}
	for i := range w {
		if l.gone(i/l.view.cols/l.view.part(), i%l.view.cols) {
			x.mask.set(i)
		}
	}
	mp.o.masks.repairs = nil
	if err := x.repair(); err != nil {
		return err
	}
	if slices.Contains(p.o.repairs, RepairLeastSquares) {
		if err := p.leastSquares(out, x, l); err != nil {
			return err
		}
	}
	if slices.Contains(p.o.repairs, RepairBias) {
		x.tryBias()
		if x.f.shift != nil {
			out.shifts[l.value.Name()] = x.f.shift
		}
	}
	for _, r := range x.f.repairs {
		out.log = append(out.log, UnitRepair{name, r})
	}
	return nil
}

// leastSquares gives the columns that stay what they can carry of those that go.
func (p *structured) leastSquares(out *unitRepairs, x *maskWork, l *repairLayer) error {
	r := Repaired{Name: RepairLeastSquares, Before: *x.f.error, After: *x.f.error}
	defer func() { x.f.repairs = append(x.f.repairs, r) }()
	v := l.view
	w := append([]float64(nil), x.now...)
	for g := range v.parts {
		var keep, gone []int
		for c := range v.cols {
			if l.gone(g, c) {
				gone = append(gone, c)
			} else {
				keep = append(keep, c)
			}
		}
		if len(gone) == 0 || len(keep) == 0 {
			continue
		}
		f := linalg.Ridge(x.e.fit.Sum[g*v.cols*v.cols:(g+1)*v.cols*v.cols], v.cols, keep, gone, x.e.fit.Rows < fewRows*int64(v.cols))
		if f == nil {
			r.Note = "the products of its inputs cannot be inverted"
			return nil
		}
		for row := g * v.part(); row < (g+1)*v.part(); row++ {
			for j, c := range gone {
				linalg.Scatter(x.w[row*v.cols+c], f[j*len(keep):(j+1)*len(keep)], keep, w[row*v.cols:(row+1)*v.cols])
			}
		}
	}
	t := x.l.value.Const
	b, rounded, fits, err := encodeRows(t, v, w)
	if err != nil {
		return err
	}
	if !fits {
		r.Note = fmt.Sprintf("some of the new weights are beyond what %v holds", t.DType)
		return nil
	}
	if r.After = x.share(x.errorOf(rounded, nil)); !(r.After < r.Before) {
		r.Note = "the error on held-out rows does not fall"
		return nil
	}
	r.Kept, x.now, x.f.error = true, rounded, &r.After
	made, err := onnx.NewTensor(t.Name, t.DType, t.Shape, b)
	out.data[x.l.value.Name()] = made
	return err
}

// weights gives m its new weights, before it shrinks.
func (r *unitRepairs) weights(m *onnx.Model) {
	for _, v := range m.Graph.Initializers() {
		if t := r.data[v.Name()]; t != nil {
			v.SetConst(t)
		}
	}
}

// biases adds the shifts, after the model of d has shrunk.
func (r *unitRepairs) biases(d *dims, removed map[int32]bool) error {
	for _, c := range d.contractions() {
		shift := r.shifts[c.weight.Name()]
		if shift == nil {
			continue
		}
		at, ok := d.index[opset.Axis{Value: c.weight, Axis: outputAxisOf(c)}]
		if !ok {
			continue
		}
		a := d.axes[at]
		var kept []float64
		for k, x := range shift {
			if k < a.size && !removed[d.find(int32(a.base+k))] {
				kept = append(kept, x)
			}
		}
		place, why := biasPlaceOf(c.weight)
		if why != "" {
			continue
		}
		if err := place.put(c.weight, kept); err != nil {
			return err
		}
	}
	return nil
}

// outputAxisOf returns the axis of a contraction's weight that counts its outputs.
func outputAxisOf(c contraction) int {
	if c.node.Is("MatMul") {
		return len(c.weight.Const.Shape) - 1
	}
	if c.node.Op == "Gemm" || c.node.Op == "FusedGemm" {
		return 1 - c.along
	}
	return 0
}

// statistics measures what each BatchNormalization of a shrunken model reads, and
// gives it that mean and variance where the outputs come nearer to the original's.
func (p *structured) statistics(ctx context.Context, m *onnx.Model, r *unitRepairs) error {
	if !slices.Contains(p.o.repairs, RepairStatistics) || r.scores != nil && !r.keepBN {
		return nil
	}
	list, wants := batchNorms(m)
	if len(list) == 0 {
		return nil
	}
	o := p.o.Data
	before, err := p.held.Score(ctx, m)
	if err != nil {
		return err
	}
	c := m.Clone()
	copies, _ := batchNorms(c)
	stats, err := calibrate.Measure(ctx, m, wants, func() calibrate.Pass { return calibrate.Over(ctx, o.Data, o.Batch) },
		calibrate.Options{Open: o.Open, Session: o.Session, MaxBytes: p.o.MaxMemory})
	if err != nil {
		return fmt.Errorf("measuring statistics: %w", err)
	}
	for _, n := range copies {
		setStatistics(n, stats.Stats[n.Input(0).Name()])
	}
	after, err := p.held.Score(ctx, c)
	if err != nil {
		return err
	}
	if r.scores == nil {
		r.scores = &[2]float64{before.DB, after.DB}
		r.keepBN = nearer(after, before)
		r.log = append(r.log, UnitRepair{"every BatchNormalization", Repaired{Name: RepairStatistics, Before: noiseOf(before.DB),
			After: noiseOf(after.DB), Kept: r.keepBN}})
	}
	if r.keepBN {
		for _, n := range list {
			setStatistics(n, stats.Stats[n.Input(0).Name()])
		}
	}
	return nil
}

// batchNorms lists those of the main graph with constant statistics, and what to measure for them.
func batchNorms(m *onnx.Model) (list []*onnx.Node, wants []calibrate.Want) {
	for n := range m.Graph.Nodes() {
		if n.Is("BatchNormalization") && n.Input(3).Constant() != nil && n.Input(4).Constant() != nil && n.Input(0).DType() != onnx.Double {
			list = append(list, n)
			wants = append(wants, calibrate.Want{Tensor: n.Input(0).Name(), Channels: true, Axis: 1})
		}
	}
	return list, wants
}

// setStatistics gives n the mean and variance of what it read.
func setStatistics(n *onnx.Node, s *calibrate.Stats) {
	if s == nil || s.Channels == nil || s.Channels.Count == 0 || s.Invalid > 0 {
		return
	}
	c, t := s.Channels, n.Input(3).Constant()
	mean, variance := make([]float64, len(c.Sum)), make([]float64, len(c.Sum))
	for i := range mean {
		mean[i] = c.Sum[i] / float64(c.Count)
		variance[i] = max(c.Squares[i]/float64(c.Count)-mean[i]*mean[i], 0)
	}
	for i, v := range [][]float64{mean, variance} {
		made, err := onnx.FromFloat64s(n.Input(3+i).Name(), t.DType, t.Shape, v)
		if err == nil && len(v) == int(t.Shape[0]) {
			n.SetInput(3+i, n.Graph().NewConst(made))
		}
	}
}

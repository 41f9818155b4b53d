package explain

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Compare explains both models on the samples by one method and compares the maps.
//
// What is explained is the class that the baseline predicts, in both models: its margin over the best other class in logits
// (in log-probabilities where a model gives probabilities). Outputs that are not one row of classes are explained by their
// projection on the baseline's output. Figures are taken over the samples on which both models predict the same class; the
// others are listed apart in Flips.
//
// [Runs] says what it costs. It errs on input that cannot be perturbed, on models that the method cannot explain, and where a
// model cannot be run.
func Compare(ctx context.Context, baseline, candidate Model, samples []Sample, o Options) (*Result, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	if len(samples) == 0 {
		return nil, fmt.Errorf("there are no samples to explain")
	}
	c, err := newComparison(ctx, baseline, candidate, samples, o)
	if err != nil {
		return nil, err
	}
	for i, s := range samples {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := c.sample(ctx, i, s); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			o.Progress(i+1, len(samples))
		}
	}
	if err := c.noise(ctx); err != nil {
		return nil, err
	}
	return c.result()
}

// comparison is the state of one Compare.
type comparison struct {
	o          Options
	models     [2]*model
	background *background
	projection bool
	table      bool // features are columns, which have no distance from each other

	pairs    []Pair
	dead     [2]int
	moved    [2]int
	runs     int       // most perturbations of one map
	curves   []curves  // of agreeing samples
	errors   []float64 // Monte-Carlo errors of the baseline's maps, as shares of their largest values
	residual *float64  // largest of both models
	drawn    []drawn   // of the samples that the noise floor is taken from

	self       []float64
	floor      []float64
	calibrated calibration
	broken     []string
	warnings   []string
}

func newComparison(ctx context.Context, baseline, candidate Model, samples []Sample, o Options) (*comparison, error) {
	input, err := chooseInput(baseline.Session, samples[0], o.Input)
	if err != nil {
		return nil, err
	}
	for _, s := range samples {
		if t := s.Inputs[input]; t == nil {
			return nil, fmt.Errorf("sample %q has no input %q", s.ID, input)
		} else if t.DType != samples[0].Inputs[input].DType {
			return nil, fmt.Errorf("sample %q: input %q is %v, the samples before have %v", s.ID, input, t.DType, samples[0].Inputs[input].DType)
		}
	}
	fill, err := fillOf(o, samples[0].Inputs[input].DType)
	if err != nil {
		return nil, fmt.Errorf("input %q: %v", input, err)
	}
	c := &comparison{o: o}
	if c.background, err = newBackground(samples, input, o, fill); err != nil {
		return nil, err
	}
	if err := c.background.drawRows(samples, input, o); err != nil {
		return nil, err
	}
	part, err := newPartition(samples[0].Inputs[input].Shape, o)
	if err != nil {
		return nil, err
	}
	c.table = part.single && fill != FillToken
	for i, m := range []Model{baseline, candidate} {
		c.models[i] = &model{name: []string{"baseline", "candidate"}[i], session: m.Session, input: input, batch: 1}
	}
	if err := c.chooseOutput(ctx, samples); err != nil {
		return nil, err
	}
	for i, m := range []Model{baseline, candidate} {
		if err := c.models[i].provide(ctx, m, samples[0], o.Method); err != nil {
			return nil, err
		}
	}
	if err := c.chooseBatch(ctx, samples[0]); err != nil {
		return nil, err
	}
	return c, c.chooseTailBatch(ctx, samples[0])
}

// provide gets what a method needs of a model beyond its session.
func (m *model) provide(ctx context.Context, from Model, s Sample, method Method) (err error) {
	if method.Splits {
		if from.Split == nil {
			return fmt.Errorf("%s needs the graphs of the models", method.Name)
		}
		if m.split, err = from.Split(ctx, m.output, s); err != nil {
			return fmt.Errorf("the %s: %w", m.name, err)
		}
	}
	if method.embeds(s.Inputs[m.input].DType) && from.Embed != nil {
		if m.embedding, err = from.Embed(ctx, m.output, m.input); err != nil {
			return fmt.Errorf("the %s, by the embedding of its tokens: %w", m.name, err)
		}
		m.gradient = m.embedding.Gradient
		return nil
	}
	if method.Slopes {
		if from.Gradient == nil {
			return fmt.Errorf("%s needs the gradients of the models", method.Name)
		}
		if m.gradient, err = from.Gradient(ctx, m.output, s); err != nil {
			return fmt.Errorf("the %s: %w", m.name, err)
		}
	}
	return nil
}

// chooseInput returns the named input, or the first with floating-point elements, or the first.
func chooseInput(s session.Session, sample Sample, name string) (string, error) {
	first := ""
	for _, p := range s.Inputs() {
		t := sample.Inputs[p.Name]
		if t == nil {
			continue
		}
		if name == p.Name || name == "" && t.DType.IsFloat() {
			return p.Name, nil
		}
		if first == "" {
			first = p.Name
		}
	}
	switch {
	case name != "":
		return "", fmt.Errorf("input %q is not one of the baseline's inputs that the samples give", name)
	case first == "":
		return "", fmt.Errorf("sample %q gives none of the baseline's inputs", sample.ID)
	}
	return first, nil
}

// chooseOutput runs every sample once through both models: it picks the output, decides whether rows are classes, and detects
// logits and probabilities by all of them.
func (c *comparison) chooseOutput(ctx context.Context, samples []Sample) error {
	c.projection = c.o.Projection
	kinds := [2]score.Kind{score.Probabilities, score.Probabilities}
	for i, s := range samples {
		if err := ctx.Err(); err != nil {
			return err
		}
		var length [2]int
		for k, m := range c.models {
			result, err := m.session.Run(ctx, s.Inputs)
			if err != nil {
				return fmt.Errorf("running the %s on sample %q: %w", m.name, s.ID, err)
			}
			if i == 0 && k == 0 {
				if err := c.nameOutput(m.session, result, s); err != nil {
					return err
				}
			}
			t := result.Outputs[m.output]
			if t == nil {
				return fmt.Errorf("the %s gave no output %q for sample %q", m.name, m.output, s.ID)
			}
			row, err := t.Float64s()
			if err != nil {
				return fmt.Errorf("the %s's output %q: %v", m.name, m.output, err)
			}
			length[k] = len(row)
			if score.DetectKind(row) != score.Probabilities {
				kinds[k] = score.Logits
			}
			c.projection = c.projection || !isClassRow(t.Shape)
		}
		if length[0] != length[1] || length[0] == 0 {
			return fmt.Errorf("sample %q: output %q has %d elements in the baseline and %d in the candidate", s.ID, c.models[0].output, length[0], length[1])
		}
	}
	for k, m := range c.models {
		m.kind = kinds[k]
	}
	return nil
}

// nameOutput sets the output to explain on both models.
func (c *comparison) nameOutput(s session.Session, r *session.Result, sample Sample) error {
	name := c.o.Output
	for _, p := range s.Outputs() {
		if t := r.Outputs[p.Name]; name == "" && t != nil && t.DType.IsFloat() {
			name = p.Name
		}
	}
	if name == "" {
		return fmt.Errorf("the baseline has no output of floating-point elements to explain: name one")
	}
	if r.Outputs[name] == nil {
		return fmt.Errorf("the baseline gave no output %q for sample %q", name, sample.ID)
	}
	c.models[0].output, c.models[1].output = name, name
	return nil
}

// isClassRow says whether a shape is one row of at least two scores: every axis but one is 1.
func isClassRow(shape []int64) bool {
	n, ok := onnx.ElementCount(shape)
	return ok && n >= 2 && slices.Max(shape) == n
}

// chooseBatch batches perturbed inputs where both models allow it and neither lets them influence each other.
func (c *comparison) chooseBatch(ctx context.Context, s Sample) error {
	for _, m := range c.models {
		if c.o.Batch == 1 || !freeBatch(m.session, s) {
			return nil
		}
	}
	v, err := newView(s, c.models[0].input, c.o, c.background)
	if err != nil {
		return err
	}
	n := len(v.part.features)
	probe := variants{n: n, fill: func(i int, dst []byte) { v.hide(dst, i, v.fill) }}
	batch := min(c.o.Batch, n+1)
	for _, m := range c.models {
		if !m.batchInvariant(ctx, s, probe, batch) {
			c.warnings = append(c.warnings, fmt.Sprintf("the %s's output depends on what else is in the batch: perturbed inputs were run one by one", m.name))
			return ctx.Err()
		}
	}
	c.models[0].batch, c.models[1].batch = batch, batch
	return nil
}

// chooseTailBatch is chooseBatch for the heads of split models and for what follows embeddings.
func (c *comparison) chooseTailBatch(ctx context.Context, s Sample) error {
	switch {
	case c.o.Batch == 1:
		return nil
	case c.models[0].embedding != nil:
		return c.chooseEmbeddedBatch(ctx, s)
	case c.models[0].split == nil:
		return nil
	}
	batch := 0
	for _, m := range c.models {
		f, err := m.features(ctx, s)
		if err != nil {
			return err
		}
		at := Sample{ID: s.ID, Inputs: map[string]*onnx.Tensor{m.split.Input: f}}
		positions := int(f.Shape[2] * f.Shape[3])
		batch = min(c.o.Batch, positions+1)
		size := f.DType.Bits() / 8
		probe := variants{n: positions, fill: func(i int, dst []byte) {
			for e := i * size; e < len(dst); e += positions * size {
				clear(dst[e : e+size])
			}
		}}
		if !freeBatch(m.split.Tail, at) || !m.tail().batchInvariant(ctx, at, probe, batch) {
			return ctx.Err()
		}
	}
	c.models[0].tailBatch, c.models[1].tailBatch = batch, batch
	return nil
}

// chooseEmbeddedBatch is chooseBatch for what follows the embeddings of both models.
func (c *comparison) chooseEmbeddedBatch(ctx context.Context, s Sample) error {
	batch := 0
	for _, m := range c.models {
		p, err := c.problem(m, s, target{}, c.o.Seed)
		if err != nil {
			return err
		}
		if p, err = p.numeric(ctx); err != nil {
			return err
		}
		n := len(p.view.part.features)
		batch = min(c.o.Batch, n+1)
		probe := variants{n: n, fill: func(i int, dst []byte) { p.view.hide(dst, i, p.view.fill) }}
		if !freeBatch(p.model.session, p.view.sample) || !p.model.batchInvariant(ctx, p.view.sample, probe, batch) {
			return ctx.Err()
		}
	}
	c.models[0].tailBatch, c.models[1].tailBatch = batch, batch
	return nil
}

// problem makes the problem of explaining one sample in one model.
func (c *comparison) problem(m *model, s Sample, t target, seed uint64) (*problem, error) {
	v, err := newView(s, m.input, c.o, c.background)
	if err != nil {
		return nil, err
	}
	return &problem{model: m, view: v, target: t, o: c.o, seed: seed}, nil
}

// explain draws the map of one sample in one model.
func (c *comparison) explain(ctx context.Context, m *model, s Sample, t target, seed uint64) (*attribution, error) {
	p, err := c.problem(m, s, t, seed)
	if err != nil {
		return nil, err
	}
	return c.o.Method.Attribute(ctx, p)
}

// sample explains sample i in both models.
func (c *comparison) sample(ctx context.Context, i int, s Sample) error {
	var rows [2][]float64
	for k, m := range c.models {
		r, err := m.alone().rows(ctx, s, variants{n: 1, fill: func(int, []byte) {}})
		if err != nil {
			return err
		}
		rows[k] = r[0]
	}
	t := newTarget(rows[0], c.projection)
	var maps [2]*attribution
	for k, m := range c.models {
		a, err := c.explain(ctx, m, s, t, c.o.Seed)
		if err != nil {
			return err
		}
		maps[k] = a
	}
	a, b := maps[0], maps[1]
	if a.rows != b.rows || a.cols != b.cols {
		return fmt.Errorf("sample %q: the baseline's map has %d × %d cells, the candidate's %d × %d: they cannot be compared", s.ID, a.rows, a.cols, b.rows, b.cols)
	}
	if a.broken() || b.broken() {
		c.broken = append(c.broken, s.ID)
		return nil
	}
	if i < c.o.NoiseFloor {
		c.drawn = append(c.drawn, drawn{s, t, a})
	}
	p := c.pair(s, a, b, rows)
	c.pairs = append(c.pairs, p)
	if !p.Agree {
		return nil
	}
	c.count(a, b)
	return c.trace(ctx, s, a, b, t)
}

// count adds what was seen while the maps of an agreeing sample were drawn.
func (c *comparison) count(maps ...*attribution) {
	for k, a := range maps {
		c.dead[k] += a.dead
		c.moved[k] += a.moved
		c.runs = max(c.runs, a.runs)
		if a.residual != nil && (c.residual == nil || *a.residual > *c.residual) {
			c.residual = a.residual
		}
	}
	if e := maps[0].stdErr; e != nil {
		share := 0.0
		if l := largest(maps[0].values); l > 0 {
			share = *e / l
		}
		c.errors = append(c.errors, share)
	}
}

// largest returns the largest magnitude.
func largest(a []float64) float64 {
	m := 0.0
	for _, v := range a {
		m = max(m, math.Abs(v))
	}
	return m
}

func (c *comparison) pair(s Sample, a, b *attribution, rows [2][]float64) Pair {
	p := Pair{
		ID: s.ID, Rows: a.rows, Cols: a.cols, Baseline: a.values, Candidate: b.values,
		Classes: [2]int{argmax(rows[0]), argmax(rows[1])}, Agree: true,
	}
	if c.projection {
		p.Classes = [2]int{-1, -1}
	}
	p.Agree = p.Classes[0] == p.Classes[1]
	p.similarities(c.o.Top)
	if c.table {
		p.ArgmaxDistance = min(p.ArgmaxDistance, 1)
	}
	return p
}

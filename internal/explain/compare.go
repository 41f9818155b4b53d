package explain

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Compare explains both models on the samples by occlusion and compares the maps.
//
// What is explained is the class that the baseline predicts, in both models: its margin over the best other class in logits
// (in log-probabilities where a model gives probabilities). Outputs that are not one row of classes are explained by their
// projection on the baseline's output. Figures are taken over the samples on which both models predict the same class; the
// others are listed apart in Flips.
//
// Per sample and model it costs 1 + features runs, 2 or 3 deletion curves of at most 11 runs, and a second pass of the
// baseline over up to NoiseFloor samples (twice). It errs on input that cannot be perturbed, and where a model cannot be run.
func Compare(ctx context.Context, baseline, candidate session.Session, samples []Sample, o Options) (*Result, error) {
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
		if err := c.sample(ctx, s); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			o.Progress(i+1, len(samples))
		}
	}
	if err := c.noise(ctx, samples); err != nil {
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

	pairs    []Pair
	dead     [2]int
	moved    int
	own      [2]float64 // deletion areas of each model's own map, summed over agreeing samples
	cross    float64    // of the baseline's map on the candidate
	curved   int        // samples in own and cross
	self     []float64
	floor    []float64
	broken   []string
	warnings []string
}

func newComparison(ctx context.Context, baseline, candidate session.Session, samples []Sample, o Options) (*comparison, error) {
	input, err := chooseInput(baseline, samples[0], o.Input)
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
	for i, s := range []session.Session{baseline, candidate} {
		c.models[i] = &model{name: []string{"baseline", "candidate"}[i], session: s, input: input, batch: 1}
	}
	if err := c.chooseOutput(ctx, samples); err != nil {
		return nil, err
	}
	return c, c.chooseBatch(ctx, samples[0])
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
	probe, err := newOcclusion(s, c.models[0].input, c.o, c.background)
	if err != nil {
		return err
	}
	batch := min(c.o.Batch, len(probe.part.features)+1)
	for _, m := range c.models {
		if !m.batchInvariant(ctx, s, probe.one(), batch) {
			c.warnings = append(c.warnings, fmt.Sprintf("the %s's output depends on what else is in the batch: perturbed inputs were run one by one", m.name))
			return ctx.Err()
		}
	}
	c.models[0].batch, c.models[1].batch = batch, batch
	return nil
}

// sample explains one sample in both models.
func (c *comparison) sample(ctx context.Context, s Sample) error {
	occ, err := newOcclusion(s, c.models[0].input, c.o, c.background)
	if err != nil {
		return err
	}
	var t target
	a, err := c.models[0].attribute(ctx, occ, func(row []float64) target {
		t = newTarget(row, c.projection)
		return t
	})
	if err != nil {
		return err
	}
	b, err := c.models[1].attribute(ctx, occ, func([]float64) target { return t })
	if err != nil {
		return err
	}
	if a.broken() || b.broken() {
		c.broken = append(c.broken, s.ID)
		return nil
	}
	p := c.pair(occ, a, b)
	c.pairs = append(c.pairs, p)
	if !p.Agree {
		return nil
	}
	c.dead[0] += a.dead
	c.dead[1] += b.dead
	c.moved += a.moved
	return c.curves(ctx, occ, a, b, t)
}

func (c *comparison) pair(occ *occlusion, a, b *attribution) Pair {
	p := Pair{
		ID: occ.sample.ID, Rows: occ.part.rows, Cols: occ.part.cols, Baseline: a.values, Candidate: b.values,
		Classes: [2]int{argmax(a.row), argmax(b.row)}, Agree: true,
	}
	if c.projection {
		p.Classes = [2]int{-1, -1}
	}
	p.Agree = p.Classes[0] == p.Classes[1]
	k := max(1, int(math.Round(c.o.Top*float64(len(a.values)))))
	p.TopK = k
	p.Spearman, p.Defined = Spearman(a.values, b.values)
	if !p.Defined && slices.Equal(a.values, b.values) {
		p.Spearman = 1
	}
	p.TopKJaccard = TopJaccard(a.values, b.values, k)
	p.SignAgreement = SignAgreement(a.values, b.values, k)
	p.Cosine = Cosine(a.values, b.values)
	p.MassDisplacement = MassDisplacement(a.values, b.values)
	return p
}

// curves runs the deletion curves of an agreeing sample: each map on its own model, and the baseline's on the candidate.
func (c *comparison) curves(ctx context.Context, occ *occlusion, a, b *attribution, t target) error {
	if c.o.SkipCurves {
		return nil
	}
	orders := [2][]int{descending(a.values), descending(b.values)}
	var own [2]float64
	for k, m := range c.models {
		area, err := m.deletion(ctx, occ, orders[k], t)
		if err != nil {
			return err
		}
		own[k] = area
	}
	cross := own[1]
	if !slices.Equal(orders[0], orders[1]) {
		area, err := c.models[1].deletion(ctx, occ, orders[0], t)
		if err != nil {
			return err
		}
		cross = area
	}
	if math.IsNaN(own[0] + own[1] + cross) {
		c.broken = append(c.broken, occ.sample.ID)
		return nil
	}
	c.own[0] += own[0]
	c.own[1] += own[1]
	c.cross += cross
	c.curved++
	return nil
}

// noise compares the baseline with itself: on the same inputs, which must give the same maps, and on inputs moved by less
// than a quantization step of the data, which tells how much rank correlation a difference of no consequence costs.
func (c *comparison) noise(ctx context.Context, samples []Sample) error {
	rng := rand.New(rand.NewPCG(c.o.Seed, 0x6a697474))
	m := c.models[0]
	for i, s := range samples {
		if i >= c.o.NoiseFloor {
			break
		}
		own, err := c.remap(ctx, s, m)
		if err != nil {
			return err
		}
		again, err := c.remap(ctx, s, m)
		if err != nil {
			return err
		}
		if own.broken() || again.broken() {
			continue
		}
		c.self = append(c.self, similarity(own.values, again.values))
		if t := s.Inputs[m.input]; c.background.fill == FillToken || c.background.span == 0 || t.DType == onnx.Bool {
			continue
		}
		moved, err := jittered(s.Inputs[m.input], c.o.Jitter*c.background.span, rng)
		if err != nil {
			return fmt.Errorf("sample %q: %v", s.ID, err)
		}
		shaken, err := c.remap(ctx, replaced(s, m.input, moved), m)
		if err != nil {
			return err
		}
		if !shaken.broken() {
			c.floor = append(c.floor, similarity(own.values, shaken.values))
		}
	}
	return nil
}

func (c *comparison) remap(ctx context.Context, s Sample, m *model) (*attribution, error) {
	occ, err := newOcclusion(s, m.input, c.o, c.background)
	if err != nil {
		return nil, err
	}
	return m.attribute(ctx, occ, func(row []float64) target { return newTarget(row, c.projection) })
}

// similarity is the rank correlation; of constant maps, 1 if they are equal and else 0.
func similarity(a, b []float64) float64 {
	rho, ok := Spearman(a, b)
	if !ok && slices.Equal(a, b) {
		return 1
	}
	return rho
}

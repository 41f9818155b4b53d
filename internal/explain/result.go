package explain

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// Estimate is the median over samples of a measure of similarity, or where it says so the mean.
type Estimate struct {
	Median, P10 float64
	Interval    *measure.Interval // BCa bootstrap over samples; nil below 2 samples
}

// Result compares what two models look at. Estimates cover the samples on which both predict the same class.
type Result struct {
	Method        string
	Fill          string // what hid the features: a [Fill], "rows" of the data, "zero-features" in a feature map, or "zero-embedding"
	Target        string // "margin" or "projection"
	Input, Output string
	Samples       int // samples that the estimates cover
	Flipped       int // samples left out because the prediction changed
	Features      int // per map; the most common number where it varies
	Perturbations int // runs per sample and model for the map, at most
	Batch         int // perturbed inputs per run
	TopK          int

	Spearman, TopKJaccard, Cosine   Estimate
	SignAgreement, MassDisplacement Estimate
	Overlaps                        [len(TopShares)]Estimate // TopKJaccard for TopShares of the features
	TopKs                           [len(TopShares)]int      // how many features these are
	ArgmaxDistance                  Estimate                 // mean, not median
	SSIM                            *Estimate                // nil where maps have one row

	SelfCheck  *float64    // least rank correlation of the baseline with itself on the same inputs: 1 unless the runtime is nondeterministic
	NoiseFloor *float64    // median rank correlation of the baseline with itself: with other masks for a random method, else as in Calibrated
	Calibrated *Calibrated // nil where no change of no consequence could be made

	StandardError *float64 // median over samples of the Monte-Carlo error of a value, as a share of the map's largest; nil for methods that draw nothing
	Completeness  *float64 // largest residual of all maps of methods that are complete

	StraightThrough *[2]int // nodes whose rounding counted as the identity, baseline and candidate; nil for methods without gradients

	Background     string // SHA-256 of what hides features
	BackgroundRows int    // 0 where they are hidden by the fill

	// Deletion and Insertion are each model's own maps on that model. CrossFaithfulness is the area of the deletion curve of the
	// baseline's map on the candidate, divided by that of the candidate's own map: 1 when the old explanation explains the new
	// model as well as its own. nil without curves.
	Deletion, Insertion *Faithfulness
	CrossFaithfulness   *float64
	CrossInterval       *measure.Interval

	DeadPerturbations [2]float64 // share of effective perturbations that left the output exactly as it was: baseline, candidate
	DeadMaps          int        // samples where a map is constant

	MeanBaseline, MeanCandidate []float64 // mean of maps divided by their largest magnitude; nil where their sizes differ
	Rows, Cols                  int       // of the mean maps

	Flips    []Pair // samples whose prediction changed
	Pairs    []Pair // all others, when Options.KeepMaps asks for them
	Warnings []string
}

// trustedFloor is the noise floor below which single maps of a random method are mostly chance.
const trustedFloor = 0.7

func (c *comparison) result() (*Result, error) {
	r := &Result{
		Method: c.o.Method.Name, Target: "margin",
		Input: c.models[0].input, Output: c.models[0].output, Batch: c.models[0].batch, Warnings: c.warnings,
		Calibrated: c.calibrated.limits(c.o), Completeness: c.residual,
	}
	if c.projection {
		r.Target = "projection"
	}
	c.describeBackground(r)
	c.describeGradients(r)
	var agree []Pair
	for _, p := range c.pairs {
		if p.Agree {
			agree = append(agree, p)
		} else {
			r.Flips = append(r.Flips, p)
		}
	}
	r.Samples, r.Flipped = len(agree), len(r.Flips)
	if len(c.broken) > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("outputs are not finite in %d samples, which have no map, the first is %q", len(c.broken), c.broken[0]))
	}
	if len(c.self) > 0 {
		worst := slices.Min(c.self)
		r.SelfCheck = &worst
		if worst < 1 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the baseline's maps differ between two runs on the same input (rank correlation %.3f): the runtime is not deterministic", worst))
		}
	}
	r.NoiseFloor, r.StandardError = medianOf(c.floor), medianOf(c.errors)
	if f := r.NoiseFloor; c.o.Method.Random && f != nil && *f < trustedFloor {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s with other masks gives maps of the same model that correlate by only %.2f: compare models by it, which see the same masks, but read single maps only after more perturbations", r.Method, *f))
	}
	if len(agree) == 0 {
		r.Warnings = append(r.Warnings, "no sample is left on which both models predict the same class: there is nothing to compare")
		return r, nil
	}
	if c.o.KeepMaps {
		r.Pairs = agree
	}
	return r, c.summarize(r, agree)
}

// zeroEmbedding is the fill of a path that starts at zeros in place of an embedding.
const zeroEmbedding = "zero-embedding"

func (c *comparison) describeBackground(r *Result) {
	m := c.o.Method
	switch {
	case m.Splits:
		r.Fill = "zero-features"
		return
	case m.Slopes && !m.Complete:
		return // nothing is hidden
	case c.models[0].embedding != nil && !c.o.fromToken():
		r.Fill = zeroEmbedding
		return
	}
	r.Fill, r.Background = c.background.name(m.Rows), c.background.digest(m.Rows)
	if m.Rows {
		r.BackgroundRows = len(c.background.rows)
	}
}

// incomplete is the residual of completeness from which on a map is reported to lack too much.
const incomplete = 0.1

// describeGradients says of what function the gradients are.
func (c *comparison) describeGradients(r *Result) {
	if !c.o.Method.Slopes {
		return
	}
	r.StraightThrough = &[2]int{}
	for k, m := range c.models {
		if e := m.embedding; e != nil && len(e.Held) > 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the %s reads the tokens of input %q past their embedding too, at %d nodes, the first is %s: what that adds, such as a mask, has no attribution and stays as in the sample",
				m.name, r.Input, len(e.Held), e.Held[0]))
		}
		nodes := m.gradient.StraightThrough()
		if r.StraightThrough[k] = len(nodes); len(nodes) > 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the %s's gradients are straight-through: at %d nodes, the first is %s, rounding counts as the identity within its range; "+
				"its maps are those of this surrogate, with the model's own weights and activations, as the slope of a staircase is 0", m.name, len(nodes), nodes[0]))
		}
	}
	if r.Completeness != nil && *r.Completeness > incomplete {
		hint := ""
		if r.Fill == zeroEmbedding {
			hint = "; zeros are where a normalization is steepest, and a path from the embedding of a token stays clear of them"
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("the attributions of %s miss the difference that they explain by up to %.0f %%: more points of the path help against kinks, nothing against a surrogate's error%s",
			c.o.Method.Name, 100**r.Completeness, hint))
	}
}

func medianOf(v []float64) *float64 {
	if len(v) == 0 {
		return nil
	}
	m := measure.Median(slices.Clone(v))
	return &m
}

func (c *comparison) summarize(r *Result, agree []Pair) error {
	list := []estimated{
		{&r.Spearman, measure.Median, func(p *Pair) float64 { return p.Spearman }},
		{&r.TopKJaccard, measure.Median, func(p *Pair) float64 { return p.TopKJaccard }},
		{&r.Cosine, measure.Median, func(p *Pair) float64 { return p.Cosine }},
		{&r.SignAgreement, measure.Median, func(p *Pair) float64 { return p.SignAgreement }},
		{&r.MassDisplacement, measure.Median, func(p *Pair) float64 { return p.MassDisplacement }},
		{&r.ArgmaxDistance, mean, func(p *Pair) float64 { return p.ArgmaxDistance }},
	}
	for i := range r.Overlaps {
		list = append(list, estimated{&r.Overlaps[i], measure.Median, func(p *Pair) float64 { return p.Overlaps[i] }})
	}
	if !slices.ContainsFunc(agree, func(p Pair) bool { return p.SSIM == nil }) {
		r.SSIM = &Estimate{}
		list = append(list, estimated{r.SSIM, measure.Median, func(p *Pair) float64 { return *p.SSIM }})
	}
	for _, e := range list {
		if err := e.over(agree, c.o); err != nil {
			return err
		}
	}
	for _, p := range agree {
		if !p.Defined {
			r.DeadMaps++
		}
	}
	for k := range c.dead {
		if c.moved[k] > 0 {
			r.DeadPerturbations[k] = float64(c.dead[k]) / float64(c.moved[k])
		}
	}
	r.Deletion = faithfulness(c.curves, func(x *curves, k int) curve { return x.deletion[k] }, c.o)
	r.Insertion = faithfulness(c.curves, func(x *curves, k int) curve { return x.insertion[k] }, c.o)
	r.CrossFaithfulness, r.CrossInterval = crossFaithfulness(c.curves, c.o)
	r.size(agree)
	r.Perturbations = c.runs
	if len(agree) < 30 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("explanations of %d samples give wide intervals, want at least 30", len(agree)))
	}
	return nil
}

// estimated says which measure becomes which estimate, and by which statistic over samples.
type estimated struct {
	into      *Estimate
	statistic func([]float64) float64
	of        func(*Pair) float64
}

func (e estimated) over(pairs []Pair, o Options) error {
	v := make([]float64, len(pairs))
	for i := range pairs {
		v[i] = e.of(&pairs[i])
	}
	sorted := slices.Sorted(slices.Values(v))
	*e.into = Estimate{Median: e.statistic(slices.Clone(v)), P10: sorted[(len(sorted)-1)/10]}
	if len(v) < 2 {
		return nil
	}
	i, err := measure.Bootstrap(v, e.statistic, measure.BootstrapOptions{Seed: o.Seed, Resamples: o.Resamples, Confidence: o.Confidence})
	if err != nil {
		return fmt.Errorf("bootstrapping over %d samples: %v", len(v), err)
	}
	e.into.Interval = &i
	return nil
}

// size sets the number of features and the mean maps.
func (r *Result) size(agree []Pair) {
	count := map[int]int{}
	for _, p := range agree {
		n := len(p.Baseline)
		count[n]++
		if count[n] > count[r.Features] || count[n] == count[r.Features] && n > r.Features {
			r.Features, r.Rows, r.Cols, r.TopK = n, p.Rows, p.Cols, p.TopK
		}
	}
	for i, s := range TopShares {
		r.TopKs[i] = topOf(s, r.Features)
	}
	if len(count) > 1 {
		return
	}
	r.MeanBaseline, r.MeanCandidate = make([]float64, r.Features), make([]float64, r.Features)
	for _, p := range agree {
		for into, from := range map[*[]float64][]float64{&r.MeanBaseline: p.Baseline, &r.MeanCandidate: p.Candidate} {
			for i, v := range scaled(from) {
				(*into)[i] += v / float64(len(agree))
			}
		}
	}
}

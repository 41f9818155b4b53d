package explain

import (
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// Pair is the two maps of one sample and how alike they are.
type Pair struct {
	ID                  string
	Agree               bool   // both models predict the same class; always true where there are no classes
	Classes             [2]int // predicted by baseline and candidate; -1 where there are no classes
	Rows, Cols          int
	Baseline, Candidate []float64 // Rows × Cols attributions, row by row, in units of the target

	Spearman         float64
	Defined          bool // false where a map is constant: Spearman is then 1 for equal maps, else 0
	TopK             int  // features that count as most important
	TopKJaccard      float64
	SignAgreement    float64
	Cosine           float64
	MassDisplacement float64
}

// Estimate is the median over samples of a measure of similarity.
type Estimate struct {
	Median, P10 float64
	Interval    *measure.Interval // BCa bootstrap over samples; nil below 2 samples
}

// Result compares what two models look at. Estimates cover the samples on which both predict the same class.
type Result struct {
	Method        string // "occlusion"
	Fill          string // what hid the features
	Target        string // "margin" or "projection"
	Input, Output string
	Samples       int // samples that the estimates cover
	Flipped       int // samples left out because the prediction changed
	Features      int // per map; the most common number where it varies
	Perturbations int // runs per sample and model for the map
	Batch         int // perturbed inputs per run
	TopK          int

	Spearman, TopKJaccard, Cosine   Estimate
	SignAgreement, MassDisplacement Estimate

	SelfCheck  *float64 // least rank correlation of the baseline with itself on the same inputs: 1 unless the runtime is nondeterministic
	NoiseFloor *float64 // median rank correlation of the baseline with itself on jittered inputs; nil for tokens

	// Faithfulness is the mean drop of the target while features are hidden from the most important on, by each model's own
	// map on that model; CrossFaithfulness is that of the baseline's map on the candidate, divided by that of the
	// candidate's own map: 1 when the old explanation explains the new model as well as its own. nil without curves.
	Faithfulness      *[2]float64
	CrossFaithfulness *float64

	DeadPerturbations [2]float64 // share of effective perturbations that left the output exactly as it was: baseline, candidate
	DeadMaps          int        // samples where a map is constant

	MeanBaseline, MeanCandidate []float64 // mean of maps divided by their largest magnitude; nil where their sizes differ
	Rows, Cols                  int       // of the mean maps

	Flips    []Pair // samples whose prediction changed
	Pairs    []Pair // all others, when Options.KeepMaps asks for them
	Warnings []string
}

func (c *comparison) result() (*Result, error) {
	r := &Result{
		Method: "occlusion", Fill: c.background.fill.String(), Target: "margin",
		Input: c.models[0].input, Output: c.models[0].output, Batch: c.models[0].batch, Warnings: c.warnings,
	}
	if c.projection {
		r.Target = "projection"
	}
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
	if len(c.floor) > 0 {
		floor := measure.Median(c.floor)
		r.NoiseFloor = &floor
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

func (c *comparison) summarize(r *Result, agree []Pair) error {
	for _, e := range []struct {
		into *Estimate
		of   func(Pair) float64
	}{
		{&r.Spearman, func(p Pair) float64 { return p.Spearman }},
		{&r.TopKJaccard, func(p Pair) float64 { return p.TopKJaccard }},
		{&r.Cosine, func(p Pair) float64 { return p.Cosine }},
		{&r.SignAgreement, func(p Pair) float64 { return p.SignAgreement }},
		{&r.MassDisplacement, func(p Pair) float64 { return p.MassDisplacement }},
	} {
		v := make([]float64, len(agree))
		for i, p := range agree {
			v[i] = e.of(p)
		}
		var err error
		if *e.into, err = estimateOf(v, c.o); err != nil {
			return err
		}
	}
	for _, p := range agree {
		if !p.Defined {
			r.DeadMaps++
		}
	}
	for k := range c.dead {
		if c.moved > 0 {
			r.DeadPerturbations[k] = float64(c.dead[k]) / float64(c.moved)
		}
	}
	if c.curved > 0 {
		n := float64(c.curved)
		r.Faithfulness = &[2]float64{c.own[0] / n, c.own[1] / n}
		if c.own[1] > 0 {
			ratio := c.cross / c.own[1]
			r.CrossFaithfulness = &ratio
		}
	}
	r.size(agree)
	if len(agree) < 30 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("explanations of %d samples give wide intervals, want at least 30", len(agree)))
	}
	return nil
}

func estimateOf(v []float64, o Options) (Estimate, error) {
	sorted := slices.Sorted(slices.Values(v))
	e := Estimate{Median: measure.Median(v), P10: sorted[(len(sorted)-1)/10]}
	if len(v) < 2 {
		return e, nil
	}
	i, err := measure.Bootstrap(v, measure.Median, measure.BootstrapOptions{Seed: o.Seed, Resamples: o.Resamples, Confidence: o.Confidence})
	if err != nil {
		return e, fmt.Errorf("bootstrapping over %d samples: %v", len(v), err)
	}
	e.Interval = &i
	return e, nil
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
	r.Perturbations = r.Features
	if len(count) > 1 {
		return
	}
	r.MeanBaseline, r.MeanCandidate = make([]float64, r.Features), make([]float64, r.Features)
	for _, p := range agree {
		for into, from := range map[*[]float64][]float64{&r.MeanBaseline: p.Baseline, &r.MeanCandidate: p.Candidate} {
			largest := 0.0
			for _, v := range from {
				largest = max(largest, math.Abs(v))
			}
			for i, v := range from {
				if largest > 0 {
					(*into)[i] += v / largest / float64(len(agree))
				}
			}
		}
	}
}

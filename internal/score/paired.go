package score

import (
	"fmt"
	"math"
)

// Paired is one measure of both models and their difference, candidate - baseline.
type Paired struct {
	Metric              string // "top1", "nll", "mae", …
	LowerIsBetter       bool
	Baseline, Candidate float64
	Delta               float64
	Low, High           float64 // interval of Delta; ±Inf where there are too few samples for any
	Confidence          float64
	Method              string   // "tango", "paired-t", "cluster-t", "delta-method"
	N                   int      // items: samples, tokens, elements
	Clusters            int      // independent units among them
	PValue              *float64 // of no difference: exact McNemar for paired proportions, Student's t for means
	Rare                bool     // the interval is that of a share, at least as wide as if no unit differed
	SE                  float64  // standard error of Delta, over Clusters; +Inf where there are too few samples for any

	Ratio               float64 // Candidate / Baseline; NaN where it has no value
	RatioLow, RatioHigh float64 // interval of Ratio
}

// outcomes counts the pairs of right and wrong.
type outcomes struct{ both, gains, losses, neither int }

func (o *outcomes) add(baseline, candidate bool) {
	switch {
	case baseline && candidate:
		o.both++
	case candidate:
		o.gains++
	case baseline:
		o.losses++
	default:
		o.neither++
	}
}

func (o outcomes) n() int { return o.both + o.gains + o.losses + o.neither }

func (o outcomes) paired(metric string, confidence float64) Paired {
	n := o.n()
	p := McNemar(o.gains, o.losses)
	r := Paired{Metric: metric, Confidence: confidence, Method: "tango", N: n, Clusters: n, PValue: &p}
	if n > 0 {
		r.Baseline = float64(o.both+o.losses) / float64(n)
		r.Candidate = float64(o.both+o.gains) / float64(n)
		r.Delta = float64(o.gains-o.losses) / float64(n)
	}
	r.Low, r.High = Tango(o.gains, o.losses, n, confidence)
	r.SE = math.Sqrt(discordance(o.gains, o.losses, n) / float64(n))
	r.Rare = true
	r.Ratio = math.NaN()
	if r.Baseline > 0 {
		r.Ratio = r.Candidate / r.Baseline
	}
	r.RatioLow, r.RatioHigh = RatioOfProportions(o.both, o.gains, o.losses, n, confidence)
	return r
}

// Options says how to score; the zero value is the default of every field.
type Options struct {
	Kind       Kind    // what the outputs are; Auto detects it
	TopK       []int   // nil means 1 and 5; a k of the number of classes or more is left out
	MaxFlips   int     // ids kept per kind of flip; 0 means 100
	Confidence float64 // 0 means 0.95
	MinSlice   int     // samples below which a slice is listed but not tested; 0 means 10
	Margin     float64 // accuracy drop for which Required is computed; 0 means 0.005
	Resamples  int     // of bootstraps; 0 means 1000
	Seed       uint64  // of bootstraps
	Ignore     int     // class of a label map that is not scored; 0 means 255, negative none
	Gallery    int     // embeddings that others are looked up in; 0 means 4096
}

func (o Options) filled() (Options, error) {
	if o.TopK == nil {
		o.TopK = []int{1, 5}
	}
	if o.MaxFlips == 0 {
		o.MaxFlips = 100
	}
	if o.Confidence == 0 {
		o.Confidence = 0.95
	}
	if o.MinSlice == 0 {
		o.MinSlice = 10
	}
	if o.Margin == 0 {
		o.Margin = 0.005
	}
	if o.Resamples == 0 {
		o.Resamples = 1000
	}
	if o.Ignore == 0 {
		o.Ignore = 255
	}
	if o.Gallery == 0 {
		o.Gallery = 4096
	}
	switch {
	case o.Resamples < 100 || o.Gallery < 2:
		return o, fmt.Errorf("%d resamples and a gallery of %d are too few, want at least 100 and 2", o.Resamples, o.Gallery)
	case !(o.Confidence > 0 && o.Confidence < 1):
		return o, fmt.Errorf("confidence %v is outside (0, 1)", o.Confidence)
	case !(o.Margin > 0 && o.Margin < 1):
		return o, fmt.Errorf("margin %v is outside (0, 1)", o.Margin)
	case o.MaxFlips < 0 || o.MinSlice < 0:
		return o, fmt.Errorf("limits of %d flips and %d samples per slice must not be negative", o.MaxFlips, o.MinSlice)
	case o.Kind < Auto || o.Kind > Probabilities:
		return o, fmt.Errorf("output kind %d is unknown", o.Kind)
	}
	for _, k := range o.TopK {
		if k < 1 {
			return o, fmt.Errorf("top-%d is not a measure, want k of at least 1", k)
		}
	}
	return o, nil
}

// Flip is a sample whose outcome the candidate changed.
type Flip struct {
	ID                  string
	Label               int // -1 where there is none
	Baseline, Candidate int // predicted classes; -1 where the outputs were not finite

	// Margin is the baseline's probability of its class less that of the next one; nil where there are no probabilities.
	Margin *float64
	leads  *[2]float64 // it, by what the outputs may be
}

// Flips counts the changed outcomes and lists the first of each kind.
type Flips struct {
	RightToWrong, WrongToRight, WrongToOther int

	// The first MaxFlips of each kind, in order of arrival.
	Lost, Gained, Changed []Flip
}

func (f *Flips) add(flip Flip, baselineRight, candidateRight bool, limit int) {
	keep := func(count *int, list *[]Flip) {
		*count++
		if len(*list) < limit {
			*list = append(*list, flip)
		}
	}
	switch {
	case baselineRight && !candidateRight:
		keep(&f.RightToWrong, &f.Lost)
	case !baselineRight && candidateRight:
		keep(&f.WrongToRight, &f.Gained)
	case !baselineRight && flip.Baseline != flip.Candidate:
		keep(&f.WrongToOther, &f.Changed)
	}
}

// NonFinite counts the outputs that were not numbers.
type NonFinite struct {
	Baseline, Candidate int      // samples with a NaN or +Inf
	IDs                 []string // the first few of them
}

func (n *NonFinite) add(id string, baseline, candidate bool) {
	if baseline {
		n.Baseline++
	}
	if candidate {
		n.Candidate++
	}
	if (baseline || candidate) && len(n.IDs) < 10 {
		n.IDs = append(n.IDs, id)
	}
}

func (n NonFinite) warnings() []string {
	if n.Baseline+n.Candidate == 0 {
		return nil
	}
	return []string{fmt.Sprintf("outputs are NaN or infinite in %d samples of the baseline and %d of the candidate, the first is %q",
		n.Baseline, n.Candidate, n.IDs[0])}
}

// finite says whether a row holds scores one can rank: no NaN, no +Inf, and not -Inf only.
func finite(row []float64) bool {
	any := len(row) == 0
	for _, v := range row {
		if math.IsNaN(v) || math.IsInf(v, 1) {
			return false
		}
		any = any || !math.IsInf(v, -1)
	}
	return any
}

// argmax returns the first index of the largest value, and whether another has the same.
func argmax(row []float64) (index int, tied bool) {
	for i, v := range row[1:] {
		switch {
		case v > row[index]:
			index, tied = i+1, false
		case v == row[index]:
			tied = true
		}
	}
	return index, tied
}

// rank returns the place of class in row, from 0: how many classes score higher, or the same with a lower index.
func rank(row []float64, class int) int {
	r := 0
	for i, v := range row {
		if v > row[class] || v == row[class] && i < class {
			r++
		}
	}
	return r
}

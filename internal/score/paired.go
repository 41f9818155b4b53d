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
	PValue              *float64 // exact McNemar, for paired proportions only
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
	return r
}

// ratio accumulates the mean over items of a measure of both models, items coming in clusters.
type ratio struct {
	baseline, candidate float64 // sums
	open                struct{ delta, items float64 }
	m                   moments // delta, items
}

func (r *ratio) item(baseline, candidate float64) {
	r.baseline += baseline
	r.candidate += candidate
	r.open.delta += candidate - baseline
	r.open.items++
}

// close ends the cluster; one without items does not count.
func (r *ratio) close() {
	if r.open.items > 0 {
		r.m.add(r.open.delta, r.open.items)
	}
	r.open.delta, r.open.items = 0, 0
}

func (r *ratio) paired(metric string, confidence float64) Paired {
	items := r.m.at(1)
	p := Paired{
		Metric: metric, LowerIsBetter: true, Confidence: confidence, N: int(items), Clusters: r.m.n,
		Method: "paired-t", Low: math.Inf(-1), High: math.Inf(1),
	}
	if items == 0 {
		return p
	}
	if p.N != p.Clusters {
		p.Method = "cluster-t"
	}
	p.Baseline, p.Candidate = r.baseline/items, r.candidate/items
	p.Delta = r.m.at(0) / items
	half := r.m.half(confidence, 1/items, -p.Delta/items)
	p.Low, p.High = p.Delta-half, p.Delta+half
	return p
}

// Options says how to score; the zero value is the default of every field.
type Options struct {
	Kind       Kind    // what the outputs are; Auto detects it
	TopK       []int   // nil means 1 and 5; a k of the number of classes or more is left out
	MaxFlips   int     // ids kept per kind of flip; 0 means 100
	Confidence float64 // 0 means 0.95
	MinSlice   int     // samples below which a slice is listed but not tested; 0 means 10
	Margin     float64 // accuracy drop for which Required is computed; 0 means 0.005
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
	switch {
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

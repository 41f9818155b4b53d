package score

import (
	"fmt"
	"math"
	"slices"
)

// Agreement compares two models without labels: how often they pick the same class and how far apart their outputs are.
// State: O(classes + flips).
type Agreement struct {
	o            Options
	numeric      bool
	n, finite    int
	agree        int
	flips        []Flip
	ties         [2]int
	overlap      float64
	signal       float64
	noise        float64
	cosine       float64
	cosineMin    float64
	maxAbs       float64
	nonFinite    NonFinite
	dist         *distribution
	order        [2][]int
	overlapCount int
}

// AgreementResult says how alike two models' outputs are.
type AgreementResult struct {
	N              int
	Same           *Share        // same predicted class; nil for numeric outputs
	Disagreements  []Flip        // the first MaxFlips
	TopK           int           // k of TopKOverlap: the largest of Options.TopK below the number of classes
	TopKOverlap    float64       // mean share of the k highest classes that both have
	Distribution   *Distribution // KL divergence; nil for numeric outputs
	SQNR           float64       // 10 log10(Σ baseline² / Σ (candidate - baseline)²) in dB; +Inf when equal
	CosineMean     float64       // over samples
	CosineMin      float64
	MaxAbs         float64
	Ties           [2]int
	NonFinite      NonFinite
	FiniteSamples  int // samples that the distances are taken over
	Warnings       []string
	NumericOutputs bool
}

// NewAgreement returns an empty scorer; numeric says that outputs are quantities and not scores of classes, so that picking
// the highest means nothing.
func NewAgreement(o Options, numeric bool) (*Agreement, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Agreement{o: o, numeric: numeric, cosineMin: math.Inf(1), dist: newDistribution(o)}, nil
}

// Add compares the outputs for one sample; it errs when their lengths differ or are 0.
func (a *Agreement) Add(id string, baseline, candidate []float64) error {
	if len(baseline) == 0 || len(baseline) != len(candidate) {
		return fmt.Errorf("sample %q: the baseline gives %d values, the candidate %d, want equal numbers above 0", id, len(baseline), len(candidate))
	}
	a.n++
	bad := unusable(baseline, candidate)
	a.nonFinite.add(id, bad[0], bad[1])
	if !a.numeric && len(baseline) > 1 {
		a.choices(id, baseline, candidate)
	}
	if bad[0] || bad[1] {
		return nil
	}
	a.finite++
	var bb, cc, bc float64
	for i, b := range baseline {
		c := candidate[i]
		if math.IsInf(b, -1) {
			continue // masked out by both
		}
		bb += b * b
		cc += c * c
		bc += b * c
		a.noise += (c - b) * (c - b)
		a.maxAbs = max(a.maxAbs, math.Abs(c-b))
	}
	a.signal += bb
	cosine := 1.0
	switch {
	case bb > 0 && cc > 0:
		cosine = max(-1, min(1, bc/math.Sqrt(bb)/math.Sqrt(cc)))
	case bb > 0 || cc > 0:
		cosine = 0
	}
	a.cosine += cosine
	a.cosineMin = min(a.cosineMin, cosine)
	return nil
}

// unusable says which of two rows has a value that no distance can be taken to: NaN, +Inf, or a -Inf (the usual mask of a
// score) where the other has none.
func unusable(baseline, candidate []float64) (bad [2]bool) {
	for i, b := range baseline {
		c := candidate[i]
		bad[0] = bad[0] || math.IsNaN(b) || math.IsInf(b, 1) || math.IsInf(b, -1) && !math.IsInf(c, -1)
		bad[1] = bad[1] || math.IsNaN(c) || math.IsInf(c, 1) || math.IsInf(c, -1) && !math.IsInf(b, -1)
	}
	return bad
}

func (a *Agreement) choices(id string, baseline, candidate []float64) {
	picked := [2]int{-1, -1}
	usable := [2]bool{finite(baseline), finite(candidate)}
	for m, row := range [2][]float64{baseline, candidate} {
		if usable[m] {
			var tied bool
			if picked[m], tied = argmax(row); tied {
				a.ties[m]++
			}
		}
	}
	both := usable[0] && usable[1]
	if both {
		a.dist.add(-1, baseline, candidate)
	}
	// Two models that both fail agree on nothing.
	if picked[0] == picked[1] && picked[0] >= 0 {
		a.agree++
	} else if len(a.flips) < a.o.MaxFlips {
		f := Flip{ID: id, Label: -1, Baseline: picked[0], Candidate: picked[1]}
		if both {
			f.leads = a.dist.leads()
		}
		a.flips = append(a.flips, f)
	}
	if !both {
		return
	}
	if k := a.topK(len(baseline)); k > 0 {
		for m, row := range [2][]float64{baseline, candidate} {
			a.order[m] = highest(a.order[m], row, k)
		}
		shared := 0
		for _, c := range a.order[0] {
			if slices.Contains(a.order[1], c) {
				shared++
			}
		}
		a.overlap += float64(shared) / float64(k)
		a.overlapCount = k
	}
}

// topK returns the largest k asked for that is below the number of classes, 0 if there is none.
func (a *Agreement) topK(classes int) int {
	best := 0
	for _, k := range a.o.TopK {
		if k < classes {
			best = max(best, k)
		}
	}
	return best
}

// highest fills into with the indices of the k highest values, equal ones by index.
func highest(into []int, row []float64, k int) []int {
	into = into[:0]
	for i, v := range row {
		if len(into) == k && v <= row[into[k-1]] {
			continue
		}
		at := len(into)
		for at > 0 && v > row[into[at-1]] {
			at--
		}
		into = slices.Insert(into, at, i)
		into = into[:min(k, len(into))]
	}
	return into
}

// Result returns the comparison so far; it errs when no sample was added.
func (a *Agreement) Result() (*AgreementResult, error) {
	if a.n == 0 {
		return nil, fmt.Errorf("there are no samples to compare")
	}
	a.dist.margins(a.flips)
	r := &AgreementResult{
		N: a.n, FiniteSamples: a.finite, Disagreements: a.flips, Ties: a.ties, NonFinite: a.nonFinite, NumericOutputs: a.numeric,
		SQNR: math.Inf(1), MaxAbs: a.maxAbs, CosineMean: math.NaN(), CosineMin: math.NaN(),
		Distribution: a.dist.result(a.o),
	}
	if a.finite > 0 {
		r.CosineMean, r.CosineMin = a.cosine/float64(a.finite), a.cosineMin
		if a.noise > 0 {
			r.SQNR = 10 * math.Log10(a.signal/a.noise)
		}
	} else {
		r.SQNR = math.NaN()
	}
	if !a.numeric && a.agree+len(a.flips) > 0 {
		s := shareOf(a.agree, a.n, a.o.Confidence)
		r.Same = &s
	}
	if r.Distribution != nil && a.overlapCount > 0 {
		r.TopK, r.TopKOverlap = a.overlapCount, a.overlap/float64(r.Distribution.N)
	}
	r.Warnings = append(r.NonFinite.warnings(), r.Distribution.warnings()...)
	return r, nil
}

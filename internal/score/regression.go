package score

import (
	"fmt"
	"math"
)

// Regression scores numeric predictions. Elements of one sample are not taken to be independent; samples are.
// State: O(slices).
type Regression struct {
	o         Options
	absolute  ratio
	square    moments // Σ squared error of baseline, of candidate, elements
	n         int
	slices    map[string]*ratio
	nonFinite NonFinite
}

// RegressionResult is the comparison of two regressors.
type RegressionResult struct {
	N, Elements int
	MAE, RMSE   Paired
	Slices      []Slice // of MAE
	NonFinite   NonFinite
	Warnings    []string
}

// NewRegression returns an empty scorer.
func NewRegression(o Options) (*Regression, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Regression{o: o, slices: map[string]*ratio{}}, nil
}

// Add scores one sample, whose Label is not used. It errs when the lengths differ or a target is not finite. A sample with a prediction that is not
// finite counts as such and is left out of the errors of both models.
func (r *Regression) Add(s Sample, target, baseline, candidate []float64) error {
	id := s.ID
	if len(target) == 0 || len(baseline) != len(target) || len(candidate) != len(target) {
		return fmt.Errorf("sample %q: %d targets, %d predictions of the baseline and %d of the candidate, want equal numbers above 0",
			id, len(target), len(baseline), len(candidate))
	}
	bad := [2]bool{}
	for i, t := range target {
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return fmt.Errorf("sample %q: target %d is %v, want a finite number", id, i, t)
		}
		bad[0] = bad[0] || math.IsNaN(baseline[i]) || math.IsInf(baseline[i], 0)
		bad[1] = bad[1] || math.IsNaN(candidate[i]) || math.IsInf(candidate[i], 0)
	}
	r.n++
	r.nonFinite.add(id, bad[0], bad[1])
	if bad[0] || bad[1] {
		return nil
	}
	var square [2]float64
	for i, t := range target {
		b, c := baseline[i]-t, candidate[i]-t
		r.absolute.item(math.Abs(b), math.Abs(c))
		square[0] += b * b
		square[1] += c * c
	}
	r.absolute.close()
	intoSlices(r.slices, s.Slices, func(g *ratio) {
		for i, t := range target {
			g.item(math.Abs(baseline[i]-t), math.Abs(candidate[i]-t))
		}
		g.close()
	})
	r.square.add(square[0], square[1], float64(len(target)))
	return nil
}

// Result returns the comparison so far; it errs when no sample had finite predictions.
func (r *Regression) Result() (*RegressionResult, error) {
	if r.square.n == 0 {
		return nil, fmt.Errorf("there are no samples with finite predictions to score, of %d", r.n)
	}
	items := r.square.at(2)
	out := &RegressionResult{
		N: r.n, Elements: int(items), NonFinite: r.nonFinite,
		MAE: r.absolute.paired("mae", r.o.Confidence), Slices: slicesOf(r.slices, r.o),
	}
	b, c := math.Sqrt(r.square.at(0)/items), math.Sqrt(r.square.at(1)/items)
	out.RMSE = Paired{
		Metric: "rmse", LowerIsBetter: true, Baseline: b, Candidate: c, Delta: c - b,
		Confidence: r.o.Confidence, Method: "delta-method", N: int(items), Clusters: r.square.n,
		Ratio: math.NaN(),
	}
	// d rmse / d Σ = 1/(2·rmse·items), and d rmse / d items = -rmse/(2·items); a model without error has no slope there.
	slope := func(rmse float64) float64 {
		if rmse == 0 {
			return 0
		}
		return 1 / (2 * rmse * items)
	}
	half := r.square.half(r.o.Confidence, -slope(b), slope(c), (b-c)/(2*items))
	out.RMSE.spread(half, r.square.n)
	out.Warnings = r.nonFinite.warnings()
	if r.square.n < 30 {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%d samples are few for the interval of the RMSE, want at least 30", r.square.n))
	}
	return out, nil
}

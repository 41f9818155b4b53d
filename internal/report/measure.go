package report

// Measure is one metric of both models over the same samples.
type Measure struct {
	Name      string    `json:"name"`                                // such as top5, map50 or pixel-accuracy
	Better    string    `json:"better" schema:"higher|lower"`        // the metric's good direction
	Baseline  *float64  `json:"baseline,omitempty"`                  // of the baseline
	Candidate *float64  `json:"candidate,omitempty"`                 // of the candidate
	Delta     *float64  `json:"delta,omitempty"`                     // candidate − baseline, paired
	CI95      *Interval `json:"ci95,omitempty"`                      // interval of delta
	CIMethod  string    `json:"ci_method,omitempty"`                 // how the intervals were computed
	Ratio     *float64  `json:"ratio,omitempty"`                     // candidate / baseline
	RatioCI95 *Interval `json:"ratio_ci95,omitempty"`                // interval of ratio
	PValue    *float64  `json:"p_value,omitempty" schema:"fraction"` // of no difference
	Share     bool      `json:"share,omitempty"`                     // the metric is a fraction, and a difference of it is in points
}

// Measure returns the metric of that name among TopK, NLL, Brier, Perplexity and Metrics; nil where the report lacks it.
func (a *Accuracy) Measure(name string) *Measure {
	for _, m := range []*Measure{a.NLL, a.Brier, a.Perplexity} {
		if m != nil && m.Name == name {
			return m
		}
	}
	for _, list := range [][]Measure{a.TopK, a.Metrics} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// Drop returns how much worse the candidate is (positive is worse) with its interval, as Accuracy.Drop does.
func (m *Measure) Drop() (*float64, *Interval) { return drop(m.Better, m.Delta, m.CI95) }

// Similarity is how alike both models' vectors for the same sample are, over the samples.
type Similarity struct {
	Mean *float64  `json:"mean,omitempty"` // −1 to 1
	CI95 *Interval `json:"ci95,omitempty"` // interval of mean
	P5   *float64  `json:"p5,omitempty"`   // 5th percentile over samples, within 0.001
	Min  *float64  `json:"min,omitempty"`  // of the least alike sample
}

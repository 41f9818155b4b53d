package report

// Slice is the accuracy comparison within one part of the data.
type Slice struct {
	Name      string    `json:"name"`                                // the class or attribute, such as class=7
	N         int       `json:"n" schema:"count"`                    // samples in the slice
	Baseline  *float64  `json:"baseline,omitempty"`                  // the metric of the baseline
	Candidate *float64  `json:"candidate,omitempty"`                 // the metric of the candidate
	Delta     *float64  `json:"delta,omitempty"`                     // candidate − baseline
	CI95      *Interval `json:"ci95,omitempty"`                      // interval of delta, for this slice alone
	CI95All   *Interval `json:"ci95_simultaneous,omitempty"`         // interval of delta at the level at which those of all judged slices hold at once (Bonferroni)
	PValue    *float64  `json:"p_value,omitempty" schema:"fraction"` // of no difference, for this slice alone
	PHolm     *float64  `json:"p_holm,omitempty" schema:"fraction"`  // p_value after Holm's correction over all judged slices
	Small     bool      `json:"small,omitempty"`                     // it has too few samples to be judged: listed only
}

// SliceDrop is the slice that lost most.
type SliceDrop struct {
	Name  string    `json:"name"`                               // of the slice
	N     int       `json:"n" schema:"count"`                   // samples in it
	Drop  *float64  `json:"drop,omitempty"`                     // loss of the metric in its own unit; positive is worse
	CI95  *Interval `json:"ci95,omitempty"`                     // from the largest loss that some slice has for sure to the largest that none exceeds, each at 95 %
	PHolm *float64  `json:"p_holm,omitempty" schema:"fraction"` // of no difference in it, after Holm's correction
}

// WorstSlice returns the judged slice with the largest drop, that drop, and an interval that says what is known of the worst of them
// all. Its upper end is the largest upper end over the slices: a threshold above it holds for each of them at the stated confidence
// without correction for their number (an intersection-union test). Its lower end is the largest lower end of the
// simultaneous intervals, so that a slice that fails does not fail for there being many.
// It returns nil values when a judged slice lacks its delta or interval, or there is none.
func (a *Accuracy) WorstSlice() (*Slice, *float64, *Interval) {
	var (
		worst *Slice
		value *float64
		bound Interval
	)
	for i := range a.Slices {
		s := &a.Slices[i]
		if s.Small {
			continue
		}
		d, ci := drop(a.Better, s.Delta, s.CI95)
		if d == nil || ci == nil {
			return nil, nil, nil
		}
		low := ci[0]
		if _, all := drop(a.Better, s.Delta, s.CI95All); all != nil {
			low = min(low, all[0])
		}
		if worst == nil {
			worst, value, bound = s, d, Interval{low, ci[1]}
			continue
		}
		bound = Interval{max(bound[0], low), max(bound[1], ci[1])}
		if *d > *value {
			worst, value = s, d
		}
	}
	if worst == nil {
		return nil, nil, nil
	}
	return worst, value, &bound
}

// SetWorst fills Worst from the slices; it stays absent where no slice is judged.
func (a *Accuracy) SetWorst() {
	a.Worst = nil
	if s, d, ci := a.WorstSlice(); s != nil {
		a.Worst = &SliceDrop{Name: s.Name, N: s.N, Drop: d, CI95: ci, PHolm: s.PHolm}
	}
}

package report

import "fmt"

// measures returns the rows of the comparison table below that of the accuracy metric itself.
func (a *Accuracy) measures() []row {
	var out []row
	add := func(m *Measure, name string) {
		if m == nil || m.Name == a.Metric {
			return
		}
		unit, diff := UnitNone, UnitNone
		switch {
		case m.Share:
			unit, diff = UnitFraction, UnitDifference
		case m.Name == "nll":
			unit, diff = UnitNats, UnitNats
		}
		out = append(out, row{name, value(unit, m.Baseline), value(unit, m.Candidate), signed(diff, m.Delta, m.CI95)})
	}
	for i := range a.TopK {
		add(&a.TopK[i], clean(a.TopK[i].Name))
	}
	for i := range a.Metrics {
		add(&a.Metrics[i], clean(a.Metrics[i].Name))
	}
	add(a.NLL, "negative log-likelihood")
	add(a.Perplexity, "perplexity")
	add(a.Brier, "Brier score")
	return out
}

// evidence returns how much the samples can say, and which part of the data lost most, as pairs of name and value.
func (a *Accuracy) evidence() [][2]string {
	var out [][2]string
	_, diff := a.units()
	if a.Ratio != nil {
		out = append(out, [2]string{"share of the baseline's metric kept", estimate(UnitFraction, a.Ratio, a.RatioCI95)})
	}
	if a.NRequired != nil && a.Margin != nil {
		out = append(out, [2]string{"samples that a margin of " + FormatLimit(diff, *a.Margin) + " needs", FormatCount(*a.NRequired)})
	} else if a.NRequired != nil {
		out = append(out, [2]string{"samples that the margin needs", FormatCount(*a.NRequired)})
	}
	if a.MinDetectable != nil {
		out = append(out, [2]string{"smallest loss that these samples can rule out", FormatValue(diff, *a.MinDetectable)})
	}
	if w := a.Worst; w != nil {
		text := fmt.Sprintf("%s, %s samples, loss %s", clean(w.Name), FormatCount(w.N), estimate(diff, w.Drop, w.CI95))
		if w.PHolm != nil {
			text += ", p " + FormatValue(UnitNone, *w.PHolm) + " (Holm)"
		}
		out = append(out, [2]string{"worst class or slice", text})
	}
	if a.TopKOverlap != nil {
		out = append(out, [2]string{fmt.Sprintf("overlap of the %d highest classes", a.TopKOverlapK), FormatValue(UnitFraction, *a.TopKOverlap)})
	}
	if c := a.Cosine; c != nil {
		out = append(out, [2]string{"cosine of embeddings, mean", estimate(UnitNone, c.Mean, c.CI95)})
		out = append(out, [2]string{"cosine of embeddings, 5th percentile", value(UnitNone, c.P5)})
	}
	return out
}

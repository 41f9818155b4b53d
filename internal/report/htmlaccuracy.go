package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// accuracyView is the section that compares predictions.
type accuracyView struct {
	Summary              string
	Metric               string
	Facts                [][2]string
	FlipsChart           template.HTML
	Flips, MoreFlips     *table
	SlicesChart          template.HTML
	SlicesNote           string
	Slices               *table
	Calibration          *table
	Confusion, MoreCells *table
	Outputs, MoreOutputs *table
}

func (a *Accuracy) view() *accuracyView {
	v := &accuracyView{Summary: a.summary(), Metric: clean(a.Metric), Facts: a.facts(), SlicesNote: a.slicesNote()}
	if a.CIMethod != "" {
		v.Facts = append(v.Facts, [2]string{"interval of the change by", clean(a.CIMethod)})
	}
	if a.Flips != nil {
		v.FlipsChart = flipsChart(a.Flips)
		v.Flips, v.MoreFlips = a.Flips.table().split(maxFirst)
	}
	worst := a.worstFirst()
	small := func(s Slice) bool { return s.Small }
	judged := slices.DeleteFunc(slices.Clone(worst), small)
	few := slices.DeleteFunc(worst, func(s Slice) bool { return !small(s) })
	v.SlicesChart = slicesChart(a, judged[:min(maxForest, len(judged))])
	v.Slices = a.sliceTable(append(judged, few[:min(maxFirst, len(few))]...))
	v.Calibration = a.calibrationTable()
	v.Confusion, v.MoreCells = a.confusionTable().split(maxFirst)
	v.Outputs, v.MoreOutputs = a.outputTable().split(maxFirst)
	return v
}

// summary says in a sentence what became of the metric.
func (a *Accuracy) summary() string {
	unit, diff := a.units()
	switch {
	case a.Delta != nil && a.Metric != "":
		s := fmt.Sprintf("%s went from %s to %s on the same %s samples: %s", clean(a.Metric), value(unit, a.Baseline), value(unit, a.Candidate), FormatCount(a.N), signed(diff, a.Delta, nil))
		if a.CI95 != nil {
			s += ", and by the 95 % interval of paired differences between " + FormatValue(diff, a.CI95[0]) + " and " + FormatValue(diff, a.CI95[1])
		}
		return s + "."
	case a.Identical:
		return fmt.Sprintf("Every output of every one of the %s samples is bit by bit the same.", FormatCount(a.N))
	case a.Agreement != nil:
		return fmt.Sprintf("Both models predict the same for %s of %s samples; without labels nobody can say which of them is right.", estimate(UnitFraction, a.Agreement, a.AgreementCI95), FormatCount(a.N))
	}
	return ""
}

// Kinds of a changed prediction, those that matter most first.
const (
	rightToWrong = "right → wrong"
	wrongToRight = "wrong → right"
	wrongToOther = "wrong → another wrong"
	unlabelled   = "changed"
)

// kind says what became of the sample.
func (f *Flip) kind() string {
	switch f.Label {
	case "":
		return unlabelled
	case f.Baseline:
		return rightToWrong
	case f.Candidate:
		return wrongToRight
	}
	return wrongToOther
}

// sorted returns the samples, those that only the baseline gets right first and the others by kind, otherwise in the report's order.
func (f *Flips) sorted() []Flip {
	order := []string{rightToWrong, unlabelled, wrongToRight, wrongToOther}
	out := slices.Clone(f.Samples)
	slices.SortStableFunc(out, func(a, b Flip) int { return cmp.Compare(slices.Index(order, a.kind()), slices.Index(order, b.kind())) })
	return out
}

func (f *Flips) table() *table {
	var rows [][]string
	for _, s := range f.sorted() {
		rows = append(rows, []string{clean(s.ID), s.kind(), clean(s.Label), clean(s.Baseline), clean(s.Candidate), value(UnitNone, s.Margin)})
	}
	return newTable("Samples whose prediction changed, by identifier; margin is the baseline's lead of its first over its second class",
		[]string{"Sample", "What happened", "Label", "Baseline said", "Candidate said", "Margin#"}, rows, maxRows)
}

// worstFirst returns the slices, the largest loss first; slices without a known loss come last.
func (a *Accuracy) worstFirst() []Slice {
	loss := func(s Slice) (float64, bool) {
		d, _ := drop(a.Better, s.Delta, s.CI95)
		if d == nil {
			return 0, false
		}
		return *d, true
	}
	out := slices.Clone(a.Slices)
	slices.SortStableFunc(out, func(x, y Slice) int {
		dx, okx := loss(x)
		dy, oky := loss(y)
		if okx != oky {
			if okx {
				return -1
			}
			return 1
		}
		return cmp.Compare(dy, dx)
	})
	return out
}

func (a *Accuracy) sliceTable(worst []Slice) *table {
	unit, diff := a.units()
	var rows [][]string
	for _, s := range worst {
		chance := value(UnitNone, s.PHolm)
		if s.Small {
			chance = "too few samples to be judged"
		}
		rows = append(rows, []string{clean(s.Name), FormatCount(s.N), value(unit, s.Baseline), value(unit, s.Candidate), signed(diff, s.Delta, s.CI95), chance})
	}
	return newTable("Slices, the largest loss first; p is of no difference, after Holm's correction for the number of slices",
		[]string{"Slice", "Samples#", "Baseline#", "Candidate#", "Change", "p"}, rows, maxRows)
}

// slicesNote names the worst slice, and says which are not shown.
func (a *Accuracy) slicesNote() string {
	var notes []string
	_, diff := a.units()
	if s, d, bound := a.WorstSlice(); s != nil {
		notes = append(notes, fmt.Sprintf("The largest loss is that of %s: %s over %s samples. By the intervals no slice loses more than %s.",
			clean(s.Name), FormatValue(diff, *d), FormatCount(s.N), FormatValue(diff, bound[1])))
	}
	small := 0
	for _, s := range a.Slices {
		if s.Small {
			small++
		}
	}
	if n := len(a.Slices) - small; n > maxForest {
		notes = append(notes, fmt.Sprintf("The picture shows the %d largest losses of %s slices.", maxForest, FormatCount(n)))
	}
	if small > 0 {
		rest := ""
		if small > maxFirst {
			rest = fmt.Sprintf(", and but for the %d that lost most not in the table; all are in report.json and report.csv", maxFirst)
		}
		notes = append(notes, fmt.Sprintf("%s of %s slices have too few samples to be judged: they are not in the picture%s.", FormatCount(small), FormatCount(len(a.Slices)), rest))
	}
	return strings.Join(notes, " ")
}

func (a *Accuracy) calibrationTable() *table {
	e := a.ECE
	if e == nil {
		return nil
	}
	caption := "Expected calibration error: how far stated confidence is from the share of right answers"
	if e.Bins > 0 {
		caption += fmt.Sprintf(", over %s bins of equal mass", FormatCount(e.Bins))
	}
	rows := [][]string{{"calibration error", value(UnitFraction, e.Baseline), value(UnitFraction, e.Candidate), signed(UnitDifference, e.Delta, e.CI95)}}
	if e.Floor != nil {
		rows = append(rows, []string{"what a perfectly calibrated model shows with as many samples, on average", value(UnitFraction, e.Floor), "–", "–"})
	}
	return newTable(caption, []string{"Quantity", "Baseline#", "Candidate#", "Change (positive is worse)"}, rows, maxRows)
}

func (a *Accuracy) confusionTable() *table {
	var rows [][]string
	for _, c := range a.Confusion {
		rows = append(rows, []string{clean(c.Label), clean(c.Predicted), FormatCount(c.Baseline), FormatCount(c.Candidate), fmt.Sprintf("%+d", c.Candidate-c.Baseline)})
	}
	return newTable("Samples of each true class by predicted class, where the two models differ, the largest change first",
		[]string{"True class", "Predicted", "Baseline#", "Candidate#", "Change#"}, rows, maxRows)
}

func (a *Accuracy) outputTable() *table {
	var rows [][]string
	for _, o := range a.Outputs {
		row := []string{clean(o.Name), value(UnitNone, o.MaxAbs), value(UnitDecibel, o.SQNR), "–"}
		if o.Cosine != nil {
			row[3] = significant(*o.Cosine, 5)
		}
		if o.Identical {
			row[2] = "identical"
		}
		rows = append(rows, row)
	}
	return newTable("Numeric distance per output over all samples", []string{"Output", "Largest difference#", "Signal to noise#", "Cosine#"}, rows, maxRows)
}

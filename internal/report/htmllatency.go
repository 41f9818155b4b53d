package report

import (
	"fmt"
	"html/template"
)

// latencyView is the section of run times.
type latencyView struct {
	Chart, Pairs template.HTML
	PairsLeft    int // pairs that the second chart leaves out
	Quantiles    *table
	Resources    *table
	Facts        [][2]string
	Noise        []string
}

func (r *Report) latencyView() *latencyView {
	l := r.Latency
	v := &latencyView{Chart: latencyChart(l), Pairs: pairsChart(l, r.Gates), Facts: l.facts()}
	if l.Series != nil {
		v.PairsLeft = max(0, min(len(l.Series.BaselineMS), len(l.Series.CandidateMS))-maxPairs)
	}
	var rows [][]string
	for _, q := range l.quantiles() {
		if q.q == nil {
			missing := fmt.Sprintf("not stated (needs %d runs)", q.need)
			rows = append(rows, []string{q.name, missing, missing, "–", "–"})
			continue
		}
		rows = append(rows, []string{q.name, estimate(UnitMS, &q.q.BaselineMS, q.q.BaselineCI95), estimate(UnitMS, &q.q.CandidateMS, q.q.CandidateCI95), signed(UnitMS, q.q.DeltaMS, q.q.DeltaCI95), q.q.EarlyStopping.text()})
	}
	v.Quantiles = newTable("Percentiles with 95 % intervals from order statistics; the difference is the mean over pairs of processes, with Student's t interval; early stopping is MLPerf's upper bound of both, with 99 % confidence",
		[]string{"Percentile", "Baseline", "Candidate", "Candidate − baseline", "Early stopping"}, rows, maxRows)
	v.Resources = newTable("What else a run takes", []string{"Quantity", "Baseline#", "Candidate#", "Candidate / baseline", "How it was measured"}, l.resources(), maxRows)
	return v
}

// resources returns what a run takes besides time: name, baseline, candidate, change and how it was measured.
func (l *Latency) resources() [][]string {
	var out [][]string
	add := func(r row, how string) { out = append(out, []string{r.Name, r.Baseline, r.Candidate, r.Change, how}) }
	if c := l.ColdStart; c != nil {
		add(c.row(), "from opening the model to the end of its first inference, the median over processes")
	}
	for i := range l.Throughput {
		add(l.Throughput[i].row(), fmt.Sprintf("samples per second, in %s pairs", FormatCount(l.Throughput[i].Pairs)))
	}
	if m := l.Memory; m != nil {
		add(ratioRow("peak memory", UnitBytes, Num(float64(m.BaselinePeakBytes)), Num(float64(m.CandidatePeakBytes))), m.measured())
	}
	if e := l.Energy; e != nil {
		add(e.row(), "idle power subtracted; by "+clean(e.Counter))
	}
	return out
}

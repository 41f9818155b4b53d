package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
)

// CSV returns the compared quantities and the gates as one table for a spreadsheet, in plain numbers: shares as fractions, times in
// milliseconds, sizes in bytes. What was not measured is an empty cell.
func (r *Report) CSV() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{{"section", "name", "unit", "baseline", "candidate", "change", "change_is", "ci95_low", "ci95_high", "operator", "threshold", "verdict"}}
	rows = append(rows, r.csvModels()...)
	if r.Accuracy != nil {
		rows = append(rows, r.Accuracy.csv()...)
	}
	if r.Latency != nil {
		rows = append(rows, r.Latency.csv()...)
	}
	if e := r.Explanation; e != nil {
		rows = append(rows, csvRow("explanation", "spearman", UnitNone, nil, nil, e.Spearman, "estimate", e.CI95),
			csvRow("explanation", "topk_jaccard", UnitFraction, nil, nil, e.TopKJaccard, "estimate", e.TopKCI95),
			csvRow("explanation", "cosine", UnitNone, nil, nil, e.Cosine, "estimate", e.CosineCI95))
	}
	for i := range r.Gates {
		g := &r.Gates[i]
		row := csvRow("gate", g.Name, g.Unit, nil, nil, g.Observed, "observed", g.CI95)
		row[9], row[10], row[11] = g.Operator, csvNumber(&g.Threshold), string(g.Verdict)
		rows = append(rows, row)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = csvCell(row[i])
		}
		if err := w.Write(row); err != nil {
			return nil, fmt.Errorf("writing CSV: %v", err)
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

func (r *Report) csvModels() [][]string {
	ratio := func(name, unit string, b, c int64) []string {
		var change *float64
		if b > 0 {
			change = Num(float64(c) / float64(b))
		}
		return csvRow("model", name, unit, Num(float64(b)), Num(float64(c)), change, "ratio", nil)
	}
	return [][]string{
		ratio("bytes", UnitBytes, r.Baseline.TotalBytes(), r.Candidate.TotalBytes()),
		ratio("parameters", UnitNone, r.Baseline.Parameters, r.Candidate.Parameters),
	}
}

func (a *Accuracy) csv() [][]string {
	var rows [][]string
	unit, _ := a.units()
	if a.Metric != "" {
		rows = append(rows, csvRow("accuracy", a.Metric, unit, a.Baseline, a.Candidate, a.Delta, "difference", a.CI95))
	}
	if a.Agreement != nil {
		rows = append(rows, csvRow("accuracy", "agreement", UnitFraction, nil, nil, a.Agreement, "estimate", a.AgreementCI95))
	}
	if e := a.ECE; e != nil {
		rows = append(rows, csvRow("accuracy", "ece", UnitFraction, e.Baseline, e.Candidate, e.Delta, "difference", e.CI95))
	}
	for _, s := range a.Slices {
		rows = append(rows, csvRow("slice", s.Name, unit, s.Baseline, s.Candidate, s.Delta, "difference", s.CI95))
	}
	return rows
}

func (l *Latency) csv() [][]string {
	rows := [][]string{csvRow("latency", "median", UnitMS, l.BaselineMS, l.CandidateMS, l.Ratio, "ratio", l.CI95)}
	ratio := func(name, unit string, b, c float64) {
		if b > 0 {
			rows = append(rows, csvRow("latency", name, unit, &b, &c, Num(c/b), "ratio", nil))
		}
	}
	for _, q := range []struct {
		name string
		q    *Quantile
	}{{"p90", l.P90}, {"p95", l.P95}, {"p99", l.P99}} {
		if q.q != nil {
			ratio(q.name, UnitMS, q.q.BaselineMS, q.q.CandidateMS)
		}
	}
	for _, q := range []struct {
		name string
		q    *Quantile
	}{{"p50", l.P50}, {"p90", l.P90}, {"p95", l.P95}, {"p99", l.P99}} {
		if q.q != nil && q.q.DeltaMS != nil {
			rows = append(rows, csvRow("latency", q.name, UnitMS, &q.q.BaselineMS, &q.q.CandidateMS, q.q.DeltaMS, "difference", q.q.DeltaCI95))
		}
	}
	if c := l.ColdStart; c != nil && c.BaselineMS != nil && c.CandidateMS != nil {
		ratio("cold_start", UnitMS, *c.BaselineMS, *c.CandidateMS)
	}
	if m := l.Memory; m != nil {
		b, c := float64(m.BaselinePeakBytes), float64(m.CandidatePeakBytes)
		ratio("peak_memory", UnitBytes, b, c)
		if m.DeltaBytes != nil {
			rows = append(rows, csvRow("latency", "peak_memory", UnitBytes, &b, &c, m.DeltaBytes, "difference", m.DeltaCI95))
		}
	}
	if e := l.Energy; e != nil && e.BaselineMJ != nil && e.CandidateMJ != nil {
		ratio("energy", "mJ", *e.BaselineMJ, *e.CandidateMJ)
	}
	return rows
}

func csvRow(section, name, unit string, b, c, change *float64, is string, ci *Interval) []string {
	row := []string{section, name, unit, csvNumber(b), csvNumber(c), csvNumber(change), is, "", "", "", "", ""}
	if ci != nil {
		row[7], row[8] = csvNumber(&ci[0]), csvNumber(&ci[1])
	}
	return row
}

func csvNumber(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}

// csvCell keeps a spreadsheet from taking foreign text for a formula.
func csvCell(s string) string {
	if s = clean(s); s == "" {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

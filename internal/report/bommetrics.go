package report

import (
	"strconv"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bomMetrics returns the figures of the report as the metrics of a model card, each with its interval where it has one. What was
// not measured is absent. A metric's type ends in its unit; those of a difference or ratio are against the baseline.
func bomMetrics(r *Report) *cdx.MLQuantitativeAnalysis {
	m := &metricList{}
	if r.Accuracy != nil {
		m.accuracy(r.Accuracy)
	}
	if r.Latency != nil {
		m.latency(r.Latency)
	}
	if r.Explanation != nil {
		m.explanation(r.Explanation)
	}
	m.add("size_bytes", "", Num(float64(r.Candidate.TotalBytes())), nil)
	if n := r.Baseline.TotalBytes(); n > 0 {
		m.add("size_ratio", "", Num(float64(r.Candidate.TotalBytes())/float64(n)), nil)
	}
	return &cdx.MLQuantitativeAnalysis{PerformanceMetrics: &m.list}
}

type metricList struct{ list []cdx.MLPerformanceMetric }

// add appends a metric, unless it was not measured.
func (m *metricList) add(kind, slice string, v *float64, ci *Interval) {
	if v == nil {
		return
	}
	text := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	metric := cdx.MLPerformanceMetric{Type: clean(kind), Value: text(*v), Slice: clean(slice)}
	if ci != nil {
		metric.ConfidenceInterval = &cdx.MLPerformanceMetricConfidenceInterval{LowerBound: text(ci[0]), UpperBound: text(ci[1])}
	}
	m.list = append(m.list, metric)
}

func (m *metricList) accuracy(a *Accuracy) {
	if a.Metric != "" {
		m.add(a.Metric, "", a.Candidate, nil)
		m.add(a.Metric+"_difference", "", a.Delta, a.CI95)
		for _, s := range a.Slices {
			m.add(a.Metric, s.Name, s.Candidate, nil)
			m.add(a.Metric+"_difference", s.Name, s.Delta, s.CI95)
		}
	}
	m.add("agreement", "", a.Agreement, a.AgreementCI95)
	m.add("kl_nats", "", a.KL, nil)
	m.add("sqnr_db", "", a.SQNR, nil)
	if e := a.ECE; e != nil {
		m.add("ece", "", e.Candidate, nil)
		m.add("ece_difference", "", e.Delta, e.CI95)
	}
}

func (m *metricList) latency(l *Latency) {
	m.add("latency_ms", "", l.CandidateMS, nil)
	m.add("latency_ratio", "", l.Ratio, l.CI95)
	for _, q := range []struct {
		name string
		q    *Quantile
	}{{"latency_p50_ms", l.P50}, {"latency_p90_ms", l.P90}, {"latency_p95_ms", l.P95}, {"latency_p99_ms", l.P99}} {
		if q.q != nil {
			m.add(q.name, "", &q.q.CandidateMS, q.q.CandidateCI95)
		}
	}
	if l.Memory != nil {
		m.add("peak_memory_bytes", "", Num(float64(l.Memory.CandidatePeakBytes)), nil)
	}
	if l.ColdStart != nil {
		m.add("cold_start_ms", "", l.ColdStart.CandidateMS, nil)
	}
	if l.Energy != nil {
		m.add("energy_mj", "", l.Energy.CandidateMJ, nil)
	}
}

func (m *metricList) explanation(e *Explanation) {
	m.add("explanation_spearman", "", e.Spearman, e.CI95)
	m.add("explanation_topk_jaccard", "", e.TopKJaccard, e.TopKCI95)
	m.add("explanation_cosine", "", e.Cosine, e.CosineCI95)
	m.add("explanation_cross_faithfulness", "", e.CrossFaithfulness, nil)
}

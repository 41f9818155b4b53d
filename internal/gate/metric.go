// Package gate decides what the numbers of a report mean: it holds a policy, which is a list of named requirements, against a
// report and returns pass, fail or inconclusive for each with the reason.
//
// A requirement on an estimated metric is decided by its 95 % interval, never by the point estimate: it passes where the whole
// interval is on the good side of the limit (non-inferiority), fails where the whole interval is on the bad side, and is
// inconclusive otherwise. Exact metrics are decided by their value: file sizes, and the distance between the outputs on the very samples
// that were run, which is computed and not estimated. A metric that the report lacks fails.
package gate

import (
	"github.com/lapidary-ml/lapidary/internal/report"
)

// Metric is a number of a report that a gate may refer to.
type Metric struct {
	Name   string // path into the report, or the name of a derived number
	Unit   string // one of the units of package report
	Higher bool   // whether larger values are better
	Exact  bool   // decided by value: a property of the files or of the very samples, not an estimate for others
	Signed bool   // a difference, whose limit may lie below 0 whatever the unit
	Real   bool   // says nothing on generated inputs, so a gate on it needs the user's data
	Doc    string // one line for people

	read func(r *report.Report) reading
}

// reading is what a report says about a metric.
type reading struct {
	value  *float64
	ci     *report.Interval
	best   bool   // as good as can be, with no finite number: identical outputs have no noise
	detail string // appended to the reason of a gate that does not pass
	hint   string // appended to the reason of a gate that decides nothing
}

// Metrics returns all metrics that a gate may refer to, in the order of the report.
func Metrics() []Metric {
	return append([]Metric{
		{Name: "bytes_ratio", Unit: report.UnitRatio, Exact: true, Doc: "size of the candidate with its external files / that of the baseline", read: readBytesRatio},
		{Name: "candidate.bytes", Unit: report.UnitBytes, Exact: true, Doc: "size of the candidate with its external files", read: readBytes},
		{Name: "parameters_ratio", Unit: report.UnitRatio, Exact: true, Doc: "parameters of the candidate / those of the baseline", read: readParametersRatio},
		{Name: "bytes_difference", Exact: true, Doc: "size of the candidate − that of the baseline, in bytes, with their external files", read: readBytesDifference},
		{Name: "parameters_difference", Exact: true, Doc: "parameters of the candidate − those of the baseline", read: readParametersDifference},
		{Name: "data.samples", Higher: true, Exact: true, Real: true, Doc: "rows of validation data", read: readSamples},
		{Name: "data.calibration_overlap", Exact: true, Real: true, Doc: "validation rows that are also calibration rows", read: readOverlap},
		{Name: "accuracy.drop", Unit: report.UnitDifference, Real: true, Doc: "loss of the accuracy metric; positive is worse", read: accuracy(readDrop)},
		{Name: "accuracy.worst_slice_drop", Unit: report.UnitDifference, Real: true, Doc: "largest loss within any slice", read: accuracy(readWorstSlice)},
		{Name: "accuracy.agreement", Unit: report.UnitFraction, Higher: true, Real: true, Doc: "share of samples with the same prediction", read: accuracy(func(a *report.Accuracy) reading {
			return reading{value: a.Agreement, ci: a.AgreementCI95}
		})},
		{Name: "accuracy.flips.right_to_wrong", Exact: true, Real: true, Doc: "samples that only the baseline gets right", read: accuracy(readRightToWrong)},
		{Name: "accuracy.kl", Unit: report.UnitNats, Exact: true, Real: true, Doc: "mean divergence of the class distributions over the samples", read: accuracy(func(a *report.Accuracy) reading {
			return reading{value: a.KL}
		})},
		{Name: "accuracy.sqnr_db", Unit: report.UnitDecibel, Higher: true, Exact: true, Real: true, Doc: "signal to noise ratio of the outputs over the samples", read: accuracy(func(a *report.Accuracy) reading {
			return reading{value: a.SQNR, best: a.SQNR == nil && a.Identical}
		})},
		{Name: "accuracy.ece.delta", Unit: report.UnitDifference, Real: true, Doc: "growth of the expected calibration error", read: accuracy(readECE)},
		{Name: "latency.ratio", Unit: report.UnitRatio, Doc: "run time of the candidate / that of the baseline", read: latency(func(l *report.Latency) reading {
			return reading{value: l.Ratio, ci: l.CI95, detail: l.Doubt()}
		})},
		{Name: "latency.speedup", Unit: report.UnitRatio, Higher: true, Doc: "run time of the baseline / that of the candidate", read: latency(readSpeedup)},
		quantile("latency.p50.candidate_ms", "median run time of the candidate", func(l *report.Latency) *report.Quantile { return l.P50 }),
		quantile("latency.p90.candidate_ms", "90th percentile of the candidate's run time", func(l *report.Latency) *report.Quantile { return l.P90 }),
		quantile("latency.p95.candidate_ms", "95th percentile of the candidate's run time", func(l *report.Latency) *report.Quantile { return l.P95 }),
		quantile("latency.p99.candidate_ms", "99th percentile of the candidate's run time", func(l *report.Latency) *report.Quantile { return l.P99 }),
		quantileDelta("latency.p50.delta_ms", "median run time of the candidate − that of the baseline", func(l *report.Latency) *report.Quantile { return l.P50 }),
		quantileDelta("latency.p90.delta_ms", "90th percentile of the candidate's run time − that of the baseline's", func(l *report.Latency) *report.Quantile { return l.P90 }),
		quantileDelta("latency.p95.delta_ms", "95th percentile of the candidate's run time − that of the baseline's", func(l *report.Latency) *report.Quantile { return l.P95 }),
		quantileDelta("latency.p99.delta_ms", "99th percentile of the candidate's run time − that of the baseline's", func(l *report.Latency) *report.Quantile { return l.P99 }),
		{Name: "latency.cold_start_ratio", Unit: report.UnitRatio, Doc: "time from opening the candidate to its first result / that of the baseline", read: latency(readColdStart)},
		{Name: "latency.throughput_ratio", Unit: report.UnitRatio, Higher: true, Doc: "samples per second of the candidate / those of the baseline, under the load where it is lowest", read: latency(readThroughput)},
		{Name: "latency.energy_ratio", Unit: report.UnitRatio, Doc: "energy per inference of the candidate / that of the baseline, idle power subtracted", read: latency(readEnergy)},
		{Name: "latency.memory_ratio", Unit: report.UnitRatio, Exact: true, Doc: "peak memory of the candidate's process / that of the baseline's", read: latency(readMemory)},
		{Name: "latency.memory_difference", Unit: report.UnitBytes, Signed: true, Doc: "peak memory of the candidate's process − that of the baseline's, the mean over fresh processes", read: latency(readMemoryDifference)},
		{Name: "explanation.spearman", Higher: true, Real: true, Doc: "median rank correlation of the attribution maps", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.Spearman, ci: e.CI95}
		})},
		{Name: "explanation.topk_jaccard", Unit: report.UnitFraction, Higher: true, Real: true, Doc: "median overlap of the most important features", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.TopKJaccard, ci: e.TopKCI95}
		})},
		{Name: "explanation.cosine", Higher: true, Real: true, Doc: "median cosine of the attribution maps", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.Cosine, ci: e.CosineCI95}
		})},
		{Name: "explanation.spearman_margin", Higher: true, Real: true, Doc: "explanation.spearman less its calibrated limit: what a change of no consequence leaves", read: explanation(readMargin)},
		{Name: "explanation.ssim", Higher: true, Real: true, Doc: "median structural similarity of the attribution maps of images", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.SSIM, ci: e.SSIMCI95}
		})},
		{Name: "explanation.sign_agreement", Unit: report.UnitFraction, Higher: true, Real: true, Doc: "median share of the most important features whose sign is the same", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.Sign, ci: e.SignCI95}
		})},
		{Name: "explanation.argmax_distance", Real: true, Doc: "mean distance between the most important features, in cells", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.ArgmaxDistance, ci: e.ArgmaxDistanceCI95}
		})},
		{Name: "explanation.mass_displacement", Unit: report.UnitFraction, Real: true, Doc: "median share of importance that lies elsewhere", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.MassDisplacement, ci: e.MassDisplacementCI95}
		})},
		{Name: "explanation.deletion_delta", Higher: true, Real: true, Doc: "faithfulness by deletion of the candidate's maps to the candidate, less that of the baseline's to the baseline", read: explanation(func(e *report.Explanation) reading {
			return readFaithfulness(e.Deletion)
		})},
		{Name: "explanation.insertion_delta", Higher: true, Real: true, Doc: "the same by insertion", read: explanation(func(e *report.Explanation) reading {
			return readFaithfulness(e.Insertion)
		})},
		{Name: "explanation.cross_faithfulness", Unit: report.UnitRatio, Higher: true, Real: true, Doc: "how well the baseline's maps explain the candidate / how well its own do", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.CrossFaithfulness, ci: e.CrossCI95}
		})},
		{Name: "explanation.dead_perturbations", Unit: report.UnitFraction, Exact: true, Real: true, Doc: "share of perturbations that leave the candidate's output exactly unchanged", read: explanation(func(e *report.Explanation) reading {
			return reading{value: e.DeadPerturbations}
		})},
	}, accuracyMetrics()...)
}

// lookup returns the metric of that name.
func lookup(name string) (Metric, bool) {
	for _, m := range Metrics() {
		if m.Name == name {
			return m, true
		}
	}
	return Metric{}, false
}

func accuracy(read func(*report.Accuracy) reading) func(*report.Report) reading {
	return func(r *report.Report) reading {
		if r.Accuracy == nil {
			return reading{}
		}
		return read(r.Accuracy)
	}
}

func latency(read func(*report.Latency) reading) func(*report.Report) reading {
	return func(r *report.Report) reading {
		if r.Latency == nil {
			return reading{}
		}
		return read(r.Latency)
	}
}

func explanation(read func(*report.Explanation) reading) func(*report.Report) reading {
	return func(r *report.Report) reading {
		if r.Explanation == nil {
			return reading{}
		}
		return read(r.Explanation)
	}
}

func quantile(name, doc string, pick func(*report.Latency) *report.Quantile) Metric {
	return Metric{Name: name, Unit: report.UnitMS, Doc: doc, read: latency(func(l *report.Latency) reading {
		q := pick(l)
		if q == nil {
			return reading{}
		}
		return reading{value: &q.CandidateMS, ci: q.CandidateCI95, detail: l.Doubt()}
	})}
}

func quantileDelta(name, doc string, pick func(*report.Latency) *report.Quantile) Metric {
	return Metric{Name: name, Unit: report.UnitMS, Signed: true, Doc: doc, read: latency(func(l *report.Latency) reading {
		q := pick(l)
		if q == nil {
			return reading{}
		}
		return reading{value: q.DeltaMS, ci: q.DeltaCI95, detail: l.Doubt()}
	})}
}

// ratio returns a / b, or nothing where that says nothing.
func ratio(a, b int64) *float64 {
	if a <= 0 || b <= 0 {
		return nil
	}
	return report.Num(float64(a) / float64(b))
}

func readBytesRatio(r *report.Report) reading {
	return reading{value: ratio(r.Candidate.TotalBytes(), r.Baseline.TotalBytes())}
}

func readBytes(r *report.Report) reading {
	if r.Candidate.TotalBytes() <= 0 {
		return reading{}
	}
	return reading{value: report.Num(float64(r.Candidate.TotalBytes()))}
}

func readParametersRatio(r *report.Report) reading {
	return reading{value: ratio(r.Candidate.Parameters, r.Baseline.Parameters)}
}

func readSamples(r *report.Report) reading {
	if r.Data == nil {
		return reading{}
	}
	return reading{value: report.Num(float64(r.Data.Samples))}
}

func readOverlap(r *report.Report) reading {
	if r.Data == nil || r.Data.CalibrationOverlap == nil {
		return reading{}
	}
	return reading{value: report.Num(float64(*r.Data.CalibrationOverlap))}
}

func readDrop(a *report.Accuracy) reading {
	v, ci := a.Drop()
	return reading{value: v, ci: ci, hint: shortOfSamples(a)}
}

// readSpeedup is the reciprocal of the latency ratio, whose interval turns around with it.
func readSpeedup(l *report.Latency) reading {
	if l.Ratio == nil || *l.Ratio <= 0 {
		return reading{}
	}
	out := reading{value: report.Num(1 / *l.Ratio)}
	if l.CI95 != nil && l.CI95[0] > 0 {
		out.ci = &report.Interval{1 / l.CI95[1], 1 / l.CI95[0]}
	}
	return out
}

func readBytesDifference(r *report.Report) reading {
	if r.Candidate.TotalBytes() <= 0 || r.Baseline.TotalBytes() <= 0 {
		return reading{}
	}
	return reading{value: report.Num(float64(r.Candidate.TotalBytes() - r.Baseline.TotalBytes()))}
}

func readParametersDifference(r *report.Report) reading {
	if r.Candidate.Parameters <= 0 || r.Baseline.Parameters <= 0 {
		return reading{}
	}
	return reading{value: report.Num(float64(r.Candidate.Parameters - r.Baseline.Parameters))}
}

func readWorstSlice(a *report.Accuracy) reading {
	s, v, ci := a.WorstSlice()
	if s == nil {
		return reading{}
	}
	return reading{value: v, ci: ci, detail: "the worst slice is " + s.Name}
}

// ofAccuracy reports whether the metric is a difference of the report's own accuracy metric, whose unit it then has.
func (m Metric) ofAccuracy(r *report.Report) bool {
	return r.Accuracy != nil && (m.Name == "accuracy.drop" || m.Name == "accuracy.gain" || m.Name == "accuracy.worst_slice_drop")
}

// differenceUnit returns the unit of a difference of the report's accuracy metric: points for a classification's shares, the
// metric's own unit for anything else.
func differenceUnit(a *report.Accuracy) string {
	if a.IsShare() {
		return report.UnitDifference
	}
	return report.UnitNone
}

func readRightToWrong(a *report.Accuracy) reading {
	if a.Flips == nil || a.Flips.RightToWrong == nil {
		return reading{}
	}
	return reading{value: report.Num(float64(*a.Flips.RightToWrong))}
}

func readECE(a *report.Accuracy) reading {
	if a.ECE == nil {
		return reading{}
	}
	return reading{value: a.ECE.Delta, ci: a.ECE.CI95}
}

// readMargin shifts the rank correlation and its interval by the calibrated limit.
func readMargin(e *report.Explanation) reading {
	if e.Spearman == nil || e.Calibrated == nil || e.Calibrated.Spearman == nil {
		return reading{}
	}
	limit := *e.Calibrated.Spearman
	out := reading{value: report.Num(*e.Spearman - limit)}
	if e.CI95 != nil {
		out.ci = report.CI(e.CI95[0]-limit, e.CI95[1]-limit)
	}
	return out
}

func readFaithfulness(f *report.Faithfulness) reading {
	if f == nil {
		return reading{}
	}
	return reading{value: f.Delta, ci: f.DeltaCI95}
}

func readMemory(l *report.Latency) reading {
	if l.Memory == nil {
		return reading{}
	}
	return reading{value: ratio(l.Memory.CandidatePeakBytes, l.Memory.BaselinePeakBytes)}
}

func readMemoryDifference(l *report.Latency) reading {
	if l.Memory == nil {
		return reading{}
	}
	return reading{value: l.Memory.DeltaBytes, ci: l.Memory.DeltaCI95}
}

func readColdStart(l *report.Latency) reading {
	if l.ColdStart == nil {
		return reading{}
	}
	return reading{value: l.ColdStart.Ratio, ci: l.ColdStart.CI95, detail: l.Doubt()}
}

func readEnergy(l *report.Latency) reading {
	if l.Energy == nil {
		return reading{}
	}
	return reading{value: l.Energy.Ratio, ci: l.Energy.CI95, detail: l.Doubt()}
}

// readThroughput reads the load under which the candidate does worst: one without an interval, or else that with the lowest lower end.
func readThroughput(l *report.Latency) reading {
	t := l.WorstThroughput()
	if t == nil {
		return reading{}
	}
	out := reading{value: t.Ratio, ci: t.CI95, detail: "the load is " + t.Load()}
	if t.Severe != "" {
		out.detail += ": " + t.Severe
	}
	return out
}

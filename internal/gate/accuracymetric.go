package gate

import "github.com/lapidary-ml/lapidary/internal/report"

// accuracyMetrics are the metrics of the accuracy section beyond the drop of its own metric.
func accuracyMetrics() []Metric {
	return []Metric{
		{Name: "accuracy.gain", Unit: report.UnitDifference, Higher: true, Real: true, Doc: "gain of the accuracy metric; positive is better", read: accuracy(readGain)},
		{Name: "accuracy.ratio", Unit: report.UnitFraction, Higher: true, Real: true, Doc: "share of the baseline's accuracy metric that the candidate keeps", read: accuracy(func(a *report.Accuracy) reading {
			return reading{value: a.Ratio, ci: a.RatioCI95}
		})},
		dropOf("top5", report.UnitDifference, "loss of top-5 accuracy"),
		dropOf("map50", report.UnitDifference, "loss of mean average precision at an IoU of 0.5"),
		dropOf("map75", report.UnitDifference, "loss of mean average precision at an IoU of 0.75"),
		dropOf("recall100", report.UnitDifference, "loss of recall by at most 100 boxes"),
		dropOf("pixel-accuracy", report.UnitDifference, "loss of the share of right pixels"),
		dropOf("micro-f1", report.UnitDifference, "loss of F1 over all labels"),
		dropOf("recall@5", report.UnitDifference, "loss of the share of samples that find their like among the nearest five"),
		dropOf("rmse", report.UnitNone, "growth of the root mean squared error"),
		dropOf("nll", report.UnitNats, "growth of the negative log-likelihood of the labels"),
		dropOf("brier", report.UnitNone, "growth of the Brier score"),
		{Name: "accuracy.perplexity.ratio", Unit: report.UnitRatio, Real: true, Doc: "perplexity of the candidate / that of the baseline", read: accuracy(func(a *report.Accuracy) reading {
			if a.Perplexity == nil {
				return reading{}
			}
			return reading{value: a.Perplexity.Ratio, ci: a.Perplexity.RatioCI95}
		})},
		{Name: "accuracy.topk_overlap", Unit: report.UnitFraction, Higher: true, Exact: true, Real: true, Doc: "mean share of the baseline's highest classes that are among the candidate's", read: accuracy(func(a *report.Accuracy) reading {
			return reading{value: a.TopKOverlap}
		})},
		{Name: "accuracy.cosine", Higher: true, Real: true, Doc: "mean cosine of both models' embeddings of a sample", read: accuracy(func(a *report.Accuracy) reading {
			if a.Cosine == nil {
				return reading{}
			}
			return reading{value: a.Cosine.Mean, ci: a.Cosine.CI95}
		})},
	}
}

// dropOf is the loss of one of the measures of the report; positive is worse.
func dropOf(measure, unit, doc string) Metric {
	return Metric{Name: "accuracy." + measure + ".drop", Unit: unit, Real: true, Doc: doc, read: accuracy(func(a *report.Accuracy) reading {
		m := a.Measure(measure)
		if m == nil {
			return reading{}
		}
		v, ci := m.Drop()
		return reading{value: v, ci: ci}
	})}
}

func readGain(a *report.Accuracy) reading {
	v, ci := a.Drop()
	if v == nil {
		return reading{}
	}
	gain := 0 - *v
	out := reading{value: &gain}
	if ci != nil {
		out.ci = &report.Interval{0 - ci[1], 0 - ci[0]}
	}
	return out
}

// shortOfSamples says how many samples would decide, where there are too few.
func shortOfSamples(a *report.Accuracy) string {
	if a.NRequired != nil && *a.NRequired > a.N {
		return sampleHint(*a.NRequired, a.N)
	}
	return ""
}

package validate

import (
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func regressionTask() reader {
	return reader{
		name: Regression, doc: "numbers: mean absolute and root mean squared error",
		labels: []dataset.LabelKind{dataset.Value, dataset.Class},
		fits: func(t *onnx.Tensor, n int, label *onnx.Tensor) bool {
			count, _ := t.Elements()
			return t.DType.IsFloat() && count/int64(n) == elements(label)
		},
		open: func(o *Options, _ example) (sampleScorer, error) {
			s, err := score.NewRegression(o.scoring())
			return &regression{o, s}, err
		},
	}
}

// regression scores numbers by their mean absolute error.
type regression struct {
	o *Options
	s *score.Regression
}

func (g *regression) add(s *dataset.Sample, r rows) error {
	label, err := labelOf(s)
	if err != nil {
		return err
	}
	target, err := label.Float64s()
	if err != nil {
		return err
	}
	return g.s.Add(unscored(s), target, r.baseline, r.candidate)
}

func (g *regression) fill(a *report.Accuracy) ([]string, error) {
	a.Task, a.Metric, a.Better = report.TaskRegression, "mae", report.BetterLower
	r, err := g.s.Result()
	if err != nil {
		return []string{err.Error()}, nil // no number at all: the metric stays absent, and gates on it fail
	}
	a.N = r.N
	if r.NonFinite.Candidate > r.NonFinite.Baseline {
		a.Baseline = report.Num(r.MAE.Baseline) // an error over the other samples would flatter the candidate
		return r.Warnings, nil
	}
	paired(a, r.MAE)
	plan(a, r.MAE, g.o.Margin)
	a.Metrics = append(a.Metrics, measureOf(r.RMSE, false))
	fillSlices(a, nil, r.Slices)
	return r.Warnings, nil
}

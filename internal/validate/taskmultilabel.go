package validate

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func multiLabelTask() reader {
	return reader{
		name: MultiLabel, doc: "yes or no per label: exact matches, right labels, F1; a single score is the case of one label",
		labels: []dataset.LabelKind{dataset.ClassSet, dataset.Class},
		fits:   func(t *onnx.Tensor, _ int, _ *onnx.Tensor) bool { return t.DType.IsFloat() },
		open: func(o *Options, _ example) (sampleScorer, error) {
			s, err := score.NewMultiLabel(o.scoring())
			return &multiLabel{o, s}, err
		},
	}
}

// multiLabel scores one yes or no per label.
type multiLabel struct {
	o *Options
	s *score.MultiLabel
}

func (m *multiLabel) add(s *dataset.Sample, r rows) error {
	label, err := labelOf(s)
	if err != nil {
		return err
	}
	on, err := label.Ints()
	if err != nil {
		return err
	}
	labels := make([]int, len(r.baseline))
	if len(labels) == 1 && len(label.Shape) == 0 {
		labels[0] = int(on[0])
		return m.s.Add(unscored(s), labels, r.baseline, r.candidate)
	}
	for _, i := range on {
		if i < 0 || i >= int64(len(labels)) {
			return fmt.Errorf("%s: label %d is not one of %d outputs", s.ID, i, len(labels))
		}
		labels[i] = 1
	}
	return m.s.Add(unscored(s), labels, r.baseline, r.candidate)
}

func (m *multiLabel) fill(a *report.Accuracy) ([]string, error) {
	r, err := m.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskMultiLabel, r.N
	paired(a, r.Exact)
	a.NRequired, a.Margin, a.MinDetectable = report.Count(r.Required), report.Num(m.o.margin()), report.Num(r.MDE)
	if r.Labels > 1 {
		a.Metrics = append(a.Metrics, measureOf(r.Label, true))
	}
	a.Metrics = append(a.Metrics, measureOf(r.MicroF1, true))
	a.Flips = flips(r.Flips)
	fillSlices(a, r.PerLabel, r.Slices)
	return r.Warnings, nil
}

package validate

import (
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func unlabelledTask() reader {
	return reader{
		name: Unlabelled, doc: "labels are ignored: agreement, overlap of the highest classes and distance only",
		labels: []dataset.LabelKind{
			dataset.NoLabel, dataset.Class, dataset.Value, dataset.Positions, dataset.ClassSet, dataset.Boxes, dataset.LabelMap,
		},
		fits: func(t *onnx.Tensor, _ int, _ *onnx.Tensor) bool { return t.DType.IsFloat() },
		open: func(o *Options, x example) (sampleScorer, error) {
			numeric := x.each() < 2 || len(x.tensor.Shape) != 2
			s, err := score.NewAgreement(o.scoring(), numeric)
			return &agreement{s: s, numeric: numeric}, err
		},
	}
}

// agreement compares the outputs with each other only.
type agreement struct {
	s       *score.Agreement
	numeric bool
}

func (g *agreement) add(s *dataset.Sample, r rows) error {
	return g.s.Add(s.ID, r.baseline, r.candidate)
}

func (g *agreement) fill(a *report.Accuracy) ([]string, error) {
	r, err := g.s.Result()
	if err != nil {
		return nil, err
	}
	a.N = r.N
	if g.numeric {
		return r.Warnings, nil
	}
	a.Task = report.TaskClassification
	if r.Same != nil {
		agreementOf(a, *r.Same)
		a.Flips = &report.Flips{Changed: r.N - r.Same.Count}
		for _, x := range r.Disagreements {
			a.Flips.Samples = append(a.Flips.Samples, flip(x))
		}
	}
	distribution(a, r.Distribution)
	if r.TopK > 0 && r.NonFinite.Candidate == 0 {
		a.TopKOverlap, a.TopKOverlapK = report.Num(r.TopKOverlap), r.TopK
	}
	forget(a, r.NonFinite)
	return r.Warnings, nil
}

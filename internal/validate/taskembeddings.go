package validate

import (
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func embeddingsTask() reader {
	return reader{
		name: Embeddings, doc: "a vector per sample: cosine between the models and, with identities as labels, retrieval recall",
		labels: []dataset.LabelKind{dataset.NoLabel, dataset.Class},
		fits: func(t *onnx.Tensor, n int, _ *onnx.Tensor) bool {
			count, _ := t.Elements()
			return t.DType.IsFloat() && count/int64(n) >= 2
		},
		open: func(o *Options, x example) (sampleScorer, error) {
			s, err := score.NewRetrieval(o.scoring(), x.label != nil)
			return &embeddings{o: o, s: s, labelled: x.label != nil}, err
		},
	}
}

// embeddings scores vectors by what lies nearest.
type embeddings struct {
	o        *Options
	s        *score.Retrieval
	labelled bool
}

func (g *embeddings) add(s *dataset.Sample, r rows) error {
	x := unscored(s)
	if g.labelled {
		var err error
		if x.Label, err = classOf(s); err != nil {
			return err
		}
	}
	return g.s.Add(x, r.baseline, r.candidate)
}

func (g *embeddings) fill(a *report.Accuracy) ([]string, error) {
	r, err := g.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskEmbeddings, r.N
	if r.NonFinite.Candidate == 0 {
		a.Cosine = &report.Similarity{
			Mean: report.Num(r.CosineMean), CI95: report.CI(r.CosineLow, r.CosineHigh), P5: report.Num(r.CosineP5), Min: report.Num(r.CosineMin),
		}
	}
	for i, p := range r.Recall {
		if i == 0 {
			paired(a, p)
			a.N = r.Queries
			a.NRequired, a.Margin, a.MinDetectable = report.Count(r.Required), report.Num(g.o.margin()), report.Num(r.MDE)
			agreementOf(a, r.Agreement)
			a.Flips = flips(r.Flips)
			a.Flips.Changed = r.Queries - r.Agreement.Count
		}
		a.Metrics = append(a.Metrics, measureOf(p, true))
	}
	fillSlices(a, nil, r.Slices)
	return r.Warnings, nil
}

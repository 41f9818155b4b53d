package validate

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func tokensTask() reader {
	return reader{
		name: Tokens, doc: "one class per position, such as the next token: accuracy, likelihood, perplexity",
		labels: []dataset.LabelKind{dataset.Positions},
		fits: func(t *onnx.Tensor, n int, label *onnx.Tensor) bool {
			last := int64(0)
			if len(t.Shape) > 0 {
				last = t.Shape[len(t.Shape)-1]
			}
			count, _ := t.Elements()
			return t.DType.IsFloat() && last >= 2 && count/int64(n) == last*elements(label)
		},
		open: func(o *Options, _ example) (sampleScorer, error) {
			s, err := score.NewTokens(o.scoring())
			return &tokens{o, s}, err
		},
	}
}

// tokens scores a row of classes per position.
type tokens struct {
	o *Options
	s *score.Tokens
}

func (t *tokens) add(s *dataset.Sample, r rows) error {
	label, err := labelOf(s)
	if err != nil {
		return err
	}
	labels, err := label.Ints()
	if err != nil {
		return err
	}
	classes := int(r.shape[len(r.shape)-1])
	if classes*len(labels) != len(r.baseline) {
		return fmt.Errorf("%s has %d labels, the output %d positions", s.ID, len(labels), len(r.baseline)/max(classes, 1))
	}
	sequence := s.Sequence
	if sequence == "" {
		sequence = s.ID
	}
	for i, l := range labels {
		x := score.Sample{ID: sequence, Label: int(l), Slices: s.Slices}
		if err := t.s.Add(x, r.baseline[i*classes:(i+1)*classes], r.candidate[i*classes:(i+1)*classes]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tokens) fill(a *report.Accuracy) ([]string, error) {
	r, err := t.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskTokens, r.N
	paired(a, r.Accuracy)
	plan(a, r.Accuracy, t.o.margin())
	a.Flips = flips(r.Flips)
	distribution(a, r.Distribution)
	if r.NLL != nil {
		a.Perplexity = &report.Measure{
			Name: "perplexity", Better: report.BetterLower, CIMethod: r.NLL.Method, PValue: r.NLL.PValue,
			Baseline: report.Num(r.Perplexity[0]), Candidate: report.Num(r.Perplexity[1]),
			Delta: report.Num(r.Perplexity[1] - r.Perplexity[0]), CI95: report.CI(r.PerplexityDelta[0], r.PerplexityDelta[1]),
			Ratio: report.Num(r.PerplexityRatio), RatioCI95: report.CI(r.PerplexityLow, r.PerplexityHigh),
		}
	}
	forget(a, r.NonFinite)
	fillSlices(a, nil, r.Slices)
	return r.Warnings, nil
}

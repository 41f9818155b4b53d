package validate

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func classificationTask() reader {
	return reader{
		name: Classification, doc: "one class per sample, by the highest score: top-k accuracy",
		labels: []dataset.LabelKind{dataset.Class},
		fits: func(t *onnx.Tensor, n int, _ *onnx.Tensor) bool {
			count, _ := t.Elements()
			return t.DType.IsFloat() || count == int64(n) && t.DType.IsInt()
		},
		open: func(o *Options, x example) (sampleScorer, error) {
			if x.each() == 1 && x.tensor.DType.IsFloat() {
				s, err := score.NewMultiLabel(o.scoring())
				return &multiLabel{o, s}, err
			}
			s, err := score.NewClassification(o.scoring())
			return &classification{o: o, s: s, cells: map[[2]int]*[2]int{}}, err
		},
	}
}

// classification scores rows of classes, or class indices where a row has one element.
type classification struct {
	o     *Options
	s     *score.Classification
	cells map[[2]int]*[2]int // by label and predicted class; nil once there are too many
}

func (c *classification) add(s *dataset.Sample, r rows) error {
	label, err := classOf(s)
	if err != nil {
		return err
	}
	x := score.Sample{ID: s.ID, Label: label, Slices: s.Slices}
	picked := [2]int{argmax(r.baseline), argmax(r.candidate)}
	if len(r.baseline) == 1 {
		picked = [2]int{int(r.baseline[0]), int(r.candidate[0])}
		err = c.s.AddLabels(x, picked[0], picked[1])
	} else {
		err = c.s.Add(x, r.baseline, r.candidate)
	}
	if err != nil {
		return err
	}
	for m, cell := range picked {
		if c.cells == nil {
			break
		}
		at := [2]int{label, cell}
		if c.cells[at] == nil {
			c.cells[at] = new([2]int)
		}
		c.cells[at][m]++
	}
	if len(c.cells) > maxCells {
		c.cells = nil
	}
	return nil
}

func (c *classification) fill(a *report.Accuracy) ([]string, error) {
	r, err := c.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskClassification, r.N
	for _, p := range r.TopK {
		if p.Metric == "top1" {
			paired(a, p)
		}
		if r.Classes > 0 { // class indices alone have no second best
			a.TopK = append(a.TopK, measureOf(p, true))
		}
	}
	a.NRequired, a.Margin, a.MinDetectable = report.Count(r.Required), report.Num(r.Margin), report.Num(r.MDE)
	agreementOf(a, r.Agreement)
	a.Flips = flips(r.Flips)
	a.Flips.Changed = r.N - r.Agreement.Count
	distribution(a, r.Distribution)
	forget(a, r.NonFinite)
	fillSlices(a, r.PerClass, r.Slices)
	a.Confusion = c.changes()
	return r.Warnings, nil
}

// changes returns the cells of the confusion matrix that changed most.
func (c *classification) changes() []report.ConfusionChange {
	type cell struct {
		at [2]int
		n  [2]int
	}
	var all []cell
	for at, n := range c.cells {
		if n[0] != n[1] {
			all = append(all, cell{at, *n})
		}
	}
	size := func(x cell) int { return max(x.n[0]-x.n[1], x.n[1]-x.n[0]) }
	slices.SortFunc(all, func(x, y cell) int {
		if d := size(y) - size(x); d != 0 {
			return d
		}
		return slices.Compare(x.at[:], y.at[:])
	})
	var out []report.ConfusionChange
	for _, x := range all[:min(len(all), maxChanges)] {
		out = append(out, report.ConfusionChange{Label: className(x.at[0]), Predicted: className(x.at[1]), Baseline: x.n[0], Candidate: x.n[1]})
	}
	return out
}

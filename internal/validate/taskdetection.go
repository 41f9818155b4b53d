package validate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func detectionTask() reader {
	return reader{
		name: Detection, doc: "boxes, read from the outputs as --detection-head says: mean average precision as COCO defines it",
		labels: []dataset.LabelKind{dataset.Boxes, dataset.Value, dataset.Positions},
		start: func(_ context.Context, v *validation, outputs map[string]*onnx.Tensor, _ int) (scorer, string, error) {
			h := v.o.Accuracy.Head
			if h == nil {
				return nil, "", errors.New("boxes are read from the outputs by a description of the detection head; give one with --detection-head")
			}
			for _, name := range h.outputs() {
				if outputs[name] == nil {
					return nil, "", fmt.Errorf("detection head: the baseline has no output %q", name)
				}
			}
			s, err := score.NewDetection(v.o.scoring())
			if err != nil {
				return nil, "", err
			}
			about := h.Scores
			if about == "" {
				about = h.Boxes
			}
			return &detection{o: &v.o, h: h, s: s}, about, nil
		},
	}
}

func (h *Head) outputs() []string {
	return slices.DeleteFunc([]string{h.Boxes, h.Scores, h.Classes}, func(s string) bool { return s == "" })
}

// detection scores the boxes that a head makes of the outputs.
type detection struct {
	o *Options
	h *Head
	s *score.Detection
}

func (d *detection) add(_ context.Context, b *scored) error {
	for i, s := range b.samples {
		truth, err := d.truth(s)
		if err != nil {
			return err
		}
		var found [2][]score.Box
		for m := range found {
			if found[m], err = d.found(b, i, m); err != nil {
				return err
			}
		}
		if err := d.s.Add(unscored(s), truth, found[0], found[1]); err != nil {
			return err
		}
	}
	return nil
}

// truth reads a sample's label: rows of left, top, right, bottom, class, and what dataset.BoxColumns says. A row whose class is
// negative fills up an array.
func (d *detection) truth(s *dataset.Sample) ([]score.Box, error) {
	label, err := labelOf(s)
	if err != nil {
		return nil, err
	}
	v, err := label.Float64s()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.ID, err)
	}
	columns := int64(0)
	if len(label.Shape) == 2 {
		columns = label.Shape[1]
	}
	if columns < 5 || columns > dataset.BoxColumns {
		return nil, fmt.Errorf("%s: labels of shape %v are not boxes; want [N,5] of left, top, right, bottom and class, or a sixth number of 1 for those to be ignored", s.ID, label.Shape)
	}
	var out []score.Box
	for ; len(v) > 0; v = v[columns:] {
		if v[4] < 0 {
			continue
		}
		b := score.Box{X1: v[0], Y1: v[1], X2: v[2], Y2: v[3], Class: int(v[4]), Ignore: columns > 5 && v[5] != 0}
		if float64(b.Class) != v[4] {
			return nil, fmt.Errorf("%s: class %v of a box is not an index", s.ID, v[4])
		}
		if columns == dataset.BoxColumns && v[6] != 0 && !d.h.normalizedLabels() {
			b.X1, b.Y1, b.X2, b.Y2 = b.X1*d.h.width, b.Y1*d.h.height, b.X2*d.h.width, b.Y2*d.h.height
			if d.h.width == 0 {
				return nil, fmt.Errorf("%s: boxes that come with the size of their picture are compared as fractions; give size in the detection head", s.ID)
			}
		}
		if d.h.normalizedLabels() && max(b.X2, b.Y2) > 2 {
			return nil, fmt.Errorf("%s: a true box ends at %v, %v, but the detection head says that labels are fractions; say labels: pixels, with size", s.ID, b.X2, b.Y2)
		}
		out = append(out, b)
	}
	return out, nil
}

// found returns the boxes of one model in the i-th sample.
func (d *detection) found(b *scored, i, model int) ([]score.Box, error) {
	boxes, err := d.table(b, i, model, d.h.Boxes, 4)
	if err != nil {
		return nil, err
	}
	var scores, classes table
	for _, x := range []struct {
		t    *table
		name string
	}{{&scores, d.h.Scores}, {&classes, d.h.Classes}} {
		if x.name == "" {
			continue
		}
		if *x.t, err = d.table(b, i, model, x.name, 1); err != nil {
			return nil, err
		}
		if x.t.n != boxes.n {
			return nil, fmt.Errorf("detection head: output %q has %d rows for %s, but %q %d", x.name, x.t.n, b.samples[i].ID, d.h.Boxes, boxes.n)
		}
	}
	least := 4
	if d.h.Scores == "" {
		if least = 5; d.h.Objectness {
			least = 6
		}
	}
	switch {
	case boxes.columns < least || d.h.Scores != "" && boxes.columns != 4:
		return nil, fmt.Errorf("detection head: output %q has %d numbers for each box, want %d; is it transposed, or are scores in it?", d.h.Boxes, boxes.columns, least)
	case d.h.Classes != "" && (scores.columns != 1 || classes.columns != 1):
		return nil, fmt.Errorf("detection head: with classes, %q and %q have one number for each box, not %d and %d", d.h.Scores, d.h.Classes, scores.columns, classes.columns)
	case d.h.Priors != nil && len(d.h.priors) != boxes.n:
		return nil, fmt.Errorf("detection head: priors make %d boxes, output %q has %d", len(d.h.priors), d.h.Boxes, boxes.n)
	}
	return d.h.decode(boxes, scores, classes), nil
}

// table views an output of one model for a sample as rows of numbers. Leading axes of one do not count; a list is a column.
func (d *detection) table(b *scored, i, model int, output string, most int) (table, error) {
	r, err := b.sample(i, output)
	if err != nil {
		return table{}, err
	}
	v, shape := r.baseline, r.shape
	if model == 1 {
		v, shape = r.candidate, r.theirs
	}
	if b.n > 1 {
		shape = shape[1:]
	}
	for len(shape) > 2 && shape[0] == 1 {
		shape = shape[1:]
	}
	if len(shape) == 2 && shape[0] == 1 && most == 1 && shape[1] > 1 && !d.h.Transposed && len(v) == int(shape[1]) {
		shape = shape[1:] // [1,N]: one number for each box, behind the batch
	}
	switch len(shape) {
	case 1:
		return table{v: v, n: len(v), columns: 1}, nil
	case 2:
		t := table{v: v, n: int(shape[0]), columns: int(shape[1]), transposed: d.h.Transposed}
		if d.h.Transposed {
			t.n, t.columns = t.columns, t.n
		}
		return t, nil
	}
	return table{}, fmt.Errorf("detection head: output %q has shape %v, want one row of numbers for each box", output, r.shape)
}

func (d *detection) fill(a *report.Accuracy) ([]string, error) {
	r, err := d.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskDetection, r.N
	paired(a, r.MAP)
	plan(a, r.MAP, d.o.margin())
	for _, p := range []score.Paired{r.MAP50, r.MAP75, r.Recall, r.Found} {
		a.Metrics = append(a.Metrics, measureOf(p, true))
	}
	a.Flips = flips(r.Flips)
	fillSlices(a, r.PerClass, r.Slices)
	if r.NonFinite.Candidate > r.NonFinite.Baseline {
		r.Warnings = append(r.Warnings, "boxes of the candidate that are not numbers are dropped")
	}
	return r.Warnings, nil
}

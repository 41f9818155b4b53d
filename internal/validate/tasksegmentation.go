package validate

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

func segmentationTask() reader {
	return reader{
		name: Segmentation, doc: "one class per pixel: mean intersection over union",
		labels: []dataset.LabelKind{dataset.LabelMap, dataset.Positions},
		fits: func(t *onnx.Tensor, n int, label *onnx.Tensor) bool {
			pixels := elements(label)
			count, _ := t.Elements()
			each := count / int64(n)
			return pixels > 0 && label != nil && len(label.Shape) == 2 && each%pixels == 0 &&
				(t.DType.IsFloat() && each/pixels >= 2 && len(t.Shape) == 4 || t.DType.IsInt() && each == pixels)
		},
		open: func(o *Options, x example) (sampleScorer, error) {
			s, err := score.NewSegmentation(o.scoring())
			return &segmentation{o: o, s: s, scores: x.tensor.DType.IsFloat()}, err
		},
	}
}

// segmentation scores maps of classes, or of scores with an axis of classes.
type segmentation struct {
	o      *Options
	s      *score.Segmentation
	scores bool
	picked [2][]int
}

func (g *segmentation) add(s *dataset.Sample, r rows) error {
	label, err := labelOf(s)
	if err != nil {
		return err
	}
	ints, err := label.Ints()
	if err != nil {
		return fmt.Errorf("%s: %w", s.ID, err)
	}
	height, width := r.shape[len(r.shape)-2], r.shape[len(r.shape)-1]
	if g.scores && g.o.Accuracy.ClassesLast {
		height, width = r.shape[len(r.shape)-3], r.shape[len(r.shape)-2]
	}
	if len(label.Shape) != 2 || label.Shape[0] != height || label.Shape[1] != width {
		return fmt.Errorf("%s: the label map has shape %v, the output %v gives %d rows of %d pixels; give label maps of the output's size",
			s.ID, label.Shape, r.shape, height, width)
	}
	truth := make([]int, len(ints))
	for i, x := range ints {
		truth[i] = int(x)
	}
	for m, row := range [2][]float64{r.baseline, r.candidate} {
		g.picked[m] = g.classes(g.picked[m][:0], row, len(truth))
	}
	return g.s.Add(unscored(s), truth, g.picked[0], g.picked[1])
}

// classes appends the class of each pixel; -1 where its scores are not numbers.
func (g *segmentation) classes(into []int, row []float64, pixels int) []int {
	if !g.scores {
		for _, x := range row {
			into = append(into, int(x))
		}
		return into
	}
	n := len(row) / pixels
	one := make([]float64, n)
	for i := range pixels {
		for c := range n {
			if one[c] = row[c*pixels+i]; g.o.Accuracy.ClassesLast {
				one[c] = row[i*n+c]
			}
		}
		into = append(into, argmax(one))
	}
	return into
}

func (g *segmentation) fill(a *report.Accuracy) ([]string, error) {
	r, err := g.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskSegmentation, r.N
	paired(a, r.MIoU)
	plan(a, r.MIoU, g.o.margin())
	a.Metrics = append(a.Metrics, measureOf(r.Pixel, true))
	agreementOf(a, r.Same)
	fillSlices(a, r.PerClass, r.Slices)
	if r.OutOfRange > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the candidate gives %d pixels a class that no label map has", r.OutOfRange))
	}
	return r.Warnings, nil
}

package validate

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// choose decides, by the labels and the baseline's first outputs, what is scored and how.
func (p *pass) choose(b *dataset.Batch, out map[string]*onnx.Tensor) error {
	task, err := p.v.task()
	if err != nil {
		return err
	}
	n := len(b.Samples) + b.Padding
	var fit []string
	for _, d := range p.distances {
		t := out[d.name]
		if p.v.o.Output != "" && d.name != p.v.o.Output || t == nil || p.v.carried[d.name] && p.v.o.Output == "" {
			continue
		}
		if fits(task, t, n, b.Samples[0].Label) {
			fit = append(fit, d.name)
		}
	}
	switch {
	case len(fit) == 0 && task == Unlabelled && p.v.o.Output == "":
		return nil // distances say it all
	case len(fit) == 0:
		return fmt.Errorf("no output can be scored as %s with labels of kind %v%s: the outputs are %s; name another task or output",
			task, p.v.set.Labels(), p.v.asked(), describeOutputs(p.distances, out))
	case len(fit) > 1:
		p.v.warn("accuracy is read from output %q as %s; %s would do as well", fit[0], task, strings.Join(fit[1:], ", "))
	}
	p.v.output = fit[0]
	p.scorer, err = newScorer(task, p.v.o, out[fit[0]], n)
	return err
}

func (v *validation) asked() string {
	if v.o.Output == "" {
		return ""
	}
	return fmt.Sprintf(" at output %q", v.o.Output)
}

func describeOutputs(ds []*distance, out map[string]*onnx.Tensor) string {
	var parts []string
	for _, d := range ds {
		if t := out[d.name]; t != nil {
			parts = append(parts, fmt.Sprintf("%q %v%v", d.name, t.DType, t.Shape))
		}
	}
	return strings.Join(parts, ", ")
}

// task returns the task asked for, after holding it against the labels, or the one that the labels suggest.
func (v *validation) task() (Task, error) {
	kind := v.set.Labels()
	allowed := map[dataset.LabelKind][]Task{
		dataset.NoLabel:   {Unlabelled},
		dataset.Class:     {Classification, MultiLabel, Regression, Unlabelled},
		dataset.Value:     {Regression, Unlabelled},
		dataset.Positions: {Tokens, Unlabelled},
		dataset.ClassSet:  {MultiLabel, Unlabelled},
	}[kind]
	if v.o.Task == Auto {
		return allowed[0], nil
	}
	for _, t := range allowed {
		if t == v.o.Task {
			return t, nil
		}
	}
	return Auto, fmt.Errorf("task %s does not fit data with labels of kind %v: want %v, or auto", v.o.Task, kind, allowed)
}

// fits says whether an output for n samples can be scored as the task against labels like the given one.
func fits(task Task, t *onnx.Tensor, n int, label *onnx.Tensor) bool {
	count, ok := t.Elements()
	if !ok || count == 0 || t.DType == onnx.String || n > 1 && (len(t.Shape) == 0 || t.Shape[0] != int64(n)) {
		return false
	}
	each := count / int64(n)
	var labels int64
	if label != nil {
		labels, _ = label.Elements()
	}
	switch task {
	case Classification:
		return t.DType.IsFloat() || each == 1 && t.DType.IsInt()
	case Tokens:
		last := int64(0)
		if len(t.Shape) > 0 {
			last = t.Shape[len(t.Shape)-1]
		}
		return t.DType.IsFloat() && last >= 2 && each == last*labels
	case Regression:
		return t.DType.IsFloat() && each == labels
	}
	return t.DType.IsFloat()
}

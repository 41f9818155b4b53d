package validate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Task is what the outputs are read as.
type Task string

// The tasks. Auto decides by the kind of the labels and the shape of the outputs.
const (
	Auto           Task = ""
	Classification Task = "classification"
	Tokens         Task = "tokens"
	Regression     Task = "regression"
	MultiLabel     Task = "multilabel"
	Detection      Task = "detection"
	Segmentation   Task = "segmentation"
	Embeddings     Task = "embeddings"
	Custom         Task = "custom"
	Unlabelled     Task = "unlabelled"
)

// reader is a way to read outputs. One that reads a single output has fits and open; one that reads several has outputs and start.
type reader struct {
	name   Task
	doc    string              // one line for people
	labels []dataset.LabelKind // that it can use

	// fits says whether an output for n samples can be read so against labels like the given one.
	fits func(t *onnx.Tensor, n int, label *onnx.Tensor) bool
	open func(o *Options, x example) (sampleScorer, error)

	// start returns the scorer, and the output that it is about most.
	start func(ctx context.Context, v *validation, outputs map[string]*onnx.Tensor, n int) (scorer, string, error)
}

// readers are all tasks. Where none is asked for, the first that takes the labels is used.
func readers() []reader {
	return []reader{
		classificationTask(), tokensTask(), regressionTask(), multiLabelTask(), detectionTask(), segmentationTask(),
		unlabelledTask(), embeddingsTask(), customTask(),
	}
}

// TaskInfo describes a task for people.
type TaskInfo struct {
	Name Task
	Doc  string
}

// Tasks returns all tasks but Auto.
func Tasks() []TaskInfo {
	var out []TaskInfo
	for _, r := range readers() {
		out = append(out, TaskInfo{r.name, r.doc})
	}
	return out
}

// ParseTask reads a task by name; "auto" and "" are [Auto].
func ParseTask(name string) (Task, error) {
	if name == "auto" || name == "" {
		return Auto, nil
	}
	var names []string
	for _, r := range readers() {
		if string(r.name) == name {
			return r.name, nil
		}
		names = append(names, string(r.name))
	}
	return Auto, fmt.Errorf("task %q is unknown; want auto, %s or %s", name, strings.Join(names[:len(names)-1], ", "), names[len(names)-1])
}

// example is an output of the baseline for n samples, and the label of the first.
type example struct {
	tensor, label *onnx.Tensor
	n             int
}

// each is how many elements the output has per sample.
func (x example) each() int64 { return elements(x.tensor) / int64(x.n) }

func elements(t *onnx.Tensor) int64 {
	if t == nil {
		return 0
	}
	n, _ := t.Elements()
	return n
}

// choose decides, by the labels and the baseline's first outputs, what is scored and how.
func (p *pass) choose(ctx context.Context, b *dataset.Batch, out map[string]*onnx.Tensor) error {
	r, err := p.v.reader()
	if err != nil {
		return err
	}
	n := len(b.Samples) + b.Padding
	if r.start != nil {
		if r.name == Detection && p.v.o.Accuracy.Head != nil {
			p.ragged = map[string]bool{}
			for _, name := range p.v.o.Accuracy.Head.outputs() {
				p.ragged[name] = true
			}
		}
		p.scorer, p.v.output, err = r.start(ctx, p.v, out, n)
		return err
	}
	var fit []string
	for _, d := range p.distances {
		t := out[d.name]
		if p.v.o.Output != "" && d.name != p.v.o.Output || t == nil || p.v.carried[d.name] && p.v.o.Output == "" {
			continue
		}
		if usable(t, n) && r.fits(t, n, b.Samples[0].Label) {
			fit = append(fit, d.name)
		}
	}
	switch {
	case len(fit) == 0 && r.name == Unlabelled && p.v.o.Output == "":
		return nil // distances say it all
	case len(fit) == 0:
		return fmt.Errorf("no output can be scored as %s with labels of kind %v%s%s: the outputs are %s; name another task or output",
			r.name, p.v.set.Labels(), shapeOf(b.Samples[0].Label), p.v.asked(), describeOutputs(p.distances, out))
	case len(fit) > 1:
		p.v.warn("accuracy is read from output %q as %s; %s would do as well", fit[0], r.name, strings.Join(fit[1:], ", "))
	}
	p.v.output = fit[0]
	s, err := r.open(&p.v.o, example{out[fit[0]], b.Samples[0].Label, n})
	if err != nil {
		return err
	}
	p.scorer = each{fit[0], s}
	return nil
}

// usable says whether an output holds numbers for n samples.
func usable(t *onnx.Tensor, n int) bool {
	count, ok := t.Elements()
	return ok && count > 0 && t.DType != onnx.String && (n == 1 || len(t.Shape) > 0 && t.Shape[0] == int64(n))
}

func (v *validation) asked() string {
	if v.o.Output == "" {
		return ""
	}
	return fmt.Sprintf(" at output %q", v.o.Output)
}

func shapeOf(label *onnx.Tensor) string {
	if label == nil || len(label.Shape) == 0 {
		return ""
	}
	return fmt.Sprintf(" and shape %v", label.Shape)
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

// reader returns the task asked for, after holding it against the labels, or the one that the labels suggest.
func (v *validation) reader() (reader, error) {
	kind := v.set.Labels()
	asked := v.o.Task
	if asked == Auto && v.o.Accuracy.Score.given() {
		asked = Custom
	}
	var allowed []string
	for _, r := range readers() {
		takes := slices.Contains(r.labels, kind)
		if takes && (asked == Auto || asked == r.name) {
			return r, nil
		}
		if takes {
			allowed = append(allowed, string(r.name))
		}
	}
	return reader{}, fmt.Errorf("task %s does not fit data with labels of kind %v: want %s, or auto", asked, kind, strings.Join(allowed, ", "))
}

package validate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Score says who scores the outputs of a custom task, with one number per sample. Model and Command exclude each other.
type Score struct {
	Model   string        // an ONNX graph that takes outputs by name, and the labels as labels; its output score, or its only one, is read
	Command []string      // a program and its arguments; see commandJudge
	Lower   bool          // lower numbers are better
	Timeout time.Duration // of one run of the command; 0 means one minute
}

func (s Score) given() bool { return s.Model != "" || len(s.Command) > 0 }

func customTask() reader {
	return reader{
		name: Custom, doc: "a number per sample, computed from the outputs by --score-model or --score-command",
		labels: []dataset.LabelKind{
			dataset.NoLabel, dataset.Class, dataset.Value, dataset.Positions, dataset.ClassSet, dataset.Boxes, dataset.LabelMap,
		},
		start: func(ctx context.Context, v *validation, outputs map[string]*onnx.Tensor, _ int) (scorer, string, error) {
			s, err := score.NewMean(v.o.scoring(), "score", v.o.Accuracy.Score.Lower)
			if err != nil {
				return nil, "", err
			}
			c := &custom{o: &v.o, s: s}
			switch {
			case v.o.Accuracy.Score.Model != "":
				c.judge, err = newModelJudge(ctx, v, outputs)
			case len(v.o.Accuracy.Score.Command) > 0:
				c.judge = newCommandJudge(v.o.Accuracy.Score)
			default:
				err = errors.New("a custom task needs someone who scores: give --score-model or --score-command")
			}
			if err != nil {
				return nil, "", err
			}
			return c, "", nil
		},
	}
}

// judge computes one number per sample from the outputs of one model (0 is the baseline).
type judge interface {
	score(ctx context.Context, model int, outputs map[string]*onnx.Tensor, samples []*dataset.Sample) ([]float64, error)
	Close() error
}

// custom scores by the numbers of a judge.
type custom struct {
	o     *Options
	s     *score.Mean
	judge judge
}

// Close ends the judge.
func (c *custom) Close() error { return c.judge.Close() }

func (c *custom) add(ctx context.Context, b *scored) error {
	var numbers [2][]float64
	for m := range numbers {
		outputs := b.tensors[m]
		if b.n > len(b.samples) {
			var err error
			if outputs, err = firstRows(outputs, b.n, len(b.samples)); err != nil {
				return err
			}
		}
		v, err := c.judge.score(ctx, m, outputs, b.samples)
		if err != nil {
			return fmt.Errorf("scoring %s of the %s: %w", b.samples[0].ID, [2]string{"baseline", "candidate"}[m], err)
		}
		if len(v) != len(b.samples) {
			return fmt.Errorf("scoring %s: %d numbers came back for %d samples", b.samples[0].ID, len(v), len(b.samples))
		}
		numbers[m] = v
	}
	for i, s := range b.samples {
		c.s.Add(unscored(s), numbers[0][i], numbers[1][i])
	}
	return nil
}

// firstRows cuts what fills a batch up off the outputs that have the batch as their first axis.
func firstRows(outputs map[string]*onnx.Tensor, n, rows int) (map[string]*onnx.Tensor, error) {
	out := map[string]*onnx.Tensor{}
	for name, t := range outputs {
		if len(t.Shape) == 0 || t.Shape[0] != int64(n) {
			out[name] = t
			continue
		}
		shape := slices.Clone(t.Shape)
		shape[0] = int64(rows)
		if t.DType == onnx.String {
			out[name] = &onnx.Tensor{Name: name, DType: t.DType, Shape: shape, Str: t.Str[:len(t.Str)/n*rows]}
			continue
		}
		b, err := t.Bytes()
		if err != nil {
			return nil, err
		}
		if out[name], err = onnx.NewTensor(name, t.DType, shape, b[:len(b)/n*rows]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *custom) fill(a *report.Accuracy) ([]string, error) {
	r := c.s.Result()
	a.Task, a.N, a.Metric, a.Better = report.TaskCustom, r.N, "score", better(c.o.Accuracy.Score.Lower)
	if r.NonFinite.Candidate > r.NonFinite.Baseline {
		a.Baseline = report.Num(r.Mean.Baseline) // a mean over the other samples would flatter the candidate
		return r.Warnings, nil
	}
	paired(a, r.Mean)
	plan(a, r.Mean, c.o.Margin)
	fillSlices(a, nil, r.Slices)
	return r.Warnings, nil
}

// stackLabels puts the labels of a batch together along a new first axis; nil where there are none.
func stackLabels(samples []*dataset.Sample) (*onnx.Tensor, error) {
	first := samples[0].Label
	if first == nil {
		return nil, nil
	}
	var parts [][]byte
	for _, s := range samples {
		t, err := labelOf(s)
		if err != nil {
			return nil, err
		}
		if t.DType != first.DType || !slices.Equal(t.Shape, first.Shape) {
			return nil, fmt.Errorf("%s has a label of shape %v, %s one of %v: give a batch size of 1", samples[0].ID, first.Shape, s.ID, t.Shape)
		}
		b, err := t.Bytes()
		if err != nil {
			return nil, err
		}
		parts = append(parts, b)
	}
	return onnx.NewTensor("labels", first.DType, append([]int64{int64(len(samples))}, first.Shape...), bytes.Join(parts, nil))
}

// modelJudge is an ONNX graph.
type modelJudge struct {
	s      session.Session
	output string
	labels string // input that labels go to, "" if none
}

func newModelJudge(ctx context.Context, v *validation, outputs map[string]*onnx.Tensor) (judge, error) {
	path := v.o.Accuracy.Score.Model
	s, err := v.o.Open(ctx, path, session.Options{Deadline: v.o.Session.Deadline, LoadLimit: v.o.Session.LoadLimit, Threads: v.o.Session.Threads, Device: "cpu"})
	if err != nil {
		return nil, fmt.Errorf("loading %s to score: %w", path, err)
	}
	j := &modelJudge{s: s}
	if err := j.bind(path, outputs, v.set.Labels() != dataset.NoLabel); err != nil {
		s.Close()
		return nil, err
	}
	return j, nil
}

func (j *modelJudge) bind(path string, outputs map[string]*onnx.Tensor, labelled bool) error {
	for _, p := range j.s.Inputs() {
		switch {
		case outputs[p.Name] != nil:
		case p.Name == "labels" && labelled:
			j.labels = p.Name
		case p.Name == "labels":
			return fmt.Errorf("%s takes labels, but the data has none", path)
		default:
			var names []string
			for name := range outputs {
				names = append(names, name)
			}
			slices.Sort(names)
			return fmt.Errorf("%s takes %q, which is neither an output of the models (%s) nor labels", path, p.Name, strings.Join(names, ", "))
		}
	}
	ports := j.s.Outputs()
	for _, p := range ports {
		if p.Name == "score" || len(ports) == 1 {
			j.output = p.Name
			return nil
		}
	}
	return fmt.Errorf("%s has several outputs and none is named score", path)
}

func (j *modelJudge) Close() error { return j.s.Close() }

func (j *modelJudge) score(ctx context.Context, _ int, outputs map[string]*onnx.Tensor, samples []*dataset.Sample) ([]float64, error) {
	in := map[string]*onnx.Tensor{}
	for _, p := range j.s.Inputs() {
		t := outputs[p.Name]
		if p.Name == j.labels && t == nil {
			var err error
			if t, err = stackLabels(samples); err != nil {
				return nil, err
			}
		}
		if p.Type.IsTensor() && t != nil && t.DType != p.Type.Elem {
			var err error
			if t, err = convert(t, p.Type.Elem); err != nil {
				return nil, fmt.Errorf("input %q: %w", p.Name, err)
			}
		}
		in[p.Name] = t
	}
	r, err := j.s.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	t := r.Outputs[j.output]
	if t == nil {
		return nil, fmt.Errorf("output %q is absent", j.output)
	}
	v, err := t.Float64s()
	if err == nil && len(v) != len(samples) {
		err = fmt.Errorf("output %q has shape %v for %d samples, want one number for each", j.output, t.Shape, len(samples))
	}
	return v, err
}

// number is a score that is no number where the program said null.
func number(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

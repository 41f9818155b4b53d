package bisect

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Culprit is what keeps a model from loading or running.
type Culprit struct {
	Fault Fault    `json:"fault"`
	Nodes []string `json:"nodes"` // the fewest nodes found that show it, in text form; none where the fault is not in the nodes
	Case  *Case    `json:"-"`     // the model of these nodes, to be closed; nil where there are none
}

// Model finds the nodes for which the engine does not load or run the model at
// path; nil where it does both.
func Model(ctx context.Context, path string, o Options) (*Culprit, error) {
	m, err := Open(path)
	if err != nil {
		return nil, err
	}
	l, err := newLab(o)
	if err != nil {
		m.Close()
		return nil, err
	}
	defer l.close()
	s := &suspect{lab: l, path: path, m: m}
	found, err := s.find(ctx)
	if err != nil || found == nil {
		m.Close()
		return nil, err
	}
	if found.Case == nil {
		m.Close()
		return found, nil
	}
	found.Case.base = m
	for n := range found.Case.Model.Graph.Nodes() {
		found.Nodes = append(found.Nodes, onnxtext.FormatNode(n))
	}
	return found, nil
}

// suspect is a model that may not load or run.
type suspect struct {
	*lab
	path string
	m    *onnx.Model
}

func (s *suspect) find(ctx context.Context) (*Culprit, error) {
	for _, level := range s.levels() {
		fault, sample, err := s.fault(ctx, level)
		if err != nil {
			return nil, err
		}
		if !wants(s.o.Kinds, fault) {
			continue
		}
		c, err := s.reduce(ctx, fault, level, sample)
		if err != nil && !errors.Is(err, errNotShown) {
			return nil, err
		}
		return &Culprit{Fault: *fault, Case: c}, nil
	}
	return nil, nil
}

// fault loads and runs the whole model at one level.
func (s *suspect) fault(ctx context.Context, level session.Level) (*Fault, *dataset.Sample, error) {
	s.o.progress("loading %s", s.path)
	e, err := s.open(ctx, s.path, level)
	if err != nil {
		return blame(err, nil)
	}
	defer e.Close()
	samples, err := s.o.Verify.Inputs(ctx, e, 2)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: no inputs to run it on, give some with --data: %w", s.path, err)
	}
	for _, sample := range samples {
		if _, err := e.Run(ctx, sample.Inputs); err != nil {
			return blame(s.failure(ctx, produce.StageRun, level, err), sample)
		}
	}
	return nil, nil, nil
}

func blame(err error, sample *dataset.Sample) (*Fault, *dataset.Sample, error) {
	var f *produce.Failure
	if !errors.As(err, &f) {
		return nil, nil, err
	}
	return &Fault{Kind(f.Stage), f.Err.Error()}, sample, nil
}

func (s *suspect) reduce(ctx context.Context, fault *Fault, level session.Level, sample *dataset.Sample) (*Case, error) {
	r := &reducer{base: s.m, progress: s.o.progress}
	r.shows = func(ctx context.Context, c *Case) (bool, error) {
		path, err := s.write(c.Model)
		if err != nil {
			return false, err
		}
		defer s.drop(path)
		return s.same(ctx, path, level, c, fault)
	}
	var err error
	if fault.Kind == Load {
		r.types, err = tensorTypes(s.m)
	} else {
		r.sample = sample.Inputs
		r.recorded, err = s.prefix(ctx, level, sample.Inputs)
		r.types = typesOf(r.recorded)
	}
	if err != nil {
		return nil, err
	}
	return r.reduce(ctx, outputNames(s.m))
}

// same reports whether the model at path has the fault too: at the same stage,
// and in the same words but for names and numbers.
func (s *suspect) same(ctx context.Context, path string, level session.Level, c *Case, fault *Fault) (bool, error) {
	e, err := s.open(ctx, path, level)
	if err == nil {
		defer e.Close()
		if fault.Kind == Load {
			return false, nil
		}
		if _, err = e.Run(ctx, c.Feed); err != nil {
			err = s.failure(ctx, produce.StageRun, level, err)
		}
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	var f *produce.Failure
	return errors.As(err, &f) && Kind(f.Stage) == fault.Kind && gist(f.Err.Error(), path) == gist(fault.Reason, s.path), nil
}

// specifics are the parts of an engine's message that name a place: a quoted or
// bracketed name, a number.
var specifics = regexp.MustCompile(`'[^']*'|"[^"]*"|Node ?\([^)]*\)|Node:\S+|\{[^}]*\}|[0-9]+`)

// gist returns a message without what is specific to one model.
func gist(message, path string) string {
	return specifics.ReplaceAllString(strings.ReplaceAll(message, path, ""), "#")
}

// prefix returns the values of the most nodes, in execution order, that run.
func (s *suspect) prefix(ctx context.Context, level session.Level, sample map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	types, err := tensorTypes(s.m)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, k := range nodeKeys(s.m) {
		if types[k] != nil {
			names = append(names, k)
		}
	}
	best := map[string]*onnx.Tensor{}
	for lo, hi := 0, len(names); hi-lo > 1; {
		mid := (lo + hi) / 2
		s.o.progress("running the first %d values", mid)
		p, _ := part(s.m, names[:mid], nil, types)
		got, err := s.run(ctx, p, level, feed(p, nil, nil, sample))
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && faultOf(err) == nil:
			return nil, err
		case err != nil:
			hi = mid
		default:
			best, lo = got, mid
		}
	}
	return best, nil
}

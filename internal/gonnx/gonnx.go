// Package gonnx runs small float32 models in plain Go, with
// github.com/owulveryck/onnx-go (MIT, release v0.5.0, no longer developed) on
// Gorgonia, behind [session.Opener]. It needs no shared library, and is an
// opinion on a model that is independent of ONNX Runtime's.
//
// onnx-go computes something else than the ONNX specification says, without an
// error, for a number of attributes, shapes and opset versions. This package
// therefore opens a model only if each of its nodes is of a form that rules.go
// lists as computed rightly; for all others the error names the node. A graph
// is built anew for each run, since some operators of onnx-go write over the
// model's constants.
package gonnx

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Version is the release of onnx-go.
const Version = "0.5.0"

// provider is the one execution provider, named as ONNX Runtime names its own.
const provider = "CPUExecutionProvider"

// Info describes the engine.
func Info() session.Info {
	return session.Info{Name: "onnx-go", Version: Version, Providers: []string{provider}}
}

// Opener returns the engine. Its sessions implement [session.Timer] and
// [session.Meter]. A run cannot be stopped half-way: contexts and deadlines are
// looked at before and after it. The number of threads is Go's own, and there
// are no graph optimizations, so that [session.Options.Threads], Spin and Level
// change nothing.
func Opener() session.Opener {
	return func(ctx context.Context, path string, o session.Options) (session.Session, error) {
		s, err := open(ctx, path, o)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
		return s, nil
	}
}

// sess is a model that onnx-go can run.
type sess struct {
	path  string
	o     session.Options
	model *onnx.Model
	in    []session.Port
	opt   []session.Port // inputs with defaults
	out   []session.Port
	bound *bound // the model at the shapes of the last run

	base              session.Usage
	created, firstRun time.Duration
}

func open(ctx context.Context, path string, o session.Options) (*sess, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, errors.Unwrap(err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file; give the path of a .onnx file")
	}
	s := &sess{path: path, o: o, base: session.ReadUsage()}
	start := time.Now()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	s.model = m
	if err := s.prepare(); err != nil {
		m.Close()
		return nil, err
	}
	if s.created = time.Since(start); o.LoadLimit > 0 && s.created > o.LoadLimit {
		m.Close()
		return nil, session.TooLong{Limit: o.LoadLimit, Loading: true}
	}
	return s, nil
}

// checkOptions refuses what the engine cannot do.
func checkOptions(o session.Options) error {
	switch {
	case o.Device != "" && o.Device != "cpu":
		return fmt.Errorf("device %q: onnx-go runs on the cpu only", o.Device)
	case o.Profile != "":
		return errors.New("onnx-go has no profiler; use the engine onnxruntime")
	case o.SaveModel != "":
		return errors.New("onnx-go has no optimized graph to save; use the engine onnxruntime")
	case len(o.Config) > 0:
		return errors.New("onnx-go has no session settings")
	case o.NoArena || o.Flush:
		return errors.New("onnx-go has neither an arena nor a way to flush denormal numbers; use the engine onnxruntime")
	case o.MaxMemory != 0:
		return errors.New("a memory limit cannot be kept in this process; use the worker")
	}
	return nil
}

// prepare learns the ports and refuses models that the engine would not
// compute rightly, as far as that is known without the inputs' shapes.
func (s *sess) prepare() error {
	g := s.model.Graph
	if g == nil || g.Len() == 0 {
		return errors.New("the graph has no nodes")
	}
	for _, v := range g.Inputs() {
		p := session.Port{Name: v.Name(), Type: v.Type}
		if !v.Type.IsTensor() || v.Type.Elem != onnx.Float {
			if v.Const == nil {
				return fmt.Errorf("input %q is %v; onnx-go runs models of float tensors", v.Name(), v.Type)
			}
		} else if v.Const != nil && s.model.IRVersion >= 4 {
			s.opt = append(s.opt, p)
		}
		if v.Const == nil {
			s.in = append(s.in, p)
		}
	}
	var all []session.Port
	for _, v := range g.Outputs() {
		if v.Producer() == nil {
			return fmt.Errorf("output %q is not computed by a node, which onnx-go cannot return", v.Name())
		}
		if len(v.Uses()) > 0 {
			return fmt.Errorf("output %q is used inside the graph too, which onnx-go cannot return", v.Name())
		}
		all = append(all, session.Port{Name: v.Name(), Type: v.Type})
	}
	if err := s.choose(all); err != nil {
		return err
	}
	for n := range g.Nodes() {
		if err := supported(s.model, n); err != nil {
			return err
		}
	}
	shapes := map[string][]int64{}
	for _, p := range s.in {
		dims, ok := p.Type.Shape.Static()
		if !ok {
			return nil // the rest is checked when a run gives the shapes
		}
		shapes[p.Name] = dims
	}
	var err error
	s.bound, err = bind(s.model, shapes, nil)
	return err
}

// choose keeps the outputs that the options ask for.
func (s *sess) choose(all []session.Port) error {
	s.out = all
	if s.o.Outputs == nil {
		return nil
	}
	s.out = nil
	for _, name := range s.o.Outputs {
		i := slices.IndexFunc(all, func(p session.Port) bool { return p.Name == name })
		if i < 0 {
			return fmt.Errorf("output %q is unknown: the model's outputs are %s", name, names(all))
		}
		s.out = append(s.out, all[i])
	}
	return nil
}

func names(ports []session.Port) string {
	out := ""
	for i, p := range ports {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%q", p.Name)
	}
	return out
}

func (s *sess) Inputs() []session.Port  { return s.in }
func (s *sess) Outputs() []session.Port { return s.out }

// Run implements [session.Session].
func (s *sess) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	r, err := s.run(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", s.path, err)
	}
	return r, nil
}

func (s *sess) run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if s.model == nil {
		return nil, errors.New("the session is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := session.CheckInputs(s.in, s.opt, in); err != nil {
		return nil, err
	}
	shapes, given := map[string][]int64{}, map[string]*onnx.Tensor{}
	for name, t := range in {
		if t.Size() == 0 || len(t.Shape) == 0 {
			return nil, fmt.Errorf("input %q has shape %v; onnx-go takes neither scalars nor empty tensors", name, onnx.ShapeOf(t.Shape...))
		}
		if slices.ContainsFunc(s.opt, func(p session.Port) bool { return p.Name == name }) {
			given[name] = t
			continue
		}
		shapes[name] = t.Shape
	}
	if len(given) > 0 || s.bound == nil || !s.bound.fits(shapes) {
		b, err := bind(s.model, shapes, given)
		if err != nil {
			return nil, err
		}
		s.bound = b
	}
	outputs, took, err := s.bound.run(in)
	if err != nil {
		return nil, err
	}
	if s.firstRun == 0 {
		s.firstRun = took
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.o.Deadline > 0 && took > s.o.Deadline {
		return nil, session.TooLong{Limit: s.o.Deadline}
	}
	r := &session.Result{Outputs: map[string]*onnx.Tensor{}, Elapsed: took}
	for _, p := range s.out {
		r.Outputs[p.Name] = outputs[p.Name]
	}
	return r, nil
}

// Time implements [session.Timer]. What is timed is a run alone, without the
// building of its graph.
func (s *sess) Time(ctx context.Context, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if n < 1 {
		return nil, fmt.Errorf("timing %s: %d runs were asked for, want 1 or more", s.path, n)
	}
	var out []time.Duration
	for range n {
		r, err := s.run(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("timing %s: %w", s.path, err)
		}
		out = append(out, r.Elapsed)
	}
	return out, nil
}

// Stats implements [session.Meter].
func (s *sess) Stats() (session.Stats, error) {
	u := session.ReadUsage()
	return session.Stats{
		PID: os.Getpid(), Create: s.created, FirstRun: s.firstRun, PeakMemory: u.Peak, BaseMemory: s.base.Resident,
		Switches: u.Switches - s.base.Switches, Provider: provider,
	}, nil
}

// Close implements [session.Session]; closing again does nothing.
func (s *sess) Close() error {
	m := s.model
	s.model, s.bound = nil, nil
	return m.Close()
}

package produce_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// engine runs models by the interpreter; its fields make it fail.
type engine struct {
	opened []string
	refuse string // operator that it does not load
	full   string // operator for which there is no memory
	broken string // operator whose result it spoils at [session.LevelAll]
	onRun  func() // called before each run
}

func (e *engine) open(_ context.Context, path string, o session.Options) (session.Session, error) {
	e.opened = append(e.opened, path)
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	s := &fake{engine: e, m: m, level: o.Level}
	for n := range m.Graph.Nodes() {
		if n.Op == e.refuse {
			return nil, errors.Join(fmt.Errorf("no kernel for %s", n.Op), m.Close())
		}
		if n.Op == e.full {
			return nil, errors.Join(session.OutOfMemory{Reason: "the worker process is gone"}, m.Close())
		}
		s.spoilt = s.spoilt || n.Op == e.broken
	}
	return s, nil
}

// fake is a session of an [engine].
type fake struct {
	engine *engine
	m      *onnx.Model
	level  session.Level
	spoilt bool
}

func ports(list []*onnx.Value) []session.Port {
	var out []session.Port
	for _, v := range list {
		if v.Const == nil {
			out = append(out, session.Port{Name: v.Name(), Type: v.Type})
		}
	}
	return out
}

func (s *fake) Inputs() []session.Port  { return ports(s.m.Graph.Inputs()) }
func (s *fake) Outputs() []session.Port { return ports(s.m.Graph.Outputs()) }
func (s *fake) Close() error            { return s.m.Close() }

func (s *fake) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if s.engine.onRun != nil {
		s.engine.onRun()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out, err := eval.Graph(ctx, s.m, in, eval.Options{})
	if err != nil {
		return nil, err
	}
	if s.spoilt && s.level == session.LevelAll {
		for name, t := range out {
			n, _ := t.Elements()
			out[name] = onnx.FromFloats(name, t.Shape, make([]float32, n))
		}
	}
	return &session.Result{Outputs: out}, nil
}

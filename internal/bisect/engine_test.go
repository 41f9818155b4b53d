package bisect_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/bisect"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// evaluator is an engine in plain Go. It refuses to load a model with a node
// that refuse accepts.
func evaluator(refuse func(*onnx.Node) bool) session.Opener {
	return func(_ context.Context, path string, o session.Options) (session.Session, error) {
		m, err := onnxfile.Open(path, onnxfile.Options{})
		if err != nil {
			return nil, err
		}
		for n := range m.Graph.Nodes() {
			if refuse != nil && refuse(n) {
				m.Close()
				return nil, fmt.Errorf("%v: no kernel", n)
			}
		}
		return &evaluation{m}, nil
	}
}

type evaluation struct{ m *onnx.Model }

func ports(list []*onnx.Value) []session.Port {
	var out []session.Port
	for _, v := range list {
		if v.Const == nil {
			out = append(out, session.Port{Name: v.Name(), Type: v.Type})
		}
	}
	return out
}

func (e *evaluation) Inputs() []session.Port  { return ports(e.m.Graph.Inputs()) }
func (e *evaluation) Outputs() []session.Port { return ports(e.m.Graph.Outputs()) }
func (e *evaluation) Close() error            { return e.m.Close() }

func (e *evaluation) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	out, err := eval.Graph(ctx, e.m, in, eval.Options{})
	if err != nil {
		return nil, err
	}
	return &session.Result{Outputs: out}, nil
}

// options runs models by the evaluator on generated inputs.
func options(refuse func(*onnx.Node) bool) bisect.Options {
	return bisect.Options{Verify: &produce.Verify{Open: evaluator(refuse), Seed: 1, Samples: 2}}
}

func parse(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// store writes the model that text spells out.
func store(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if _, err := onnxfile.Write(path, parse(t, text), onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

package fuse_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// square returns a model that multiplies two constant matrices of n·n.
func square(n int64) *onnx.Model {
	m := onnx.NewModel(17)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(n, n)))
	content := make([]float32, n*n)
	a := m.Graph.AddInitializer(onnx.FromFloats("a", []int64{n, n}, content))
	b := m.Graph.AddInitializer(onnx.FromFloats("b", []int64{n, n}, slices.Clone(content)))
	p := onnx.NewNode("MatMul", []*onnx.Value{a, b}, "p")
	m.Graph.Append(p)
	y := onnx.NewNode("Sub", []*onnx.Value{x, p.Output(0)}, "y")
	m.Graph.Append(y)
	m.Graph.AddOutput(y.Output(0))
	return m
}

// TestFoldWork: what would take the interpreter long is left to the runtime,
// and stays where there is none.
func TestFoldWork(t *testing.T) {
	calls := 0
	large := func(_ context.Context, n *onnx.Node, _ int64, in []*onnx.Tensor) ([]*onnx.Tensor, error) {
		calls++
		if !n.Is("MatMul") {
			return nil, errors.New("unexpected " + n.Op)
		}
		return []*onnx.Tensor{in[0].Renamed("p")}, nil
	}
	folded := func(log *rewrite.Log) bool {
		return slices.ContainsFunc(log.Fired, func(f rewrite.Firing) bool { return f.Key == "fold at p" })
	}
	o := fuse.Options{Rewrite: rewrite.Options{Only: []string{"fold"}}}
	for _, tc := range []struct {
		size   int64
		large  fuse.Large
		calls  int
		folded bool
	}{
		{64, large, 0, true}, {64, nil, 0, true}, {512, large, 1, true}, {512, nil, 0, false},
	} {
		calls, o.FoldLarge = 0, tc.large
		log, err := fuse.Model(t.Context(), square(tc.size), o)
		if err != nil {
			t.Fatal(err)
		}
		if calls != tc.calls || folded(log) != tc.folded {
			t.Errorf("size %d: the runtime was called %d times, folded: %v", tc.size, calls, folded(log))
		}
		refused := slices.ContainsFunc(log.Declined, func(r rewrite.Refusal) bool { return strings.Contains(r.Reason, "multiplications") })
		if refused == tc.folded {
			t.Errorf("size %d: declined %v", tc.size, log.Declined)
		}
	}
}

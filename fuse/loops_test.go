package fuse_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
	"golang.org/x/tools/txtar"
)

// TestLoopsByRuntime runs the cases of passes that move nodes between graphs, or
// change functions, by the runtime: with conditions of both kinds, and loops of
// none, one and three iterations.
func TestLoopsByRuntime(t *testing.T) {
	open := runtimeOpener(t)
	ran := 0
	for _, pass := range []string{"cse", "hoist", "opset"} {
		a, err := txtar.ParseFile(filepath.Join("testdata", pass+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			name, ok := strings.CutSuffix(f.Name, "/in")
			if !ok || strings.Contains(name, "random") || strings.Contains(name, "training") {
				continue
			}
			before, err := onnxtext.Parse(name, f.Data)
			if err != nil {
				t.Fatal(err)
			}
			after := before.Clone()
			if _, err := fuse.Model(t.Context(), after, fuse.Options{Opset: 21, Rewrite: rewrite.Options{Only: []string{pass}}}); err != nil {
				t.Fatal(err)
			}
			if err := sameByRuntime(t, open, before, after, &ran); err != nil {
				t.Errorf("%s/%s: %v", pass, name, err)
			}
		}
	}
	t.Logf("%d runs agree", ran)
	if ran < 300 {
		t.Errorf("only %d runs were compared", ran)
	}
}

// sameByRuntime compares both models where the runtime runs the first.
func sameByRuntime(t *testing.T, open session.Opener, before, after *onnx.Model, ran *int) error {
	dir := t.TempDir()
	a, err := load(t, open, filepath.Join(dir, "before.onnx"), before)
	if err != nil {
		return nil // such as types that the text leaves out
	}
	defer a.Close()
	b, err := load(t, open, filepath.Join(dir, "after.onnx"), after)
	if err != nil {
		return fmt.Errorf("it no longer loads: %w", err)
	}
	defer b.Close()
	for _, c := range []struct{ count, index float64 }{{0, 0}, {0, 7}, {1, 1}, {3, 0}, {3, 3}} { // 7 is out of every range
		count := c.count
		for _, yes := range []float64{0, 1} {
			in := numbers(a.Inputs(), count, c.index, yes)
			want, err := a.Run(t.Context(), in)
			if err != nil {
				continue // an index that is out of range
			}
			got, err := b.Run(t.Context(), in)
			if err != nil {
				return fmt.Errorf("it no longer runs with %v iterations: %w", count, err)
			}
			if err := agree(want.Outputs, got.Outputs); err != nil {
				return fmt.Errorf("with %v iterations and the condition %v: %w", count, yes, err)
			}
			*ran++
		}
	}
	return nil
}

// load writes m and opens it with the engine's optimizations off.
func load(t *testing.T, open session.Opener, path string, m *onnx.Model) (session.Session, error) {
	b, err := onnxfile.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t.Context(), path, session.Options{Level: session.LevelOff, Threads: 1})
}

// numbers makes inputs: single integers are count, others index, conditions yes,
// the rest random.
func numbers(ports []session.Port, count, index, yes float64) map[string]*onnx.Tensor {
	r := rand.New(rand.NewPCG(1, 2))
	out := map[string]*onnx.Tensor{}
	for _, p := range ports {
		shape, n := []int64{}, 1
		for _, d := range p.Type.Shape {
			size := int64(2)
			if d.Known() {
				size = d.Value
			}
			shape, n = append(shape, size), n*int(size)
		}
		x := make([]float64, n)
		for i := range x {
			switch p.Type.Elem {
			case onnx.Bool:
				x[i] = yes
			case onnx.Int64:
				if x[i] = count; len(shape) > 0 {
					x[i] = index
				}
			default:
				x[i] = r.NormFloat64()
			}
		}
		out[p.Name], _ = onnx.FromFloat64s(p.Name, p.Type.Elem, shape, x) // the texts have numbers only
	}
	return out
}

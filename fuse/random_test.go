package fuse

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestRandomGraphs fuses graphs of operators drawn at random and computes them
// before and after; a second run must change nothing. LAPIDARY_CORPUS=all takes
// many more.
func TestRandomGraphs(t *testing.T) {
	count := 400
	if os.Getenv("LAPIDARY_CORPUS") == "all" {
		count = 20000
	}
	fired := map[string]int{}
	total := 0
	for seed := range count {
		g := &randomGraph{r: rand.New(rand.NewPCG(uint64(seed), 7))}
		m := g.build(5 + seed%20)
		rules, err := sameAfterFusing(m, g.r)
		if err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, text(m))
			if t.Failed() && seed > 50 {
				return
			}
		}
		for _, r := range rules {
			fired[r.Rule]++
			total++
		}
	}
	t.Logf("%d rewrites in %d graphs: %v", total, count, fired)
	if total < count {
		t.Errorf("only %d rewrites in %d graphs", total, count)
	}
}

func text(m *onnx.Model) string {
	var b strings.Builder
	onnxtext.Format(&b, m, onnxtext.Options{})
	return b.String()
}

// sameAfterFusing returns the rewrites.
func sameAfterFusing(m *onnx.Model, r *rand.Rand) ([]rewrite.Firing, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("the graph is not valid: %w", err)
	}
	in := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		dims, x := []int64{}, []float64{}
		n := int64(1)
		for _, d := range v.Type.Shape {
			if !d.Known() {
				d.Value = 2 // the graphs are built for this size
			}
			dims, n = append(dims, d.Value), n*d.Value
		}
		for range n {
			x = append(x, r.NormFloat64()*2)
		}
		in[v.Name()], _ = onnx.FromFloat64s(v.Name(), onnx.Float, dims, x)
	}
	want, err := eval.Graph(context.Background(), m, in, eval.Options{Wide: true})
	var unsupported *eval.UnsupportedError
	if errors.As(err, &unsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("computing the original: %w", err)
	}
	c := m.Clone()
	log, err := Model(context.Background(), c, Options{})
	if err != nil {
		return nil, err
	}
	got, err := eval.Graph(context.Background(), c, in, eval.Options{Wide: true})
	if err != nil {
		return nil, fmt.Errorf("computing the result: %w\n%s", err, text(c))
	}
	for name, w := range want {
		if d, err := compare.Tensors(w, got[name], compare.ClassFor(w.DType)); err != nil || !d.OK {
			return nil, fmt.Errorf("output %q: %v %v\n%s", name, d, err, text(c))
		}
	}
	again, err := Model(context.Background(), c, Options{})
	if err == nil && len(again.Fired) > 0 {
		err = fmt.Errorf("a second run rewrites again: %s\n%s", again.Fired[0].Key, text(c))
	}
	return log.Fired, err
}

// randomGraph draws nodes; every value is float32 of the noted sizes. Symbolic
// dimensions have size 2.
type randomGraph struct {
	r      *rand.Rand
	m      *onnx.Model
	values []*onnx.Value
	sizes  map[*onnx.Value][]int64
}

func (g *randomGraph) build(nodes int) *onnx.Model {
	g.m, g.sizes = onnx.NewModel(17), map[*onnx.Value][]int64{}
	symbolic := g.r.IntN(3) == 0
	for i := range 2 {
		shape := onnx.ShapeOf(2, 3, 4)
		if symbolic {
			shape[0] = onnx.Symbol("N")
		}
		v := g.m.Graph.AddInput(fmt.Sprint("x", i), onnx.TensorType(onnx.Float, shape))
		g.values, g.sizes[v] = append(g.values, v), []int64{2, 3, 4}
	}
	for range nodes {
		g.draw()
	}
	used := 0
	for i := len(g.values) - 1; i > 1 && used < 3; i-- {
		if v := g.values[i]; v.Dead() || g.r.IntN(8) == 0 {
			g.m.Graph.AddOutput(v)
			used++
		}
	}
	g.m.Graph.Sweep()
	return g.m
}

func (g *randomGraph) pick() (*onnx.Value, []int64) {
	from := max(0, len(g.values)-4)
	v := g.values[from+g.r.IntN(len(g.values)-from)]
	return v, g.sizes[v]
}

func (g *randomGraph) add(op string, size []int64, in []*onnx.Value, attrs ...*onnx.Attr) {
	n := onnx.NewNode(op, in, g.m.Fresh(strings.ToLower(op)))
	n.Attrs = attrs
	g.m.Graph.Append(n)
	g.note(n.Output(0), size)
}

func (g *randomGraph) note(v *onnx.Value, size []int64) {
	g.values, g.sizes[v] = append(g.values, v), size
}

func (g *randomGraph) ints(v ...int64) *onnx.Value {
	return g.m.Graph.NewConst(onnx.FromInts("i", []int64{int64(len(v))}, v))
}

// constant draws a constant that broadcasts to size.
func (g *randomGraph) constant(size []int64) *onnx.Value {
	shape, n := []int64{}, int64(1)
	if cut := g.r.IntN(len(size) + 1); cut < len(size) {
		for _, d := range size[cut:] {
			if g.r.IntN(2) == 0 {
				d = 1
			}
			shape, n = append(shape, d), n*d
		}
	}
	v := make([]float32, n)
	for i := range v {
		v[i] = []float32{0.5, 1, 2, 3, -1, 0.25}[g.r.IntN(6)]
	}
	return g.m.Graph.NewConst(onnx.FromFloats("c", shape, v))
}

// axis draws one of the axes, counted from the front or the end.
func (g *randomGraph) axis(rank int) (at int, written int64) {
	at = g.r.IntN(rank)
	if written = int64(at); g.r.IntN(2) == 0 {
		written -= int64(rank)
	}
	return at, written
}

func without1(size []int64, at int) []int64 {
	return append(append([]int64{}, size[:at]...), size[at+1:]...)
}

func with(size []int64, at int, n int64) []int64 {
	out := append([]int64{}, size...)
	out[at] = n
	return out
}

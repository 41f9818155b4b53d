package prune

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// chain returns x·w1·w2, with a bias that must never be pruned.
func chain(w1, w2 []float32, d onnx.DType) *onnx.Model {
	m := onnx.NewModel(17)
	g := m.Graph
	v := g.AddInput("x", onnx.TensorType(d, onnx.ShapeOf(1, 4)))
	for i, w := range [][]float32{w1, w2} {
		wide := make([]float64, len(w))
		for k, x := range w {
			wide[k] = float64(x)
		}
		t, err := onnx.FromFloat64s("w"+string(rune('1'+i)), d, []int64{4, int64(len(w) / 4)}, wide)
		if err != nil {
			panic(err)
		}
		n := onnx.NewNode("MatMul", []*onnx.Value{v, g.AddInitializer(t)}, "h"+string(rune('1'+i)))
		n.Name = "mm" + string(rune('1'+i))
		g.Append(n)
		v = n.Output(0)
	}
	b, _ := onnx.FromFloat64s("b", d, []int64{1, 4}, []float64{1e-6, 0, 0, 0})
	n := onnx.NewNode("Add", []*onnx.Value{v, g.AddInitializer(b)}, "y")
	g.Append(n)
	g.AddOutput(n.Output(0))
	return m
}

func run(t *testing.T, m *onnx.Model, o Options) (*magnitude, *rewrite.Log) {
	t.Helper()
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	p := &magnitude{o: o}
	log, err := rewrite.Run(context.Background(), m, []rewrite.Pass{p}, nil, o.Rewrite)
	if err != nil {
		t.Fatal(err)
	}
	return p, log
}

func values(t *testing.T, m *onnx.Model, name string) []float32 {
	t.Helper()
	for _, v := range m.Graph.Initializers() {
		if v.Name() == name {
			f, err := v.Const.Floats()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("no constant %q", name)
	return nil
}

func TestMagnitude(t *testing.T) {
	w1 := []float32{1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12, 13, -14, 15, -16}
	w2 := []float32{.1, -.2, .3, -.4, .5, -.6, .7, -.8, .9, -1, 1.1, -1.2, 1.3, -1.4, 1.5, -1.6}
	nan := slices.Clone(w1)
	nan[0] = float32(math.NaN())
	for _, c := range []struct {
		name           string
		w1, w2         []float32
		o              Options
		zeros1, zeros2 int
	}{
		{"nothing", w1, w2, Options{Sparsity: 0}, 0, 0},
		{"global takes the smaller tensor first", w1, w2, Options{Sparsity: 0.5}, 1, 15},
		{"per layer", w1, w2, Options{Sparsity: 0.5, Scope: Layer}, 8, 8},
		{"excluded by name", w1, w2, Options{Sparsity: 0.5, Exclude: []string{"w2"}}, 8, 0},
		{"included by node", w1, w2, Options{Sparsity: 0.25, Include: []string{"mm2"}}, 0, 4},
		{"excluded by operator", w1, w2, Options{Sparsity: 0.5, Exclude: []string{"MatM*"}}, 0, 0},
		{"ties go in order", slices.Repeat([]float32{1}, 16), slices.Repeat([]float32{-1}, 16), Options{Sparsity: 0.75}, 16, 8},
		{"NaN is never small", nan, w2, Options{Sparsity: 0.9, Scope: Layer}, 14, 14},
	} {
		for _, d := range []onnx.DType{onnx.Float, onnx.Double, onnx.Float16, onnx.BFloat16} {
			t.Run(c.name+" "+d.String(), func(t *testing.T) {
				if c.zeros1 == 1 && d == onnx.BFloat16 {
					t.Skip("0.9 and 1 are ordered alike, but 1 and 1.1 are closer than bfloat16 tells")
				}
				m := chain(c.w1, c.w2, d)
				run(t, m, c.o)
				got := []int{zeros(values(t, m, "w1")), zeros(values(t, m, "w2")), zeros(values(t, m, "b"))}
				if diff := cmp.Diff([]int{c.zeros1, c.zeros2, 3}, got); diff != "" {
					t.Errorf("zeros in w1, w2, b (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func zeros(v []float32) int {
	n := 0
	for _, x := range v {
		if x == 0 {
			n++
		}
	}
	return n
}

// TestExactCut compares the two-pass threshold with sorting.
func TestExactCut(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		w := make([]float32, 4*(1+r.IntN(200)))
		for i := range w {
			w[i] = float32(r.NormFloat64() * math.Pow(2, float64(r.IntN(60)-30)))
			if r.IntN(10) == 0 {
				w[i] = 0
			}
		}
		share := r.Float64()
		m := chain(w, []float32{1, 1, 1, 1}, onnx.Float)
		run(t, m, Options{Sparsity: share, Include: []string{"w1"}})
		sorted := slices.Clone(w)
		slices.SortFunc(sorted, func(a, b float32) int { return int(magnitudeBits(a)) - int(magnitudeBits(b)) })
		k := int(share * float64(len(w)))
		got := values(t, m, "w1")
		if want := max(k, zeros(w)); zeros(got) != want {
			t.Fatalf("%d of %d weights are zero at sparsity %v, want %d", zeros(got), len(w), share, want)
		}
		for i, x := range got {
			if x == 0 && k > 0 && w[i] != 0 && magnitudeBits(w[i]) > magnitudeBits(sorted[k-1]) {
				t.Fatalf("weight %v was pruned above the threshold %v", w[i], sorted[k-1])
			}
			if x != 0 && x != w[i] {
				t.Fatalf("weight %v became %v", w[i], x)
			}
		}
	}
}

// TestStreamed checks that what is written is what Bytes returns, over more
// than one window.
func TestStreamed(t *testing.T) {
	src := make([]byte, 3*window+4096)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range src {
		src[i] = byte(r.Uint32())
	}
	m := &masked{src: onnx.Raw(src), dtype: onnx.Float, cut: math.Float32bits(1), ties: 1}
	want, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := m.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("streamed content differs (%v)", err)
	}
	if bytes.Equal(want, src) {
		t.Error("nothing was masked")
	}
}

// TestSharedWithOther leaves a weight alone that something else reads too.
func TestSharedWithOther(t *testing.T) {
	m := chain(slices.Repeat([]float32{1}, 16), slices.Repeat([]float32{2}, 16), onnx.Float)
	g := m.Graph
	n := onnx.NewNode("Identity", []*onnx.Value{g.Initializers()[0]}, "copy")
	g.Append(n)
	g.AddOutput(n.Output(0))
	_, log := run(t, m, Options{Sparsity: 0.5})
	if z := zeros(values(t, m, "w1")); z != 0 {
		t.Errorf("%d zeros in a weight that Identity reads", z)
	}
	if len(log.Declined) != 1 {
		t.Errorf("declined %v, want one reason", log.Declined)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
	if _, err := onnxfile.Write(src, chain(slices.Repeat([]float32{1}, 16), slices.Repeat([]float32{2}, 16), onnx.Float), onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := File(context.Background(), dst, src, Options{Sparsity: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	if r.After != 0.25 {
		t.Errorf("share of zeros = %v, want 0.25", r.After)
	}
	one, _ := os.ReadFile(dst)
	if _, err := File(context.Background(), dst, src, Options{Sparsity: 0.25}); err != nil {
		t.Fatal(err)
	}
	if two, _ := os.ReadFile(dst); !bytes.Equal(one, two) {
		t.Error("the same pruning gave other bytes")
	}
	for _, bad := range []Options{{Sparsity: 1}, {Sparsity: -0.1}, {Sparsity: math.NaN()}, {Scope: "x"}, {Include: []string{"["}}} {
		if _, err := File(context.Background(), dst, src, bad); err == nil {
			t.Errorf("options %+v were accepted", bad)
		}
	}
	if _, err := File(context.Background(), src, src, Options{}); err == nil {
		t.Error("the input was taken as output")
	}
}

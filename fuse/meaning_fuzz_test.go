package fuse

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"golang.org/x/tools/txtar"
)

// meant are the models that the tests of all rules are written with.
var meant = sync.OnceValues(func() (map[string]*onnx.Model, error) {
	out := map[string]*onnx.Model{}
	for _, pattern := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			a, err := txtar.ParseFile(path)
			if err != nil {
				return nil, err
			}
			for _, s := range a.Files {
				c, ok := strings.CutSuffix(s.Name, "/in")
				if !ok {
					continue
				}
				m, err := onnxtext.Parse(s.Name, s.Data)
				if err != nil {
					return nil, err
				}
				out[strings.TrimSuffix(filepath.Base(path), ".txtar")+"/"+c] = m
			}
		}
	}
	return out, nil
})

// meantWays are the options under which a model must keep its meaning.
var meantWays = []Options{
	{},
	{InlineFunctions: true, Unroll: 8, Reorder: true, Enable: []string{"conv-merge", "matmul-merge", "norm-matmul"}},
	{Target: Target{Name: "ort-cpu"}, Opset: 21},
	{Opset: 23, KeepInputs: true},
}

// FuzzMeaning changes the models of the tests of the rules a little, and computes what is still a model before fusing and after: the results are the same.
func FuzzMeaning(f *testing.F) {
	cases, err := meant()
	if err != nil {
		f.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		edits := make([]byte, 24)
		for i := range edits {
			edits[i] = byte(r.IntN(256))
		}
		f.Add(name, edits, uint8(r.IntN(256)))
	}
	f.Fuzz(func(t *testing.T, name string, edits []byte, how uint8) {
		m := cases[name]
		if m == nil {
			return
		}
		m = m.Clone()
		randgraph.Mutate(m, edits)
		sameMeaning(t, m, meantWays[int(how)%len(meantWays)], uint64(how))
	})
}

// sameMeaning fuses m and compares what it and the result compute, where m can be run.
func sameMeaning(t *testing.T, m *onnx.Model, o Options, seed uint64) {
	t.Helper()
	if _, err := m.Repair(); err != nil || m.Check() != nil || !wellCalled(m) {
		return
	}
	b, err := onnxfile.Encode(m)
	if err != nil {
		return
	}
	in := meantInputs(m, seed)
	want, ok := meaning(t, m, in)
	if !ok {
		return
	}
	after, err := onnxfile.Decode(b)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	log, err := Model(t.Context(), after, o)
	if err != nil {
		if strings.Contains(err.Error(), "cannot be raised") {
			return // with a reason
		}
		t.Fatalf("it can be run, and fusing says %v\n%s", err, text(m))
	}
	if err := after.Check(); err != nil {
		t.Fatalf("the result is not valid: %v\n%s", err, text(m))
	}
	got, err := eval.Graph(t.Context(), after, in, meantBounds)
	var unsupported *eval.UnsupportedError
	if errors.As(err, &unsupported) {
		return
	}
	if err != nil {
		t.Fatalf("the result cannot be run: %v\n%s\n%v\n%s", err, text(m), keys(log), text(after))
	}
	for name, w := range want {
		class := compare.ClassFor(w.DType)
		if w.DType == onnx.Double {
			class = compare.ClassFor(onnx.Float) // attributes are float32: an epsilon may be rounded
		}
		if d, err := compare.Tensors(w, got[name], class); err != nil || !d.OK && !(d.NonFinite == 0 && d.MaxAbs < 1e-9) {
			t.Fatalf("output %q: %v (%v)\n%s\n%v\n%s", name, d, err, text(m), keys(log), text(after))
		}
	}
}

// wellCalled reports whether every node has inputs that its operator takes, and attributes that it has.
func wellCalled(m *onnx.Model) bool {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			op := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
			if op == nil {
				continue
			}
			for i, v := range n.Inputs() {
				if s := op.Input(i); s == nil || v == nil && !s.Optional {
					return false
				}
			}
			for _, a := range n.Attrs {
				if op.Attr(a.Name) == nil {
					return false
				}
			}
		}
	}
	return true
}

var meantBounds = eval.Options{Wide: true, MaxBytes: 16 << 20, MaxWork: 1 << 22, MaxSteps: 5000}

// meaning computes m where it can be computed, and where its results are numbers of a size at which they can be compared.
func meaning(t *testing.T, m *onnx.Model, in map[string]*onnx.Tensor) (map[string]*onnx.Tensor, bool) {
	want, err := eval.Graph(t.Context(), m, in, meantBounds)
	if err != nil {
		return nil, false
	}
	for _, w := range want {
		if w == nil || w.DType == onnx.String {
			return nil, false
		}
		x, err := w.Float64s()
		if err != nil {
			return nil, false
		}
		for _, v := range x {
			if math.IsNaN(v) || math.Abs(v) > 1e6 {
				return nil, false
			}
		}
	}
	return want, true
}

// meantInputs makes inputs: symbolic dimensions are 2 or 3, the same for the same name, and integers small.
func meantInputs(m *onnx.Model, seed uint64) map[string]*onnx.Tensor {
	r := rand.New(rand.NewPCG(seed, 3))
	out, sizes := map[string]*onnx.Tensor{}, map[string]int64{}
	for _, v := range m.Graph.Inputs() {
		if !v.Type.IsTensor() || v.Const != nil {
			continue
		}
		shape, n := []int64{}, int64(1)
		for _, d := range v.Type.Shape {
			size := d.Value
			if !d.Known() {
				if size = sizes[d.String()]; size == 0 {
					size = 2 + r.Int64N(2)
					sizes[d.String()] = size
				}
			}
			if shape, n = append(shape, size), n*size; n > 1<<14 {
				return nil
			}
		}
		x := make([]float64, n)
		for i := range x {
			if x[i] = r.NormFloat64(); !v.DType().IsFloat() {
				x[i] = float64(r.IntN(3))
			}
		}
		if w, err := onnx.FromFloat64s(v.Name(), v.DType(), shape, x); err == nil {
			out[v.Name()] = w
		}
	}
	return out
}

// keys are the rewrites that were made.
func keys(log *rewrite.Log) []string {
	var out []string
	for _, f := range log.Fired {
		out = append(out, f.Key)
	}
	return out
}

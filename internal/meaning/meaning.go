// Package meaning holds rewrites against what models compute: it changes small
// models a little, computes them in float64, and compares with what a rewrite
// made of them. Only tests import it.
package meaning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"golang.org/x/tools/txtar"
)

// Models returns the models before rewriting of all cases in the files of the patterns, by file and case.
func Models(patterns ...string) (map[string]*onnx.Model, error) {
	out := map[string]*onnx.Model{}
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("no cases in %s (%v)", pattern, err)
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
}

// Computed is a model that was computed on inputs, to be held against what a rewrite makes of it.
type Computed struct {
	model    *onnx.Model
	in, want map[string]*onnx.Tensor
}

// bounds keep fuzzing fast.
var bounds = eval.Options{Wide: true, MaxBytes: 16 << 20, MaxWork: 1 << 22, MaxSteps: 5000}

// largest is the size of results beyond which they are not compared: what is left of small numbers beside such large ones is chance.
const largest = 1e6

// Of computes m in float64 on inputs that seed draws. It reports whether m is a model that can be computed, with results that can be compared.
func Of(ctx context.Context, m *onnx.Model, seed uint64) (*Computed, bool) {
	if _, err := m.Repair(); err != nil || m.Check() != nil || !wellCalled(m) {
		return nil, false
	}
	x := &Computed{model: m, in: drawn(m, seed)}
	want, err := eval.Graph(ctx, m, x.in, bounds)
	if err != nil {
		return nil, false
	}
	for _, w := range want {
		v, err := w.Float64s()
		if err != nil || slices.ContainsFunc(v, func(e float64) bool { return math.IsNaN(e) || math.Abs(e) > largest }) {
			return nil, false
		}
	}
	x.want = want
	return x, true
}

// Differs computes m on the same inputs and says what is not the same, if anything. What cannot be computed here is not.
func (x *Computed) Differs(ctx context.Context, m *onnx.Model) error {
	return x.compare(ctx, m, func(d compare.Distance) bool {
		few := d.SQNR > 60 && d.Outside*50 < d.Elements // a constant that was folded is rounded, and divided by little that shows
		return !d.OK && (d.NonFinite > 0 || d.MaxAbs > chance && !few)
	})
}

// chance is a difference that says nothing where results would be 0 but for rounding: what float16 calls its smallest number is not less.
const chance = 1e-6

// Below computes m on the same inputs and says which output keeps less than db of signal to noise, if any does.
func (x *Computed) Below(ctx context.Context, m *onnx.Model, db float64) error {
	return x.compare(ctx, m, func(d compare.Distance) bool { return d.NonFinite > 0 || d.SQNR < db && d.MaxAbs > 1e-6 })
}

func (x *Computed) compare(ctx context.Context, m *onnx.Model, bad func(compare.Distance) bool) error {
	got, err := eval.Graph(ctx, m, x.in, bounds)
	var unsupported *eval.UnsupportedError
	if errors.As(err, &unsupported) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the result cannot be run: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(x.want)) {
		w := x.want[name]
		class := compare.ClassFor(w.DType)
		if w.DType == onnx.Double {
			class = compare.ClassFor(onnx.Float) // attributes are float32: an epsilon may be rounded
		}
		if got[name] == nil {
			return fmt.Errorf("output %q is gone", name)
		}
		d, err := compare.Tensors(w, got[name], class)
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		if bad(*d) && x.conditioned(ctx, name, class) {
			return fmt.Errorf("output %q: %.1f dB, %s", name, d.SQNR, d.Reason)
		}
	}
	return nil
}

// conditioned reports whether the model computes about the same in its own types as in float64. Where it does not, an output says nothing: a constant
// that was folded and rounded changes it as much.
func (x *Computed) conditioned(ctx context.Context, name string, class compare.Class) bool {
	own := bounds
	own.Wide = false
	got, err := eval.Graph(ctx, x.model, x.in, own)
	if err != nil {
		return false
	}
	d, err := compare.Tensors(x.want[name], got[name], class)
	return err == nil && d.OK
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
			if n.Is("Constant") && len(n.Attrs) != 1 {
				return false
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

// drawn makes inputs: symbolic dimensions are 2 or 3, the same for the same name, and integers small.
func drawn(m *onnx.Model, seed uint64) map[string]*onnx.Tensor {
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

// Text is m in the text form, to be read by a person.
func Text(m *onnx.Model) string {
	var b strings.Builder
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		return err.Error()
	}
	return b.String()
}

// In returns an input that was drawn.
func (x *Computed) In(name string) *onnx.Tensor { return x.in[name] }

// Out returns a result.
func (x *Computed) Out(name string) *onnx.Tensor { return x.want[name] }

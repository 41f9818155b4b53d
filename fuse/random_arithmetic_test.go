package fuse_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"pgregory.net/rapid"
)

// TestRandomArithmetic fuses graphs made at random of the operators that rules are
// about, with the constants that they look for, and computes both in float64.
func TestRandomArithmetic(t *testing.T) {
	for _, target := range []string{"portable", "ort-cpu"} {
		t.Run(target, rapid.MakeCheck(func(t *rapid.T) {
			m := randomArithmetic(t)
			after := m.Clone()
			log, err := fuse.Model(t.Context(), after, fuse.Options{Target: fuse.Target{Name: target}})
			if err != nil {
				t.Fatalf("%v\n%s", err, text(t, m))
			}
			if what := difference(t, m, after); what != "" {
				var keys []string
				for _, f := range log.Fired {
					keys = append(keys, f.Key)
				}
				t.Fatalf("%s after %q\n%s\nbecomes\n%s", what, keys, text(t, m), text(t, after))
			}
		}))
	}
}

func text(t *rapid.T, m *onnx.Model) string {
	var b bytes.Buffer
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// grower adds nodes over values of known shape to a graph.
type grower struct {
	t      *rapid.T
	g      *onnx.Graph
	values []*onnx.Value
	shapes map[*onnx.Value][]int64
	n      int
}

// randomArithmetic makes a model of one input [2, 3, 4] and one or two outputs.
func randomArithmetic(t *rapid.T) *onnx.Model {
	m := onnx.NewModel(rapid.SampledFrom([]int64{13, 17, 18, 20, 23, 24}).Draw(t, "opset"))
	m.IRVersion = 10
	w := &grower{t: t, g: m.Graph, shapes: map[*onnx.Value][]int64{}}
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2, 3, 4)))
	w.values, w.shapes[x] = append(w.values, x), []int64{2, 3, 4}
	for range rapid.IntRange(2, 12).Draw(t, "nodes") {
		w.grow()
	}
	outs := 0
	for _, v := range slices.Backward(w.values) {
		if v.Producer() == nil || outs == 2 || outs == 1 && !rapid.Bool().Draw(t, "second output") {
			break
		}
		v.Type = onnx.TensorType(onnx.Float, onnx.ShapeOf(w.shapes[v]...))
		m.Graph.AddOutput(v)
		outs++
	}
	m.Graph.Sweep()
	return m
}

// value draws a value, most often the newest.
func (w *grower) value() *onnx.Value {
	back := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 5}).Draw(w.t, "back")
	return w.values[max(0, len(w.values)-1-back)]
}

// number draws a constant of one element, or one for each place of the last axis.
func (w *grower) number(shape []int64) *onnx.Value {
	draw := func() float32 {
		return rapid.SampledFrom([]float32{0, 1, -1, 0.5, 2, 3, 6, -2, 0.044715, 0.70710678, 1.4142135, 0.2, 1e-5}).Draw(w.t, "number")
	}
	dims, v := []int64{}, []float32{draw()}
	if len(shape) > 0 && rapid.IntRange(0, 3).Draw(w.t, "kind") == 0 {
		dims, v = []int64{shape[len(shape)-1]}, nil
		for range dims[0] {
			v = append(v, draw())
		}
	}
	return w.g.NewConst(onnx.FromFloats("c", dims, v))
}

func (w *grower) ints(v ...int64) *onnx.Value {
	return w.g.NewConst(onnx.FromInts("i", []int64{int64(len(v))}, v))
}

func (w *grower) add(op string, shape []int64, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	w.n++
	n := onnx.NewNode(op, in, fmt.Sprintf("v%d", w.n))
	n.Attrs = attrs
	w.g.Append(n)
	w.values, w.shapes[n.Output(0)] = append(w.values, n.Output(0)), shape
	return n.Output(0)
}

func (w *grower) grow() {
	x := w.value()
	s := w.shapes[x]
	switch kind := rapid.IntRange(0, 11).Draw(w.t, "what"); kind {
	case 0, 1, 2: // with a number
		op := rapid.SampledFrom([]string{"Add", "Mul", "Sub", "Div", "Max", "Min", "Pow"}).Draw(w.t, "op")
		in := []*onnx.Value{x, w.number(s)}
		if op != "Pow" && op != "Div" && rapid.Bool().Draw(w.t, "number first") {
			slices.Reverse(in)
		}
		w.add(op, s, in)
	case 3, 4: // with another value of the shape
		y := w.value()
		if slices.Equal(s, w.shapes[y]) {
			w.add(rapid.SampledFrom([]string{"Add", "Mul", "Sub", "Div", "Max", "Min"}).Draw(w.t, "op"), s, []*onnx.Value{x, y})
		}
	case 5, 6:
		w.add(rapid.SampledFrom([]string{"Relu", "Exp", "Abs", "Neg", "Sqrt", "Tanh", "Sigmoid", "Erf", "Reciprocal", "Softplus", "Log", "Identity", "Floor"}).Draw(w.t, "op"), s, []*onnx.Value{x})
	case 7:
		lo := w.g.NewConst(onnx.FromFloats("lo", []int64{}, []float32{rapid.SampledFrom([]float32{-2, 0, 1}).Draw(w.t, "lo")}))
		hi := w.g.NewConst(onnx.FromFloats("hi", []int64{}, []float32{rapid.SampledFrom([]float32{0, 1, 6}).Draw(w.t, "hi")}))
		w.add("Clip", s, rapid.SampledFrom([][]*onnx.Value{{x, lo, hi}, {x, lo}, {x, nil, hi}}).Draw(w.t, "bounds"))
	case 8:
		c := onnx.NewNode(rapid.SampledFrom([]string{"Less", "Greater"}).Draw(w.t, "op"), []*onnx.Value{x, w.number(nil)}, fmt.Sprintf("cond%d", w.n))
		w.g.Append(c)
		w.add("Where", s, []*onnx.Value{c.Output(0), x, w.number(s)})
	case 9:
		w.reduce(x, s)
	case 10:
		w.move(x, s)
	case 11:
		n := s[len(s)-1]
		v := make([]float32, n*n)
		for i := range v {
			v[i] = float32(rapid.IntRange(-2, 2).Draw(w.t, "weight"))
		}
		w.add("MatMul", s, []*onnx.Value{x, w.g.NewConst(onnx.FromFloats("w", []int64{n, n}, v))})
	}
}

// reduce takes the mean, sum or largest of an axis, and often combines it with x again.
func (w *grower) reduce(x *onnx.Value, s []int64) {
	axis := rapid.IntRange(0, len(s)-1).Draw(w.t, "axis")
	op := rapid.SampledFrom([]string{"ReduceMean", "ReduceSum", "ReduceMax"}).Draw(w.t, "op")
	kept := slices.Clone(s)
	kept[axis] = 1
	in, attrs := []*onnx.Value{x}, []*onnx.Attr{}
	if w.g.Model().OpsetVersion("") >= 18 || op == "ReduceSum" {
		in = append(in, w.ints(int64(axis)))
	} else {
		attrs = append(attrs, onnx.IntsAttr("axes", int64(axis)))
	}
	r := w.add(op, kept, in, attrs...)
	w.add(rapid.SampledFrom([]string{"Sub", "Div", "Mul", "Add"}).Draw(w.t, "with it"), s, []*onnx.Value{x, r})
}

// move transposes, reshapes, slices or joins.
func (w *grower) move(x *onnx.Value, s []int64) {
	switch rapid.IntRange(0, 3).Draw(w.t, "move") {
	case 0:
		perm := rapid.Permutation([]int64{0, 1, 2}[:len(s)]).Draw(w.t, "perm")
		to := make([]int64, len(s))
		for i, p := range perm {
			to[i] = s[p]
		}
		w.add("Transpose", to, []*onnx.Value{x}, onnx.IntsAttr("perm", perm...))
	case 1:
		n, _ := onnx.ElementCount(s)
		to := rapid.SampledFrom([][]int64{{n}, {s[0], n / s[0]}, {1, n / s[0], s[0]}, s}).Draw(w.t, "shape")
		w.add("Reshape", to, []*onnx.Value{x, w.ints(to...)})
	case 2:
		to := slices.Clone(s)
		to[0] = (s[0] + 1) / 2
		w.add("Slice", to, []*onnx.Value{x, w.ints(0), w.ints(to[0]), w.ints(0)})
	case 3:
		to := slices.Clone(s)
		to[0] *= 2
		w.add("Concat", to, []*onnx.Value{x, x}, onnx.IntAttr("axis", 0))
	}
}

// tame reports whether every value that m computes is finite, and none so large
// that constants of 32 bits are too coarse. In others the sign of a zero or the
// order of a sum may decide.
func tame(t *rapid.T, m *onnx.Model, in map[string]*onnx.Tensor) bool {
	m = m.Clone()
	var all []*onnx.Value
	for n := range m.Graph.Nodes() {
		all = append(all, n.Outputs()...)
	}
	m.Graph.SetOutputs(all)
	values, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		x, err := v.Float64s()
		if err != nil || slices.ContainsFunc(x, func(x float64) bool { return !(math.Abs(x) <= 1e4) }) {
			return false
		}
	}
	return true
}

// difference computes both models and says where they differ.
func difference(t *rapid.T, before, after *onnx.Model) string {
	r := rand.New(rand.NewPCG(3, 4))
	v := make([]float32, 24)
	for i := range v {
		v[i] = float32(3 * r.NormFloat64())
	}
	in := map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{2, 3, 4}, v)}
	if !tame(t, before, in) {
		return ""
	}
	want, err := eval.Graph(t.Context(), before, in, eval.Options{Wide: true})
	if err != nil {
		return err.Error()
	}
	got, err := eval.Graph(t.Context(), after, in, eval.Options{Wide: true})
	if err != nil {
		return err.Error()
	}
	for name, w := range want {
		a, err1 := w.Float64s()
		b, err2 := got[name].Float64s()
		if err1 != nil || err2 != nil || !slices.Equal(w.Shape, got[name].Shape) {
			return fmt.Sprintf("output %q is %v instead of %v", name, got[name], w)
		}
		largest := 1.0
		for _, x := range a {
			largest = max(largest, math.Abs(x))
		}
		for i := range a {
			if d := math.Abs(a[i] - b[i]); !(d <= 1e-3*largest) {
				return fmt.Sprintf("output %q: element %d is %v instead of %v", name, i, b[i], a[i])
			}
		}
	}
	return ""
}

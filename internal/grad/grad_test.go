package grad

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

var symbolic = regexp.MustCompile(`(\d+):([A-Z])`)

// model returns the case's model; body is its own or that of what it is compared with.
func (k gradCase) model(t testing.TB, body string, dynamic bool) *onnx.Model {
	t.Helper()
	opset := k.opset
	if opset == 0 {
		opset = 20
	}
	elem := "double"
	switch {
	case strings.Contains(k.in, "float16"):
		elem = "float16"
	case k.single:
		elem = "float"
	}
	in := symbolic.ReplaceAllString(k.in, "$1")
	if dynamic {
		in = symbolic.ReplaceAllString(k.in, "$2")
	}
	text := fmt.Sprintf("<ir_version: 9, opset_import: [\"\" : %d, \"com.microsoft\" : 1]>\nmain (%s) => (%s[] y) <%s> { %s }", opset, in, elem, k.consts, body)
	m, err := onnxtext.Parse(k.name, []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	m.Graph.Sweep() // initializers of what it is compared with
	return m
}

// inputs draws the case's inputs, the same for every variant.
func (k gradCase) inputs(t testing.TB) map[string]*onnx.Tensor {
	t.Helper()
	low, high := k.low, k.high
	if low == high {
		low, high = -1.5, 1.5
	}
	h := fnv.New64a()
	h.Write([]byte(k.name))
	rng := rand.New(rand.NewPCG(h.Sum64(), 1))
	in := map[string]*onnx.Tensor{}
	for _, v := range k.model(t, k.body, false).Graph.Inputs() {
		in[v.Name()] = drawn(t, v, rng, low, high)
	}
	return in
}

func drawn(t testing.TB, v *onnx.Value, rng *rand.Rand, low, high float64) *onnx.Tensor {
	t.Helper()
	dims, ok := v.Shape().Static()
	if !ok {
		t.Fatalf("input %q has shape %v", v.Name(), v.Shape())
	}
	n, _ := onnx.ElementCount(dims)
	data := make([]float64, n)
	for i := range data {
		data[i] = low + (high-low)*rng.Float64()
	}
	return tensor(t, v.Name(), v.DType(), dims, data)
}

func tensor(t testing.TB, name string, d onnx.DType, shape []int64, v []float64) *onnx.Tensor {
	t.Helper()
	x, err := onnx.FromFloat64s(name, d, shape, v)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func evaluated(t testing.TB, m *onnx.Model, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	out, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func elements(t testing.TB, x *onnx.Tensor) []float64 {
	t.Helper()
	v, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// seeded adds a random seed for output y to the inputs.
func seeded(t testing.TB, in map[string]*onnx.Tensor, seed string, y *onnx.Tensor) (map[string]*onnx.Tensor, []float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	n, _ := y.Elements()
	w := make([]float64, n)
	for i := range w {
		w[i] = rng.NormFloat64()
	}
	all := map[string]*onnx.Tensor{seed: tensor(t, seed, y.DType, y.Shape, w)}
	for name, x := range in {
		all[name] = x
	}
	return all, w
}

// differences returns the gradient of ⟨w, y⟩ by one input, by central differences of step h.
func differences(t testing.TB, m *onnx.Model, in map[string]*onnx.Tensor, name string, w []float64, h float64) []float64 {
	t.Helper()
	at := func(v []float64) float64 {
		moved := map[string]*onnx.Tensor{}
		for k, x := range in {
			moved[k] = x
		}
		moved[name] = tensor(t, name, in[name].DType, in[name].Shape, v)
		sum := 0.0
		for i, y := range elements(t, evaluated(t, m, moved)["y"]) {
			sum += w[i] * y
		}
		return sum
	}
	x := elements(t, in[name])
	out := make([]float64, len(x))
	for i := range x {
		up, down := slices.Clone(x), slices.Clone(x)
		up[i] += h
		down[i] -= h
		out[i] = (at(up) - at(down)) / (2 * h)
	}
	return out
}

// TestRules compares every gradient with central differences in double precision, with sizes known when the gradient is built
// and with sizes known to the run only.
func TestRules(t *testing.T) {
	for _, k := range cases {
		for _, dynamic := range []bool{false, true} {
			name := k.name
			if dynamic {
				if !symbolic.MatchString(k.in) {
					continue
				}
				name += " of sizes known at run time"
			}
			t.Run(name, func(t *testing.T) { k.check(t, dynamic) })
		}
	}
}

func (k gradCase) check(t *testing.T, dynamic bool) {
	r, err := Build(k.model(t, k.body, dynamic), Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := k.inputs(t)
	reference, h, tolerance := k.model(t, k.body, false), 1e-5, 1e-6
	if k.like != "" {
		reference = k.model(t, k.like, false)
	}
	if (len(r.StraightThrough) > 0) != (k.like != "") {
		t.Errorf("straight through at %v", r.StraightThrough)
	}
	if k.single {
		h, tolerance = 1e-2, 1e-4
	}
	all, w := seeded(t, in, r.Seed, evaluated(t, reference, in)["y"])
	out := evaluated(t, r.Model, all)
	if len(r.Gradients) != len(in) {
		t.Fatalf("gradients by %v, want one for each of %d inputs", r.Gradients, len(in))
	}
	for name, x := range in {
		g := out[r.Gradients[name]]
		if !slices.Equal(g.Shape, x.Shape) || g.DType != x.DType {
			t.Fatalf("the gradient by %q is %v%v, the input %v%v", name, g.DType, g.Shape, x.DType, x.Shape)
		}
		want := differences(t, reference, in, name, w, h)
		for i, have := range elements(t, g) {
			if !(math.Abs(have-want[i]) <= tolerance*max(1, math.Abs(want[i]))) {
				t.Errorf("by %q at %d: %.9g, differences say %.9g", name, i, have, want[i])
			}
		}
	}
}

// TestEveryRuleIsTested holds that no rule is without a case.
func TestEveryRuleIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, k := range cases {
		for n := range k.model(t, k.body, false).Graph.Nodes() {
			tested[nameOf(n)] = true
		}
	}
	for name := range allRules() {
		if !tested[name] {
			t.Errorf("no case has operator %s", name)
		}
	}
}

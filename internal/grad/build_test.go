package grad

import (
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

func parsed(t testing.TB, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const header = `<ir_version: 9, opset_import: ["" : 20, "local" : 1]>
`

// TestRefused holds that what has no rule is an error that names the node.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ name, text, of, wrt, want string }{
		{"no rule", `main (float[3,1,2] x) => (float[3,1,1,4] y) <float[1,16,2] w, float[1,16,4] r> { [a] y, h, c = LSTM<hidden_size=4>(x, w, r) }`, "", "",
			`node "a" (LSTM): no gradient is known for this operator`},
		{"foreign operator", `main (float[3] x) => (float[3] y) { [a] y = local.Secret(x) }`, "", "", `node "a" (local.Secret)`},
		{"control flow", `main (float[3] x, bool c) => (float[3] y) { [a] y = If<then_branch = g () => (float[3] z) { z = Neg(x) }, else_branch = h () => (float[3] z) { z = Exp(x) }>(c) }`, "", "",
			`bodies of control flow`},
		{"integers between", `main (float[3] x) => (float[3] y) { [a] i = Cast<to=7>(x) y = Cast<to=1>(i) }`, "", "", `only through integers`},
		{"no path", `main (float[3] x, float[3] z) => (float[3] y) { y = Neg(x) }`, "", "z", `does not depend on "z"`},
		{"limit that depends", `main (float[3] x) => (float[3] y) { m = ReduceMax<keepdims=0>(x) [a] y = Clip(x, , m) }`, "", "", `node "a" (Clip): no gradient is known for its input 2, "m"`},
		{"unknown output", `main (float[3] x) => (float[3] y) { y = Neg(x) }`, "z", "", `no output "z"`},
		{"unknown value", `main (float[3] x) => (float[3] y) { y = Neg(x) }`, "", "z", `no value "z"`},
		{"integer output", `main (float[3] x) => (int64 y) { y = ArgMax<keepdims=0>(x) }`, "y", "", `int64 elements`},
		{"integer inputs only", `main (int64[3] x) => (float[3] y) { y = Cast<to=1>(x) }`, "", "", `no input with floating-point elements`},
		{"training", `main (float[2,3] x) => (float[2,3] y) <float[3] s = {1,1,1}> { [a] y, m, v = BatchNormalization<training_mode=1>(x, s, s, s, s) }`, "", "", `node "a" (BatchNormalization): no gradient is known in training mode`},
		{"blocks", `main (float[2,4] x) => (float[2,4] y) <float[2,2] s = {1,1,1,1}> { q = QuantizeLinear<block_size=2>(x, s) y = DequantizeLinear<block_size=2>(q, s) }`, "", "", `in blocks`},
		{"unknown axes", `main (float[2,4] x, int64[1] k) => (float[] y) { [a] y = ReduceSum(x, k) }`, "", "", `node "a" (ReduceSum): its input 1, "k", is not constant`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Of: c.of}
			if c.wrt != "" {
				o.Wrt = []string{c.wrt}
			}
			_, err := Build(parsed(t, header+c.text), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestResult holds what a gradient's model says of itself.
func TestResult(t *testing.T) {
	m := parsed(t, header+`main (float[N,3] x, float[3] v, int64[2] i) => (float[N,3] y, float[N,3] z) {
		[fine] a = Mul(x, v) [quantizing] q, s, o = DynamicQuantizeLinear(a) [back] b = DequantizeLinear(q, s, o)
		[cut] n = ArgMax<axis=1>(a) [real] r = Cast<to=1>(n) y = Add(b, r) z = Neg(x) }`)
	r, err := Build(m, Options{Wrt: []string{"x", "a"}})
	if err != nil {
		t.Fatal(err)
	}
	outputs := func(m *onnx.Model) (names []string) {
		for _, v := range m.Graph.Outputs() {
			names = append(names, v.Name())
		}
		return names
	}
	if have, want := outputs(r.Model), []string{"y", "z", r.Gradients["x"], "a", r.Gradients["a"]}; !slices.Equal(have, want) {
		t.Errorf("outputs %q, want %q", have, want)
	}
	if have := outputs(m); !slices.Equal(have, []string{"y", "z"}) {
		t.Errorf("the model itself was changed: outputs %q", have)
	}
	if want := []string{`node "quantizing" (DynamicQuantizeLinear)`, `node "back" (DequantizeLinear)`}; !slices.Equal(r.StraightThrough, want) {
		t.Errorf("straight through %q, want %q", r.StraightThrough, want)
	}
	if want := []string{`node "cut" (ArgMax)`}; !slices.Equal(r.Cuts, want) {
		t.Errorf("cuts %q, want %q", r.Cuts, want)
	}
	only, err := Build(m, Options{Of: "z", Only: true})
	if err == nil {
		t.Errorf("z depends on v? outputs %q", outputs(only.Model))
	}
	if only, err = Build(m, Options{Of: "z", Wrt: []string{"x"}, Only: true}); err != nil {
		t.Fatal(err)
	}
	if have, want := outputs(only.Model), []string{"z", only.Gradients["x"]}; !slices.Equal(have, want) || only.Model.Graph.Len() > 3 {
		t.Errorf("outputs %q, want %q; %d nodes", have, want, only.Model.Graph.Len())
	}
}

// TestFunctions differentiates through local functions: their bodies, attributes, defaults and omitted parameters.
func TestFunctions(t *testing.T) {
	text := header + `main (double[2,3] x) => (double[2,3] y) <double[3] w = {1, 2, 3}> {
		a = local.act<slope = 0.25>(x, w) b = local.act(a) y = local.twice(b) }
	<domain: "local", opset_import: ["" : 20]> act <slope: float = 0.5> (v, k) => (r) { l = LeakyRelu<alpha: float = @slope>(v) r = Mul(l, l) }
	<domain: "local", opset_import: ["" : 20, "local" : 1]> twice (v) => (r) { s = local.act<slope = 2.0>(v) r = Add(s, v) }`
	m := parsed(t, text)
	r, err := Build(m, Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]*onnx.Tensor{"x": tensor(t, "x", onnx.Double, []int64{2, 3}, []float64{0.3, -0.7, 1.1, -1.3, 0.9, 0.2})}
	all, w := seeded(t, in, r.Seed, evaluated(t, m, in)["y"])
	sameNumbers(t, "gradient", elements(t, evaluated(t, r.Model, all)[r.Gradients["x"]]), differences(t, m, in, "x", w, 1e-5), 1e-6)
}

// TestFeatureMaps looks for what convolutions made.
func TestFeatureMaps(t *testing.T) {
	m := parsed(t, header+`main (float[1,1,8,8] x) => (float[1,2] y) <float[2,1,3,3] w, float[2,2,3,3] v, float[2,2] u> {
		a = Conv(x, w) b = Relu(a) c = MaxPool<kernel_shape=[2,2], strides=[2,2]>(b) d = Conv<pads=[1,1,1,1]>(c, v) e = Add(d, c) f = GlobalAveragePool(e)
		g = Flatten(f) y = MatMul(g, u) }`)
	have, err := FeatureMaps(m, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "c", "d", "e"}; !slices.Equal(have, want) {
		t.Errorf("feature maps %q, want %q", have, want)
	}
}

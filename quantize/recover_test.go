package quantize

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

var near = cmpopts.EquateApprox(1e-5, 1e-6)

func parsed(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func chainsIn(t *testing.T, m *onnx.Model, axis int) ([]*chain, map[string]string) {
	t.Helper()
	facts, err := opset.Infer(m, opset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return chainsOf(m.Graph, facts, axis)
}

// TestBalance: s = √(r1/r2) as in AIMET up to a common factor, 1 where a channel
// is dead, and within bounds.
func TestBalance(t *testing.T) {
	for _, c := range []struct {
		name  string
		a, b  []float64
		alpha float64
		want  []float64
	}{
		{"half", []float64{4, 1}, []float64{1, 4}, 0.5, []float64{2, 0.5}},
		{"all of it", []float64{8, 2}, []float64{1, 5}, 1, []float64{2, 0.5}},
		{"none of it", []float64{8, 2}, []float64{1, 4}, 0, []float64{2, 0.5}},
		{"equal", []float64{3, 3}, []float64{7, 7}, 0.5, []float64{1, 1}},
		{"dead", []float64{0, 4, 1}, []float64{1, 1, 0}, 0.5, []float64{1, 1, 1}},
		{"bounded", []float64{1e20, 1e-20}, []float64{1, 1}, 0.5, []float64{mostFactor, 1 / mostFactor}},
	} {
		if diff := cmp.Diff(c.want, balance(c.a, c.b, c.alpha), near); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// chainModels are places where factors can move, with the operators that begin a
// chain, and places where they cannot.
var chainModels = []struct {
	name, text string
	axis       int
	want       string // outputs of what begins chains
}{
	{"conv, depthwise, conv", `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2,4,4] x) => (float[1,1,4,4] y) <float[2,2,1,1] w = {9, 1, -2, 0.1}, float[2] b = {1, -1}, float[2,1,3,3] d = {1, 2, 3, 4, 5, 6, 7, 8, 9, .1, .2, .3, .4, .5, .6, .7, .8, .9}, float[1,2,1,1] v = {3, 0.5}> {
  a = Conv (x, w, b)
  r = Relu (a)
  s = Conv <group = 2, pads = [1, 1, 1, 1]> (r, d)
  q = LeakyRelu <alpha = 0.1> (s)
  y = Conv (q, v)
}`, 1, "a s"},
	{"through concat and pool", `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2,4,4] x) => (float[1,1,2,2] y) <float[2,2,1,1] w = {9, 1, -2, 0.1}, float[1,2,1,1] u = {3, 0.5}, float[1,3,1,1] v = {3, 0.5, 2}> {
  a = Conv (x, w)
  b = Conv (x, u)
  j = Concat <axis = 1> (b, a)
  m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (j)
  y = Conv (m, v)
}`, 1, "a b"},
	{"residual and upper bound", `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w = {9, 1, -2, 0.1}, float zero = {0}, float six = {6}> {
  a = Conv (x, w)
  s = Add (a, x)
  c = Conv (s, w)
  k = Clip (c, zero, six)
  y = Conv (k, w)
}`, 1, ""},
	{"clip that is a relu", `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2,4,4] x) => (float[1,1,4,4] y) <float[2,2,1,1] w = {9, 1, -2, 0.1}, float[1,2,1,1] v = {3, 0.5}, float zero = {0}> {
  a = Conv (x, w)
  k = Clip (a, zero)
  y = Conv (k, v)
}`, 1, "a"},
	{"normalization and products", `<ir_version: 8, opset_import: ["" : 17]>
main (float[3,2] x) => (float[3,2] y, float[3,1] z) <float[2] g = {2, 0.1}, float[2] b = {1, 3}, float[2,2] w = {1, 2, 3, 4}, float[2] c = {1, 0.5}, float[2,2] v = {5, 1, 2, 1}, float[2,1] u = {1, 7}> {
  n = LayerNormalization <axis = -1> (x, g, b)
  p = MatMul (n, w)
  q = Add (p, c)
  r = Relu (q)
  y = MatMul (r, v)
  z = Gemm (n, u)
}`, -1, "n p"},
}

// TestChainsKeepTheFunction: whatever the factors, the float model stays the same.
func TestChainsKeepTheFunction(t *testing.T) {
	for _, c := range chainModels {
		m := parsed(t, c.text)
		chains, refused := chainsIn(t, m, c.axis)
		var got []string
		var edits []edit
		for i, k := range chains {
			got = append(got, outputName(k.source))
			s := make([]float64, k.n)
			for j := range s {
				s[j] = float64(3*i+j+1) / 2
			}
			edits = append(edits, k.edits(s)...)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: chains begin at %v, want %s; %v", c.name, got, c.want, refused)
		}
		changed := m.Clone()
		if err := apply(changed, edits); err != nil {
			t.Fatal(err)
		}
		want, have := outputsOf(t, m), outputsOf(t, changed)
		if diff := cmp.Diff(want, have, near); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if len(edits) == 0 {
			continue
		}
		// A fault: what a sink should take back is lost.
		broken := m.Clone()
		if err := apply(broken, edits[:len(edits)-1]); err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(want, outputsOf(t, broken), near) {
			t.Errorf("%s: an edit more or less makes no difference", c.name)
		}
	}
}

// outputsOf runs m in this program on inputs that grow.
func outputsOf(t *testing.T, m *onnx.Model) map[string][]float64 {
	t.Helper()
	in := map[string]*onnx.Tensor{}
	for _, v := range m.Graph.Inputs() {
		dims, _ := v.Shape().Static()
		n, _ := onnx.ElementCount(dims)
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(math.Sin(float64(i))) * 3
		}
		in[v.Name()] = onnx.FromFloats(v.Name(), dims, x)
	}
	out, err := eval.Graph(t.Context(), m, in, eval.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]float64{}
	for name, v := range out {
		if got[name], err = v.Float64s(); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// TestFitWeights: one outlier that the inputs hardly reach is clipped, and with
// equal inputs the peak stays.
func TestFitWeights(t *testing.T) {
	m := parsed(t, `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,3] x) => (float[1,1] y) <float[3,1] w = {1, 0.302, 0.301}> { y = MatMul (x, w) }`)
	l := linears(m)[0]
	scales, changed, err := l.fit(&Options{}, []float64{1e-9, 1, 1})
	if err != nil || !changed || scales[0] >= 1./127 {
		t.Errorf("scale %v, changed %v (%v)", scales, changed, err)
	}
	if scales, changed, err = l.fit(&Options{}, []float64{1, 1e-9, 1e-9}); err != nil || changed || scales[0] != float32(2./254) {
		t.Errorf("scale %v, changed %v (%v)", scales, changed, err)
	}
}

// TestRounding: the shift is Σ (w − ŵ)·E[x], by hand.
func TestRounding(t *testing.T) {
	m := parsed(t, `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2] x) => (float[1,2] y) <float[2,2] w = {127, 12.75, 0.25, 0.06}> { y = MatMul (x, w) }`)
	l := linears(m)[0]
	// The scales are 1 and 1/8, which float32 has: 0.25 becomes 0, 0.06 too.
	got, err := l.rounding(&Options{PerTensor: false}, []float32{1, 0.125}, nil, []float64{5, 2})
	if diff := cmp.Diff([]float64{0.5, 0.12}, got, near); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestAbsorb: where no element is below what is moved, the function stays the same.
func TestAbsorb(t *testing.T) {
	m := parsed(t, `<ir_version: 8, opset_import: ["" : 17]>
main (float[1,2,4,4] x) => (float[1,1,2,2] y) <float[2,2,1,1] w = {.1, .1, -.2, .1}, float[2] b = {9, 8}, float[1,2,3,3] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, .1, .2, .3, .4, .5, .6, .7, .8, .9}, float[1] c = {1}> {
  a = Conv (x, w, b)
  r = Relu (a)
  y = Conv (r, v, c)
}`)
	chains, _ := chainsIn(t, m, 1)
	if len(chains) != 1 || !chains[0].shifts {
		t.Fatalf("%d chains", len(chains))
	}
	edits, err := chains[0].absorb([]float64{7, 6})
	if err != nil {
		t.Fatal(err)
	}
	changed := m.Clone()
	if err := apply(changed, edits); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(outputsOf(t, m), outputsOf(t, changed), near); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s := &calibrate.Stats{Channels: &calibrate.Channels{Count: 4, Sum: []float64{40, 4}, Squares: []float64{404, 8}}}
	// Means 10 and 1, both with standard deviation 1.
	if diff := cmp.Diff([]float64{7, 0}, floorOf(s, 2), near); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestHeldOut: every fourth run, and the end where runs depend on each other.
func TestHeldOut(t *testing.T) {
	for _, c := range []struct {
		p    part
		want []int64
	}{{part{total: 10}, []int64{3, 7}}, {part{total: 10, stateful: true}, []int64{8, 9}}} {
		var got []int64
		for k := range c.p.total {
			if c.p.held(k, k) {
				got = append(got, k)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.p, diff)
		}
	}
}

// TestWorse: gains that are small, of single runs only or at the cost of another
// measure are none.
func TestWorse(t *testing.T) {
	runs := func(f float64, n int) []float64 { return slices.Repeat([]float64{f}, n) }
	now := score{DB: 20, SQNR: 30, KL: 25, Runs: runs(0.01, 8)}
	for _, c := range []struct {
		name string
		a    score
		want string
	}{
		{"better", score{DB: 21, SQNR: 30, KL: 25, Runs: runs(0.008, 8)}, ""},
		{"hardly better", score{DB: 20.05, SQNR: 30, KL: 25, Runs: runs(0.008, 8)}, "margin"},
		{"in one run", score{DB: 21, SQNR: 30, KL: 25, Runs: append(runs(0.0101, 7), 0.001)}, "chance"},
		{"other measure", score{DB: 21, SQNR: 29, KL: 25, Runs: runs(0.008, 8)}, "signal to noise"},
		{"divergence", score{DB: 21, SQNR: 30, KL: 24, Runs: runs(0.008, 8)}, "divergence"},
		{"does not run", score{DB: -trial.Most}, "does not run"},
	} {
		if why := worse(c.a, now, sure); (why == "") != (c.want == "") || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q", c.name, why)
		}
	}
}

// TestConfirm: steps that are likely alone stay if they are sure together, and go
// one by one where they are not.
func TestConfirm(t *testing.T) {
	at := func(db, spread float64) moment {
		s := score{DB: db, SQNR: db}
		for i := range 8 {
			s.Runs = append(s.Runs, math.Pow(10, -(db+spread*float64(i%2*2-1))/10))
		}
		return moment{&choices{}, s}
	}
	for _, c := range []struct {
		name string
		past []moment
		want []bool
	}{
		{"sure", []moment{at(20, 0), at(21, 0.1), at(22, 0.1)}, []bool{true, true}},
		{"together", []moment{at(20, 0), at(20.5, 1), at(22, 1)}, []bool{true, true}},
		{"the first only", []moment{at(20, 0), at(21, 0.1), at(21.5, 5)}, []bool{true, false}},
		{"none", []moment{at(20, 0), at(20.2, 3), at(20.5, 5)}, []bool{false, false}},
	} {
		r := &recovery{past: c.past, report: &Recovery{Steps: []Step{{Name: "equalize", Kept: true}, {Name: "bias", Kept: true}}}}
		r.now = c.past[2].choices
		r.confirm()
		kept := 0
		for i, s := range r.report.Steps {
			if s.Kept != c.want[i] {
				t.Errorf("%s: %s kept %v: %s", c.name, s.Name, s.Kept, s.Note)
			}
			if s.Kept {
				kept++
			}
		}
		if r.now != c.past[kept].choices {
			t.Errorf("%s: the choices are not those of the last step that is kept", c.name)
		}
	}
}

func TestSteps(t *testing.T) {
	for text, want := range map[string]int{"": 0, "none": 0, "auto": len(recoverySteps), "bias,equalize": 2} {
		if got, err := (&RecoverOptions{Recover: text}).steps(); len(got) != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, o := range []RecoverOptions{{Recover: "bias,luck"}, {HeldOut: -1}} {
		if o.Check() == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

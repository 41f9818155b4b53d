package explain

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/score"
)

// derived differentiates a fake by central differences.
type derived struct {
	s        *fake
	straight []string
}

func (d *derived) StraightThrough() []string { return d.straight }

func (d *derived) Slope(_ context.Context, in map[string]*onnx.Tensor, seed []float64, tensor string) (value, gradient *onnx.Tensor, err error) {
	x, err := in[tensor].Float64s()
	if err != nil {
		return nil, nil, err
	}
	rows := int(in[tensor].Shape[0])
	n, m := len(x)/rows, len(seed)/rows
	g := make([]float64, len(x))
	for r := range rows {
		at := func(i int, h float64) float64 {
			moved := append([]float64(nil), x[r*n:(r+1)*n]...)
			moved[i] += h
			sum := 0.0
			for k, y := range d.s.f(moved) {
				sum += seed[r*m+k] * y
			}
			return sum
		}
		for i := range n {
			g[r*n+i] = (at(i, 1e-5) - at(i, -1e-5)) / 2e-5
		}
	}
	gradient, err = onnx.FromFloat64s("g", onnx.Double, in[tensor].Shape, g)
	return in[tensor], gradient, err
}

func differentiable(s *fake, straight ...string) Model {
	return Model{Session: s, Gradient: func(context.Context, string, Sample) (Gradient, error) { return &derived{s, straight}, nil }}
}

// smooth is a smooth model of two classes over four inputs.
func smooth(scale float64) *fake {
	s := linear(0, 1, -2, 0.5, 0)
	s.f = func(x []float64) []float64 {
		return []float64{math.Sin(x[0]) + scale*x[1]*x[2], 0.5*x[0]*x[0] - math.Tanh(x[1])}
	}
	return s
}

// Integrated gradients of a linear model are w_i (x_i - b_i), gradient-input is w_i x_i, whatever the noise of smooth-grad.
func TestGradientsOfLinearModel(t *testing.T) {
	w := []float64{1, -2, 0.5, 0}
	x := [][]float64{{3, 1, 2, 9}, {-3, 2, 0, 7}, {0, 0, 4, 5}}
	mean := []float64{0, 1, 2, 7}
	for _, c := range []struct {
		method Method
		from   []float64
	}{{integratedGradients, mean}, {gradientInput, make([]float64, 4)}, {smoothGrad, make([]float64, 4)}} {
		a := linear(0.25, w...)
		r, err := Compare(t.Context(), differentiable(a), differentiable(a), samplesOf(t, onnx.Double, []int64{1, 4}, x...), Options{Method: c.method, KeepMaps: true})
		if err != nil {
			t.Fatal(err)
		}
		for s, p := range r.Pairs {
			margin := 0.25
			for i := range w {
				margin += w[i] * x[s][i]
			}
			want := make([]float64, 4)
			for i := range want {
				want[i] = w[i] * (x[s][i] - c.from[i]) * math.Copysign(1, margin)
			}
			if d := cmp.Diff(want, p.Baseline, cmpopts.EquateApprox(1e-8, 1e-8)); d != "" {
				t.Errorf("%s, %s: %s", c.method.Name, p.ID, d)
			}
		}
		if r.Spearman.Median != 1 || *r.SelfCheck != 1 || r.StraightThrough == nil || *r.StraightThrough != [2]int{} {
			t.Errorf("%s: got %+v", c.method.Name, r)
		}
	}
}

// Attributions add up to the difference of the target, in probabilities too, and more points come nearer.
func TestCompleteness(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var rows [][]float64
	for range 5 {
		rows = append(rows, []float64{rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64(), rng.NormFloat64()})
	}
	s := samplesOf(t, onnx.Double, []int64{1, 4}, rows...)
	for _, a := range []*fake{smooth(1), mapped(smooth(1), softmaxed)} {
		var residuals []float64
		for _, points := range []int{1, 0} {
			r, err := Compare(t.Context(), differentiable(a), differentiable(a), s, Options{Method: integratedGradients, Perturbations: points, SkipCurves: true})
			if err != nil {
				t.Fatal(err)
			}
			residuals = append(residuals, *r.Completeness)
		}
		if residuals[1] > 1e-6 || residuals[0] < 10*residuals[1] {
			t.Errorf("residuals of 1 and %d points: %v", pathPoints, residuals)
		}
	}
}

// The slope of the target is that by which its value changes.
func TestTargetSlope(t *testing.T) {
	row := []float64{0.2, 0.5, 0.3}
	for _, c := range []struct {
		t    target
		kind score.Kind
	}{{target{class: 1}, score.Logits}, {target{class: 1}, score.Probabilities}, {target{class: 0}, score.Probabilities}, {target{direction: []float64{0.6, 0, 0.8}}, score.Logits}} {
		g := c.t.slope(row, c.kind)
		for i := range row {
			up, down := append([]float64(nil), row...), append([]float64(nil), row...)
			up[i] += 1e-6
			down[i] -= 1e-6
			if want := (c.t.value(up, c.kind) - c.t.value(down, c.kind)) / 2e-6; math.Abs(g[i]-want) > 1e-6 {
				t.Errorf("%+v, element %d: slope %v, differences say %v", c.t, i, g[i], want)
			}
		}
	}
}

// A surrogate is labelled, and so is what it lacks.
func TestStraightThroughIsLabelled(t *testing.T) {
	s := samplesOf(t, onnx.Double, []int64{1, 4}, []float64{1, 2, 3, 4}, []float64{2, 1, 0, 1})
	stairs := mapped(linear(0, 1, -2, 0.5, 0), func(y []float64) []float64 { return []float64{math.Round(3 * y[0]), 0} })
	r, err := Compare(t.Context(), differentiable(linear(0, 1, -2, 0.5, 0)), Model{Session: stairs, Gradient: func(context.Context, string, Sample) (Gradient, error) {
		return &derived{linear(0, 1, -2, 0.5, 0), []string{"node a", "node b"}}, nil
	}}, s, Options{Method: integratedGradients})
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(r.Warnings, "\n")
	if *r.StraightThrough != [2]int{0, 2} || !strings.Contains(all, "candidate's gradients are straight-through: at 2 nodes, the first is node a") || strings.Contains(all, "baseline's gradients") {
		t.Errorf("straight through %v, warnings %q", r.StraightThrough, r.Warnings)
	}
	if *r.Completeness < 0.5 || !strings.Contains(all, "miss the difference that they explain") {
		t.Errorf("completeness %v, warnings %q", *r.Completeness, r.Warnings)
	}
}

// pixels is a model of two classes over a feature map that is the input's pixels, channel by channel.
type pixels struct{ maps, slopes *onnx.Tensor }

func (p pixels) StraightThrough() []string { return nil }
func (p pixels) Slope(context.Context, map[string]*onnx.Tensor, []float64, string) (value, gradient *onnx.Tensor, err error) {
	return p.maps, p.slopes, nil
}

// Grad-CAM weighs channels by their mean slopes, cuts off what is negative and brings the map to the cells of the input.
func TestGradCAM(t *testing.T) {
	tensor := func(v ...float64) *onnx.Tensor {
		x, err := onnx.FromFloat64s("f", onnx.Float, []int64{1, 2, 2, 2}, v)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	s := &fake{dtype: onnx.Double, shape: onnx.Shape{onnx.Fixed(1), onnx.Fixed(1), onnx.Fixed(4), onnx.Fixed(4)}, out: []int64{2}, f: func(x []float64) []float64 { return []float64{x[0] + 1, 0} }}
	m := Model{Session: s, Gradient: func(context.Context, string, Sample) (Gradient, error) {
		return pixels{tensor(1, 2, 3, 4, 5, 0, 0, 1), tensor(1, 1, 2, 0, -1, -1, 0, 0)}, nil // weights 1 and -½
	}}
	input := make([]float64, 16)
	input[3] = 1
	r, err := Compare(t.Context(), m, m, samplesOf(t, onnx.Double, []int64{1, 1, 4, 4}, input), Options{Method: gradCAM, Grid: 4, KeepMaps: true, SkipCurves: true})
	if err != nil {
		t.Fatal(err)
	}
	// max(0, 1·{1, 2; 3, 4} - ½·{5, 0; 0, 1}) is {0, 2; 3, 3.5}, interpolated to 4 × 4
	want := []float64{0, 0.5, 1.5, 2, 0.75, 1.15625, 1.96875, 2.375, 2.25, 2.46875, 2.90625, 3.125, 3, 3.125, 3.375, 3.5}
	if d := cmp.Diff(want, r.Pairs[0].Baseline, near); d != "" {
		t.Error(d)
	}
	flat := linear(0, 1, 2)
	if _, err := Compare(t.Context(), differentiable(flat), differentiable(flat), samplesOf(t, onnx.Double, []int64{1, 2}, []float64{1, 2}), Options{Method: gradCAM}); err == nil || !strings.Contains(err.Error(), "needs an image") {
		t.Errorf("a table: error %v", err)
	}
}

func TestGradientsRefuseTokens(t *testing.T) {
	s := &fake{dtype: onnx.Int64, shape: onnx.Shape{onnx.Fixed(1), onnx.Fixed(3)}, out: []int64{2}, f: func(x []float64) []float64 { return []float64{x[0], 1} }}
	_, err := Compare(t.Context(), differentiable(s), differentiable(s), samplesOf(t, onnx.Int64, []int64{1, 3}, []float64{1, 2, 3}), Options{Method: integratedGradients})
	if err == nil || !strings.Contains(err.Error(), `needs an input of floating-point numbers, "x" is int64`) {
		t.Errorf("error %v", err)
	}
	if _, err := Compare(t.Context(), Model{Session: s}, Model{Session: s}, samplesOf(t, onnx.Int64, []int64{1, 3}, []float64{1, 2, 3}), Options{Method: gradientInput}); err == nil {
		t.Error("no gradients, no error")
	}
}

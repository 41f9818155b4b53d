package explain

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/grad"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// evaluated is a session that evaluates a model.
type evaluated struct{ m *onnx.Model }

func ports(values []*onnx.Value) (out []session.Port) {
	for _, v := range values {
		if v.Const == nil {
			out = append(out, session.Port{Name: v.Name(), Type: v.Type})
		}
	}
	return out
}

func (e evaluated) Inputs() []session.Port  { return ports(e.m.Graph.Inputs()) }
func (e evaluated) Outputs() []session.Port { return ports(e.m.Graph.Outputs()) }
func (e evaluated) Close() error            { return nil }
func (e evaluated) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	if err := session.CheckInputs(e.Inputs(), nil, in); err != nil {
		return nil, err
	}
	out, err := eval.Graph(ctx, e.m, in, eval.Options{})
	return &session.Result{Outputs: out}, err
}

// graphGradient runs the gradient that was built of a model of [N, 2] outputs.
type graphGradient struct {
	r *grad.Result
	n *int // runs
}

func (g graphGradient) StraightThrough() []string { return g.r.StraightThrough }

func (g graphGradient) Slope(ctx context.Context, in map[string]*onnx.Tensor, seed []float64, tensor string) (value, gradient *onnx.Tensor, err error) {
	*g.n++
	all := map[string]*onnx.Tensor{}
	for name, t := range in {
		all[name] = t
	}
	if all[g.r.Seed], err = onnx.FromFloat64s(g.r.Seed, onnx.Double, []int64{int64(len(seed) / 2), 2}, seed); err != nil {
		return nil, nil, err
	}
	out, err := eval.Graph(ctx, g.r.Model, all, eval.Options{})
	return in[tensor], out[g.r.Gradients[tensor]], err
}

// tokenModel makes of a text what the methods ask of a model, and counts runs of its gradient.
func tokenModel(t *testing.T, text string, runs *int) Model {
	t.Helper()
	m := parsedTokens(t, text)
	return Model{Session: evaluated{m}, Embed: func(_ context.Context, output, input string) (*Embedding, error) {
		c, err := CutEmbedding(m, output, input)
		if err != nil {
			return nil, err
		}
		r, err := grad.Build(c.Tail, grad.Options{Of: output, Wrt: []string{c.Input}, Only: true})
		if err != nil {
			return nil, err
		}
		return &Embedding{Body: evaluated{c.Body}, Value: c.Value, Tail: evaluated{c.Tail}, Input: c.Input, Gradient: graphGradient{r, runs}, Held: c.Held}, nil
	}}
}

// squared is the square of the sum of c·h over all tokens, against a class of 0, where h are the rows of the table.
const squared = `main (int64[N,T] x) => (double[N,2] y) <double[5,2] table = {TABLE}, double[2,1] c = {1, -2}, int64[2] axes = {1, 2}, int64[1] last = {1}, double[1,2] m = {1, 0}> {
  h = Gather (table, x)
  p = MatMul (h, c)
  s = ReduceSum <keepdims = 0> (p, axes)
  q = Mul (s, s)
  r = Unsqueeze (q, last)
  y = Mul (r, m)
}`

// Two tables of five tokens.
var (
	firstTable  = [5][2]float64{{0.5, 0.25}, {1, -1}, {2, 0.5}, {-1, 0.75}, {0, -2}}
	secondTable = [5][2]float64{{1, 0}, {-1, 0.5}, {2, 1}, {3, -1}, {0.5, 0.5}}
)

const (
	firstNumbers  = "0.5, 0.25, 1, -1, 2, 0.5, -1, 0.75, 0, -2"
	secondNumbers = "1, 0, -1, 0.5, 2, 1, 3, -1, 0.5, 0.5"
)

// squareMap is the closed form of integrated gradients of squared: c·(h_t - b_t) (S_x + S_b), where S is the sum of c·h. hide is the
// token of the background, negative for zeros, and keep the one that stays.
func squareMap(table [5][2]float64, x []float64, hide int, keep float64) []float64 {
	dot := func(k int) float64 {
		if k < 0 {
			return 0
		}
		return table[k][0] - 2*table[k][1]
	}
	var from, to float64
	var distance []float64
	for _, k := range x {
		to += dot(int(k))
		if k == keep {
			from += dot(int(k))
			continue
		}
		from += dot(hide)
		distance = append(distance, dot(int(k))-dot(hide))
	}
	for i := range distance {
		distance[i] *= from + to
	}
	return distance
}

// Integrated gradients of tokens are those of their embedding, summed up over its width: from the embedding of the hiding token or
// from zeros, without the tokens that are kept, in each model by its own table. They add up to the difference of the target.
func TestIntegratedGradientsOfTokens(t *testing.T) {
	x := [][]float64{{1, 3, 2, 4}, {0, 4, 4, 2}, {3, 3, 1, 0}}
	for _, c := range []struct {
		name string
		o    Options
		hide int
		keep float64
		fill string
	}{
		{"from zeros", Options{}, -1, -1, "zero-embedding"},
		{"from token 2", Options{Token: 2, NamedToken: true}, 2, -1, "token"},
		{"from token 0, keeping 4", Options{Token: 0, NamedToken: true, Keep: []int64{4}}, 0, 4, "token"},
		{"from zeros, keeping 3", Options{Keep: []int64{3}}, -1, 3, "zero-embedding"},
		{"from zeros that were asked for", Options{Token: 2, NamedToken: true, Fill: FillZero}, -1, -1, "zero-embedding"},
		{"one by one", Options{Batch: 1}, -1, -1, "zero-embedding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs := 0
			first := tokenModel(t, strings.Replace(squared, "TABLE", firstNumbers, 1), &runs)
			second := tokenModel(t, strings.Replace(squared, "TABLE", secondNumbers, 1), &runs)
			o := c.o
			o.Method, o.KeepMaps, o.Perturbations, o.NoiseFloor, o.SkipCurves = integratedGradients, true, 2, -1, true
			r, err := Compare(t.Context(), first, second, samplesOf(t, onnx.Int64, []int64{1, 4}, x...), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Fill != c.fill || (r.Background == "") != (c.fill == "zero-embedding") || *r.StraightThrough != [2]int{} || len(r.Pairs) != len(x) {
				t.Errorf("got %+v", r)
			}
			for s, p := range r.Pairs {
				for k, have := range [][]float64{p.Baseline, p.Candidate} {
					want := squareMap([][5][2]float64{firstTable, secondTable}[k], x[s], c.hide, c.keep)
					if d := cmp.Diff(want, have, cmpopts.EquateApprox(1e-9, 1e-9)); d != "" {
						t.Errorf("%s, model %d: %s", p.ID, k, d)
					}
				}
			}
			if r.Completeness == nil || *r.Completeness > 1e-9 {
				t.Errorf("completeness %v of a polynomial", *r.Completeness)
			}
			if want := map[bool]int{true: len(x) * 2 * 2, false: len(x) * 2}[o.Batch == 1]; runs != want { // both points at once
				t.Errorf("%d runs of the gradient, want %d", runs, want)
			}
		})
	}
}

// The slope at the sample is 2·S·c for each token: gradient-input gives 2·S·(c·h_t), and smooth-grad nearly so, since the slope is
// linear; identical models see the same noise.
func TestSlopesOfTokens(t *testing.T) {
	x := [][]float64{{1, 3, 2, 4}, {4, 0, 4, 2}}
	runs := 0
	m := tokenModel(t, strings.Replace(squared, "TABLE", firstNumbers, 1), &runs)
	for _, method := range []Method{gradientInput, smoothGrad} {
		r, err := Compare(t.Context(), m, m, samplesOf(t, onnx.Int64, []int64{1, 4}, x...), Options{Method: method, KeepMaps: true, Keep: []int64{4}, Perturbations: 4000, SkipCurves: true})
		if err != nil {
			t.Fatal(err)
		}
		for s, p := range r.Pairs {
			sum, want := 0.0, []float64{}
			for _, k := range x[s] {
				sum += firstTable[int(k)][0] - 2*firstTable[int(k)][1]
			}
			for _, k := range x[s] {
				if k != 4 {
					want = append(want, 2*sum*(firstTable[int(k)][0]-2*firstTable[int(k)][1]))
				}
			}
			tolerance := map[bool]float64{true: 0.02, false: 1e-9}[method.Random]
			if d := cmp.Diff(want, p.Baseline, cmpopts.EquateApprox(tolerance, tolerance)); d != "" {
				t.Errorf("%s, %s: %s", method.Name, p.ID, d)
			}
		}
		if r.Spearman.Median != 1 || *r.SelfCheck != 1 || r.Fill != "" {
			t.Errorf("%s: got %+v", method.Name, r)
		}
	}
}

// Noise leaves tokens alone that are kept: the slopes of h₀·(h₁ + h₂) by the last two are h₀ then, however few copies there are.
func TestNoKeptTokenIsNoisy(t *testing.T) {
	runs := 0
	m := tokenModel(t, `main (int64[N,3] x) => (double[N,2] y) <double[5,1] table = {4, 1, 2, 8, 3}, int64 first = {0}, int64[2] others = {1, 2}, int64[1] axis = {1}, double[1,2] m = {1, 0}> {
  h = Gather (table, x)
  a = Gather <axis = 1> (h, first)
  b = Gather <axis = 1> (h, others)
  s = ReduceSum <keepdims = 0> (b, axis)
  p = Mul (a, s)
  y = Mul (p, m)
}`, &runs)
	r, err := Compare(t.Context(), m, m, samplesOf(t, onnx.Int64, []int64{1, 3}, []float64{3, 1, 2}), Options{Method: smoothGrad, Keep: []int64{3}, Perturbations: 3, KeepMaps: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]float64{8, 16}, r.Pairs[0].Baseline, near); d != "" {
		t.Error(d)
	}
}

// What a model reads of the tokens past their embedding stays as in the sample, and is named.
func TestMaskIsHeld(t *testing.T) {
	runs := 0
	m := tokenModel(t, `main (int64[N,T] x) => (double[N,2] y) <double[5,1] table = {4, 1, 2, -1, 3}, int64 pad = {0}, double zero = {0}, int64[1] last = {-1}, int64[2] axes = {1, 2}, double[1,2] m = {1, 0}> {
  h = Gather (table, x)
  [mask] p = Equal (x, pad)
  q = Unsqueeze (p, last)
  w = Where (q, zero, h)
  s = ReduceSum <keepdims = 0> (w, axes)
  r = Unsqueeze (s, last)
  y = Mul (r, m)
}`, &runs)
	r, err := Compare(t.Context(), m, m, samplesOf(t, onnx.Int64, []int64{1, 4}, []float64{1, 0, 2, 4}), Options{Method: integratedGradients, KeepMaps: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]float64{1, 0, 2, 3}, r.Pairs[0].Baseline, near); d != "" {
		t.Error(d)
	}
	if all := strings.Join(r.Warnings, "\n"); !strings.Contains(all, `the candidate reads the tokens of input "x" past their embedding too, at 1 nodes, the first is node "mask" (Equal)`) {
		t.Errorf("warnings %q", r.Warnings)
	}
	if *r.Completeness > 1e-9 {
		t.Errorf("completeness %v", *r.Completeness)
	}
}

// A normalization is steepest at zeros: the warning about what is missing says where to start instead, and starting there helps.
func TestZerosAreSteep(t *testing.T) {
	runs := 0
	m := tokenModel(t, `main (int64[N,T] x) => (double[N,2] y) <double[5,2] table = {4, 1, 1, 2, 2, 3, 1, 1, 3, 2}, double eps = {0.000001}, double[2,1] c = {1, 1}, int64[2] axes = {1, 2}, int64[1] last = {-1}, double[1,2] m = {1, 0}> {
  h = Gather (table, x)
  a = Abs (h)
  d = Add (a, eps)
  n = Div (h, d)
  q = Mul (n, h)
  b = Add (n, q)
  p = MatMul (b, c)
  s = ReduceSum <keepdims = 0> (p, axes)
  r = Unsqueeze (s, last)
  y = Mul (r, m)
}`, &runs)
	s := samplesOf(t, onnx.Int64, []int64{1, 4}, []float64{1, 0, 2, 4})
	explained := func(o Options) (float64, string) {
		o.Method = integratedGradients
		r, err := Compare(t.Context(), m, m, s, o)
		if err != nil {
			t.Fatal(err)
		}
		return *r.Completeness, strings.Join(r.Warnings, "\n")
	}
	if residual, warnings := explained(Options{}); residual < 0.1 || !strings.Contains(warnings, "zeros are where a normalization is steepest") {
		t.Errorf("from zeros: residual %v, warnings %q", residual, warnings)
	}
	if residual, warnings := explained(Options{Token: 3, NamedToken: true}); residual > 1e-6 || strings.Contains(warnings, "steepest") {
		t.Errorf("from a token: residual %v, warnings %q", residual, warnings)
	}
}

// A copy that was changed a little calibrates gradients by tokens too.
func TestCalibrationByEmbedding(t *testing.T) {
	var rows [][]float64
	for i := range 5 {
		rows = append(rows, []float64{float64(i), 3, float64(4 - i), 1})
	}
	runs := 0
	m := tokenModel(t, strings.Replace(squared, "TABLE", firstNumbers, 1), &runs)
	near := tokenModel(t, strings.Replace(squared, "TABLE", strings.Replace(firstNumbers, "0.75", "0.7501", 1), 1), &runs)
	far := tokenModel(t, strings.Replace(squared, "TABLE", secondNumbers, 1), &runs)
	limit := func(reference *Model) *Calibrated {
		r, err := Compare(t.Context(), m, m, samplesOf(t, onnx.Int64, []int64{1, 4}, rows...), Options{Method: integratedGradients, Reference: reference, SkipCurves: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.Calibrated
	}
	if c := limit(&near); c == nil || c.Spearman != 1 || !strings.Contains(c.How, "float16") {
		t.Errorf("calibrated %+v", c)
	}
	if c := limit(&far); c == nil || c.Spearman > 0.5 {
		t.Errorf("calibrated %+v by a copy with another table", c)
	}
	if c := limit(&Model{Session: near.Session}); c != nil {
		t.Errorf("calibrated %+v by a copy that cannot be cut", c)
	}
}

// A model that cannot be cut, or whose hiding token its table does not have, is refused with the reason.
func TestTokensAreRefused(t *testing.T) {
	runs := 0
	m := tokenModel(t, strings.Replace(squared, "TABLE", firstNumbers, 1), &runs)
	s := samplesOf(t, onnx.Int64, []int64{1, 4}, []float64{1, 2, 3, 4})
	uncut := m
	uncut.Embed = func(context.Context, string, string) (*Embedding, error) { return nil, errors.New("it has two") }
	for _, method := range []Method{integratedGradients, gradientInput, smoothGrad} {
		_, err := Compare(t.Context(), m, uncut, s, Options{Method: method})
		if err == nil || !strings.Contains(err.Error(), "the candidate, by the embedding of its tokens: it has two") {
			t.Errorf("%s: error %v", method.Name, err)
		}
	}
	_, err := Compare(t.Context(), m, m, s, Options{Method: integratedGradients, Token: 9, NamedToken: true})
	if err == nil || !strings.Contains(err.Error(), "hidden by token 9") {
		t.Errorf("a token that is not in the table: error %v", err)
	}
	v := &view{input: s[0].Inputs["x"], part: &partition{}}
	for _, n := range []int{0, 6, 7} {
		h, err := onnx.FromFloat64s("h", onnx.Float, []int64{1, int64(n)}, make([]float64, n))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.embedded("e", h); err == nil || !strings.Contains(err.Error(), "for 4 tokens") {
			t.Errorf("%d numbers for 4 tokens: error %v", n, err)
		}
	}
}

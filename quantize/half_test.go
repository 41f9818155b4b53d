package quantize_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/quantize"
)

// feeds are inputs by sample and name.
type feeds []map[string]*onnx.Tensor

// normal returns so many samples of one input with elements of that deviation.
func normal(count int, name string, deviation float64, shape ...int64) feeds {
	r := rand.New(rand.NewPCG(1, 2))
	var out feeds
	for range count {
		n, _ := onnx.ElementCount(shape)
		f := make([]float32, n)
		for i := range f {
			f[i] = float32(r.NormFloat64() * deviation)
		}
		out = append(out, map[string]*onnx.Tensor{name: onnx.FromFloats(name, shape, f)})
	}
	return out
}

// with adds the same tensor to every sample.
func (f feeds) with(t *onnx.Tensor) feeds {
	for _, s := range f {
		s[t.Name] = t
	}
	return f
}

// written writes a model of text and its data, and returns where.
func written(t *testing.T, text string, f feeds) (model, data string) {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	model, data = filepath.Join(dir, "model.onnx"), filepath.Join(dir, "data")
	if _, err := onnxfile.Write(model, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, sample := range f {
		folder := filepath.Join(data, fmt.Sprintf("test_data_set_%d", i))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for k, v := range m.Graph.Inputs() {
			b, err := onnxfile.EncodeTensor(sample[v.Name()])
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, fmt.Sprintf("input_%d.pb", k)), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return model, data
}

// halved is a model in 16 bits, and how far off it is.
type halved struct {
	*quantize.Result
	model *onnx.Model
	error float64 // max|x−y| / max|x| over outputs and samples
}

// halfOf quantizes a model of text with the data and without, and checks both: they
// load, give no NaN that was not there, and have no casts that do nothing.
func halfOf(t *testing.T, text string, f feeds, change func(*quantize.Options)) (with, without *halved) {
	t.Helper()
	src, data := written(t, text, f)
	for _, given := range []bool{true, false} {
		open := opener(t)
		o := quantize.Options{To: quantize.Float16, Verify: &produce.Verify{Open: open, Data: openData(t, src, data, dataset.Options{})}}
		if given {
			o.Open, o.Calibration = open, openData(t, src, data, dataset.Options{})
		}
		if change != nil {
			change(&o)
		}
		h := quantizedHalf(t, src, data, dataset.Options{}, o)
		if given {
			with = h
		} else {
			without = h
		}
	}
	return with, without
}

func quantizedHalf(t *testing.T, src, data string, do dataset.Options, o quantize.Options) *halved {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "half.onnx")
	r, err := quantize.File(t.Context(), dst, src, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range r.RolledBack {
		t.Errorf("rolled back %s: %s", b.What(), b.Reason)
	}
	m, err := onnxfile.Open(dst, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	before, err := onnxfile.Open(src, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	was := idleCasts(before)
	for _, why := range idleCasts(m) {
		if !slices.Contains(was, why) {
			t.Error(why)
		}
	}
	return &halved{r, m, errorOf(t, opener(t), src, dst, openData(t, src, data, do), o.HalfIO)}
}

// idleCasts lists the casts that nothing reads, that undo another without loss, or
// that do what another one in the same graph does.
func idleCasts(m *onnx.Model) []string {
	var out []string
	type cast struct {
		g  *onnx.Graph
		v  *onnx.Value
		to int64
	}
	for _, g := range m.Graphs() {
		seen := map[cast]bool{}
		for n := range g.Nodes() {
			if !n.Is("Cast") {
				continue
			}
			to := n.Int("to", 0)
			if n.Output(0).Dead() {
				out = append(out, fmt.Sprintf("nothing reads %v", n))
			}
			if c := (cast{g, n.Input(0), to}); seen[c] {
				out = append(out, fmt.Sprintf("%v does what another cast does", n))
			} else {
				seen[c] = true
			}
			if k := n.Input(0).Producer(); k.Is("Cast") && k.Int("to", 0) == int64(onnx.Float) && dtypeOf(k.Input(0)) == onnx.DType(to) && !n.Output(0).IsOutput() {
				out = append(out, fmt.Sprintf("%v undoes %v", n, k))
			}
		}
	}
	return out
}

// dtypeOf returns the type of a value in a model without declared types, as far as casts tell.
func dtypeOf(v *onnx.Value) onnx.DType {
	if k := v.Producer(); k.Is("Cast") {
		return onnx.DType(k.Int("to", 0))
	}
	return v.DType()
}

// errorOf returns the largest |x−y| over the largest |x| of all outputs and samples; it
// fails where y is NaN or infinite and x is not.
func errorOf(t *testing.T, open session.Opener, src, dst string, set *dataset.Set, io bool) float64 {
	t.Helper()
	var runs [2][]map[string]*onnx.Tensor
	for i, path := range []string{src, dst} {
		s, err := open(t.Context(), path, session.Options{Level: session.LevelOff})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		carrier := set.Carrier()
		for sample, err := range set.Samples(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			in, err := carrier.Feed(sample)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 && io {
				in = narrowed(t, in)
			}
			r, err := s.Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			runs[i] = append(runs[i], r.Outputs)
			if set.Stateful() {
				if err := carrier.Keep(r.Outputs); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	worst := 0.
	for i, want := range runs[0] {
		for name, x := range want {
			worst = max(worst, relative(t, name, x, runs[1][i][name]))
		}
	}
	return worst
}

func narrowed(t *testing.T, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	out := map[string]*onnx.Tensor{}
	for name, x := range in {
		if x.DType == onnx.Float {
			f, err := x.Float64s()
			if err == nil {
				x, err = onnx.FromFloat64s(name, onnx.Float16, x.Shape, f)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		out[name] = x
	}
	return out
}

func relative(t *testing.T, name string, x, y *onnx.Tensor) float64 {
	t.Helper()
	if !x.DType.IsFloat() {
		return 0
	}
	a, err := x.Float64s()
	b, err2 := y.Float64s()
	if err != nil || err2 != nil || len(a) != len(b) {
		t.Fatalf("output %q: %v, %v", name, err, err2)
	}
	most, diff := 0., 0.
	for i := range a {
		if math.IsNaN(b[i]) != math.IsNaN(a[i]) || math.IsInf(b[i], 0) != math.IsInf(a[i], 0) {
			t.Fatalf("output %q element %d is %v instead of %v", name, i, b[i], a[i])
		}
		if !math.IsNaN(a[i]) && !math.IsInf(a[i], 0) {
			most, diff = max(most, math.Abs(a[i])), max(diff, math.Abs(a[i]-b[i]))
		}
	}
	if diff == 0 {
		return 0
	}
	return diff / most
}

// typeOf returns what the layer table says of the node that computes the value, or
// that it is not in the table.
func (h *halved) typeOf(output string) string {
	for _, l := range h.Layers {
		if l.Output == output {
			return l.Type
		}
	}
	return "absent"
}

// reason returns why the node that gives output stays in float32.
func (h *halved) reason(output string) string {
	for _, r := range h.Log.Declined {
		if strings.Contains(r.Node, `"`+output+`"`) {
			return r.Reason
		}
	}
	return ""
}

func (h *halved) count(op string) int {
	count := 0
	for _, g := range h.model.Graphs() {
		for n := range g.Nodes() {
			if n.Op == op {
				count++
			}
		}
	}
	return count
}

// allowed is the largest error of a model in float16.
const allowed = 1e-2

func weights(name string, shape ...int64) string {
	n, _ := onnx.ElementCount(shape)
	r := rand.New(rand.NewPCG(3, uint64(n)))
	var list, dims []string
	for range n {
		list = append(list, fmt.Sprintf("%.6f", r.NormFloat64()/math.Sqrt(float64(shape[0]))))
	}
	for _, d := range shape {
		dims = append(dims, fmt.Sprint(d))
	}
	return fmt.Sprintf("float[%s] %s = {%s}", strings.Join(dims, ","), name, strings.Join(list, ", "))
}

const header = `<ir_version: 8, opset_import: ["" : 17]>`

// TestHalfLayerNorm: the squares of activations of 300 overflow in float16.
func TestHalfLayerNorm(t *testing.T) {
	for name, norm := range map[string]string{
		"written out": `m = ReduceMean <axes = [-1]> (h)  d = Sub (h, m)  q = Mul (d, d)  v = ReduceMean <axes = [-1]> (q)
			e = Add (v, eps)  s = Sqrt (e)  z = Div (d, s)`,
		"power":    `m = ReduceMean <axes = [-1]> (h)  d = Sub (h, m)  q = Pow (d, two)  v = ReduceMean <axes = [-1]> (q)  e = Add (v, eps)  s = Sqrt (e)  z = Div (d, s)`,
		"operator": `z = LayerNormalization (h, scale)`,
	} {
		t.Run(name, func(t *testing.T) {
			text := header + `g (float[2,32] x) => (float[2,8] y) <` + weights("a", 32, 32) + `, ` + weights("b", 32, 8) + `, float eps = {1e-5}, float two = {2},
				float[32] scale = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> {
				h = MatMul (x, a) ` + norm + ` y = MatMul (z, b) }`
			with, without := halfOf(t, text, normal(4, "x", 300, 2, 32), nil)
			for _, h := range []*halved{with, without} {
				if h.error > allowed || h.typeOf("h") != "float16" || h.typeOf("y") != "float16" {
					t.Errorf("error %v, %s and %s", h.error, h.typeOf("h"), h.typeOf("y"))
				}
				if name == "written out" && !strings.Contains(h.reason("q"), "sum of squares") {
					t.Errorf("the square is kept in float32 for %q", h.reason("q"))
				}
			}
		})
	}
}

// TestHalfMask: rows that are masked as a whole stay as they were, and no NaN.
func TestHalfMask(t *testing.T) {
	const tail = `k = Transpose <perm = [0, 2, 1]> (q)  s = MatMul (q, k)`
	for name, c := range map[string]struct{ mask, stand string }{
		"added":    {`i = Cast <to = 1> (keep)  o = Sub (one, i)  n = Mul (o, far)  z = Add (s, n)`, "-32752"},
		"selected": {`z = Where (keep, s, far)`, "-65504"},
	} {
		t.Run(name, func(t *testing.T) {
			text := header + `g (float[1,4,16] x, bool[1,4,4] keep) => (float[1,4,16] y) <` + weights("a", 16, 16) + `, float one = {1}, float far = {-1e9}> {
				q = MatMul (x, a) ` + tail + c.mask + ` p = Softmax <axis = -1> (z)  y = MatMul (p, q) }`
			keep := []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1} // the second row has nothing
			mask, err := onnx.NewTensor("keep", onnx.Bool, []int64{1, 4, 4}, keep)
			if err != nil {
				t.Fatal(err)
			}
			with, without := halfOf(t, text, normal(3, "x", 3, 1, 4, 16).with(mask), nil)
			for _, h := range []*halved{with, without} {
				if h.error > allowed || h.typeOf("p") != "absent" && h.typeOf("p") != "float16" {
					t.Errorf("error %v", h.error)
				}
				listed := false
				for _, l := range h.Layers {
					listed = listed || strings.Contains(l.Note, c.stand)
				}
				if !listed {
					t.Errorf("the mask is not listed as %s: %+v", c.stand, h.Layers)
				}
			}
		})
	}
}

// TestHalfMaskedRow: in float32 a row of scores that is masked as a whole is lost in
// −1e9, in float16 it would come through −32752. Where the data has such rows, the sum
// stays in float32.
func TestHalfMaskedRow(t *testing.T) {
	text := header + `g (float[1,4,16] x, float[1,4,4] drop) => (float[1,4,16] y) <` + weights("a", 16, 16) + `, float far = {-1e9}> {
		q = MatMul (x, a)  k = Transpose <perm = [0, 2, 1]> (q)  s = MatMul (q, k)  n = Mul (drop, far)  z = Add (s, n)  p = Softmax <axis = -1> (z)  y = MatMul (p, q) }`
	drop := onnx.FromFloats("drop", []int64{1, 4, 4}, []float32{0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0})
	src, data := written(t, text, normal(3, "x", 1, 1, 4, 16).with(drop))
	open := opener(t)
	h := quantizedHalf(t, src, data, dataset.Options{}, quantize.Options{To: quantize.Float16, Open: open, Calibration: openData(t, src, data, dataset.Options{}),
		Verify: &produce.Verify{Open: open}})
	if h.error > allowed || h.typeOf("q") != "float16" || !strings.Contains(h.reason("z"), "put back") {
		t.Errorf("error %v, %s, %q", h.error, h.typeOf("q"), h.reason("z"))
	}
}

// TestHalfSelection: scales of a resize and what TopK compares stay in float32.
func TestHalfSelection(t *testing.T) {
	resize := header + `g (float[1,2,4,4] x) => (float[1,2,7,7] y) <` + weights("w", 2, 2, 3, 3) + `, float[4] scale = {1, 1, 1.7501, 1.7501}> {
		h = Conv <pads = [1,1,1,1]> (x, w)  y = Resize <mode = "linear"> (h, , scale) }`
	computed := header + `g (float[1,2,4,4] x) => (float[1,2,H,W] y) <` + weights("w", 2, 2, 3, 3) + `, float[4] by = {1, 1, 3.002, 3.002}, float[4] over = {1, 1, 1.5, 1.5}> {
		h = Conv <pads = [1,1,1,1]> (x, w)  s = Div (by, over)  y = Resize <mode = "linear"> (h, , s) }`
	topk := header + `g (float[1,32] x) => (float[1,3] y, int64[1,3] at) <` + weights("w", 32, 8) + `, int64[1] k = {3}> {
		h = MatMul (x, w)  y, at = TopK (h, k) }`
	boxes := header + `g (float[1,8,16] x) => (int64[N,3] y) <` + weights("w", 16, 4) + `, ` + weights("v", 16, 1) + `, float[4] anchor = {100, 100, 50, 50}, int64 most = {3}> {
		h = MatMul (x, w)  b = Mul (h, anchor)  c = Add (b, anchor)  s = MatMul (x, v)  r = Transpose <perm = [0, 2, 1]> (s)  y = NonMaxSuppression (c, r, most) }`
	sums := header + `g (float[2,16] x) => (float[2,16] y, float[2,16] z) <` + weights("w", 16, 16) + `, int64 axis = {1}, float from = {0}, float to = {16}, float step = {1}> {
		h = MatMul (x, w)  y = CumSum (h, axis)  r = Range (from, to, step)  z = Add (h, r) }`
	for name, c := range map[string]struct {
		text  string
		in    feeds
		check func(h *halved) bool
	}{
		"boxes": {boxes, normal(2, "x", 1, 1, 8, 16), func(h *halved) bool {
			return h.typeOf("h") == "float16" && strings.Contains(h.reason("b")+h.reason("c"), "corners of boxes") && strings.Contains(h.reason("y"), "selects")
		}},
		"sums": {sums, normal(2, "x", 1, 2, 16), func(h *halved) bool {
			return strings.Contains(h.reason("y"), "running sums") && strings.Contains(h.reason("r"), "count or place")
		}},
		"resize":   {resize, normal(2, "x", 1, 1, 2, 4, 4), func(h *halved) bool { return h.typeOf("y") == "float16" }},
		"computed": {computed, normal(2, "x", 1, 1, 2, 4, 4), func(h *halved) bool { return strings.Contains(h.reason("s"), "scale of a resize") }},
		"topk":     {topk, normal(4, "x", 1, 1, 32), func(h *halved) bool { return strings.Contains(h.reason("y"), "selects") }},
	} {
		t.Run(name, func(t *testing.T) {
			with, without := halfOf(t, c.text, c.in, nil)
			for _, h := range []*halved{with, without} {
				if h.error > allowed || !c.check(h) {
					t.Errorf("error %v, %+v, %+v", h.error, h.Layers, h.Log.Declined)
				}
			}
		})
	}
}

// TestHalfBodies: values that bodies capture are cast once, and what bodies carry
// from one turn to the next is of 16 bits.
func TestHalfBodies(t *testing.T) {
	branches := header + `g (float[2,16] x, bool c) => (float[2,16] y) <` + weights("a", 16, 16) + `, ` + weights("b", 16, 16) + `> {
		h = MatMul (x, a)
		z = If (c) <then_branch = t () => (p) { p = MatMul (h, b) }, else_branch = e () => (q) { r = MatMul (x, b)  q = Relu (r) }>
		y = MatMul (z, a) }`
	turns := header + `g (float[2,16] x, int64 n) => (float[2,16] y, float[T,2,16] all) <` + weights("a", 16, 16) + `, bool go = {1}> {
		h = MatMul (x, a)
		y, all = Loop (n, go, h) <body = b (int64 i, bool k, float[2,16] s) => (bool k2, float[2,16] s2, float[2,16] out) {
			k2 = Identity (k)  m = MatMul (s, a)  s2 = Tanh (m)  out = Add (s2, h) }> }`
	scans := header + `g (float[5,2,16] x) => (float[2,16] y, float[5,2,16] all) <` + weights("a", 16, 16) + `, float zero = {0}, int64[2] dims = {2, 16}> {
		s0 = Expand (zero, dims)
		y, all = Scan <num_scan_inputs = 1, body = b (float[2,16] s, float[2,16] u) => (float[2,16] s2, float[2,16] out) {
			v = Add (s, u)  m = MatMul (v, a)  s2 = Tanh (m)  out = MatMul (s2, a) }> (s0, x) }`
	fixed := func(text string) string { // attributes stand before the inputs in the text form
		text = strings.Replace(text, "If (c) <then_branch", "If <then_branch", 1)
		text = strings.Replace(text, "q = Relu (r) }>", "q = Relu (r) }> (c)", 1)
		text = strings.Replace(text, "Loop (n, go, h) <body", "Loop <body", 1)
		return strings.Replace(text, "out = Add (s2, h) }>", "out = Add (s2, h) }> (n, go, h)", 1)
	}
	yes, err := onnx.NewTensor("c", onnx.Bool, []int64{}, []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text  string
		in    feeds
		casts int
	}{
		"if":   {branches, normal(2, "x", 1, 2, 16).with(yes), 2}, // of x and of y
		"loop": {turns, normal(2, "x", 1, 2, 16).with(onnx.FromInts("n", []int64{}, []int64{3})), 3},
		"scan": {scans, normal(2, "x", 1, 5, 2, 16), 4},
	} {
		t.Run(name, func(t *testing.T) {
			with, without := halfOf(t, fixed(c.text), c.in, nil)
			for _, h := range []*halved{with, without} {
				if h.error > allowed || h.count("Cast") != c.casts {
					t.Errorf("error %v, %d casts instead of %d", h.error, h.count("Cast"), c.casts)
					onnxtext.Format(os.Stderr, h.model, onnxtext.Options{})
				}
			}
		})
	}
}

// TestHalfCasts: casts that were there before are made to give the new type where
// it has the numbers, and those that undo a copy go.
func TestHalfCasts(t *testing.T) {
	text := header + `g (bool[1,16] b, float16[1,16] h, int64[1,16] i) => (float[1,16] y, float[1,16] z, float[1,16] u) <` + weights("a", 16, 16) + `> {
		f = Cast <to = 1> (b)  p = MatMul (f, a)  h2 = Cast <to = 10> (p)  h3 = Add (h2, h)  w = Cast <to = 1> (h3)  y = MatMul (w, a)
		j = Cast <to = 1> (i)  z = MatMul (j, a)  k = Cast <to = 1> (h)  u = Relu (k) }`
	var f feeds
	for s := range 3 {
		b, h, i := make([]byte, 16), make([]float64, 16), make([]int64, 16)
		for k := range 16 {
			b[k], h[k], i[k] = byte((k+s)%2), float64(k-s), int64(k*100)
		}
		bt, err := onnx.NewTensor("b", onnx.Bool, []int64{1, 16}, b)
		if err != nil {
			t.Fatal(err)
		}
		ht, err := onnx.FromFloat64s("h", onnx.Float16, []int64{1, 16}, h)
		if err != nil {
			t.Fatal(err)
		}
		f = append(f, map[string]*onnx.Tensor{"b": bt, "h": ht, "i": onnx.FromInts("i", []int64{1, 16}, i)})
	}
	with, without := halfOf(t, text, f, nil)
	if with.error > allowed || without.error > allowed {
		t.Errorf("errors %v and %v", with.error, without.error)
	}
	if why := without.reason("j"); !strings.Contains(why, "exact") {
		t.Errorf("without data a cast of integers stays for %q", why)
	}
	if why := with.reason("j"); why != "" {
		t.Errorf("integers up to 1500 are exact in float16, but it stays for %q", why)
	}
}

// TestHalfConstants: 15 000 is a number like others, 70 000 is not one of float16, and
// what becomes 0 is listed.
func TestHalfConstants(t *testing.T) {
	text := func(c string) string {
		return header + `g (float[1,16] x) => (float[1,16] y) <` + weights("a", 16, 16) + `, float c = {` + c + `}> { h = MatMul (x, a)  s = Add (h, c)  y = Relu (s) }`
	}
	with, without := halfOf(t, text("15000"), normal(3, "x", 1, 1, 16), nil)
	for _, h := range []*halved{with, without} {
		if h.typeOf("s") != "float16" || h.error > 1e-3 {
			t.Errorf("15000: %s, error %v", h.typeOf("s"), h.error)
		}
	}
	with, without = halfOf(t, text("-70000"), normal(3, "x", 1, 1, 16), nil)
	for _, h := range []*halved{with, without} {
		if why := h.reason("s"); !strings.Contains(why, "beyond the range") || h.error > allowed {
			t.Errorf("-70000: %q, error %v", why, h.error)
		}
	}
	small := strings.Replace(header+`g (float[1,32] x) => (float[1,32] y) <`+weights("a", 32, 32)+`> { y = MatMul (x, a) }`, "= {", "= {1e-9, 0 ", 1)
	small = strings.Replace(small, "0 ", "", 1)
	small = dropElement(small)
	with, _ = halfOf(t, small, normal(3, "x", 1, 1, 32), nil)
	if len(with.Layers) != 1 || !strings.Contains(with.Layers[0].Note, "1 of 1024 elements") {
		t.Errorf("an element that vanishes is not listed: %+v", with.Layers)
	}
}

// dropElement takes out the second number of the first list.
func dropElement(s string) string {
	i := strings.Index(s, "{1e-9, ") + len("{1e-9, ")
	j := strings.Index(s[i:], ",")
	return s[:i] + s[i+j+1:]
}

// TestHalfRanges: what the data says of ranges and sums is heard, and only then.
func TestHalfRanges(t *testing.T) {
	text := header + `g (float[1,16] x) => (float[1,16] y) <` + weights("a", 16, 16) + `, float c = {0.001}> { h = MatMul (x, a)  r = Relu (h)  s = Mul (r, c)  y = MatMul (s, a) }`
	with, without := halfOf(t, text, normal(4, "x", 10000, 1, 16), nil)
	if why := with.reason("h"); !strings.Contains(why, "reached") || with.typeOf("y") != "float16" {
		t.Errorf("with data the product stays for %q, and that of small numbers is %s", why, with.typeOf("y"))
	}
	if without.typeOf("h") != "float16" {
		t.Errorf("without data it is %s", without.typeOf("h"))
	}
	with, _ = halfOf(t, text, normal(4, "x", 10000, 1, 16), func(o *quantize.Options) { o.HalfMargin = 1 })
	if with.typeOf("h") != "float16" {
		t.Errorf("with a margin of 1 it is %s for %q", with.typeOf("h"), with.reason("h"))
	}
	long := header + `g (float[1,2,64,64] x) => (float[1,2,1,1] y) <` + weights("w", 2, 2, 3, 3) + `> { h = Conv <pads = [1,1,1,1]> (x, w)  y = GlobalAveragePool (h) }`
	_, without = halfOf(t, long, normal(1, "x", 1, 1, 2, 64, 64), nil)
	if why := without.reason("y"); !strings.Contains(why, "4096 elements") {
		t.Errorf("a mean of 4096 elements stays for %q", why)
	}
}

// TestHalfGrows: a difference of large numbers is found and put back, and nothing else.
func TestHalfGrows(t *testing.T) {
	text := header + `g (float[4,32] x) => (float[4,32] y) <` + weights("a", 32, 32) + `, float c = {3000}> {
		h1 = MatMul (x, a)  r1 = Relu (h1)  h2 = MatMul (r1, a)  u = Add (h2, c)  d = Sub (u, c)  h3 = MatMul (d, a)  r3 = Relu (h3)  y = MatMul (r3, a) }`
	with, _ := halfOf(t, text, normal(4, "x", 1, 4, 32), func(o *quantize.Options) {
		if o.Calibration == nil {
			o.Exclude = []string{"Add", "Sub"} // which without data is wrong, and refused
		}
	})
	if with.error > allowed {
		t.Errorf("error %v", with.error)
	}
	if why := with.reason("u") + with.reason("d"); !strings.Contains(why, "put back") {
		t.Errorf("the difference stays for %q", why)
	}
	if with.typeOf("h1") != "float16" || with.typeOf("y") != "float16" {
		t.Errorf("%+v", with.Layers)
	}
	if text := strings.Join(with.Log.Notices, "\n"); !strings.Contains(text, "back to float32") {
		t.Errorf("nothing is said of it: %s", text)
	}
}

// TestHalfEveryNode: each node can be left out alone.
func TestHalfEveryNode(t *testing.T) {
	branch := header + `g (float[1,4,16] x, bool[1,4,4] keep, bool c) => (float[1,4,16] y) <` + weights("a", 16, 16) + `, ` + weights("b", 16, 16) + `> {
		h = MatMul (x, a)  r = Relu (h)
		z = If <then_branch = t () => (p) { p = MatMul (r, b) }, else_branch = e () => (q) { o = MatMul (x, b)  q = Relu (o) }> (c)
		w = MatMul (z, a)  s = Softmax <axis = -1> (w)  y = Add (s, r) }`
	masked := header + `g (float[1,4,16] x, bool[1,4,4] keep, bool c) => (float[1,4,16] y) <` + weights("a", 16, 16) + `, float one = {1}, float far = {-1e9}> {
		q = MatMul (x, a)  k = Transpose <perm = [0, 2, 1]> (q)  s = MatMul (q, k)
		i = Cast <to = 1> (keep)  o = Sub (one, i)  n = Mul (o, far)  z = Add (s, n)  p = Softmax <axis = -1> (z)  y = MatMul (p, q) }`
	yes, err := onnx.NewTensor("c", onnx.Bool, []int64{}, []byte{1})
	if err != nil {
		t.Fatal(err)
	}
	keep, err := onnx.NewTensor("keep", onnx.Bool, []int64{1, 4, 4}, []byte{1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{branch, masked} {
		src, data := written(t, text, normal(2, "x", 1, 1, 4, 16).with(yes).with(keep))
		open := opener(t)
		run := func(skip map[string]bool) *halved {
			o := quantize.Options{To: quantize.Float16, Verify: &produce.Verify{Open: open, Data: openData(t, src, data, dataset.Options{})}}
			o.Rewrite.Skip = skip
			return quantizedHalf(t, src, data, dataset.Options{}, o)
		}
		all := run(nil)
		if len(all.Log.Fired) < 6 {
			t.Fatalf("%d nodes", len(all.Log.Fired))
		}
		for _, f := range all.Log.Fired {
			h := run(map[string]bool{f.Key: true})
			less := len(all.Log.Fired) - len(h.Log.Fired)
			if h.error > allowed || less != 1 && !strings.Contains(fmt.Sprint(h.Log.Declined), "the mask") {
				t.Errorf("without %s: error %v, %d less", f.Key, h.error, less)
			}
		}
	}
}

// TestHalfIO: inputs and outputs are float16 where that is asked for.
func TestHalfIO(t *testing.T) {
	text := header + `g (float[2,16] x) => (float[2,16] y, float[2,16] h, float[2,16] p) <` + weights("a", 16, 16) + `, float two = {2}> {
		h = MatMul (x, a)  y = Relu (h)  p = Pow (x, two) }`
	with, without := halfOf(t, text, normal(2, "x", 1, 2, 16), func(o *quantize.Options) { o.HalfIO = true })
	for _, h := range []*halved{with, without} {
		for _, v := range append(append([]*onnx.Value(nil), h.model.Graph.Inputs()...), h.model.Graph.Outputs()...) {
			if v.DType() != onnx.Float16 {
				t.Errorf("%q is %v", v.Name(), v.Type)
			}
		}
		if h.error > allowed || h.count("Cast") != 2 { // before and behind Pow
			t.Errorf("error %v, %d casts", h.error, h.count("Cast"))
		}
	}
}

// TestHalfIntegers: a quantized block is left alone, with scales in float32.
func TestHalfIntegers(t *testing.T) {
	text := header + `g (float[2,16] x) => (float[2,16] y) <` + weights("a", 16, 16) + `, float s = {0.05}, int8 z = {0}> {
		h = MatMul (x, a)  r = Relu (h)
		q = QuantizeLinear (r, s, z)  d = DequantizeLinear (q, s, z)  k = QuantizeLinear (a, s, z)  e = DequantizeLinear (k, s, z)
		m = MatMul (d, e)  o = QuantizeLinear (m, s, z)  u = DequantizeLinear (o, s, z)  y = Identity (u) }`
	with, without := halfOf(t, text, normal(2, "x", 1, 2, 16), nil)
	for _, h := range []*halved{with, without} {
		if h.typeOf("h") != "float16" || !strings.Contains(h.reason("m"), "integer block") {
			t.Errorf("%s, %q", h.typeOf("h"), h.reason("m"))
		}
		if h.error > 0.05 { // a code may differ by one
			t.Errorf("error %v", h.error)
		}
	}
}

// TestHalfRest: local functions, sequences and random numbers stay in float32, and the
// model around them is right.
func TestHalfRest(t *testing.T) {
	text := `<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[2,16] x) => (float[2,16] y, float[2,16] t) <` + weights("a", 16, 16) + `, int64 first = {0}> {
		h = MatMul (x, a)  f = local.twice (h)  s = SequenceConstruct (f, h)  e = SequenceAt (s, first)  y = MatMul (e, a)
		n = RandomUniformLike <low = 0.0, high = 0.0> (h)  t = Add (h, n) }
	<domain: "local", opset_import: ["" : 17]> twice (v) => (w) { w = Add (v, v) }`
	with, without := halfOf(t, text, normal(2, "x", 1, 2, 16), nil)
	for _, h := range []*halved{with, without} {
		if h.error > allowed || h.typeOf("h") != "float16" || !strings.Contains(h.reason("f"), "fuse") {
			t.Errorf("error %v, %s, %q", h.error, h.typeOf("h"), h.reason("f"))
		}
	}
}

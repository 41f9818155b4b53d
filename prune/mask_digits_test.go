package prune_test

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/prune"
)

// openData opens data for the model at a path.
func openData(t testing.TB, model, spec string, o dataset.Options) *dataset.Set {
	t.Helper()
	m, err := onnxfile.Open(model, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			o.Inputs = append(o.Inputs, dataset.Port{Name: strings.Clone(v.Name()), Type: v.Type})
		}
	}
	s, err := dataset.Open(spec, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// net builds small networks with weights from a seed.
type net struct {
	g     *onnx.Graph
	r     *rand.Rand
	dtype onnx.DType
	count int
}

func (b *net) weight(name string, shape ...int64) *onnx.Value {
	n, fan := int64(1), int64(1)
	for i, d := range shape {
		n *= d
		if i > 0 {
			fan *= d
		}
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = b.r.NormFloat64() / math.Sqrt(float64(fan))
	}
	t, err := onnx.FromFloat64s(name, b.dtype, shape, v)
	if err != nil {
		panic(err)
	}
	return b.g.AddInitializer(t)
}

func (b *net) node(g *onnx.Graph, op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	b.count++
	n := onnx.NewNode(op, in, op+string(rune('0'+b.count/10))+string(rune('0'+b.count%10)))
	n.Name, n.Attrs = n.Output(0).Name()+"_node", attrs
	g.Append(n)
	return n.Output(0)
}

// branch returns a body that multiplies x by a weight of its own.
func (b *net) branch(name string, x *onnx.Value) *onnx.Graph {
	g := onnx.NewGraph(name)
	w, err := onnx.FromFloat64s(name+"_w", b.dtype, []int64{32, 10}, make([]float64, 320))
	if err != nil {
		panic(err)
	}
	f, _ := w.Float64s()
	for i := range f {
		f[i] = b.r.NormFloat64()
	}
	w, _ = onnx.FromFloat64s(name+"_w", b.dtype, []int64{32, 10}, f)
	v := (*onnx.Value)(nil)
	if name == "dark" {
		v = g.AddInitializer(w)
	} else { // as exporters write constants of bodies
		n := onnx.NewNode("Constant", nil, name+"_w")
		n.Attrs = []*onnx.Attr{{Name: "value", Type: onnx.AttrTensor, T: w}}
		g.Append(n)
		v = n.Output(0)
	}
	y := b.node(g, "MatMul", []*onnx.Value{x, v})
	y.Type = onnx.TensorType(b.dtype, nil)
	g.AddOutput(y)
	return g
}

// digitsNet reads digits through two convolutions, one in groups and where the
// element type has no kernel for it none at all, products without a bias, a weight
// that two products share, and products in the branches of an If.
func digitsNet(t testing.TB, d onnx.DType) string {
	t.Helper()
	m := onnx.NewModel(17)
	b := &net{g: m.Graph, r: rand.New(rand.NewPCG(5, 6)), dtype: d}
	g := m.Graph
	x := g.AddInput("image", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(1), onnx.Fixed(16), onnx.Fixed(16)}))
	sum := b.node(g, "ReduceSum", []*onnx.Value{x}, onnx.IntAttr("keepdims", 0))
	bright := b.node(g, "Greater", []*onnx.Value{sum, g.AddInitializer(onnx.FromFloats("limit", []int64{}, []float32{20}))})
	h := b.node(g, "Cast", []*onnx.Value{x}, onnx.IntAttr("to", int64(d)))
	if d != onnx.Double {
		h = b.node(g, "Relu", []*onnx.Value{b.node(g, "Conv", []*onnx.Value{h, b.weight("stem", 8, 1, 3, 3)}, onnx.IntsAttr("pads", 1, 1, 1, 1))})
		h = b.node(g, "Relu", []*onnx.Value{b.node(g, "Conv", []*onnx.Value{h, b.weight("grouped", 8, 4, 3, 3), b.weight("grouped_bias", 8)}, onnx.IntAttr("group", 2), onnx.IntsAttr("strides", 2, 2))})
	}
	h = b.node(g, "Reshape", []*onnx.Value{h, g.AddInitializer(onnx.FromInts("flat", []int64{2}, []int64{0, -1}))})
	width := int64(8 * 7 * 7)
	if d == onnx.Double {
		width = 256
	}
	h = b.node(g, "Relu", []*onnx.Value{b.node(g, "MatMul", []*onnx.Value{h, b.weight("wide", width, 32)})})
	shared := b.weight("shared", 32, 32)
	h = b.node(g, "Relu", []*onnx.Value{b.node(g, "MatMul", []*onnx.Value{h, shared})})
	h = b.node(g, "Relu", []*onnx.Value{b.node(g, "MatMul", []*onnx.Value{h, shared})})
	y := b.node(g, "If", []*onnx.Value{bright},
		&onnx.Attr{Name: "then_branch", Type: onnx.AttrGraph, G: b.branch("dark", h)},
		&onnx.Attr{Name: "else_branch", Type: onnx.AttrGraph, G: b.branch("light", h)})
	y = b.node(g, "Cast", []*onnx.Value{y}, onnx.IntAttr("to", int64(onnx.Float)))
	y.Type = onnx.TensorType(onnx.Float, nil)
	g.AddOutput(y)
	path := filepath.Join(t.TempDir(), "digits.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// options asks for a pattern and an importance on digits, the result checked.
func options(t testing.TB, src, pattern, importance string) prune.Options {
	open := ort.Opener(zootest.Library(t))
	set := openData(t, src, filepath.Join("..", "testdata", "digits-calib.npz"), dataset.Options{Limit: 60, Seed: 1, Shuffle: true})
	o := prune.Options{Sparsity: 0.5, Verify: &produce.Verify{Open: open, Data: set}}
	o.Pattern, o.Importance = pattern, importance
	o.Calibration, o.Open = set, open
	return o
}

// TestMasksOnEveryLayer prunes weights of every kind, and reads the result back.
func TestMasksOnEveryLayer(t *testing.T) {
	for _, d := range []onnx.DType{onnx.Float, onnx.Float16, onnx.Double} {
		for _, pattern := range []string{"unstructured", "2:4", "block:4x2"} {
			for _, importance := range prune.Importances() {
				t.Run(d.String()+" "+pattern+" "+importance, func(t *testing.T) {
					src := digitsNet(t, d)
					dst := filepath.Join(t.TempDir(), "pruned.onnx")
					r, err := prune.File(context.Background(), dst, src, options(t, src, pattern, importance))
					if err != nil {
						t.Fatal(err)
					}
					checkDigits(t, r, pattern, importance)
				})
			}
		}
	}
}

func checkDigits(t *testing.T, r *prune.Result, pattern, importance string) {
	t.Helper()
	for _, w := range r.Weights {
		inside := strings.HasSuffix(w.Name, "_w")
		if inside != strings.Contains(w.Unmeasured, "inside of a subgraph") || !inside && w.Importance != importance {
			t.Errorf("%s: by %s, not measured: %q", w.Name, w.Importance, w.Unmeasured)
		}
		if w.After == w.Before { // 2:4 leaves a single channel alone
			continue
		}
		if !inside && len(w.Repairs) != 2 {
			t.Errorf("%s: repairs %+v", w.Name, w.Repairs)
		}
		for _, x := range w.Repairs {
			if x.Kept && !(x.After < x.Before) {
				t.Errorf("%s: %s was kept with an error of %g, %g before", w.Name, x.Name, x.After, x.Before)
			}
		}
		if w.Name == "shared" && (!w.Repairs[0].Kept || !strings.Contains(w.Repairs[1].Note, "several operators")) {
			t.Errorf("shared weights: %+v", w.Repairs)
		}
	}
	if want := 6; len(r.Weights) != want && len(r.Weights) != want-2 { // no convolutions in float64
		t.Errorf("%d weights, want %d", len(r.Weights), want)
	}
	if share := r.After; pattern != "2:4" && math.Abs(share-0.5) > 0.03 {
		t.Errorf("%.3f of the weights are zero", share)
	}
	if pattern == "unstructured" {
		return
	}
	if len(r.Audit) != len(r.Weights) {
		t.Errorf("%d of %d weights were audited", len(r.Audit), len(r.Weights))
	}
	for _, a := range r.Audit {
		if !a.Valid || a.Groups == 0 {
			t.Errorf("%s: %d of %d groups are invalid", a.Name, a.Invalid, a.Groups)
		}
	}
}

// TestRepairIsJudgedApart holds the errors that the report states against those
// of the layers' outputs when both models run.
func TestRepairIsJudgedApart(t *testing.T) {
	src := filepath.Join("..", "testdata", "digits-cnn.onnx")
	noise := map[string]float64{}
	for _, repair := range []string{"none", "obs", "bias", "auto"} {
		o := options(t, src, "", prune.Magnitude)
		o.Sparsity, o.Repair, o.Scope = 0.4, repair, prune.Layer
		dst := filepath.Join(t.TempDir(), "pruned.onnx")
		if _, err := prune.File(context.Background(), dst, src, o); err != nil {
			t.Fatal(err)
		}
		noise[repair] = distance(t, o.Open, src, dst)
		t.Logf("%s: noise of the output %.4f of its power", repair, noise[repair])
	}
	if !(noise["obs"] < noise["none"] && noise["bias"] < noise["none"] && noise["auto"] < noise["none"]/2) {
		t.Errorf("noise on validation data: %v", noise)
	}
}

// distance returns the power of the difference of two models' outputs as a share
// of that of the first one's, on validation data.
func distance(t *testing.T, open session.Opener, a, b string) float64 {
	t.Helper()
	set := openData(t, a, filepath.Join("..", "testdata", "digits-val.npz"), dataset.Options{Limit: 200})
	var out [2][]float64
	for i, path := range []string{a, b} {
		s, err := open(t.Context(), path, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for sample, err := range set.Samples(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Run(t.Context(), sample.Inputs)
			if err != nil {
				t.Fatal(err)
			}
			f, err := r.Outputs[s.Outputs()[0].Name].Float64s()
			if err != nil {
				t.Fatal(err)
			}
			out[i] = append(out[i], f...)
		}
	}
	signal, noise := 0.0, 0.0
	for i, x := range out[0] {
		signal += x * x
		noise += (x - out[1][i]) * (x - out[1][i])
	}
	return noise / signal
}

// TestInMemoryLimit comes to the same result with the layers measured in groups.
func TestInMemoryLimit(t *testing.T) {
	src := digitsNet(t, onnx.Float)
	var zeros []int64
	for _, limit := range []int64{0, 2 << 20} {
		o := options(t, src, "2:4", prune.SparseGPT)
		o.MaxMemory = limit
		r, err := prune.File(context.Background(), filepath.Join(t.TempDir(), "p.onnx"), src, o)
		if err != nil {
			t.Fatal(err)
		}
		if (limit > 0) != (r.Calibration.Passes > 1) {
			t.Errorf("limit %d: %d passes", limit, r.Calibration.Passes)
		}
		sum := int64(0)
		for _, w := range r.Weights {
			sum += w.After
		}
		zeros = append(zeros, sum)
	}
	if zeros[0] != zeros[1] {
		t.Errorf("zeros %v", zeros)
	}
}

// TestSparseStorage stores weights by their non-zero elements, where that is
// smaller, and runs what was written.
func TestSparseStorage(t *testing.T) {
	src := digitsNet(t, onnx.Float)
	for _, c := range []struct {
		sparsity float64
		stored   bool
	}{{0.5, false}, {0.9, true}} {
		o := options(t, src, "", prune.Magnitude)
		o.Sparsity, o.SparseStorage, o.Scope = c.sparsity, true, prune.Layer
		dst := filepath.Join(t.TempDir(), "p.onnx")
		r, err := prune.File(context.Background(), dst, src, o)
		if err != nil {
			t.Fatal(err)
		}
		if (r.Sparse.Tensors > 0) != c.stored {
			t.Errorf("sparsity %v: %+v, %v", c.sparsity, r.Sparse, r.Log.Declined)
		}
		if !c.stored {
			continue
		}
		if r.Sparse.After >= r.Sparse.Before || r.Output.Bytes >= r.Input.Bytes {
			t.Errorf("not smaller: %+v, %d → %d bytes", r.Sparse, r.Input.Bytes, r.Output.Bytes)
		}
		list, err := prune.Audit(dst, "unstructured")
		if err != nil || len(list) != len(r.Weights) {
			t.Fatalf("%d weights are read back, want %d: %v", len(list), len(r.Weights), err)
		}
		zeros, want := int64(0), int64(0)
		for i, a := range list {
			zeros, want = zeros+a.Zeros, want+r.Weights[i].After
		}
		if zeros != want {
			t.Errorf("%d zeros are read back, want %d", zeros, want)
		}
		dense := filepath.Join(t.TempDir(), "dense.onnx")
		o.SparseStorage = false
		if _, err := prune.File(context.Background(), dense, src, o); err != nil {
			t.Fatal(err)
		}
		if d := distance(t, o.Open, dense, dst); d != 0 {
			t.Errorf("outputs differ by %g of their power from those with dense storage", d)
		}
	}
}

// TestRefusals checks what does not go together.
func TestRefusals(t *testing.T) {
	src := digitsNet(t, onnx.Float)
	for name, edit := range map[string]func(o *prune.Options){
		"with --data":     func(o *prune.Options) { o.Importance, o.Calibration = prune.Wanda, nil },
		"needs an engine": func(o *prune.Options) { o.Importance, o.Open = prune.Wanda, nil },
		"want auto, none": func(o *prune.Options) { o.Repair = "obs,glue" },
		"of one layer":    func(o *prune.Options) { o.Importance, o.Scope = prune.Wanda, prune.Global },
		"leave out":       func(o *prune.Options) { o.Pattern, o.Scope = "2:4", prune.Layer },
		"several outputs": func(o *prune.Options) { o.Pattern, o.Scope = "block:2x2", prune.Row },
		"pattern":         func(o *prune.Options) { o.Pattern = "4:2" },
		"importance":      func(o *prune.Options) { o.Importance = "luck" },
	} {
		o := options(t, src, "", prune.Magnitude)
		edit(&o)
		_, err := prune.File(context.Background(), filepath.Join(t.TempDir(), "p.onnx"), src, o)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

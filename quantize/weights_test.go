package quantize_test

import (
	"bytes"
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
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// weightModel has every way in which weights are read: products of both kinds and
// both orders of storage, biases that the operator adds and does not, a batch of
// matrices, embeddings that the last layer reads again, and a branch.
func weightModel(d onnx.DType) *onnx.Model {
	m := onnx.NewModel(17)
	g := m.Graph
	random := rand.New(rand.NewPCG(1, 2))
	constant := func(name string, shape ...int64) *onnx.Value {
		n, _ := onnx.ElementCount(shape)
		v := make([]float64, n)
		for i := range v {
			v[i] = random.NormFloat64() * 0.12
		}
		t, err := onnx.FromFloat64s(name, d, shape, v)
		if err != nil {
			panic(err)
		}
		return g.AddInitializer(t)
	}
	add := func(op, out string, attrs []*onnx.Attr, in ...*onnx.Value) *onnx.Value {
		n := onnx.NewNode(op, in, out)
		n.Name, n.Attrs = out+"_node", attrs
		g.Append(n)
		return n.Output(0)
	}
	ids := g.AddInput("ids", onnx.TensorType(onnx.Int64, onnx.Shape{onnx.Symbol("n")}))
	table := constant("table", 50, 72)
	x := add("Gather", "embedded", nil, table, ids)
	x = add("MatMul", "square", nil, x, constant("w_square", 72, 72))
	x = add("Gemm", "turned", []*onnx.Attr{onnx.IntAttr("transB", 1)}, x, constant("w_turned", 40, 72), constant("b_turned", 40))
	y := add("Gemm", "scaled", []*onnx.Attr{onnx.FloatAttr("alpha", 0.5), onnx.FloatAttr("beta", 2)}, x, constant("w_scaled", 40, 72), constant("b_scaled", 72))
	if d != onnx.Float {
		y = add("Gemm", "plain", nil, x, constant("w_plain", 40, 72), constant("b_plain", 72))
	}
	z := add("MatMul", "batched", nil, y, constant("w_batch", 2, 72, 33))
	g.AddOutput(z)
	z.Type = onnx.TensorType(d, nil)
	logits := add("MatMul", "logits", nil, y, add("Transpose", "table_turned", []*onnx.Attr{onnx.IntsAttr("perm", 1, 0)}, table))
	logits.Type = onnx.TensorType(d, nil)
	g.AddOutput(logits)
	return m
}

func writeModel(t *testing.T, m *onnx.Model) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWeightForms quantizes every node in every form, and runs the results.
func TestWeightForms(t *testing.T) {
	open := opener(t)
	for _, d := range []onnx.DType{onnx.Float, onnx.Float16} {
		src := writeModel(t, weightModel(d))
		for _, c := range []struct {
			o    quantize.WeightOptions
			kept []string
			sqnr float64
		}{
			{quantize.WeightOptions{Form: "matmulnbits"}, []string{"batched_node"}, 12},
			{quantize.WeightOptions{Form: "matmulnbits", Asymmetric: true, BlockSize: 16}, []string{"batched_node"}, 14},
			{quantize.WeightOptions{Form: "matmulnbits", Bits: 8, BlockSize: 32}, []string{"batched_node"}, 34},
			{quantize.WeightOptions{Form: "matmulnbits", Bits: 8, Asymmetric: true, BlockSize: 64}, []string{"batched_node"}, 34},
			{quantize.WeightOptions{Form: "matmulnbits", Accuracy: 4, BlockSize: 32}, []string{"batched_node"}, 12},
			{quantize.WeightOptions{Form: "matmulnbits", WeightMethod: "hqq", BlockSize: 32}, []string{"batched_node"}, 14},
			{quantize.WeightOptions{Form: "dequantize", WeightMethod: "hqq", BlockSize: 32}, nil, 14},
			{quantize.WeightOptions{Form: "dequantize", BlockSize: 32}, nil, 12},
			{quantize.WeightOptions{Form: "dequantize", Asymmetric: true, BlockSize: 16}, nil, 14},
			{quantize.WeightOptions{Form: "dequantize", Bits: 8, BlockSize: 128}, nil, 34},
			{quantize.WeightOptions{Form: "dequantize", Bits: 8, Asymmetric: true, BlockSize: 32}, nil, 34},
		} {
			t.Run(fmt.Sprintf("%v/%+v", d, c.o), func(t *testing.T) {
				dst := filepath.Join(t.TempDir(), "q.onnx")
				r, err := quantize.File(t.Context(), dst, src, quantize.Options{To: quantize.Int4, WeightOptions: c.o, Open: open,
					Rewrite: rewrite.Options{Debug: true}, Verify: &produce.Verify{Open: open}})
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range r.RolledBack {
					t.Errorf("rolled back %s: %s", b.What(), b.Reason)
				}
				var kept []string
				for _, l := range r.Layers {
					if l.Reason == "" {
						continue
					}
					kept = append(kept, strings.Split(l.Node, `"`)[1])
					if d == onnx.Float && !slices.Contains(c.kept, kept[len(kept)-1]) {
						t.Errorf("%s stays in float32: %s", l.Node, l.Reason)
					}
				}
				for _, x := range r.Checked.Outputs {
					if x.SQNR == nil || *x.SQNR < c.sqnr {
						t.Errorf("%s: SQNR %v, want %v", x.Name, *x.SQNR, c.sqnr)
					}
				}
				t.Logf("%d → %d bytes, kept %v, %v", r.Weights.Before, r.Weights.After, kept, r.Checked)
			})
		}
	}
}

// TestWeightsLeftOut leaves out each node alone, and all behind each.
func TestWeightsLeftOut(t *testing.T) {
	open := opener(t)
	src := writeModel(t, weightModel(onnx.Float))
	file := func(o rewrite.Options, form string) *quantize.Result {
		o.Debug = true
		r, err := quantize.File(t.Context(), filepath.Join(t.TempDir(), "q.onnx"), src, quantize.Options{To: quantize.Int4,
			WeightOptions: quantize.WeightOptions{BlockSize: 32, Form: form}, Open: open, Rewrite: o, Verify: &produce.Verify{Open: open}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, form := range quantize.WeightForms() {
		all := file(rewrite.Options{}, form).Log.Fired
		if len(all) < 5 {
			t.Fatalf("%s: %d nodes were quantized", form, len(all))
		}
		for i, f := range all {
			if got := file(rewrite.Options{Skip: map[string]bool{f.Key: true}}, form).Log.Fired; len(got) != len(all)-1 {
				t.Errorf("%s: without %s there are %d rewrites of %d", form, f.Key, len(got), len(all))
			}
			if got := file(rewrite.Options{Limit: i + 1}, form).Log.Fired; len(got) != i+1 {
				t.Errorf("%s: %d rewrites, want %d", form, len(got), i+1)
			}
		}
	}
}

// TestWeightsInBranch has weights inside of an If, which stay where they are
// shared, and codes by data, which only the main graph can be measured for.
func TestWeightsInBranch(t *testing.T) {
	open := opener(t)
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(3, 64)))
	random, v := rand.New(rand.NewPCG(3, 4)), make([]float32, 64*64)
	for i := range v {
		v[i] = float32(random.NormFloat64())
	}
	w := g.AddInitializer(onnx.FromFloats("w", []int64{64, 64}, v))
	first := onnx.NewNode("MatMul", []*onnx.Value{x, w}, "h")
	first.Name = "first"
	g.Append(first)
	sum := onnx.NewNode("ReduceSum", []*onnx.Value{first.Output(0)}, "sum")
	sum.Attrs = []*onnx.Attr{onnx.IntAttr("keepdims", 0)}
	g.Append(sum)
	cond := onnx.NewNode("Greater", []*onnx.Value{sum.Output(0), g.AddInitializer(onnx.FromFloats("zero", []int64{}, []float32{0}))}, "cond")
	g.Append(cond)
	branch := func(name string, weight *onnx.Value) *onnx.Graph {
		b := onnx.NewGraph(name)
		n := onnx.NewNode("MatMul", []*onnx.Value{first.Output(0), weight}, name+"_y")
		n.Name = name + "_product"
		b.Append(n)
		n.Output(0).Type = onnx.TensorType(onnx.Float, onnx.ShapeOf(3, 64))
		b.AddOutput(n.Output(0))
		return b
	}
	choice := onnx.NewNode("If", []*onnx.Value{cond.Output(0)}, "y")
	choice.Attrs = []*onnx.Attr{{Name: "then_branch", Type: onnx.AttrGraph, G: branch("yes", w)}, {Name: "else_branch", Type: onnx.AttrGraph, G: branch("no", w)}}
	g.Append(choice)
	choice.Output(0).Type = onnx.TensorType(onnx.Float, onnx.ShapeOf(3, 64))
	g.AddOutput(choice.Output(0))
	src := writeModel(t, m)
	for _, form := range []string{"matmulnbits", "dequantize"} {
		set := openData(t, src, "synthetic:20", dataset.Options{Seed: 1})
		r, err := quantize.File(t.Context(), filepath.Join(t.TempDir(), "q.onnx"), src, quantize.Options{To: quantize.Int4, Calibration: set, Open: open,
			WeightOptions: quantize.WeightOptions{BlockSize: 32, Form: form, WeightMethod: "gptq"}, Rewrite: rewrite.Options{Debug: true}, Verify: &produce.Verify{Open: open}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Quantized != 3 || len(r.RolledBack) > 0 {
			t.Errorf("%s: %d quantized, rolled back %v", form, r.Quantized, r.RolledBack)
		}
		for _, l := range r.Layers {
			if l.Weights == nil {
				t.Errorf("%s: %s stays as it is: %s", form, l.Node, l.Reason)
			} else if inside := strings.Contains(l.Node, "product"); inside != (l.Weights.Method == "rtn" && strings.Contains(l.Weights.Why, "subgraph")) {
				t.Errorf("%s: %s by %s: %s", form, l.Node, l.Weights.Method, l.Weights.Why)
			}
		}
	}
}

// TestWeightOptions checks what is refused.
func TestWeightOptions(t *testing.T) {
	for _, c := range []struct {
		o    quantize.Options
		want string
	}{
		{quantize.Options{To: quantize.Int4, WeightOptions: quantize.WeightOptions{Bits: 9}}, "9 bits"},
		{quantize.Options{To: quantize.Int4, WeightOptions: quantize.WeightOptions{BlockSize: 512}}, "blocks of 512"},
		{quantize.Options{To: quantize.Int4, WeightOptions: quantize.WeightOptions{WeightMethod: "gptq"}}, "--data"},
		{quantize.Options{To: quantize.Int4, WeightOptions: quantize.WeightOptions{WeightMethod: "magic"}}, "unknown"},
		{quantize.Options{To: quantize.Int4, WeightOptions: quantize.WeightOptions{Form: "dequantize", Bits: 2}}, "no codes of 2 bits"},
		{quantize.Options{To: quantize.Int4, Dynamic: true}, "not of weights only"},
	} {
		_, err := quantize.File(context.Background(), filepath.Join(t.TempDir(), "q.onnx"), filepath.Join("..", "testdata", "tabular-mlp.onnx"), c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c.o.WeightOptions, err, c.want)
		}
	}
}

// divergence is the mean Kullback-Leibler divergence, over samples and positions,
// of the distributions of two language models, in nats.
func divergence(t *testing.T, open session.Opener, a, b string, data *dataset.Set) float64 {
	t.Helper()
	sum, count := 0.0, 0
	var s [2]session.Session
	for i, path := range []string{a, b} {
		var err error
		if s[i], err = open(t.Context(), path, session.Options{}); err != nil {
			t.Fatal(err)
		}
		defer s[i].Close()
	}
	for sample, err := range data.Samples(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		var logits [2][]float32
		var width int
		for i := range s {
			r, err := s[i].Run(t.Context(), sample.Inputs)
			if err != nil {
				t.Fatal(err)
			}
			y := r.Outputs[s[i].Outputs()[0].Name]
			width = int(y.Shape[len(y.Shape)-1])
			if logits[i], err = y.Floats(); err != nil {
				t.Fatal(err)
			}
		}
		for at := 0; at < len(logits[0]); at += width {
			p, q := logSoftmax(logits[0][at:at+width]), logSoftmax(logits[1][at:at+width])
			for i := range p {
				sum += math.Exp(p[i]) * (p[i] - q[i])
			}
			count++
		}
	}
	return sum / float64(count)
}

func logSoftmax(x []float32) []float64 {
	peak, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - peak)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v) - peak - math.Log(sum)
	}
	return out
}

// TestStoriesInt4 compares the methods on a language model, on stories that
// nothing was fitted to.
func TestStoriesInt4(t *testing.T) {
	open := opener(t)
	src, data := zootest.Path(t, "models/stories260K.onnx"), zootest.Path(t, "data/stories.npz")
	val := openData(t, src, data, dataset.Options{Skip: 32})
	for _, size := range []int{64} {
		cost := map[string]float64{}
		for _, method := range []string{"rtn", "gptq", "awq"} {
			dst := filepath.Join(t.TempDir(), "q.onnx")
			calib := openData(t, src, data, dataset.Options{Limit: 32})
			r, err := quantize.File(t.Context(), dst, src, quantize.Options{To: quantize.Int4, Calibration: calib, Open: open,
				WeightOptions: quantize.WeightOptions{BlockSize: size, WeightMethod: method}, Verify: &produce.Verify{Open: open}})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.RolledBack) > 0 || r.Quantized != 37 {
				t.Errorf("%s: %d quantized, rolled back %v", method, r.Quantized, r.RolledBack)
			}
			cost[method] = divergence(t, open, src, dst, val)
		}
		t.Logf("blocks of %d: divergence of %v nats", size, cost)
		if cost["gptq"] >= cost["rtn"] || cost["awq"] >= cost["rtn"] {
			t.Errorf("blocks of %d: gptq and awq must diverge less than rtn: %v", size, cost)
		}
	}
}

// TestGainFolded quantizes products behind a norm whose columns differ much: the
// division by the gain becomes part of the norm, and the output is nearer than
// that of the nearest codes.
func TestGainFolded(t *testing.T) {
	open := opener(t)
	const k = 64
	random := rand.New(rand.NewPCG(5, 6))
	normal := func(n int, scale func(i int) float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(random.NormFloat64() * scale(i))
		}
		return v
	}
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("n"), onnx.Fixed(k)}))
	gains := make([]float32, k)
	for i := range gains {
		gains[i] = float32(math.Exp(float64(i%8) - 4))
	}
	norm := onnx.NewNode("LayerNormalization", []*onnx.Value{x, g.AddInitializer(onnx.FromFloats("gain", []int64{k}, gains)),
		g.AddInitializer(onnx.FromFloats("shift", []int64{k}, normal(k, func(int) float64 { return 0.1 })))}, "normed")
	g.Append(norm)
	for _, name := range []string{"a", "b"} {
		w := g.AddInitializer(onnx.FromFloats("w_"+name, []int64{k, 48}, normal(k*48, func(int) float64 { return 1 })))
		n := onnx.NewNode("MatMul", []*onnx.Value{norm.Output(0), w}, name)
		n.Name = "product_" + name
		g.Append(n)
		n.Output(0).Type = onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("n"), onnx.Fixed(48)})
		g.AddOutput(n.Output(0))
	}
	src := writeModel(t, m)
	for _, form := range []string{"matmulnbits", "dequantize"} {
		least := map[string]float64{}
		for _, method := range []string{"rtn", "awq"} {
			set := openData(t, src, "synthetic:40", dataset.Options{Seed: 1, Dims: map[string]int64{"n": 16}})
			r, err := quantize.File(t.Context(), filepath.Join(t.TempDir(), "q.onnx"), src, quantize.Options{To: quantize.Int4, Calibration: set, Open: open,
				WeightOptions: quantize.WeightOptions{BlockSize: 32, Form: form, WeightMethod: method}, Rewrite: rewrite.Options{Debug: true}, Verify: &produce.Verify{Open: open}})
			if err != nil {
				t.Fatal(err)
			}
			least[method] = min(*r.Checked.Outputs[0].SQNR, *r.Checked.Outputs[1].SQNR)
			folded := slices.ContainsFunc(r.Log.Fired, func(f rewrite.Firing) bool { return strings.Contains(f.Note, "gain folded into") })
			if folded != (method == "awq") || len(r.RolledBack) > 0 {
				t.Errorf("%s, %s: folded %v, rolled back %v", form, method, folded, r.RolledBack)
			}
		}
		t.Logf("%s: SQNR %v", form, least)
		if least["awq"] < least["rtn"]+2 {
			t.Errorf("%s: SQNR %v", form, least)
		}
	}
}

// TestWeightsSameBytes checks that the same data gives the same file, whatever
// the processors do first.
func TestWeightsSameBytes(t *testing.T) {
	open := opener(t)
	src := filepath.Join("..", "testdata", "digits-vit.onnx")
	var first []byte
	for range 2 {
		set := openData(t, src, filepath.Join("..", "testdata", "digits-calib.npz"), dataset.Options{Limit: 24})
		dst := filepath.Join(t.TempDir(), "q.onnx")
		r, err := quantize.File(t.Context(), dst, src, quantize.Options{To: quantize.Int4, Calibration: set, Open: open, Workers: 2,
			WeightOptions: quantize.WeightOptions{BlockSize: 32, Asymmetric: true}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, b) {
			t.Error("two runs gave different files")
		}
		first = b
		t.Log(r.Log.Notices)
	}
}

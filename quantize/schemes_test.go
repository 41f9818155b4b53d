package quantize_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// schemeModel is a model with data to calibrate on.
type schemeModel struct {
	src string
	set *dataset.Set
}

// schemeModels returns real models, fused as a user does first, and digits-cnn,
// which has shortcuts.
func schemeModels(t *testing.T) map[string]schemeModel {
	out := map[string]schemeModel{}
	add := func(name, src, data, pre string) {
		o := dataset.Options{Limit: 8}
		if pre != "" {
			p, err := dataset.ParsePreprocess(pre)
			if err != nil {
				t.Fatal(err)
			}
			o.Preprocess, o.Limit = p, 2
		}
		src = fused(t, src)
		out[name] = schemeModel{src, openData(t, src, data, o)}
	}
	add("digits-cnn", "../testdata/digits-cnn.onnx", "../testdata/digits-calib.npz", "")
	add("mnist-cnn", zootest.Path(t, "models/mnist-cnn.onnx"), zootest.Path(t, "data/mnist.npz"), "")
	add("magika-fast", zootest.Path(t, "models/magika-fast.onnx"), zootest.Path(t, "data/magika-fast.npz"), "")
	add("squeezenet1.1", zootest.Path(t, "models/squeezenet1.1.onnx"), zootest.Path(t, "data/imagenet"), "layout=nchw,channels=bgr,mean=104.007:116.669:122.679,std=1")
	return out
}

// bySchemes quantizes c and returns the written model, which it checks to be near
// the original.
func bySchemes(t *testing.T, open session.Opener, c schemeModel, o quantize.CodeOptions) (string, *quantize.Result) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "q.onnx")
	r, err := quantize.File(t.Context(), dst, c.src, quantize.Options{Open: open, Calibration: c.set, Method: "minmax", CodeOptions: o, ReduceRange: strings.HasPrefix(t.Name(), "TestQOperator/squeezenet"), // which saturates without VNNI
		Fates: true, Verify: &produce.Verify{Open: open}})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.RolledBack) > 0 {
		t.Errorf("rolled back: %+v", r.RolledBack)
	}
	for _, k := range r.Checks {
		if k.Fault != "" {
			t.Errorf("%s: %s", k.Node, k.Fault)
		}
	}
	return dst, r
}

func loadModel(t *testing.T, path string) *onnx.Model {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestSchemes quantizes real models by every scheme, and recomputes codes of
// activations and weights by onnxruntime.quantization's rules.
func TestSchemes(t *testing.T) {
	open := opener(t)
	models := schemeModels(t)
	for _, c := range []struct {
		o    quantize.CodeOptions
		some string // models of the default run
	}{
		{quantize.CodeOptions{Weights: "uint8"}, "mnist-cnn squeezenet1.1"},
		{quantize.CodeOptions{Activations: "int8"}, "digits-cnn"},
		{quantize.CodeOptions{Activations: "int16"}, "mnist-cnn magika-fast"},
		{quantize.CodeOptions{Activations: "uint16", Weights: "uint8"}, ""},
		{quantize.CodeOptions{Accelerator: "tensorrt"}, "digits-cnn"},
		{quantize.CodeOptions{Accelerator: "cuda"}, ""},
	} {
		for name := range models {
			if !zootest.All() && !slices.Contains(strings.Fields(c.some), name) {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s%s×%s", name, c.o.Accelerator, c.o.Activations, c.o.Weights), func(t *testing.T) {
				dst, r := bySchemes(t, open, models[name], c.o)
				m, f := loadModel(t, dst), loadModel(t, models[name].src)
				w, a := rightWeights(t, m, f, r), rightActivations(t, m, r)
				t.Logf("%v, %d weights, %d activations, %v", r.Codes, w, a, r.Checked)
				if w < 2 || a < 2 {
					t.Errorf("only %d weights and %d activations were recomputed", w, a)
				}
				if c.o.Accelerator != "" {
					if adds := tensorRTPlacement(t, m); (adds > 0) != (name == "digits-cnn") {
						t.Errorf("%d Adds have a pair on their shortcut", adds)
					}
				}
			})
		}
	}
}

// kind is how codes of a type are found.
type kind struct {
	min, max float64
	about    bool // symmetrically
}

// rightWeights recomputes the codes of all weights from those of the original.
func rightWeights(t *testing.T, m, f *onnx.Model, r *quantize.Result) int {
	floats := map[string]*onnx.Tensor{}
	for _, v := range f.Graph.Initializers() {
		floats[v.Name()] = v.Const
	}
	count := 0
	for _, l := range r.Layers {
		if l.Weight == nil {
			continue
		}
		codes, scales, zeros, axis := codesNamed(t, m, l.Weight.Tensor+"_quantized")
		k := kind{-127, 127, true}
		if r.Codes.Weights == "uint8" {
			k = kind{0, 255, len(scales) > 1}
		}
		checkCodes(t, l.Weight.Tensor, floats[l.Weight.Tensor], codes, scales, zeros, axis, k)
		count++
	}
	return count
}

// codesNamed returns a constant's codes with their scales and zero points.
func codesNamed(t *testing.T, m *onnx.Model, name string) (codes *onnx.Tensor, scales []float32, zeros []int64, axis int) {
	t.Helper()
	for n := range m.Graph.Nodes() {
		if n.Op != "DequantizeLinear" || n.Input(0).Name() != name {
			continue
		}
		s, err := n.Input(1).Constant().Floats()
		if err != nil {
			t.Fatal(err)
		}
		z, err := n.Input(2).Constant().Ints()
		if err != nil {
			t.Fatal(err)
		}
		return n.Input(0).Constant(), s, z, int(n.Int("axis", 1))
	}
	t.Fatalf("no codes are called %q", name)
	return nil, nil, nil, 0
}

// checkCodes holds scales, zero points and codes against the rule: a range that
// includes zero, divided in float64, codes half to even after a division in float32.
func checkCodes(t *testing.T, name string, w, codes *onnx.Tensor, scales []float32, zeros []int64, axis int, k kind) {
	t.Helper()
	x, err := w.Floats()
	if err != nil {
		t.Fatal(err)
	}
	got, err := codes.Ints()
	if err != nil || len(got) != len(x) {
		t.Fatalf("%s: %d codes of %d weights (%v)", name, len(got), len(x), err)
	}
	inner := 1
	for _, d := range w.Shape[axis+1:] {
		inner *= int(d)
	}
	channel := func(i int) int { return i / inner % len(scales) }
	lo, hi := make([]float32, len(scales)), make([]float32, len(scales))
	for i, v := range x {
		c := channel(i)
		lo[c], hi[c] = min(lo[c], v), max(hi[c], v)
	}
	for c := range scales {
		s, z := k.params(lo[c], hi[c])
		if scales[c] != s || zeros[c] != z {
			t.Errorf("%s, channel %d: scale %v and zero point %d, want %v and %d", name, c, scales[c], zeros[c], s, z)
		}
	}
	for i, v := range x {
		q := math.RoundToEven(float64(v/scales[channel(i)])) + float64(zeros[channel(i)])
		if want := int64(min(max(q, k.min), k.max)); got[i] != want {
			t.Fatalf("%s, element %d, %v: code %d, want %d", name, i, v, got[i], want)
		}
	}
}

func (k kind) params(lo, hi float32) (float32, int64) {
	if k.about {
		hi = max(-lo, hi)
		lo = -hi
	}
	s := float64(hi-lo) / (k.max - k.min)
	if s < 0x1p-126 {
		return 1, int64(math.RoundToEven((k.min + k.max) / 2))
	}
	z := math.RoundToEven(k.min - float64(lo)/s)
	if k.about {
		z = math.RoundToEven((k.min + k.max) / 2)
	}
	return float32(s), int64(z)
}

// rightActivations recomputes scale and zero point of all activations from their ranges.
func rightActivations(t *testing.T, m *onnx.Model, r *quantize.Result) int {
	k := map[string]kind{"uint8": {0, 255, false}, "int8": {-128, 127, false}, "uint16": {0, 65535, false}, "int16": {-32768, 32767, false}}[r.Codes.Activations]
	if r.Codes.Accelerator != "" {
		k = kind{-127, 127, true}
	}
	seen := map[string]bool{}
	for _, l := range r.Layers {
		for _, p := range []*quantize.Params{l.Input, l.Result} {
			if p == nil || seen[p.Tensor] || p.Scale == 1./256 { // which is that of shares
				continue
			}
			seen[p.Tensor] = true
			if s, z := k.params(float32(p.Min), float32(p.Max)); float64(s) != p.Scale || z != p.ZeroPoint {
				t.Errorf("%s: scale %v and zero point %d, want %v and %d", p.Tensor, p.Scale, p.ZeroPoint, s, z)
			}
		}
	}
	for n := range m.Graph.Nodes() {
		if n.Op == "QuantizeLinear" && n.Input(2).DType().String() != r.Codes.Activations {
			t.Errorf("%v has codes of %v", n, n.Input(2).DType())
		}
	}
	return len(seen)
}

// tensorRTPlacement: codes stand in front of weights and inputs of what multiplies,
// and on one branch of an Add, and nowhere else; all zero points are 0.
// It returns how many Adds have one.
func tensorRTPlacement(t *testing.T, m *onnx.Model) (adds int) {
	for n := range m.Graph.Nodes() {
		coded := []int{}
		for i, v := range n.Inputs() {
			if p := v.Producer(); p.Is("DequantizeLinear") {
				coded = append(coded, i)
				z, err := p.Input(2).Constant().Ints()
				for _, x := range z {
					if x != 0 || err != nil {
						t.Fatalf("%v has a zero point of %d (%v)", p, x, err)
					}
				}
			}
		}
		switch {
		case n.Is("QuantizeLinear"), n.Is("DequantizeLinear"):
		case n.Is("Conv"), n.Is("Gemm"), n.Is("MatMul"):
			if len(coded) != 0 && (len(coded) != 2 || coded[1] != 1) {
				t.Errorf("%v reads codes as inputs %v", n, coded)
			}
		case n.Is("Add"):
			if len(coded) == 1 {
				adds++
				if other := n.Input(1 - coded[0]).Producer(); !other.Is("Conv") {
					t.Errorf("%v has its pair beside %v, which is no convolution", n, other)
				}
			} else if len(coded) != 0 {
				t.Errorf("%v has pairs on both branches", n)
			}
		case len(coded) > 0:
			t.Errorf("%v reads codes", n)
		}
	}
	return adds
}

// TestQOperator: operators on codes have the codes of the pairs, and what the engine
// computes with them is the same to the last bit.
func TestQOperator(t *testing.T) {
	open := opener(t)
	models := schemeModels(t)
	for _, c := range []struct {
		name string
		o    quantize.CodeOptions
		long bool
	}{
		{"mnist-cnn", quantize.CodeOptions{}, false}, {"digits-cnn", quantize.CodeOptions{}, false}, {"squeezenet1.1", quantize.CodeOptions{}, false},
		{"magika-fast", quantize.CodeOptions{}, true}, {"mnist-cnn", quantize.CodeOptions{Weights: "uint8"}, true}, {"digits-cnn", quantize.CodeOptions{Activations: "int8"}, true},
	} {
		if c.long && !zootest.All() {
			continue
		}
		t.Run(c.name+c.o.Activations+c.o.Weights, func(t *testing.T) {
			pairs, rp := bySchemes(t, open, models[c.name], c.o)
			c.o.Representation = "qoperator"
			operators, r := bySchemes(t, open, models[c.name], c.o)
			p, q := loadModel(t, pairs), loadModel(t, operators)
			sameConstants(t, p, q)
			left := 0
			for n := range q.Graph.Nodes() {
				if n.Is("Conv") || n.Is("MatMul") || n.Is("Gemm") {
					left++
				}
			}
			if left > r.Kept {
				t.Errorf("%d operators compute on floats, of which %d were kept so", left, r.Kept)
			}
			sample, err := models[c.name].set.At(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			exact := true // the engine may compute in floats between pairs what it merges with an activation
			for _, l := range rp.Layers {
				exact = exact && (l.Weight == nil || l.Fate != nil && l.Fate.Codes)
			}
			want := outputsOf(t, open, pairs, session.LevelAll, sample)
			for _, level := range []session.Level{session.LevelOff, session.LevelAll} {
				got := outputsOf(t, open, operators, level, sample)
				for name, x := range want {
					sameOutput(t, name, x, got[name], exact)
				}
			}
			t.Logf("%d nodes with pairs, %d with operators on codes; %v", p.Graph.Len(), q.Graph.Len(), r.Checked)
		})
	}
}

// sameOutput holds an output against another one: to the last bit, or to what floats
// leave of codes.
func sameOutput(t *testing.T, name string, want, got *onnx.Tensor, exact bool) {
	t.Helper()
	class := compare.Class{Name: "same"}
	if !exact {
		class = compare.Class{Name: "near", RTol: 1e-5, ATol: 1e-5}
	}
	if d, err := compare.Tensors(want, got, class); err != nil || !d.OK {
		t.Errorf("output %q, exactly %v: %+v (%v)", name, exact, d, err)
	}
}

// sameConstants: every constant of q is one of p's, by name and content.
func sameConstants(t *testing.T, p, q *onnx.Model) {
	have := map[string]*onnx.Tensor{}
	for _, v := range p.Graph.Initializers() {
		have[v.Name()] = v.Const
	}
	codes := 0
	for _, v := range q.Graph.Initializers() {
		w := have[v.Name()]
		if w == nil {
			t.Errorf("%q is not in the model of pairs", v.Name())
			continue
		}
		a, err1 := v.Const.Bytes()
		b, err2 := w.Bytes()
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%q has other content (%v, %v)", v.Name(), err1, err2)
		}
		if strings.HasSuffix(v.Name(), "_quantized") {
			codes++
		}
	}
	if codes < 3 {
		t.Errorf("only %d constants are codes", codes)
	}
}

func outputsOf(t *testing.T, open session.Opener, path string, level session.Level, sample *dataset.Sample) map[string]*onnx.Tensor {
	t.Helper()
	s, err := open(t.Context(), path, session.Options{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), sample.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	return r.Outputs
}

// TestCodesRefused: codes on which the engine computes nothing are refused, and so
// is what contradicts itself.
func TestCodesRefused(t *testing.T) {
	open := opener(t)
	src := fused(t, "../testdata/digits-cnn.onnx")
	set := openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 8})
	for _, c := range []struct {
		o    quantize.CodeOptions
		want string
	}{
		{quantize.CodeOptions{Activations: "int8", Weights: "uint8", Representation: "qoperator"}, "no QLinearConv of int8 by uint8"},
		{quantize.CodeOptions{Activations: "int16", Representation: "qoperator"}, "have activations of 8 bits"},
		{quantize.CodeOptions{Accelerator: "tensorrt", Activations: "uint8"}, "wants activations in int8"},
		{quantize.CodeOptions{Accelerator: "cuda", Representation: "qoperator"}, "reads pairs"},
		{quantize.CodeOptions{Activations: "int4"}, `"int4"`},
	} {
		dst := filepath.Join(t.TempDir(), "q.onnx")
		_, err := quantize.File(t.Context(), dst, src, quantize.Options{Open: open, Calibration: set, CodeOptions: c.o})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

// TestFates: the pairs between int8 layers vanish when the engine loads the model,
// and those at its ends do not; the layers are operators on codes.
func TestFates(t *testing.T) {
	open := opener(t)
	src := fused(t, "../testdata/digits-cnn.onnx")
	c := schemeModel{src, openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 16})}
	for _, form := range []string{"qdq", "qoperator"} {
		_, r := bySchemes(t, open, c, quantize.CodeOptions{Representation: form})
		inputs, inside := 0, 0
		for _, l := range r.Layers {
			if l.Weight == nil {
				continue
			}
			if l.Fate == nil || !l.Fate.Codes {
				t.Errorf("%s, %s: fate %+v, want an operator on codes", form, l.Node, l.Fate)
				continue
			}
			for _, p := range l.Fate.Pairs {
				switch {
				case p.Side == "input" && p.Quantize:
					inputs++
				case p.Quantize || p.Dequantize:
					inside++
				}
			}
		}
		if inputs != 1 || inside > 0 {
			t.Errorf("%s: %d inputs are still converted, want that of the model; and %d other tensors", form, inputs, inside)
		}
	}
	// Codes of 16 bits stay as they are.
	_, r := bySchemes(t, open, c, quantize.CodeOptions{Activations: "int16"})
	for _, l := range r.Layers {
		if l.Weight != nil && (l.Fate == nil || l.Fate.Codes || len(l.Fate.Pairs) == 0 || !l.Fate.Pairs[0].Dequantize) {
			t.Errorf("int16, %s: fate %+v, want float32 between conversions", l.Node, l.Fate)
		}
	}
}

// TestNothing: a model that has nothing to quantize is not written again.
func TestNothing(t *testing.T) {
	open := opener(t)
	src := zootest.Path(t, "models/iris-forest.onnx")
	for _, o := range []quantize.Options{{To: quantize.Float16}, {To: quantize.BFloat16}, {Dynamic: true}, {To: quantize.Int4}} {
		o.Open = open
		dst := filepath.Join(t.TempDir(), "q.onnx")
		_, err := quantize.File(t.Context(), dst, src, o)
		var nothing *quantize.Nothing
		if !errors.As(err, &nothing) {
			t.Errorf("%v: %v, want that there is nothing to quantize", o.To, err)
		}
	}
}

// TestPairsOfMicrosoft: where the opset cannot be raised to one with codes of 16
// bits, the pairs are ONNX Runtime's own operators, and compute the same.
func TestPairsOfMicrosoft(t *testing.T) {
	open := opener(t)
	m, err := onnxtext.Parse("pool", []byte(`<ir_version: 8, opset_import: ["" : 17]>
main (float[N,2,8,8] x) => (float[N,3,A,B] y) <float[3,2,1,1] w = {1, -0.5, 0.25, -2, 0.5, 0.125}, float[3,3,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3] b = {0.1, 3, -2}> {
  c = Conv (x, w, b)
  p = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode = 1, count_include_pad = 1> (c)
  y = Conv (p, v, b)
}`))
	if err != nil {
		t.Fatal(err)
	}
	src := filepath.Join(t.TempDir(), "f.onnx")
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	c := schemeModel{src, openData(t, src, "synthetic:16", dataset.Options{Seed: 3})}
	dst, r := bySchemes(t, open, c, quantize.CodeOptions{Activations: "int16"})
	q := loadModel(t, dst)
	pairs := 0
	for n := range q.Graph.Nodes() {
		if n.Op != "QuantizeLinear" && n.Op != "DequantizeLinear" {
			continue
		}
		if pairs++; n.Domain != "com.microsoft" {
			t.Errorf("%v is of the standard", n)
		}
	}
	if pairs == 0 || q.OpsetVersion("") != 17 || r.Quantized != 3 {
		t.Errorf("%d pairs at opset %d, %d nodes quantized", pairs, q.OpsetVersion(""), r.Quantized)
	}
}

// TestDynamicUint8: products with weights in uint8 give what they do with int8, to
// rounding, and have a zero point.
func TestDynamicUint8(t *testing.T) {
	open := opener(t)
	src := "../testdata/digits-vit.onnx"
	set := openData(t, src, "../testdata/digits-calib.npz", dataset.Options{Limit: 4})
	for _, perTensor := range []bool{false, true} {
		dst := filepath.Join(t.TempDir(), "q.onnx")
		r, err := quantize.File(t.Context(), dst, src, quantize.Options{Dynamic: true, PerTensor: perTensor, CodeOptions: quantize.CodeOptions{Weights: "uint8"},
			Verify: &produce.Verify{Open: open, Data: set}})
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Checked.Outputs[0].SQNR; r.Quantized < 5 || len(r.RolledBack) > 0 || s == nil || *s < 25 {
			t.Errorf("per tensor %v: %d quantized, %d rolled back, %v", perTensor, r.Quantized, len(r.RolledBack), r.Checked)
		}
		for n := range loadModel(t, dst).Graph.Nodes() {
			if n.Is("MatMulInteger") && (n.Input(1).DType() != onnx.Uint8 || n.Input(3) == nil) {
				t.Errorf("%v has weights of %v", n, n.Input(1).DType())
			}
		}
	}
}

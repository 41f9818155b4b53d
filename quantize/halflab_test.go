package quantize

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// planOf plans a model of text.
func planOf(t *testing.T, text string, to Target, stats map[string]*calibrate.Stats) *halfPlan {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	facts, err := opset.Infer(m, opset.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newHalfPlan(t.Context(), &halfPlan{o: &Options{To: to}, t: halfTypes[to], m: m, facts: facts, stats: stats, fit: map[*onnx.Tensor]*fitness{}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestEmulated: the engine does not take the casts that round for casts that do
// nothing. What comes out is what the conversions of package onnx give.
func TestEmulated(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	in := []float32{1 + 0x1p-12, 1 + 0x1p-11, 1 + 3*0x1p-11, 65503, 0x1p-20, -1 - 0x1p-9, float32(math.Inf(-1))}
	for len(in) < 4096 {
		in = append(in, float32(r.NormFloat64()*math.Exp2(float64(r.IntN(20)-12))))
	}
	x := onnx.FromFloats("x", []int64{1, 4096}, in)
	for _, to := range []Target{Float16, BFloat16} {
		p := planOf(t, `<ir_version: 8, opset_import: ["" : 17]> g (float[1,4096] x) => (float[1,4096] y) { y = Abs (x) }`, to, nil)
		b, err := onnxfile.EncodeTensor(x)
		dir := filepath.Join(t.TempDir(), "test_data_set_0")
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "input_0.pb"), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.o.Calibration, err = dataset.Open(dir, dataset.Options{Inputs: []dataset.Port{{Name: "x", Type: p.m.Graph.Inputs()[0].Type}}}); err != nil {
			t.Fatal(err)
		}
		p.o.Open = ort.Opener(zootest.Library(t))
		l, err := newLab(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		got, err := l.run(t.Context(), emulate(p).m)
		if err != nil {
			t.Fatal(err)
		}
		y, err := got[0]["y"].Floats()
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range in {
			h := onnx.FloatToFloat16(math.Abs(float64(v)))
			want := onnx.Float16ToFloat(h)
			if to == BFloat16 {
				want = onnx.BFloat16ToFloat(onnx.FloatToBFloat16(float32(math.Abs(float64(v)))))
			}
			if y[i] != want {
				t.Fatalf("%s: %v becomes %v, want %v", to, v, y[i], want)
			}
		}
		if w, err := l.error(t.Context()); err != nil || w.most == 0 {
			t.Errorf("%s: error %v, %v", to, w, err)
		}
	}
}

func TestFitness(t *testing.T) {
	h := halfTypes[Float16]
	many := make([]float32, 20)
	many[0], many[1] = 1, 1e-9
	for _, c := range []struct {
		v       []float32
		allowed bool
		unfit   bool
	}{
		{[]float32{1e-5}, false, true}, {[]float32{1e-4}, false, false}, {[]float32{0}, false, false}, {many, false, false},
		{[]float32{65504, -65504}, false, false}, {[]float32{65505}, false, true}, {[]float32{-1e9}, true, false}, {[]float32{float32(math.Inf(-1))}, false, false},
		{append(make([]float32, 20), 1e-5, 3e-5), false, true},
	} {
		f, err := h.fit(onnx.FromFloats("c", []int64{int64(len(c.v))}, c.v))
		if err != nil {
			t.Fatal(err)
		}
		if why := f.unfit(h, "c", c.allowed); (why != "") != c.unfit {
			t.Errorf("%v: %q", c.v, why)
		}
	}
	f, _ := h.fit(onnx.FromFloats("c", []int64{20}, many))
	if f.gone != 1 || f.count != 20 || f.squares < 1 || f.squares > 1.001 {
		t.Errorf("%+v", f)
	}
	for s, want := range map[standIn]float32{toLargest: -65504, half32k: -32752, infinite: float32(math.Inf(-1))} {
		if got := h.round(-1e9, s); got != want {
			t.Errorf("−1e9 becomes %v, want %v", got, want)
		}
	}
	if got := halfTypes[BFloat16].round(-math.MaxFloat32, toLargest); math.IsInf(float64(got), 0) {
		t.Errorf("the largest float32 becomes %v in bfloat16", got)
	}
}

// TestSums: 4·√L·a·b against the range, with 256 products of a weight of 1 and
// activations up to 4·rms.
func TestSums(t *testing.T) {
	ones := "1"
	for range 255 {
		ones += ",1"
	}
	text := `<ir_version: 8, opset_import: ["" : 17]> g (float[1,256] x) => (float[1,1] y) <float[256,1] w = {` + ones + `}> { y = MatMul (x, w) }`
	for at, want := range map[float32]bool{4090: true, 4099: false} { // 4·16·a/4 = 16·a against 65504
		p := planOf(t, text, Float16, map[string]*calibrate.Stats{"x": {Runs: 1, Max: at}})
		n := p.m.Graph.First()
		if got := p.sums(n) == ""; got != want {
			t.Errorf("peak %v: %q", at, p.sums(n))
		}
	}
}

// TestLeast: the least number that suffices is found in about 2·log2 tries.
func TestLeast(t *testing.T) {
	for count := 1; count < 70; count++ {
		for need := 1; need <= count; need++ {
			tries, last := 0, 0
			e, err := least(count, 0.5, func(k int) (float64, error) {
				tries++
				if last = k; k >= need {
					return 0.25, nil
				}
				return 1, nil
			})
			if err != nil || e != 0.25 || last != need {
				t.Fatalf("of %d, %d: found %d, %v, %v", count, need, last, e, err)
			}
			if most := 2*bits.Len(uint(count)) + 2; tries > most {
				t.Errorf("of %d, %d: %d tries, more than %d", count, need, tries, most)
			}
		}
	}
}

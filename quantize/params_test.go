package quantize

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// The wanted scales (as float32 bits), zero points and codes are those of
// onnxruntime.quantization 1.30:
//
//	zp, s = compute_scale_zp(np.float32(lo), np.float32(hi), np.uint8(0), np.uint8(255), symmetric=False)
//	zp, s = compute_scale_zp(w.min(), w.max(), np.int8(-127), np.int8(127), symmetric=True)
//	quantize_nparray(TensorProto.INT8, w, np.float32(s), np.int8(zp), -127, 127)
func TestAsymmetricParity(t *testing.T) {
	for _, c := range []struct {
		lo, hi float32
		bits   uint32
		zero   int
	}{
		{0, 6, 1019265217, 0}, {-1, 1, 1006665857, 128}, {-0.3, 2.7, 1010876609, 26}, {1, 3, 1010876609, 0},
		{-5, -2, 1017159841, 255}, {0, 0, 1065353216, 0}, {-1e-40, 1e-40, 1065353216, 0}, {-0.1, 12.345678, 1028122985, 2},
	} {
		scale, zero := activationTypes["uint8"].params(c.lo, c.hi)
		if got := math.Float32bits(scale); got != c.bits || zero != c.zero {
			t.Errorf("uint8 codes of %v to %v have %d, %d; want %d, %d", c.lo, c.hi, got, zero, c.bits, c.zero)
		}
	}
}

func TestCodeParity(t *testing.T) {
	w := onnx.FromFloats("w", []int64{8}, []float32{0.1, -0.25, 0.37, -1.5, 2.75, 0.0117, 1.3, -2.75})
	m := channelsOf(w, -1)
	s, err := around.steps(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := math.Float32bits(s.scales[0]); got != 1018258118 {
		t.Errorf("symmetric scale has bits %d, want 1018258118", got)
	}
	signed, err := m.coded("q", s).Ints()
	if diff := cmp.Diff([]int64{5, -12, 17, -69, 127, 1, 60, -127}, signed); diff != "" || err != nil {
		t.Errorf("int8 codes (-want +got), %v:\n%s", err, diff)
	}
	scale, zero := activationTypes["uint8"].params(s.lo, s.hi)
	unsigned, err := activationTypes["uint8"].quantized("q", w, scale, zero).Ints()
	if diff := cmp.Diff([]int64{133, 116, 145, 58, 255, 129, 188, 0}, unsigned); diff != "" || err != nil {
		t.Errorf("uint8 codes (-want +got), %v:\n%s", err, diff)
	}
}

func TestChannels(t *testing.T) {
	w := onnx.FromFloats("w", []int64{2, 3}, []float32{1, -2, 3, -4, 5, -6})
	for _, c := range []struct {
		axis int
		want []float32
	}{{-1, []float32{6}}, {0, []float32{3, 6}}, {1, []float32{4, 5, 6}}} {
		got, lo, hi, err := channelsOf(w, c.axis).magnitudes()
		if diff := cmp.Diff(c.want, got); diff != "" || lo != -6 || hi != 5 || err != nil {
			t.Errorf("axis %d: %v, %v, %v (-want +got):\n%s", c.axis, lo, hi, err, diff)
		}
	}
	bad := onnx.FromFloats("w", []int64{2}, []float32{1, float32(math.NaN())})
	if _, _, _, err := channelsOf(bad, -1).magnitudes(); err == nil {
		t.Error("a NaN weight was accepted")
	}
}

func TestBiasGuard(t *testing.T) {
	scales := []float32{1e-10, 0.01}
	if !raiseForBias(scales, []float32{3, 3}, 0.001) {
		t.Error("a bias beyond int32 did not raise its scale")
	}
	if got := 3 / (float64(scales[0]) * 0.001); got > math.MaxInt32 {
		t.Errorf("the bias still has code %v", got)
	}
	if scales[1] != 0.01 {
		t.Errorf("the other channel's scale became %v", scales[1])
	}
}

func TestHalf(t *testing.T) {
	in := []float32{0, 1, -1, 65504, 70000, -1e9, float32(math.Inf(-1)), 6e-8, 1e-9}
	got, err := halfTypes[Float16].coded(onnx.FromFloats("w", []int64{9}, in), toLargest).Floats()
	want := []float32{0, 1, -1, 65504, 65504, -65504, float32(math.Inf(-1)), 0x1p-24, 0}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestRefuseQuantized(t *testing.T) {
	m := onnx.NewModel(13)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	n := onnx.NewNode("DynamicQuantizeLinear", []*onnx.Value{x}, "y", "s", "z")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	if err := refuseQuantized(m); err == nil {
		t.Error("a quantized model was accepted")
	}
}

// TestRounding8: codes are those of the division, rounded half to even and held
// within the limit, for numbers near to halves, scales of every size, and parts
// that begin anywhere.
func TestRounding8(t *testing.T) {
	rounding8(t)
	if vectors {
		defer func() { vectors = true }()
		vectors = false
		rounding8(t)
	}
}

func rounding8(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const rows, columns = 999, 37
	w, scales := make([]float32, rows*columns), make([]float32, columns)
	for c := range scales {
		scales[c] = float32(math.Ldexp(1+r.Float64(), r.IntN(254)-127))
	}
	scales[0], scales[1] = minNormal, 0x1.fp127
	for i := range w {
		s := float64(scales[i%columns])
		w[i] = float32(s * (math.Floor(r.Float64()*300-150) + 0.5))
		switch i % 4 {
		case 0:
			w[i] = math.Nextafter32(w[i], 0)
		case 1:
			w[i] = math.Nextafter32(w[i], float32(math.Inf(1)))
		case 2:
			w[i] = float32(s * (r.Float64()*300 - 150))
		}
		if !finite32(w[i]) {
			w[i] = 0
		}
	}
	for _, axis := range []int{0, 1} {
		shape := []int64{rows, columns}
		if axis == 0 {
			shape = []int64{columns, rows}
		}
		x := onnx.FromFloats("w", shape, w)
		m := channelsOf(x, axis)
		for _, limit := range []int{fullRange, reducedRange} {
			got := m.coded("q", weightSteps{t: codeType{dtype: onnx.Int8, min: -limit, max: limit, symmetric: true}, scales: scales})
			all, err := got.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range w {
				want := math.Min(math.Max(code(v, scales[m.channel(i)]), -float64(limit)), float64(limit))
				if int8(all[i]) != int8(want) {
					t.Fatalf("axis %d: %v over %v has code %d, want %v", axis, v, scales[m.channel(i)], int8(all[i]), want)
				}
			}
			part := make([]byte, 1000)
			if err := onnx.ReadDataAt(got.Data, part, 12345); err != nil || !bytes.Equal(part, all[12345:13345]) {
				t.Errorf("a part differs (%v)", err)
			}
		}
		peak, lo, hi, err := m.magnitudes()
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, columns)
		var least, most float32
		for i, v := range w {
			c := m.channel(i)
			want[c] = max(want[c], float32(math.Abs(float64(v))))
			least, most = min(least, v), max(most, v)
		}
		if !slices.Equal(peak, want) || lo != least || hi != most {
			t.Errorf("axis %d: peaks %v, want %v; from %v to %v, want from %v to %v", axis, peak, want, lo, hi, least, most)
		}
	}
}

package onnx_test

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"pgregory.net/rapid"
)

// floatTypes are the floating-point types with what describes them: bits of the
// mantissa, and the greatest finite value.
var floatTypes = map[onnx.DType]struct {
	mantissa int
	greatest float64
}{
	onnx.Float16:      {10, 65504},
	onnx.BFloat16:     {7, math.Float64frombits(0x47efe00000000000)},
	onnx.Float:        {23, math.MaxFloat32},
	onnx.Double:       {52, math.MaxFloat64},
	onnx.Float8E4M3FN: {3, 448},
	onnx.Float8E5M2:   {2, 57344},
}

// through takes numbers through a tensor of type d.
func through(t *rapid.T, d onnx.DType, v ...float64) []float64 {
	x, err := onnx.FromFloat64s("x", d, []int64{int64(len(v))}, v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFloats: a number in range comes back within half a unit of its last
// place, what came back stays what it is, and order is kept.
func TestFloats(t *testing.T) {
	for d, f := range floatTypes {
		t.Run(d.String(), rapid.MakeCheck(func(t *rapid.T) {
			x := rapid.Float64Range(-f.greatest, f.greatest).Draw(t, "x")
			if rapid.Bool().Draw(t, "near 1") {
				x = rapid.Float64Range(-4, 4).Draw(t, "x")
			}
			got := through(t, d, x)[0]
			if bound := math.Abs(x) * math.Ldexp(1, -f.mantissa-1); math.Abs(got-x) > bound && math.Abs(x) > 0.02 { // below that some are subnormal
				t.Fatalf("%v becomes %v", x, got)
			}
			if again := through(t, d, got)[0]; again != got {
				t.Fatalf("%v becomes %v and then %v", x, got, again)
			}
			y := rapid.Float64Range(-4, 4).Draw(t, "y")
			if other := through(t, d, y)[0]; x < y && got > other {
				t.Fatalf("%v < %v become %v and %v", x, y, got, other)
			}
		}))
	}
}

// TestSpecial: infinities, NaN and the sign of zero.
func TestSpecial(t *testing.T) {
	for _, d := range []onnx.DType{onnx.Float16, onnx.BFloat16, onnx.Float, onnx.Double, onnx.Float8E5M2} {
		x, err := onnx.FromFloat64s("x", d, []int64{4}, []float64{math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)})
		must(t, err)
		v, err := x.Float64s()
		must(t, err)
		if d != onnx.Float8E5M2 && (!math.IsInf(v[0], 1) || !math.IsInf(v[1], -1)) {
			t.Errorf("%v: infinities become %v and %v", d, v[0], v[1])
		}
		if !math.IsNaN(v[2]) || !math.Signbit(v[3]) || v[3] != 0 {
			t.Errorf("%v: NaN and −0 become %v and %v", d, v[2], v[3])
		}
	}
}

// TestTies: halfway between two floats, the even one is nearest.
func TestTies(t *testing.T) {
	for _, tc := range []struct {
		d       onnx.DType
		x, want float64
	}{
		{onnx.Float16, 2049, 2048}, {onnx.Float16, 2051, 2052}, {onnx.BFloat16, 257, 256}, {onnx.BFloat16, 259, 260},
		{onnx.Float8E4M3FN, 17, 16}, {onnx.Float8E4M3FN, 19, 20}, {onnx.Float16, math.Ldexp(1, -25), 0}, {onnx.Float16, math.Ldexp(3, -25), math.Ldexp(1, -23)},
	} {
		x, err := onnx.FromFloat64s("x", tc.d, []int64{}, []float64{tc.x})
		must(t, err)
		if v, err := x.Float64s(); err != nil || v[0] != tc.want {
			t.Errorf("%v: %v becomes %v (%v), want %v", tc.d, tc.x, v, err, tc.want)
		}
	}
}

// TestIntegers: integers in range come back, others are clamped.
func TestIntegers(t *testing.T) {
	for _, d := range []onnx.DType{onnx.Int2, onnx.Uint2, onnx.Int4, onnx.Uint4, onnx.Int8, onnx.Uint8, onnx.Int16, onnx.Uint16, onnx.Int32, onnx.Uint32} {
		lo, hi := onnx.IntRange(d)
		t.Run(d.String(), rapid.MakeCheck(func(t *rapid.T) {
			v := rapid.SliceOfN(rapid.Int64Range(lo, hi), 1, 9).Draw(t, "v")
			f := make([]float64, len(v))
			for i := range v {
				f[i] = float64(v[i])
			}
			for i, got := range through(t, d, f...) {
				if got != f[i] {
					t.Fatalf("element %d: %v becomes %v", i, f[i], got)
				}
			}
			out := through(t, d, float64(lo)-1.5, float64(hi)+1.5)
			if out[0] != float64(lo) || out[1] != float64(hi) {
				t.Fatalf("beyond the range it gives %v", out)
			}
		}))
	}
}

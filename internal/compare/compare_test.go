package compare

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

var near = cmpopts.EquateApprox(1e-6, 1e-12)

func floats(v ...float32) *onnx.Tensor { return onnx.FromFloats("x", []int64{int64(len(v))}, v) }

func class(t *testing.T, name string) Class {
	t.Helper()
	c, err := ParseClass(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func compared(t *testing.T, want, got *onnx.Tensor, name string) *Distance {
	t.Helper()
	d, err := Tensors(want, got, class(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestClosedForm(t *testing.T) {
	d := compared(t, floats(3, -4, 0, 5), floats(3, -4.5, 0.25, 5), "float32")
	cross := 9 + 18 + 25.0
	want := &Distance{
		Elements: 4, Mismatched: 2, Outside: 2, MaxAbs: 0.5, MaxRel: 0.125, MaxULP: 0x3e800000,
		Cosine: cross / math.Sqrt(50*(9+20.25+0.0625+25)), SQNR: 10 * math.Log10(50/(0.25+0.0625)),
		RMS: math.Sqrt(12.5), Scale: 5, Worst: Element{1, -4, -4.5}, Class: "float32",
		Reason: "2 of 4 elements are outside float32, the worst at 1: want -4, got -4.5",
	}
	if diff := cmp.Diff(want, d, near, cmpopts.IgnoreUnexported(Distance{})); diff != "" {
		t.Error(diff)
	}
}

func TestVerdicts(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	next := math.Nextafter32(1, 2)
	for _, tt := range []struct {
		name      string
		want, got *onnx.Tensor
		class     string
		ok        bool
	}{
		{"equal", floats(1, 2), floats(1, 2), "exact", true},
		{"one place off is not exact", floats(1), floats(next), "exact", false},
		{"one place off", floats(1), floats(next), "ulp", true},
		{"five places off", floats(1), floats(math.Float32frombits(math.Float32bits(1) + 5)), "ulp", false},
		{"places across zero", floats(math.SmallestNonzeroFloat32), floats(-math.SmallestNonzeroFloat32), "ulp", true},
		{"both zeros", floats(0), floats(float32(math.Copysign(0, -1))), "exact", true},
		{"nan is nan", floats(nan, 1), floats(nan, 1), "exact", true},
		{"nan is no number", floats(1, 1), floats(nan, 1), "int4", false},
		{"number is no nan", floats(nan, 1), floats(1, 1), "int4", false},
		{"same infinity", floats(inf, 1), floats(inf, 2), "exact", false},
		{"same infinity only", floats(inf, 1), floats(inf, 1), "exact", true},
		{"opposite infinity", floats(inf), floats(-inf), "int4", false},
		{"overflow", floats(1e30), floats(inf), "float16", false},
		{"tiny values are held to their own scale", floats(1e-8, 2e-8), floats(3e-8, -2e-8), "float32", false},
		{"tiny values agree", floats(1e-8, 2e-8), floats(1.00001e-8, 2e-8), "float32", true},
		{"cancellation beside large values", floats(1e-4, 100), floats(2e-4, 100), "float32", true},
		{"small errors everywhere add up", floats(1, 1, 1, 1), floats(1.00011, 1.00011, 1.00011, 1.00011), "float32", false},
		{"all zero wanted", floats(0, 0), floats(1e-6, 0), "float32", false},
		{"empty", floats(), floats(), "exact", true},
		{"integers", onnx.FromInts("x", []int64{2}, []int64{1 << 53, 7}), onnx.FromInts("x", []int64{2}, []int64{1<<53 + 1, 7}), "exact", false},
		{"strings", onnx.FromStrings("x", []int64{2}, []string{"a", "b"}), onnx.FromStrings("x", []int64{2}, []string{"a", "c"}), "exact", false},
		{"equal strings", onnx.FromStrings("x", []int64{1}, []string{"a"}), onnx.FromStrings("x", []int64{1}, []string{"a"}), "exact", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := compared(t, tt.want, tt.got, tt.class)
			if d.OK != tt.ok || (d.Reason == "") != tt.ok {
				t.Errorf("got %v (%s), want %v: %+v", d.OK, d.Reason, tt.ok, d)
			}
		})
	}
}

// Every real element type: distances agree with those of the values as float64, and tensors equal themselves.
func TestEveryType(t *testing.T) {
	values := []float64{0, 1, 2, 3, 1, 0, 2, 1, 3, 3, 0}
	moved := []float64{0, 1, 2, 2, 1, 0, 2, 1, 3, 3, 0}
	for d := onnx.Float; d <= onnx.Int2; d++ {
		switch d {
		case onnx.String, onnx.Complex64, onnx.Complex128, onnx.Bool, onnx.Float8E8M0, onnx.Int2:
			continue // tested apart
		}
		shape := []int64{int64(len(values))}
		a, err := onnx.FromFloat64s("a", d, shape, values)
		if err != nil {
			t.Fatal(err)
		}
		b, err := onnx.FromFloat64s("b", d, shape, moved)
		if err != nil {
			t.Fatal(err)
		}
		if same := compared(t, a, a, "exact"); !same.OK || !math.IsInf(same.SQNR, 1) || same.Cosine != 1 {
			t.Errorf("%v: not equal to itself: %+v", d, same)
		}
		got := compared(t, a, b, "exact")
		if got.Mismatched != 1 || got.MaxAbs != 1 || got.Worst != (Element{3, 3, 2}) || got.OK {
			t.Errorf("%v: got %+v", d, got)
		}
	}
	yes, _ := onnx.NewTensor("x", onnx.Bool, []int64{2}, []byte{1, 0})
	also, _ := onnx.NewTensor("x", onnx.Bool, []int64{2}, []byte{2, 0})
	no, _ := onnx.NewTensor("x", onnx.Bool, []int64{2}, []byte{0, 0})
	if !compared(t, yes, also, "exact").OK || compared(t, yes, no, "exact").OK {
		t.Error("booleans must be compared as truth values")
	}
	var c [16]byte
	binary.LittleEndian.PutUint32(c[4:], math.Float32bits(2))
	one, _ := onnx.NewTensor("x", onnx.Complex64, []int64{1}, c[:8])
	binary.LittleEndian.PutUint32(c[12:], math.Float32bits(3))
	other, _ := onnx.NewTensor("x", onnx.Complex64, []int64{1}, c[8:])
	if d := compared(t, one, other, "float32"); d.OK || d.MaxAbs != 1 || d.Elements != 2 {
		t.Errorf("complex: got %+v", d)
	}
}

// A tensor longer than the window, differing in its last, partly filled one, at sub-byte width too.
func TestWindows(t *testing.T) {
	n := 3*window + 5
	v := make([]float64, n)
	for i := range v {
		v[i] = float64(i % 8)
	}
	for _, d := range []onnx.DType{onnx.Float, onnx.Float16, onnx.Uint4, onnx.Int32} {
		a, err := onnx.FromFloat64s("a", d, []int64{int64(n)}, v)
		if err != nil {
			t.Fatal(err)
		}
		w := append([]float64(nil), v...)
		w[n-1], w[window] = 7, 5
		b, err := onnx.FromFloat64s("b", d, []int64{int64(n)}, w)
		if err != nil {
			t.Fatal(err)
		}
		got := compared(t, a, b, "exact")
		if got.Mismatched != 2 || got.Worst.Index != window || got.MaxAbs != 5 {
			t.Errorf("%v: got %+v", d, got)
		}
	}
}

func TestMixedFloatTypes(t *testing.T) {
	a := floats(1, 2, 3.001)
	b, err := onnx.FromFloat64s("x", onnx.Float16, []int64{3}, []float64{1, 2, 3.001})
	if err != nil {
		t.Fatal(err)
	}
	if d := compared(t, a, b, "float16"); !d.OK || d.MaxULP != 0 || d.Mismatched != 1 {
		t.Errorf("got %+v", d)
	}
}

func TestIncomparable(t *testing.T) {
	short, _ := onnx.NewTensor("s", onnx.Float, []int64{1}, make([]byte, 4))
	broken := &onnx.Tensor{Name: "b", DType: onnx.Float, Shape: []int64{1}, Data: onnx.Raw(make([]byte, 3))}
	undefined := &onnx.Tensor{Name: "u", Shape: []int64{0}}
	for name, pair := range map[string][2]*onnx.Tensor{
		"shape":     {floats(1, 2), short},
		"rank":      {floats(1), onnx.FromFloats("x", []int64{1, 1}, []float32{1})},
		"type":      {floats(1), onnx.FromInts("x", []int64{1}, []int64{1})},
		"bytes":     {short, broken},
		"undefined": {undefined, undefined},
	} {
		if d, err := Tensors(pair[0], pair[1], class(t, "exact")); err == nil {
			t.Errorf("%s: got %+v, want an error", name, d)
		}
	}
}

func TestOutputs(t *testing.T) {
	want := map[string]*onnx.Tensor{"b": floats(1), "a": onnx.FromInts("a", []int64{1}, []int64{1})}
	got := map[string]*onnx.Tensor{"b": floats(1.00001), "a": onnx.FromInts("a", []int64{1}, []int64{1}), "extra": floats(9)}
	named, err := Outputs(want, got, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(named) != 2 || named[0].Name != "a" || named[0].Class != "exact" || named[1].Class != "float32" || !named[1].OK {
		t.Errorf("got %+v", named)
	}
	delete(got, "a")
	if _, err := Outputs(want, got, nil); err == nil {
		t.Error("a missing output was accepted")
	}
}

func TestLooser(t *testing.T) {
	a, b := class(t, "int8"), class(t, "float32")
	if Looser(a, b).Name != "int8" || Looser(b, a).Name != "int8" || Looser(a, a).Name != "int8" {
		t.Error("int8 is looser than float32")
	}
	if _, err := ParseClass("fp32"); err == nil {
		t.Error("an unknown class was accepted")
	}
}

func BenchmarkTensors1M(b *testing.B) {
	v := make([]float32, 1<<20)
	w := make([]float32, 1<<20)
	for i := range v {
		v[i] = float32(i)
		w[i] = float32(i) * 1.00001
	}
	x, y := onnx.FromFloats("x", []int64{1 << 20}, v), onnx.FromFloats("y", []int64{1 << 20}, w)
	b.SetBytes(4 << 20)
	for b.Loop() {
		if _, err := Tensors(x, y, ClassFor(onnx.Float)); err != nil {
			b.Fatal(err)
		}
	}
}

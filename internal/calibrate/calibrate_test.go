package calibrate

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func TestRange(t *testing.T) {
	var a, b, all Range
	for i, r := range [][3]float32{{-1, 2, 0}, {-3, 1, 0}, {0, 4, 1}, {float32(math.NaN()), 1, 0}, {0, 1, float32(math.Inf(1))}} {
		all.add(r[0], r[1], r[2])
		if i < 2 {
			a.add(r[0], r[1], r[2])
		} else {
			b.add(r[0], r[1], r[2])
		}
	}
	want := Range{Min: -3, Max: 4, MeanMin: -4. / 3, MeanMax: 7. / 3, Runs: 3, Invalid: 2}
	a.Merge(b)
	near := cmp.Comparer(func(x, y float64) bool { return math.Abs(x-y) < 1e-12 })
	if diff := cmp.Diff(want, all, near); diff != "" {
		t.Errorf("one after the other (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, a, near); diff != "" {
		t.Errorf("merged (-want +got):\n%s", diff)
	}
	var empty Range
	empty.Merge(want)
	if diff := cmp.Diff(want, empty); diff != "" {
		t.Errorf("merged into nothing (-want +got):\n%s", diff)
	}
}

func TestScan(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		in        []float32
		lo, hi    float32
		some, bad bool
	}{
		{[]float32{}, 0, 0, false, false},
		{[]float32{3, -2, 1}, -2, 3, true, false},
		{[]float32{3, nan, 1}, 0, 0, true, true},
		{[]float32{3, float32(math.Inf(-1))}, 0, 0, true, true},
	} {
		lo, hi, sum, some, err := scan(onnx.FromFloats("x", []int64{int64(len(c.in))}, c.in))
		if err != nil || some != c.some {
			t.Fatalf("%v: %v, %v", c.in, some, err)
		}
		if !some {
			continue
		}
		var r Range
		r.add(lo, hi, sum)
		if (r.Invalid > 0) != c.bad || !c.bad && (lo != c.lo || hi != c.hi) {
			t.Errorf("%v: %v … %v, invalid %d", c.in, lo, hi, r.Invalid)
		}
	}
}

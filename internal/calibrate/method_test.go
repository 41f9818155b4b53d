package calibrate

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func statsOf(t *testing.T, batches ...[]float32) *Stats {
	t.Helper()
	s := &Stats{}
	for _, b := range batches {
		var one Stats
		if err := one.whole(onnx.FromFloats("x", []int64{int64(len(b))}, b), Want{}, 0, nil); err != nil {
			t.Fatal(err)
		}
		s.Merge(&one)
	}
	return s
}

func normal(seed uint64, n int, tail float64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
		if tail > 0 && i%1000 == 0 {
			out[i] *= float32(tail)
		}
	}
	return out
}

// TestHistogramDoesNotDependOnOrder: parts of any size in any order give the
// same histogram, to the last count.
func TestHistogramDoesNotDependOnOrder(t *testing.T) {
	all := normal(1, 20000, 30)
	want := statsOf(t, all)
	for _, cuts := range [][]int{{0, 1, 20000}, {0, 7, 300, 15000, 20000}, {0, 19999, 20000}} {
		var parts [][]float32
		for i := len(cuts) - 1; i > 0; i-- {
			parts = append(parts, all[cuts[i-1]:cuts[i]])
		}
		got := statsOf(t, parts...)
		if diff := cmp.Diff(want.Histogram, got.Histogram); diff != "" {
			t.Errorf("in parts %v (-want +got):\n%s", cuts, diff)
		}
	}
	if n := len(want.Histogram.Counts); n < mostBins/4 || n > mostBins {
		t.Errorf("%d bins", n)
	}
	if want.Histogram.total() != 20000 {
		t.Errorf("%d elements are counted", want.Histogram.total())
	}
}

// TestHistogramBins: each element is in the bin that its value says.
func TestHistogramBins(t *testing.T) {
	for _, x := range [][]float32{{0}, {1, 2, 3}, {-1e-38, 1e-38}, {-3e38, 3e38}, {5, 5, 5}, {1e-45, 0}, {-1, 1e-7, 1}} {
		s := statsOf(t, x)
		for _, v := range x {
			found := false
			s.Histogram.each(func(lo, hi float64, _ int64) { found = found || float64(v) >= lo && float64(v) < hi })
			if !found {
				t.Errorf("%v: %v is in no bin of %+v", x, v, s.Histogram)
			}
		}
		if s.Histogram.total() != int64(len(x)) {
			t.Errorf("%v: %d counted", x, s.Histogram.total())
		}
	}
}

// TestMethods: with outliers the searches clip, without they do not, and the one
// with the least measured error is near what auto takes.
func TestMethods(t *testing.T) {
	codes := Codes{Levels: 256}
	for _, c := range []struct {
		name string
		data []float32
	}{
		{"normal", normal(1, 100000, 0)}, {"outliers", normal(2, 100000, 20)}, {"behind relu", relu(normal(3, 100000, 20))},
	} {
		s := statsOf(t, c.data)
		least := math.Inf(1)
		for _, m := range methods {
			r := m.Range(s, codes)
			if r.Min > 0 || r.Max < 0 || r.Min < s.Min || r.Max > s.Max {
				t.Errorf("%s: %s gives [%v, %v] of [%v, %v]", c.name, m.Name, r.Min, r.Max, s.Min, s.Max)
			}
			e := measured(c.data, r, codes)
			least = min(least, e)
			if math.Abs(e-r.Error) > 0.05*e {
				t.Errorf("%s: %s predicts an error of %.3g, it is %.3g", c.name, m.Name, r.Error, e)
			}
		}
		a, err := ParseMethod("auto")
		if err != nil {
			t.Fatal(err)
		}
		if e := measured(c.data, a.Range(s, codes), codes); e > 1.05*least {
			t.Errorf("%s: auto has an error of %.3g, another method %.3g", c.name, e, least)
		}
	}
	tail := statsOf(t, normal(2, 100000, 20))
	for name, most := range map[string]float32{"mse": 49, "kl": 30} {
		m, err := ParseMethod(name)
		if err != nil {
			t.Fatal(err)
		}
		if r := m.Range(tail, codes); r.Max > most || tail.Max < 40 {
			t.Errorf("%s takes [%v, %v] of [%v, %v]", name, r.Min, r.Max, tail.Min, tail.Max)
		}
	}
}

func relu(x []float32) []float32 {
	for i := range x {
		x[i] = max(x[i], 0)
	}
	return x
}

// measured is the squared error over the square of quantizing x.
func measured(x []float32, r Range, c Codes) float64 {
	step := (float64(r.Max) - float64(r.Min)) / float64(c.Levels-1)
	zero := math.RoundToEven(-float64(r.Min) / step)
	var noise, signal float64
	for _, v := range x {
		code := min(max(math.RoundToEven(float64(v)/step)+zero, 0), float64(c.Levels-1))
		d := float64(v) - (code-zero)*step
		noise, signal = noise+d*d, signal+float64(v)*float64(v)
	}
	return noise / signal
}

// TestSymmetric: both sides are as large.
func TestSymmetric(t *testing.T) {
	s := statsOf(t, normal(4, 10000, 10))
	for _, m := range methods {
		if r := m.Range(s, Codes{Levels: 255, Symmetric: true}); r.Min != -r.Max {
			t.Errorf("%s gives [%v, %v]", m.Name, r.Min, r.Max)
		}
	}
}

// TestInvalid: a run with NaN counts as such and nowhere else.
// TestCloseTogether: values close together far from zero have bins so narrow that as many
// from zero on would not fit any memory; every method finds their range all the same.
func TestCloseTogether(t *testing.T) {
	for _, side := range []float32{1, -1} {
		s := statsOf(t, []float32{1e4 * side, math.Nextafter32(1e4, 2e4) * side, 1e4 * side})
		for _, m := range methods {
			for _, symmetric := range []bool{false, true} {
				c := Codes{Levels: 256, Symmetric: symmetric}
				r := m.Range(s, c)
				if most := max(-r.Min, r.Max); r.Min > r.Max || most < 9990 || most > 10001 {
					t.Errorf("%s, symmetric %v: %v", m.Name, symmetric, r)
				}
			}
		}
	}
}

func TestInvalid(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	s := statsOf(t, []float32{1, 2}, []float32{nan, 5}, []float32{-inf}, []float32{-1})
	if s.Invalid != 2 || s.Runs != 2 || s.Min != -1 || s.Max != 2 || s.Count != 3 || s.Histogram.total() != 3 {
		t.Errorf("%+v", s)
	}
	if got := s.SumMax; got != 1 {
		t.Errorf("the largest of both runs sum to %v", got)
	}
}

// TestChannels: sums by index of an axis.
func TestChannels(t *testing.T) {
	x := onnx.FromFloats("x", []int64{2, 3, 2}, []float32{1, -2, 3, 4, 5, 6, 7, 8, -9, 10, 11, 12})
	s := &Stats{}
	for range 2 {
		var one Stats
		if err := one.whole(x, Want{Channels: true, Axis: 1}, 0, nil); err != nil {
			t.Fatal(err)
		}
		s.Merge(&one)
	}
	want := &Channels{Axis: 1, Count: 8, Peak: []float32{8, 10, 12}, Sum: []float64{28, 16, 68}, Size: []float64{36, 52, 68}, Squares: []float64{236, 412, 652}}
	if diff := cmp.Diff(want, s.Channels); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestZeros holds that zeros are counted, of either sign, and nothing else is.
func TestZeros(t *testing.T) {
	x := []float32{0, 1, -1, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, 0, 3, 4, 5, 0, 7}
	var s Stats
	if err := s.whole(onnx.FromFloats("x", []int64{int64(len(x))}, x), Want{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	if s.Histogram.Zeros != 4 {
		t.Errorf("%d zeros, want 4", s.Histogram.Zeros)
	}
}

// TestReachOfNothing holds that a tensor that was all zero, or hardly more, may be anything in the next run.
func TestReachOfNothing(t *testing.T) {
	for _, first := range [][]float32{{0, 0}, {0, math.SmallestNonzeroFloat32}, {-1e-30, 1e-30}} {
		for _, next := range [][]float32{{0, 1}, {-3e38, 3e38}, {-1, -1e-30}, {5, 6}} {
			r := &reach{}
			var all Stats
			for _, x := range [][]float32{first, next} {
				var one Stats
				if err := one.whole(onnx.FromFloats("x", []int64{2}, x), Want{}, 0, r); err != nil {
					t.Fatal(err)
				}
				all.Merge(&one)
			}
			if n := all.Histogram.total(); n != 4 || all.Max != max(first[1], next[1]) || all.Min != min(first[0], next[0]) {
				t.Errorf("%v, then %v: %d elements from %v to %v", first, next, n, all.Min, all.Max)
			}
		}
	}
}

// TestReach holds that the histogram of some runs is the same whether their range was
// known before or not, and in whatever order they came.
func TestReach(t *testing.T) {
	enter := func(r *reach, order []int) *Stats {
		var all Stats
		for _, k := range order {
			x := normal(uint64(k), 3000, 0)
			for i := range x {
				x[i] *= float32(1 + k*k)
			}
			var one Stats
			if err := one.whole(onnx.FromFloats("x", []int64{3000}, x), Want{}, int64(k), r); err != nil {
				t.Fatal(err)
			}
			all.Merge(&one)
		}
		return &all
	}
	want := enter(nil, []int{0, 1, 2, 3, 4, 5, 6})
	for _, order := range [][]int{{0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {3, 6, 0, 5, 1, 4, 2}} {
		if got := enter(&reach{}, order); !reflect.DeepEqual(got.Histogram, want.Histogram) || got.Min != want.Min || got.Max != want.Max {
			t.Errorf("in the order %v: %+v, without known ranges %+v", order, got.Histogram, want.Histogram)
		}
	}
}

// BenchmarkWhole enters the first run of a tensor, which is read twice, and a later one.
func BenchmarkWhole(b *testing.B) {
	x := normal(1, 1<<20, 0)
	t := onnx.FromFloats("x", []int64{1 << 20}, x)
	known := &reach{}
	known.add(slices.Min(x), slices.Max(x))
	for _, r := range []struct {
		name string
		*reach
	}{{"first", nil}, {"later", known}} {
		b.Run(r.name, func(b *testing.B) {
			b.SetBytes(4 << 20)
			for b.Loop() {
				var s Stats
				if err := s.whole(t, Want{}, 0, r.reach); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMethods(b *testing.B) {
	var s Stats
	if err := s.whole(onnx.FromFloats("x", []int64{100000}, normal(2, 100000, 20)), Want{}, 0, nil); err != nil {
		b.Fatal(err)
	}
	for _, m := range methods {
		b.Run(m.Name, func(b *testing.B) {
			for b.Loop() {
				m.Range(&s, Codes{Levels: 256})
			}
		})
	}
}

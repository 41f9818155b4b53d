package calibrate

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Codes are the integers that a tensor is quantized to.
type Codes struct {
	Levels    int  // codes in use, such as 256; 255 for int8 from −127 to 127
	Symmetric bool // zero stands in the middle, so that ranges are ±a
}

// Method finds the range of a tensor that is quantized: elements outside become
// its bounds.
type Method struct {
	Name string
	Doc  string
	find func(s *Stats, c Codes) (lo, hi float64)
	bins bool // needs the histogram
}

// methods are all that there are, in the order in which [Auto] prefers them
// where their errors are the same.
var methods = []Method{
	{"minmax", "the least and the largest element", minMax, false},
	{"mean-minmax", "the means over the samples of the least and of the largest element", meanMinMax, false},
	{"moving-average", "moving averages of these, with weight 0.01 for a sample", movingAverage, false},
	{"percentile", "all but the outermost 0.001 % of the elements", percentile, true},
	{"kl", "the range that changes the distribution least, by Kullback-Leibler divergence", entropy, true},
	{"mse", "the range with the least squared error", leastError, true},
}

// auto is the method that chooses among the others for each tensor.
const auto = "auto"

// Methods returns the names that [ParseMethod] takes.
func Methods() []string {
	out := []string{auto}
	for _, m := range methods {
		out = append(out, m.Name)
	}
	return out
}

// ParseMethod returns the method of a name.
func ParseMethod(name string) (Method, error) {
	if name == auto {
		return Method{auto, "the one of the others whose predicted error is least, for each tensor", nil, true}, nil
	}
	i := slices.IndexFunc(methods, func(m Method) bool { return m.Name == name })
	if i < 0 {
		return Method{}, fmt.Errorf("calibration method %q is unknown; want one of %s", name, strings.Join(Methods(), ", "))
	}
	return methods[i], nil
}

// NeedsHistogram reports whether more than the extremes must be measured.
func (m Method) NeedsHistogram() bool { return m.bins }

// Range is a choice for one tensor.
type Range struct {
	Min, Max float32
	Method   string  // which found it
	Error    float64 // predicted mean squared error over mean square; NaN where there is no histogram
	Clipped  float64 // share of the elements outside; 0 where there is no histogram
}

// Range finds the range of a tensor that had elements.
func (m Method) Range(s *Stats, c Codes) Range {
	if m.Name != auto {
		return m.choose(s, c)
	}
	var best Range
	for i, k := range methods {
		if k.bins && s.Histogram == nil {
			continue
		}
		// A tie goes to the earlier, and what wins by less than a hundredth is a tie.
		if r := k.choose(s, c); i == 0 || r.Error < 0.99*best.Error {
			best = r
		}
	}
	return best
}

func (m Method) choose(s *Stats, c Codes) Range {
	lo, hi := m.find(s, c)
	lo, hi = within(s, lo, hi, c)
	r := Range{Min: float32(lo), Max: float32(hi), Method: m.Name, Error: math.NaN()}
	if s.Histogram != nil {
		noise, clipped := s.noise(lo, hi, c)
		r.Error, r.Clipped = noise, clipped
	}
	return r
}

// within widens a range to hold zero, and narrows it to what was seen; both
// sides are as large where codes are symmetric.
func within(s *Stats, lo, hi float64, c Codes) (float64, float64) {
	lo, hi = math.Min(math.Max(lo, float64(s.Min)), 0), math.Max(math.Min(hi, float64(s.Max)), 0)
	if c.Symmetric {
		a := math.Max(-lo, hi)
		return -a, a
	}
	return lo, hi
}

func minMax(s *Stats, _ Codes) (lo, hi float64) { return float64(s.Min), float64(s.Max) }

// meanMinMax is what NNCF takes for activations: no single sample decides.
func meanMinMax(s *Stats, _ Codes) (lo, hi float64) {
	return s.SumMin / float64(s.Runs), s.SumMax / float64(s.Runs)
}

func movingAverage(s *Stats, _ Codes) (lo, hi float64) { return s.MoveMin, s.MoveMax }

// outside is the share of the elements that percentile leaves outside, as
// onnxruntime.quantization's 99.999.
const outside = 1e-5

func percentile(s *Stats, c Codes) (lo, hi float64) {
	if s.Histogram == nil {
		return minMax(s, c)
	}
	if c.Symmetric {
		a := s.Histogram.folded().quantile(1 - outside)
		return -a, a
	}
	return s.Histogram.quantile(outside / 2), s.Histogram.quantile(1 - outside/2)
}

// quantile returns where the share p of the elements is below, linear within a bin.
func (h *Histogram) quantile(p float64) float64 {
	want := p * float64(h.total())
	w, sum := h.Width(), 0.
	for i, n := range h.Counts {
		if next := sum + float64(n); next >= want && n > 0 {
			return (float64(h.First+int64(i)) + (want-sum)/float64(n)) * w
		} else {
			sum = next
		}
	}
	return float64(h.First+int64(len(h.Counts))) * w
}

// folded returns the histogram of the magnitudes. Bins below zero are mirrored,
// which puts an element on the border of a bin at most one bin further. They begin
// at zero, so where all elements lie close together far from it, the bins are wider.
func (h *Histogram) folded() *Histogram {
	wide := Histogram{Exp: h.Exp, First: h.First, Counts: h.Counts, Zeros: h.Zeros}
	for h = &wide; max(h.First+int64(len(h.Counts)), -h.First) > mostBins; {
		h.coarsen(h.Exp + 1)
	}
	last := max(h.First+int64(len(h.Counts)), -h.First)
	out := &Histogram{Exp: h.Exp, Counts: make([]int64, max(last, 1)), Zeros: h.Zeros}
	for i, n := range h.Counts {
		at := h.First + int64(i)
		if at < 0 {
			at = -at - 1
		}
		out.Counts[at] += n
	}
	return out
}

// Noise returns the mean squared error of quantizing to the codes of a range,
// over the mean square: by the histogram where there is one, else step²/12.
func (s *Stats) Noise(r [2]float64, c Codes) float64 {
	if s.Histogram != nil {
		ratio, _ := s.noise(r[0], r[1], c)
		return ratio
	}
	if s.Squares <= 0 || s.Count == 0 {
		return 0
	}
	return math.Pow((r[1]-r[0])/float64(c.Levels-1), 2) / 12 * float64(s.Count) / s.Squares
}

// Clipped returns the share of the elements outside of a range; false where there
// is no histogram.
func (s *Stats) Clipped(r [2]float64, c Codes) (share float64, ok bool) {
	if s.Histogram == nil {
		return 0, false
	}
	_, share = s.noise(r[0], r[1], c)
	return share, true
}

// noise returns the mean squared error of quantizing to the codes of a range,
// over the mean square, and the share of the elements outside the range.
func (s *Stats) noise(lo, hi float64, c Codes) (ratio, clipped float64) {
	if s.Squares <= 0 || s.Count == 0 {
		return 0, 0
	}
	sum, out := s.Histogram.noise(lo, hi, c, 4)
	return sum / s.Squares, out / float64(s.Count)
}

// noise returns the squared error of quantizing to the codes of a range, and how
// many elements are outside of it. Elements of a bin are taken to be spread
// evenly over so many points, but exact zeros have no error.
func (h *Histogram) noise(lo, hi float64, c Codes, points int) (sum, outside float64) {
	step := (hi - lo) / float64(c.Levels-1)
	if step <= 0 {
		return math.Inf(1), 0
	}
	zero := math.RoundToEven(-lo / step)
	lo, hi = -zero*step, (float64(c.Levels-1)-zero)*step
	w := h.Width()
	for i, k := range h.Counts {
		if k == 0 {
			continue
		}
		at := h.First + int64(i)
		n := float64(k)
		if at == 0 {
			n -= float64(h.Zeros)
		}
		a := float64(at) * w
		if a >= hi || a+w <= lo {
			outside += n
		}
		var d2 float64
		for p := range points {
			x := a + w*(float64(p)+0.5)/float64(points)
			d := x - math.RoundToEven(x/step)*step
			if x < lo {
				d = x - lo
			} else if x > hi {
				d = x - hi
			}
			d2 += d * d
		}
		sum += d2 * n / float64(points)
	}
	return sum, outside
}

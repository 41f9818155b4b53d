package calibrate

import (
	"encoding/binary"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Stats is what was seen of one tensor. Its size does not depend on how much
// data there was, and two of them merge into what one pass over both gives: all
// but the floating-point sums and the moving average to the last bit in any order.
type Stats struct {
	Runs    int64 `json:"runs"`    // in which the tensor had elements and all were finite
	Invalid int64 `json:"invalid"` // in which it had NaN or infinite elements, which count nowhere else
	Count   int64 `json:"count"`   // elements

	Min, Max         float32
	SumMin, SumMax   float64 // over the runs, of the least and of the largest element
	MoveMin, MoveMax float64 // moving averages of these, each run with weight 0.01
	Sum, Squares     float64 // of the elements and of their squares

	Histogram *Histogram `json:"histogram,omitempty"` // nil where only the extremes were asked for
	Channels  *Channels  `json:"channels,omitempty"`  // nil where none were asked for
	Gram      *Gram      `json:"-"`                   // nil where none was asked for
}

// Channels are sums by index of one axis.
type Channels struct {
	Axis    int       `json:"axis"`
	Count   int64     `json:"count"` // elements of each channel
	Peak    []float32 `json:"peak"`  // largest magnitudes
	Sum     []float64 `json:"sum"`
	Size    []float64 `json:"size"` // sums of magnitudes
	Squares []float64 `json:"squares"`
}

// movingWeight is the weight of a run in the moving average, as in
// onnxruntime.quantization.
const movingWeight = 0.01

// extremes enters a run of which the least, the largest and the sum are known;
// it reports whether these are finite.
func (s *Stats) extremes(lo, hi float32, sum float64) bool {
	if !finite(lo) || !finite(hi) || math.IsNaN(sum) || math.IsInf(sum, 0) {
		s.Invalid++
		return false
	}
	if s.Runs == 0 {
		s.Min, s.Max, s.MoveMin, s.MoveMax = lo, hi, float64(lo), float64(hi)
	}
	s.Min, s.Max = min(s.Min, lo), max(s.Max, hi)
	s.MoveMin += (float64(lo) - s.MoveMin) * movingWeight
	s.MoveMax += (float64(hi) - s.MoveMax) * movingWeight
	s.SumMin, s.SumMax = s.SumMin+float64(lo), s.SumMax+float64(hi)
	s.Runs++
	return true
}

func finite(x float32) bool { return x-x == 0 }

// whole enters run k with all of its elements; r is the range of the tensor in
// other runs, or nil.
func (s *Stats) whole(t *onnx.Tensor, w Want, k int64, r *reach) error {
	b, err := t.Bytes()
	if err != nil || len(b) == 0 {
		return err
	}
	var h *Histogram
	var c *counter
	var least, most float32
	if !w.Extremes && len(b) <= mostCounted {
		if h, least, most = r.get(); h != nil {
			c = newCounter(h)
		}
	}
	lo, hi, sum, squares := scan(b, c)
	if !s.extremes(lo, hi, sum) {
		return nil
	}
	s.Count, s.Sum, s.Squares = s.Count+int64(len(b)/4), s.Sum+sum, s.Squares+squares
	if !w.Extremes {
		if h == nil || lo < least || hi > most {
			h = newHistogram(b, lo, hi)
		} else {
			c.addTo(h)
			h.trim(lo, hi)
		}
		s.enter(h)
		r.add(lo, hi)
	}
	if w.Channels {
		s.channels(b, t.Shape, w.Axis)
	}
	if w.Gram {
		s.Gram = newGram(b, t.Shape, &w, k)
	}
	return nil
}

func (s *Stats) enter(h *Histogram) {
	if s.Histogram == nil {
		h.coarsen(gridFor(s.Min, s.Max))
		s.Histogram = h
		return
	}
	s.Histogram.merge(h, s.Min, s.Max)
}

// channels enters a run by index of an axis, which counts from the end where it
// is negative. Runs in which the axis has another size are left out.
func (s *Stats) channels(b []byte, shape []int64, axis int) {
	if axis < 0 {
		axis += len(shape)
	}
	if axis < 0 || axis >= len(shape) {
		return
	}
	n := int(shape[axis])
	if s.Channels == nil {
		s.Channels = &Channels{Axis: axis, Peak: make([]float32, n), Sum: make([]float64, n), Size: make([]float64, n), Squares: make([]float64, n)}
	}
	c := s.Channels
	if len(c.Sum) != n {
		return
	}
	inner := 1
	for _, d := range shape[axis+1:] {
		inner *= int(d)
	}
	c.Count += int64(len(b) / 4 / n)
	for at, k := 0, 0; at < len(b); k++ {
		ch := k % n
		var sum, size, squares float64
		peak := c.Peak[ch]
		for range inner {
			x := math.Float32frombits(binary.LittleEndian.Uint32(b[at:]))
			y := float64(x)
			a := math.Abs(y)
			peak = max(peak, float32(a))
			sum, size, squares = sum+y, size+a, squares+y*y
			at += 4
		}
		c.Peak[ch], c.Sum[ch], c.Size[ch], c.Squares[ch] = peak, c.Sum[ch]+sum, c.Size[ch]+size, c.Squares[ch]+squares
	}
}

// Merge enters what was seen of the same tensor in later runs.
func (s *Stats) Merge(t *Stats) {
	s.Invalid += t.Invalid
	if t.Runs == 0 {
		return
	}
	if s.Runs == 0 {
		invalid := s.Invalid
		*s = *t
		s.Invalid = invalid
		s.Histogram, s.Channels, s.Gram = t.Histogram.clone(), t.Channels.clone(), t.Gram.summed()
		return
	}
	// A run of its own began the average of t: with n runs it has all of its weight.
	keep := math.Pow(1-movingWeight, float64(t.Runs))
	s.MoveMin += (t.MoveMin - s.MoveMin) * (1 - keep)
	s.MoveMax += (t.MoveMax - s.MoveMax) * (1 - keep)
	s.Min, s.Max = min(s.Min, t.Min), max(s.Max, t.Max)
	s.SumMin, s.SumMax = s.SumMin+t.SumMin, s.SumMax+t.SumMax
	s.Runs, s.Count = s.Runs+t.Runs, s.Count+t.Count
	s.Sum, s.Squares = s.Sum+t.Sum, s.Squares+t.Squares
	if t.Histogram != nil {
		s.enter(t.Histogram.clone())
	}
	s.Channels.merge(t.Channels)
	s.Gram.merge(t.Gram)
}

func (h *Histogram) clone() *Histogram {
	if h == nil {
		return nil
	}
	c := *h
	c.Counts = append([]int64(nil), h.Counts...)
	return &c
}

func (c *Channels) clone() *Channels {
	if c == nil {
		return nil
	}
	return &Channels{Axis: c.Axis, Count: c.Count, Peak: append([]float32(nil), c.Peak...), Sum: append([]float64(nil), c.Sum...),
		Size: append([]float64(nil), c.Size...), Squares: append([]float64(nil), c.Squares...)}
}

func (c *Channels) merge(d *Channels) {
	if c == nil || d == nil || len(c.Sum) != len(d.Sum) {
		return
	}
	c.Count += d.Count
	for i := range c.Sum {
		c.Peak[i] = max(c.Peak[i], d.Peak[i])
		c.Sum[i] += d.Sum[i]
		c.Size[i] += d.Size[i]
		c.Squares[i] += d.Squares[i]
	}
}

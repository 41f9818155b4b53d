package draw

import "math"

// Scale maps values from Lo to Hi to coordinates from From to To, linearly or by their logarithms. Values outside are drawn at
// the nearer end.
type Scale struct {
	Lo, Hi, From, To float64
	Log              bool // Lo and Hi are above 0, and equal factors take equal room
}

// NewScale covers the values with a margin of the given share on both sides.
func NewScale(from, to, margin float64, values ...float64) Scale {
	lo, hi := span(values)
	pad := (hi - lo) * margin
	if pad == 0 {
		pad = max(math.Abs(lo)*0.1, 1e-9)
	}
	return Scale{Lo: lo - pad, Hi: hi + pad, From: from, To: to}
}

// NewLogScale covers the values above 0 with a margin of the given share of their range on both sides.
func NewLogScale(from, to, margin float64, values ...float64) Scale {
	var logs []float64
	for _, v := range values {
		if v > 0 && !math.IsInf(v, 0) {
			logs = append(logs, math.Log(v))
		}
	}
	if len(logs) == 0 {
		logs = []float64{0}
	}
	lo, hi := span(logs)
	pad := max((hi-lo)*margin, 0.05)
	return Scale{Lo: math.Exp(lo - pad), Hi: math.Exp(hi + pad), From: from, To: to, Log: true}
}

func span(values []float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// At returns the coordinate of a value.
func (s Scale) At(v float64) float64 {
	if s.Hi == s.Lo {
		return s.From
	}
	v = min(max(v, s.Lo), s.Hi)
	share := (v - s.Lo) / (s.Hi - s.Lo)
	if s.Log {
		share = math.Log(v/s.Lo) / math.Log(s.Hi/s.Lo)
	}
	return s.From + share*(s.To-s.From)
}

// Ticks returns about n round values within the scale.
func (s Scale) Ticks(n int) []float64 {
	if s.Log {
		return s.logTicks(n)
	}
	step := (s.Hi - s.Lo) / float64(n)
	if !(step > 0) || math.IsInf(step, 0) {
		return nil
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*power >= step {
			step = m * power
			break
		}
	}
	var out []float64
	for i := math.Ceil(s.Lo / step); i*step <= s.Hi && len(out) < 4*n; i++ {
		out = append(out, i*step)
	}
	return out
}

// logTicks returns 1, 2 and 5 times powers of ten where these are few enough, else powers of ten with equal gaps.
func (s Scale) logTicks(n int) []float64 {
	if !(s.Lo > 0) || !(s.Hi > s.Lo) || math.IsInf(s.Hi, 0) {
		return nil
	}
	first, last := int(math.Floor(math.Log10(s.Lo))), int(math.Floor(math.Log10(s.Hi)))
	within := func(steps []float64, gap int) []float64 {
		var out []float64
		for e := first; e <= last; e += gap {
			for _, m := range steps {
				if v := m * math.Pow(10, float64(e)); v >= s.Lo && v <= s.Hi {
					out = append(out, v)
				}
			}
		}
		return out
	}
	for _, steps := range [][]float64{{1, 2, 5}, {1, 3}} {
		if out := within(steps, 1); len(out) <= n+2 {
			return out
		}
	}
	return within([]float64{1}, max(1, (last-first+n)/max(n, 1)))
}

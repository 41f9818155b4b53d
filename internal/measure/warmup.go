package measure

// Warmup records how one worker was brought to a steady state.
type Warmup struct {
	Process int
	Arm     Arm
	Runs    int     // untimed runs spent on it
	First   float64 // seconds of the very first run
	Steady  bool    // the timings agreed before the time limit
}

// Steadiness is the criterion for the end of a warm-up; the zero value is 3 windows of 5 blocks that agree within 2 %.
type Steadiness struct {
	Windows   int     // 0 means 3
	Window    int     // blocks per window; 0 means 5
	Tolerance float64 // largest median over smallest, less 1; 0 means 0.02
}

func (s Steadiness) filled() Steadiness {
	if s.Windows == 0 {
		s.Windows = 3
	}
	if s.Window == 0 {
		s.Window = 5
	}
	if s.Tolerance == 0 {
		s.Tolerance = 0.02
	}
	return s
}

// Steady says whether the medians of the last windows of the series agree. A series that is too short is not steady.
func (s Steadiness) Steady(series []float64) bool {
	s = s.filled()
	n := s.Windows * s.Window
	if s.Windows < 1 || s.Window < 1 || len(series) < n {
		return false
	}
	tail := series[len(series)-n:]
	lo, hi := Median(tail[:s.Window]), Median(tail[:s.Window])
	for w := 1; w < s.Windows; w++ {
		m := Median(tail[w*s.Window : (w+1)*s.Window])
		lo, hi = min(lo, m), max(hi, m)
	}
	return hi <= lo*(1+s.Tolerance)
}

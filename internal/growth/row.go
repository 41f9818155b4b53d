package growth

import (
	"math"
	"time"
)

// Sample is what a command took at one size.
type Sample struct {
	Size float64
	Cost Cost
}

// Row is one command over the sizes of a series.
type Row struct {
	Command string // as a user writes it, files left out
	Model   string // what of: the name of the network
	Start   Cost   // on a model of next to no size
	Samples []Sample
	Failed  string // why there are no more samples; "" where all sizes were run
}

// Noise: what is less above the start says nothing of growth.
const (
	noiseTime   = 15 * time.Millisecond
	noiseMemory = 4 << 20
)

// Wall fits the time from start to end.
func (r *Row) Wall() Fit {
	return r.fit(func(c Cost) float64 { return c.Wall.Seconds() }, max(noiseTime, r.Start.Wall/5).Seconds())
}

// CPU fits the time of all processors, less what processes below spent on running models.
func (r *Row) CPU() Fit {
	return r.fit(func(c Cost) float64 { return (c.CPU - c.Below).Seconds() }, max(noiseTime, (r.Start.CPU-r.Start.Below)/5).Seconds())
}

// runsModels reports whether a good part of the time is that of processes below.
func (r *Row) runsModels() bool {
	for _, s := range r.Samples {
		if s.Cost.Below > s.Cost.CPU/10 {
			return true
		}
	}
	return false
}

// Memory fits the peak of what the system cannot take back: pages of mapped files, the engine's library among them, are
// there as long as nobody else needs the room.
func (r *Row) Memory() Fit {
	return r.fit(func(c Cost) float64 { return float64(c.Own) }, max(noiseMemory, float64(r.Start.Own)/10))
}

func (r *Row) fit(of func(Cost) float64, noise float64) Fit {
	var points []Point
	for _, s := range r.Samples {
		points = append(points, Point{s.Size, of(s.Cost)})
	}
	return FitPower(points, of(r.Start), noise)
}

// Linear reports whether nothing grows faster than the model, as far as is known.
func (r *Row) Linear() bool { return r.timeLinear() && r.Memory().Linear() }

// timeLinear is about the time from start to end only where that is the command's own.
func (r *Row) timeLinear() bool { return r.CPU().Linear() && (r.runsModels() || r.Wall().Linear()) }

// PerSize returns by how many bytes the peak, less that of the start, grew for a byte of the model, at the largest
// size; NaN where there is none.
func (r *Row) PerSize() (all, own float64) {
	if len(r.Samples) == 0 {
		return math.NaN(), math.NaN()
	}
	s := r.Samples[len(r.Samples)-1]
	return float64(s.Cost.Peak-r.Start.Peak) / s.Size, float64(s.Cost.Own-r.Start.Own) / s.Size
}

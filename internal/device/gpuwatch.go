package device

import (
	"slices"
	"sync"
	"time"
)

// GPUMeter reads one GPU while work runs on it.
type GPUMeter interface {
	// Read is what the GPU says now.
	Read() GPUReading
	// Close lets go of the driver's library.
	Close() error
}

// GPUReading is a GPU at one moment. What it does not tell is nil.
type GPUReading struct {
	At          time.Time
	Utilization *float64 // share of the driver's last sampling period in which a kernel ran, 0 to 1
	Memory      *uint64  // bytes in use, by all processes
	Power       *float64 // W
	Energy      *float64 // J since the driver was loaded
	ClockSM     *float64 // MHz
	ClockMemory *float64 // MHz
	Temperature *float64 // degrees Celsius
	Limiting    []string // why the clocks are below what was asked for, as GPU.Slowdown
	Others      []GPUProcess
}

// GPUUse is what a GPU did over a time. What it does not tell is nil.
type GPUUse struct {
	Elapsed     time.Duration
	Readings    int
	Utilization *float64 // mean
	MemoryPeak  *uint64  // bytes, of all processes
	Power       *float64 // W, mean
	Energy      *float64 // J
	Counter     bool     // Energy is the difference of the GPU's own counter; else power over time
	ClockSM     *float64 // MHz, mean
	ClockSMMin  *float64 // MHz
	ClockMemory *float64 // MHz, mean
	Temperature *float64 // highest
	Limiting    []string // reasons seen at any moment, sorted
	Limited     float64  // share of the readings with a reason
	Others      []GPUProcess
}

// GPUWatch reads a GPU again and again until it is stopped.
type GPUWatch struct {
	meter GPUMeter
	stop  chan struct{}
	done  sync.WaitGroup
	list  []GPUReading
}

// WatchGPU begins to read a GPU, at once and then once in a period.
func WatchGPU(m GPUMeter, period time.Duration) *GPUWatch {
	w := &GPUWatch{meter: m, stop: make(chan struct{})}
	w.list = append(w.list, m.Read())
	w.done.Go(func() {
		t := time.NewTicker(period)
		defer t.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-t.C:
				w.list = append(w.list, m.Read())
			}
		}
	})
	return w
}

// Stop reads the GPU once more, ends the watch, and sums up.
func (w *GPUWatch) Stop() GPUUse {
	close(w.stop)
	w.done.Wait()
	w.list = append(w.list, w.meter.Read())
	return SummarizeGPU(w.list)
}

// SummarizeGPU sums up readings of one GPU, oldest first.
func SummarizeGPU(list []GPUReading) GPUUse {
	u := GPUUse{Readings: len(list)}
	if len(list) == 0 {
		return u
	}
	first, last := list[0], list[len(list)-1]
	u.Elapsed = last.At.Sub(first.At)
	u.Utilization = meanOf(list, func(r GPUReading) *float64 { return r.Utilization })
	u.Power = meanOf(list, func(r GPUReading) *float64 { return r.Power })
	u.ClockSM = meanOf(list, func(r GPUReading) *float64 { return r.ClockSM })
	u.ClockMemory = meanOf(list, func(r GPUReading) *float64 { return r.ClockMemory })
	seen := map[uint32]bool{}
	limited := 0
	for _, r := range list {
		u.MemoryPeak = extreme(u.MemoryPeak, r.Memory, func(a, b uint64) bool { return a > b })
		u.ClockSMMin = extreme(u.ClockSMMin, r.ClockSM, func(a, b float64) bool { return a < b })
		u.Temperature = extreme(u.Temperature, r.Temperature, func(a, b float64) bool { return a > b })
		if len(r.Limiting) > 0 {
			limited++
		}
		u.Limiting = append(u.Limiting, r.Limiting...)
		for _, p := range r.Others {
			if !seen[p.PID] {
				seen[p.PID] = true
				u.Others = append(u.Others, p)
			}
		}
	}
	slices.Sort(u.Limiting)
	u.Limiting = slices.Compact(u.Limiting)
	u.Limited = float64(limited) / float64(len(list))
	u.Energy, u.Counter = energyOf(list)
	return u
}

// energyOf is the difference of the energy counter, or else the power over time by the trapezoidal rule.
func energyOf(list []GPUReading) (*float64, bool) {
	first, last := list[0].Energy, list[len(list)-1].Energy
	if first != nil && last != nil && *last >= *first {
		d := *last - *first
		return &d, true
	}
	var joules float64
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if a.Power == nil || b.Power == nil {
			return nil, false
		}
		joules += (*a.Power + *b.Power) / 2 * b.At.Sub(a.At).Seconds()
	}
	if len(list) < 2 {
		return nil, false
	}
	return &joules, false
}

func meanOf(list []GPUReading, get func(GPUReading) *float64) *float64 {
	var sum float64
	n := 0
	for _, r := range list {
		if v := get(r); v != nil {
			sum += *v
			n++
		}
	}
	if n == 0 {
		return nil
	}
	sum /= float64(n)
	return &sum
}

func extreme[T any](best, v *T, better func(a, b T) bool) *T {
	if v != nil && (best == nil || better(*v, *best)) {
		return v
	}
	return best
}

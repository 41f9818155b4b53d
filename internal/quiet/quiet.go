// Package quiet says how quiet the machine was while something was measured: it puts what package device counted into the terms
// in which package measure judges.
package quiet

import (
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
)

// period is the length of a control group's period where nobody changed it.
const period = 100 * time.Millisecond

// Watch counts what happens on a machine while something is measured.
type Watch struct {
	load func() device.Load
	gpu  *device.GPUWatch
	m    device.GPUMeter
}

// gpuPeriod is how often a GPU is asked; each time takes well below a millisecond of one processor.
const gpuPeriod = 100 * time.Millisecond

// Begin begins to count, by load, which returns what happened since it was made, and on a GPU by m, which End closes. A nil
// load reads this machine; a nil m is no GPU.
func Begin(load func() device.Load, m device.GPUMeter) *Watch {
	w := &Watch{load: load, m: m}
	if load == nil {
		before := device.Snapshot(device.Options{})
		w.load = func() device.Load { return device.Snapshot(device.Options{}).Since(before) }
	}
	if m != nil {
		w.gpu = device.WatchGPU(m, gpuPeriod)
	}
	return w
}

// End ends it and returns what happened; gpu is nil where there was none.
func (w *Watch) End() (load device.Load, gpu *device.GPUUse) {
	load = w.load()
	if w.gpu != nil {
		u := w.gpu.Stop()
		gpu = &u
		_ = w.m.Close() // what it read is read
		w.gpu = nil
	}
	return load, gpu
}

// Counters returns what happened on a machine between two snapshots. switches are the involuntary context switches of the
// processes that were measured, nil where they are not known.
func Counters(m device.Machine, load device.Load, switches *int64) measure.Counters {
	c := measure.Counters{Wall: load.Elapsed.Seconds(), CPUs: m.CPU.Logical, CPUPressure: load.Pressure, InvoluntarySwitch: switches}
	if load.Steal != nil {
		s := *load.Steal * c.Wall * float64(c.CPUs)
		c.StealSeconds = &s
	}
	if load.ThrottledPeriods != nil {
		throttled, periods := int64(*load.ThrottledPeriods), int64(load.Elapsed/period)
		c.ThrottledPeriods, c.Periods = &throttled, &periods
	}
	return c
}

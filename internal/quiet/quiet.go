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

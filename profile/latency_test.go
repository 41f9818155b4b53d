package profile

import (
	"runtime"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TestColdStartIsSplit: what reading and creating leave of the opening is the
// start of the process; where either is not known, so is the start.
func TestColdStartIsSplit(t *testing.T) {
	split := func(st session.Stats) Cold {
		s := SessionRuns{OpenMS: 50, FirstRunMS: 9}
		s.add(st)
		return coldOf([]SessionRuns{s}, 3)
	}
	c := split(session.Stats{Read: 4 * time.Millisecond, Create: 30 * time.Millisecond})
	if c.StartMS == nil || *c.StartMS != 16 || *c.ReadMS != 4 || *c.CreateMS != 30 || c.Slowdown != 3 {
		t.Errorf("%+v", c)
	}
	if c := split(session.Stats{Create: 30 * time.Millisecond}); c.StartMS != nil || c.ReadMS != nil || *c.CreateMS != 30 {
		t.Errorf("without a time of reading: %+v", c)
	}
	if c := split(session.Stats{Read: 40 * time.Millisecond, Create: 30 * time.Millisecond}); *c.StartMS != 0 {
		t.Errorf("the parts are more than the whole: %+v", c)
	}
}

// TestTheMachineIsWatched: its counters become part of the result where they are
// asked for, and are absent, not zero, where there are none.
func TestTheMachineIsWatched(t *testing.T) {
	o := TimedOptions{Runs: 40, ProfiledRuns: -1, Batch: 4}
	p := timed(t, &engine{events: nodeEvents}, o, sample(1))
	if p.Noise == nil || p.Noise.Lag1 == nil || p.Noise.Steal != nil || p.Noise.Switches != nil {
		t.Errorf("unwatched: %+v", p.Noise)
	}
	if p.Batch != 4 || !near(p.SamplesPerSecond, 4*p.PerSecond) {
		t.Errorf("batch %d, %v runs and %v samples a second", p.Batch, p.PerSecond, p.SamplesPerSecond)
	}
	o.Machine = &device.Machine{CPU: device.CPU{Logical: 2}}
	p = timed(t, &engine{events: nodeEvents}, o, sample(1), sample(2))
	if p.Noise == nil || p.Noise.Lag1 != nil || p.Noise.Switches == nil {
		t.Errorf("watched, with inputs that differ: %+v", p.Noise)
	}
	if runtime.GOOS == "linux" && p.Noise.ThrottledPeriods == nil && p.Noise.Pressure == nil && p.Noise.Steal == nil {
		t.Skip("this machine has no counters")
	}
}

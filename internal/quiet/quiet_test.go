package quiet

import (
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
)

func TestCounters(t *testing.T) {
	m := device.Machine{CPU: device.CPU{Logical: 4}}
	if w := Counters(m, device.Load{Elapsed: time.Second}, nil).Warnings(); len(w) != 0 {
		t.Errorf("a machine that counts nothing gives %+v", w)
	}
	steal, pressure, throttled, switches := 0.25, 0.7, uint64(6), int64(500)
	load := device.Load{Elapsed: time.Second, Steal: &steal, Pressure: &pressure, ThrottledPeriods: &throttled}
	got := map[string]measure.Severity{}
	for _, w := range Counters(m, load, &switches).Warnings() {
		got[w.Code] = w.Severity
	}
	for code, want := range map[string]measure.Severity{
		"steal": measure.Severe, "throttled": measure.Severe, "cpu-pressure": measure.Severe, "preempted": measure.Warn,
	} {
		if s, ok := got[code]; !ok || s != want {
			t.Errorf("%s: %v %v, want %v", code, s, ok, want)
		}
	}
}

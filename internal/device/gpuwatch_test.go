package device

import (
	"math"
	"sync"
	"testing"
	"time"
)

func reading(second float64, power, energy *float64, limiting ...string) GPUReading {
	return GPUReading{At: time.Unix(0, int64(second*1e9)), Power: power, Energy: energy, Limiting: limiting}
}

func ptr[T any](v T) *T { return &v }

func TestSummarizeGPU(t *testing.T) {
	near := func(name string, got *float64, want float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	list := []GPUReading{reading(0, ptr(100.), ptr(50.)), reading(1, ptr(300.), ptr(240.), "power-cap"), reading(3, ptr(200.), ptr(760.), "thermal", "power-cap")}
	list[0].Utilization, list[2].Utilization = ptr(0.5), ptr(1.0)
	list[0].Memory, list[1].Memory = ptr(uint64(5)), ptr(uint64(9))
	list[1].ClockSM, list[2].ClockSM = ptr(1980.), ptr(1410.)
	list[1].Others, list[2].Others = []GPUProcess{{PID: 7}}, []GPUProcess{{PID: 7}, {PID: 9}}
	u := SummarizeGPU(list)
	near("energy", u.Energy, 710)
	near("power", u.Power, 200)
	near("utilization", u.Utilization, 0.75)
	near("lowest clock", u.ClockSMMin, 1410)
	if !u.Counter || *u.MemoryPeak != 9 || len(u.Others) != 2 || u.Elapsed != 3*time.Second {
		t.Errorf("%+v", u)
	}
	if len(u.Limiting) != 2 || u.Limiting[0] != "power-cap" || math.Abs(u.Limited-2./3) > 1e-9 {
		t.Errorf("limited by %v in %v", u.Limiting, u.Limited)
	}
	// Without a counter the power over time counts: 1 s at 200 W and 2 s at 250 W.
	for i := range list {
		list[i].Energy = nil
	}
	u = SummarizeGPU(list)
	near("energy by power", u.Energy, 700)
	if u.Counter {
		t.Error("there is no counter")
	}
	// What a GPU does not tell is not zero.
	u = SummarizeGPU([]GPUReading{reading(0, nil, nil), reading(1, nil, nil)})
	if u.Energy != nil || u.Power != nil || u.Utilization != nil || u.MemoryPeak != nil || u.Temperature != nil || u.ClockSM != nil {
		t.Errorf("made up: %+v", u)
	}
	if u := SummarizeGPU(nil); u.Readings != 0 || u.Energy != nil {
		t.Errorf("nothing was read: %+v", u)
	}
}

// counting is a meter whose counter grows by 2 J at each reading.
type counting struct {
	mu     sync.Mutex
	joules float64
}

func (c *counting) Read() GPUReading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joules += 2
	return GPUReading{At: time.Now(), Energy: ptr(c.joules)}
}

func (c *counting) Close() error { return nil }

func TestWatchGPU(t *testing.T) {
	m := &counting{}
	w := WatchGPU(m, time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	u := w.Stop()
	if u.Readings < 3 || u.Energy == nil || *u.Energy != 2*float64(u.Readings-1) {
		t.Errorf("%+v", u)
	}
	if m.joules != 2*float64(u.Readings) {
		t.Error("the watch went on after it was stopped")
	}
}

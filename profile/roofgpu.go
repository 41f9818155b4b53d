package profile

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// GPUFacts is what a GPU did while the model ran on it again and again. What
// the GPU does not tell is absent, never 0.
type GPUFacts struct {
	Available   bool     `json:"available"`                                  // the model ran on a GPU that answers
	Reason      string   `json:"reason,omitempty"`                           // why not
	Name        string   `json:"name,omitempty"`                             // of the GPU
	Device      string   `json:"device,omitempty"`                           // as the engine takes it
	Driver      string   `json:"driver,omitempty"`                           // version
	MIG         *bool    `json:"mig,omitempty"`                              // split into instances
	ComputeMode string   `json:"compute_mode,omitempty"`                     // default, exclusive-process, prohibited
	Runs        int      `json:"runs,omitempty" schema:"count"`              // inferences while it was watched
	Seconds     float64  `json:"seconds,omitempty"`                          // how long it was watched
	Utilization *float64 `json:"utilization,omitempty" schema:"fraction"`    // share of time in which a kernel ran, mean
	MemoryPeak  *int64   `json:"memory_peak_bytes,omitempty" schema:"count"` // of all processes
	PowerW      *float64 `json:"power_w,omitempty"`                          // mean
	IdleW       *float64 `json:"idle_w,omitempty"`                           // mean before, with the model loaded
	EnergyMJ    *float64 `json:"energy_mj,omitempty"`                        // millijoules of one inference
	AboveIdleMJ *float64 `json:"above_idle_mj,omitempty"`                    // of it, what an idle GPU would not have used
	EnergyBy    string   `json:"energy_by,omitempty"`                        // "counter": the GPU's own; "power": power over time
	ClockSM     *float64 `json:"clock_sm_mhz,omitempty"`                     // mean
	ClockSMMin  *float64 `json:"clock_sm_min_mhz,omitempty"`                 // lowest
	ClockMemory *float64 `json:"clock_memory_mhz,omitempty"`                 // mean
	Temperature *float64 `json:"temperature_c,omitempty"`                    // highest
	Limiting    []string `json:"limiting,omitempty"`                         // why clocks were below what was asked for
	Others      *int     `json:"others,omitempty" schema:"count"`            // other processes on it
	ToDeviceMS  *float64 `json:"host_to_device_ms,omitempty"`                // per inference, of copies to the GPU that the engine runs as nodes
	ToHostMS    *float64 `json:"device_to_host_ms,omitempty"`                // likewise, back
	Fallbacks   []string `json:"fallbacks,omitempty"`                        // nodes that ran on the CPU
	Warnings    []string `json:"warnings,omitempty"`                         // one sentence each
}

// NoGPU says why there are no facts of a GPU.
func NoGPU(reason string) *GPUFacts { return &GPUFacts{Reason: reason} }

// GPUOptions say how a GPU is watched; the zero value is the default of every
// field but those without one.
type GPUOptions struct {
	Open    session.Opener
	Session session.Options
	GPU     device.GPU
	Driver  string
	Meter   func(g device.GPU, ours ...int) (device.GPUMeter, error) // nil is NVML
	Idle    time.Duration                                            // to watch it idle first; 0 means 1 s
	Time    time.Duration                                            // to run; 0 means 3 s
	Period  time.Duration                                            // between readings; 0 means 20 ms
}

func (o GPUOptions) filled() GPUOptions {
	if o.Meter == nil {
		o.Meter = device.OpenGPUMeter
	}
	if o.Idle == 0 {
		o.Idle = time.Second
	}
	if o.Time == 0 {
		o.Time = 3 * time.Second
	}
	if o.Period == 0 {
		o.Period = 20 * time.Millisecond
	}
	return o
}

// WatchGPU runs the model back to back in a fresh session while it reads the
// GPU, which it first watches idle. t, which may be nil, gives the times of
// copies and the nodes that fell back.
func WatchGPU(ctx context.Context, path string, in map[string]*onnx.Tensor, t *TimedProfile, o GPUOptions) (*GPUFacts, error) {
	o = o.filled()
	s, err := o.Open(ctx, path, o.Session)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for range 5 {
		if _, err := s.Run(ctx, in); err != nil {
			return nil, err
		}
	}
	meter, err := o.Meter(o.GPU, ownProcesses(s)...)
	if err != nil {
		return NoGPU(err.Error()), nil
	}
	defer meter.Close()
	idle, err := watched(ctx, meter, o.Period, func() (int, error) { return 0, pause(ctx, o.Idle) })
	if err != nil {
		return nil, err
	}
	busy, err := watched(ctx, meter, o.Period, func() (int, error) { return busyFor(ctx, s, in, o.Time) })
	if err != nil {
		return nil, err
	}
	f := gpuFacts(idle.use, busy.use, busy.runs)
	f.Name, f.Device, f.Driver, f.ComputeMode = o.GPU.Name, o.Session.Device, o.Driver, o.GPU.ComputeMode
	f.MIG = pointer(o.GPU.MIG)
	f.addTimes(t)
	f.warn()
	return f, nil
}

func ownProcesses(s session.Session) []int {
	if m, ok := s.(session.Meter); ok {
		if st, err := m.Stats(); err == nil && st.PID > 0 {
			return []int{st.PID}
		}
	}
	return nil
}

type watchedRun struct {
	use  device.GPUUse
	runs int
}

func watched(ctx context.Context, m device.GPUMeter, period time.Duration, f func() (int, error)) (watchedRun, error) {
	w := device.WatchGPU(m, period)
	runs, err := f()
	use := w.Stop()
	if err == nil {
		err = ctx.Err()
	}
	return watchedRun{use, runs}, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// busyFor runs the model back to back for a time and counts the runs.
func busyFor(ctx context.Context, s session.Session, in map[string]*onnx.Tensor, d time.Duration) (int, error) {
	began, runs, batch := time.Now(), 0, 1
	for time.Since(began) < d {
		t, ok := s.(session.Timer)
		if !ok {
			if _, err := s.Run(ctx, in); err != nil {
				return runs, err
			}
			runs++
			continue
		}
		times, err := t.Time(ctx, in, batch)
		if err != nil {
			return runs, err
		}
		if runs += len(times); sum(times) < 100*time.Millisecond && batch < 1<<12 {
			batch *= 2
		}
	}
	return runs, nil
}

func gpuFacts(idle, busy device.GPUUse, runs int) *GPUFacts {
	f := &GPUFacts{Available: true, Runs: runs, Seconds: busy.Elapsed.Seconds(), Utilization: busy.Utilization, PowerW: busy.Power, IdleW: idle.Power,
		ClockSM: busy.ClockSM, ClockSMMin: busy.ClockSMMin, ClockMemory: busy.ClockMemory, Temperature: busy.Temperature,
		Limiting: busy.Limiting, Others: pointer(len(busy.Others))}
	if busy.MemoryPeak != nil {
		f.MemoryPeak = pointer(min(int64(*busy.MemoryPeak), maxCount))
	}
	if busy.Energy == nil || runs == 0 {
		return f
	}
	f.EnergyMJ = pointer(1e3 * *busy.Energy / float64(runs))
	f.EnergyBy = "power"
	if busy.Counter {
		f.EnergyBy = "counter"
	}
	if idle.Energy != nil && idle.Elapsed > 0 {
		base := *idle.Energy / idle.Elapsed.Seconds() * busy.Elapsed.Seconds()
		f.AboveIdleMJ = pointer(1e3 * max(0, *busy.Energy-base) / float64(runs))
	}
	return f
}

// addTimes takes copies and fallbacks from the times of nodes.
func (f *GPUFacts) addTimes(t *TimedProfile) {
	if t == nil || len(t.Nodes) == 0 {
		return
	}
	var to, back float64
	for _, n := range t.Nodes {
		switch {
		case n.Op == "MemcpyFromHost":
			to += n.MS
		case n.Op == "MemcpyToHost":
			back += n.MS
		case strings.HasPrefix(n.Provider, "CPU"):
			f.Fallbacks = append(f.Fallbacks, fmt.Sprintf("%s (%s)", orText(n.Original, n.Name), n.Op))
		}
	}
	f.ToDeviceMS, f.ToHostMS = pointer(to), pointer(back)
}

func (f *GPUFacts) warn() {
	add := func(format string, args ...any) { f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...)) }
	if f.Others != nil && *f.Others > 0 {
		add("%s on this GPU: times vary with what others do, and what a model does can be told from shared caches and clocks", severalOthers(*f.Others))
	}
	if len(f.Limiting) > 0 {
		add("the GPU ran below its clocks: %s", strings.Join(f.Limiting, ", "))
	}
	if f.MIG != nil && *f.MIG {
		add("the GPU is split into MIG instances: power, energy and clocks are those of the whole")
	}
	if n := len(f.Fallbacks); n > 0 {
		add("%s ran on the CPU, first %s: each costs copies there and back", several(n, "node"), f.Fallbacks[0])
	}
}

// gpu writes what the GPU did.
func (t *table) gpu(g *GPUFacts) {
	if !g.Available {
		t.fact("gpu", "unavailable: %s", g.Reason)
		return
	}
	mode := prefixed(", compute mode ", g.ComputeMode)
	if g.MIG != nil && *g.MIG {
		mode += ", MIG"
	}
	t.fact("gpu", "%s as %s, driver %s%s", g.Name, g.Device, orText(g.Driver, "not told"), mode)
	t.fact("", "utilization %s, memory %s, power %s (idle %s), temperature %s", told(g.Utilization, percent), toldBytes(g.MemoryPeak),
		told(g.PowerW, watts), told(g.IdleW, watts), told(g.Temperature, func(c float64) string { return fmt.Sprintf("%.0f °C", c) }))
	by := ""
	if g.EnergyBy != "" {
		by = " by its " + g.EnergyBy
	}
	t.fact("", "energy %s an inference, %s above idle%s, over %d runs in %.1f s", told(g.EnergyMJ, millijoules), told(g.AboveIdleMJ, millijoules), by, g.Runs, g.Seconds)
	megahertz := func(v float64) string { return fmt.Sprintf("%.0f MHz", v) }
	t.fact("", "clocks %s (lowest %s), memory %s; limited by %s", told(g.ClockSM, megahertz), told(g.ClockSMMin, megahertz), told(g.ClockMemory, megahertz),
		orText(strings.Join(g.Limiting, ", "), "nothing"))
	t.fact("", "copies to the GPU %s, back %s", told(g.ToDeviceMS, duration), told(g.ToHostMS, duration))
	for i, n := range g.Fallbacks {
		if i == t.rows {
			t.fact("", "and %d more", len(g.Fallbacks)-i)
			break
		}
		t.fact("on the CPU", "%s", n)
	}
	for _, w := range g.Warnings {
		t.fact("warn", "%s", w)
	}
}

func told(v *float64, text func(float64) string) string {
	if v == nil {
		return "unavailable"
	}
	return text(*v)
}

func toldBytes(v *int64) string {
	if v == nil {
		return "unavailable"
	}
	return bytesText(*v)
}

func watts(v float64) string { return significant(v) + " W" }

func millijoules(v float64) string {
	if v >= 999.5 {
		return significant(v/1e3) + " J"
	}
	return significant(v) + " mJ"
}

func severalOthers(n int) string {
	if n == 1 {
		return "1 other process"
	}
	return fmt.Sprintf("%d other processes", n)
}

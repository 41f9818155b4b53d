//go:build cgo && linux

package device

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// OpenGPUMeter opens the GPU for reading. Others in its readings leaves out this process and those in ours.
func OpenGPUMeter(g GPU, ours ...int) (GPUMeter, error) {
	return openMeter(nvml.New(), g, append(ours, os.Getpid()))
}

func openMeter(lib nvml.Interface, g GPU, ours []int) (GPUMeter, error) {
	if ret := lib.Init(); ret != nvml.SUCCESS {
		return nil, fmt.Errorf("reading GPU %d: NVML does not start: %s", g.Index, describe(lib, ret))
	}
	d, ret := lib.DeviceGetHandleByIndex(g.Index)
	if ret != nvml.SUCCESS {
		lib.Shutdown()
		return nil, fmt.Errorf("GPU %d does not answer: %s", g.Index, describe(lib, ret))
	}
	return &nvmlMeter{lib: lib, d: d, ours: ours, has: symbols(lib)}, nil
}

// symbols tells which functions the driver's library has, asking once for each.
func symbols(lib nvml.Interface) func(string) bool {
	known := map[string]bool{}
	return func(symbol string) bool {
		has, ok := known[symbol]
		if !ok {
			has = lib.Extensions().LookupSymbol(symbol) == nil
			known[symbol] = has
		}
		return has
	}
}

type nvmlMeter struct {
	lib  nvml.Interface
	d    nvml.Device
	ours []int
	has  func(string) bool
}

func (m *nvmlMeter) Close() error {
	if ret := m.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("closing NVML: %s", describe(m.lib, ret))
	}
	return nil
}

func (m *nvmlMeter) Read() GPUReading {
	r := GPUReading{At: time.Now()}
	// First what belongs to that moment most.
	if m.has("nvmlDeviceGetTotalEnergyConsumption") {
		if mj, ret := m.d.GetTotalEnergyConsumption(); ret == nvml.SUCCESS {
			r.Energy = known(float64(mj) / 1e3)
		}
	}
	if mw, ret := m.d.GetPowerUsage(); ret == nvml.SUCCESS {
		r.Power = known(float64(mw) / 1e3)
	}
	if u, ret := m.d.GetUtilizationRates(); ret == nvml.SUCCESS {
		r.Utilization = known(float64(u.Gpu) / 100)
	}
	if x, ret := m.d.GetMemoryInfo(); ret == nvml.SUCCESS {
		r.Memory = known(x.Used)
	}
	if c, ret := m.d.GetClockInfo(nvml.CLOCK_SM); ret == nvml.SUCCESS {
		r.ClockSM = known(float64(c))
	}
	if c, ret := m.d.GetClockInfo(nvml.CLOCK_MEM); ret == nvml.SUCCESS {
		r.ClockMemory = known(float64(c))
	}
	if c, ret := m.d.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		r.Temperature = known(float64(c))
	}
	if m.has("nvmlDeviceGetCurrentClocksThrottleReasons") {
		if bits, ret := m.d.GetCurrentClocksThrottleReasons(); ret == nvml.SUCCESS {
			r.Limiting = slowdown(bits)
		}
	}
	for _, p := range others(m.d, os.Getpid()) {
		if !slices.Contains(m.ours, int(p.PID)) {
			r.Others = append(r.Others, p)
		}
	}
	return r
}

func known[T any](v T) *T { return &v }

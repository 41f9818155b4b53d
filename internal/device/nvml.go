//go:build cgo && linux

package device

import (
	"fmt"
	"os"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// nvmlGPUs asks the NVML library of the driver, if there is one.
func nvmlGPUs() GPUs { return askNVML(nvml.New(), os.Getpid()) }

// askNVML reads all GPUs. self is the process that Others leaves out.
//
// go-nvml binds functions lazily, and calling one that an old driver's library lacks would end the process; so those
// that came after the first releases of NVML are looked up first.
func askNVML(lib nvml.Interface, self int) GPUs {
	out := GPUs{Known: true}
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
		defer lib.Shutdown()
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		out.Reason = "no NVIDIA driver"
		return out
	case nvml.ERROR_DRIVER_NOT_LOADED:
		out.Reason = "the NVIDIA driver is not loaded"
		return out
	default:
		out.Reason = fmt.Sprintf("NVML does not start: %s", describe(lib, ret))
		return out
	}
	if v, ret := lib.SystemGetDriverVersion(); ret == nvml.SUCCESS {
		out.Driver = v
	}
	has := symbols(lib)
	if has("nvmlSystemGetCudaDriverVersion") {
		if v, ret := lib.SystemGetCudaDriverVersion(); ret == nvml.SUCCESS {
			out.CUDA = fmt.Sprintf("%d.%d", v/1000, v%1000/10)
		}
	}
	n, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		out.Reason = fmt.Sprintf("NVML does not count the GPUs: %s", describe(lib, ret))
		return out
	}
	for i := range n {
		d, ret := lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			out.Reason = fmt.Sprintf("GPU %d does not answer: %s", i, describe(lib, ret))
			continue
		}
		out.Devices = append(out.Devices, askGPU(d, i, self, has))
	}
	if n == 0 {
		out.Reason = "the NVIDIA driver finds no GPU"
	}
	return out
}

// describe names an NVML error; the library's own words need a library.
func describe(lib nvml.Interface, ret nvml.Return) string {
	if s := lib.ErrorString(ret); s != "" {
		return s
	}
	return fmt.Sprintf("error %d", int(ret))
}

func askGPU(d nvml.Device, index, self int, has func(string) bool) GPU {
	g := GPU{Index: index}
	g.Name, _ = d.GetName()
	g.UUID, _ = d.GetUUID()
	if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
		g.MemoryTotal, g.MemoryUsed = m.Total, m.Used
	}
	if has("nvmlDeviceGetCudaComputeCapability") {
		if major, minor, ret := d.GetCudaComputeCapability(); ret == nvml.SUCCESS {
			g.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
		}
	}
	if has("nvmlDeviceGetMigMode") {
		if current, _, ret := d.GetMigMode(); ret == nvml.SUCCESS {
			g.MIG = current == nvml.DEVICE_MIG_ENABLE
		}
	}
	if mode, ret := d.GetComputeMode(); ret == nvml.SUCCESS {
		g.ComputeMode = computeMode(mode)
	}
	if c, ret := d.GetClockInfo(nvml.CLOCK_SM); ret == nvml.SUCCESS {
		g.ClockSM = c
	}
	if c, ret := d.GetClockInfo(nvml.CLOCK_MEM); ret == nvml.SUCCESS {
		g.ClockMemory = c
	}
	if mw, ret := d.GetPowerUsage(); ret == nvml.SUCCESS {
		g.Power = float64(mw) / 1000
	}
	if c, ret := d.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		g.Temperature = c
	}
	if u, ret := d.GetUtilizationRates(); ret == nvml.SUCCESS {
		g.Utilization = u.Gpu
	}
	if has("nvmlDeviceGetCurrentClocksThrottleReasons") {
		if bits, ret := d.GetCurrentClocksThrottleReasons(); ret == nvml.SUCCESS {
			g.Slowdown = slowdown(bits)
		}
	}
	g.Others = others(d, self)
	return g
}

func computeMode(m nvml.ComputeMode) string {
	switch m {
	case nvml.COMPUTEMODE_DEFAULT:
		return "default"
	case nvml.COMPUTEMODE_EXCLUSIVE_THREAD:
		return "exclusive-thread"
	case nvml.COMPUTEMODE_PROHIBITED:
		return "prohibited"
	case nvml.COMPUTEMODE_EXCLUSIVE_PROCESS:
		return "exclusive-process"
	}
	return ""
}

// slowdown names the bits that mean a GPU is slower than asked; an idle GPU and clocks set on purpose are none.
func slowdown(bits uint64) []string {
	reasons := []struct {
		bits uint64
		name string
	}{
		{nvml.ClocksThrottleReasonSwPowerCap, "power-cap"},
		{nvml.ClocksThrottleReasonSwThermalSlowdown | nvml.ClocksThrottleReasonHwThermalSlowdown, "thermal"},
		{nvml.ClocksThrottleReasonHwSlowdown, "hardware"},
		{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, "power-brake"},
	}
	var out []string
	for _, r := range reasons {
		if bits&r.bits != 0 {
			out = append(out, r.name)
		}
	}
	return out
}

// others lists the processes that compute or draw on a GPU, each once.
func others(d nvml.Device, self int) []GPUProcess {
	var out []GPUProcess
	seen := map[uint32]bool{uint32(self): true}
	for _, ask := range []func() ([]nvml.ProcessInfo, nvml.Return){d.GetComputeRunningProcesses, d.GetGraphicsRunningProcesses} {
		list, ret := ask()
		if ret != nvml.SUCCESS {
			continue
		}
		for _, p := range list {
			if seen[p.Pid] {
				continue
			}
			seen[p.Pid] = true
			one := GPUProcess{PID: p.Pid, Memory: p.UsedGpuMemory}
			if one.Memory == ^uint64(0) { // NVML_VALUE_NOT_AVAILABLE
				one.Memory = 0
			}
			out = append(out, one)
		}
	}
	return out
}

//go:build cgo && linux

package device

import (
	"errors"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
)

// recorded answers as an H100 does.
func recorded() *mock.Device {
	return &mock.Device{
		GetNameFunc:                  func() (string, nvml.Return) { return "NVIDIA H100 80GB HBM3", nvml.SUCCESS },
		GetUUIDFunc:                  func() (string, nvml.Return) { return "GPU-1234", nvml.SUCCESS },
		GetMemoryInfoFunc:            func() (nvml.Memory, nvml.Return) { return nvml.Memory{Total: 80 << 30, Used: 1 << 30}, nvml.SUCCESS },
		GetCudaComputeCapabilityFunc: func() (int, int, nvml.Return) { return 9, 0, nvml.SUCCESS },
		GetMigModeFunc:               func() (int, int, nvml.Return) { return 1, 1, nvml.SUCCESS },
		GetComputeModeFunc:           func() (nvml.ComputeMode, nvml.Return) { return nvml.COMPUTEMODE_EXCLUSIVE_PROCESS, nvml.SUCCESS },
		GetClockInfoFunc: func(c nvml.ClockType) (uint32, nvml.Return) {
			if c == nvml.CLOCK_SM {
				return 1980, nvml.SUCCESS
			}
			return 2619, nvml.SUCCESS
		},
		GetPowerUsageFunc:  func() (uint32, nvml.Return) { return 70500, nvml.SUCCESS },
		GetTemperatureFunc: func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 41, nvml.SUCCESS },
		GetUtilizationRatesFunc: func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: 12}, nvml.SUCCESS
		},
		GetCurrentClocksThrottleReasonsFunc: func() (uint64, nvml.Return) {
			return nvml.ClocksThrottleReasonGpuIdle | nvml.ClocksThrottleReasonSwPowerCap | nvml.ClocksThrottleReasonHwThermalSlowdown, nvml.SUCCESS
		},
		GetComputeRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 10, UsedGpuMemory: 5}, {Pid: 42, UsedGpuMemory: ^uint64(0)}}, nvml.SUCCESS
		},
		GetGraphicsRunningProcessesFunc: func() ([]nvml.ProcessInfo, nvml.Return) {
			return []nvml.ProcessInfo{{Pid: 42}}, nvml.SUCCESS
		},
	}
}

// library answers for a driver with some devices; symbols it lacks must not be called.
func library(init nvml.Return, devices []nvml.Device, lacks map[string]bool) *mock.Interface {
	return &mock.Interface{
		InitFunc:                       func() nvml.Return { return init },
		ShutdownFunc:                   func() nvml.Return { return nvml.SUCCESS },
		ErrorStringFunc:                func(r nvml.Return) string { return r.Error() },
		SystemGetDriverVersionFunc:     func() (string, nvml.Return) { return "550.54.15", nvml.SUCCESS },
		SystemGetCudaDriverVersionFunc: func() (int, nvml.Return) { return 12040, nvml.SUCCESS },
		DeviceGetCountFunc:             func() (int, nvml.Return) { return len(devices), nvml.SUCCESS },
		DeviceGetHandleByIndexFunc: func(i int) (nvml.Device, nvml.Return) {
			if devices[i] == nil {
				return nil, nvml.ERROR_GPU_IS_LOST
			}
			return devices[i], nvml.SUCCESS
		},
		ExtensionsFunc: func() nvml.ExtendedInterface {
			return &mock.ExtendedInterface{LookupSymbolFunc: func(s string) error {
				if lacks[s] {
					return errors.New("absent")
				}
				return nil
			}}
		},
	}
}

func TestNVML(t *testing.T) {
	full := GPU{Name: "NVIDIA H100 80GB HBM3", UUID: "GPU-1234", ComputeCapability: "9.0", MemoryTotal: 80 << 30, MemoryUsed: 1 << 30,
		MIG: true, ComputeMode: "exclusive-process", ClockSM: 1980, ClockMemory: 2619, Power: 70.5, Temperature: 41, Utilization: 12,
		Slowdown: []string{"power-cap", "thermal"}, Others: []GPUProcess{{PID: 42}}}
	old := full
	old.MIG, old.Slowdown, old.ComputeCapability = false, nil, ""
	oldDevice := recorded()
	oldDevice.GetMigModeFunc, oldDevice.GetCurrentClocksThrottleReasonsFunc, oldDevice.GetCudaComputeCapabilityFunc = nil, nil, nil
	lacks := map[string]bool{"nvmlDeviceGetMigMode": true, "nvmlDeviceGetCurrentClocksThrottleReasons": true,
		"nvmlDeviceGetCudaComputeCapability": true, "nvmlSystemGetCudaDriverVersion": true}
	tests := []struct {
		name string
		lib  *mock.Interface
		want GPUs
	}{
		{"H100", library(nvml.SUCCESS, []nvml.Device{recorded()}, nil),
			GPUs{Known: true, Driver: "550.54.15", CUDA: "12.4", Devices: []GPU{full}}},
		{"old driver", library(nvml.SUCCESS, []nvml.Device{oldDevice}, lacks),
			GPUs{Known: true, Driver: "550.54.15", Devices: []GPU{old}}},
		{"no library", library(nvml.ERROR_LIBRARY_NOT_FOUND, nil, nil), GPUs{Known: true, Reason: "no NVIDIA driver"}},
		{"not loaded", library(nvml.ERROR_DRIVER_NOT_LOADED, nil, nil), GPUs{Known: true, Reason: "the NVIDIA driver is not loaded"}},
		{"mismatch", library(nvml.ERROR_LIB_RM_VERSION_MISMATCH, nil, nil), GPUs{Known: true, Reason: "NVML does not start: ERROR_LIB_RM_VERSION_MISMATCH"}},
		{"no GPU", library(nvml.SUCCESS, nil, nil),
			GPUs{Known: true, Driver: "550.54.15", CUDA: "12.4", Reason: "the NVIDIA driver finds no GPU"}},
		{"lost GPU", library(nvml.SUCCESS, []nvml.Device{nil}, nil),
			GPUs{Known: true, Driver: "550.54.15", CUDA: "12.4", Reason: "GPU 0 does not answer: ERROR_GPU_IS_LOST"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, askNVML(tt.lib, 10)); d != "" {
				t.Error(d)
			}
		})
	}
}

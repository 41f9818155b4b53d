//go:build cgo && linux

package device

import (
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// silent answers as a GPU that tells nothing does.
func silent() *mock.Device {
	const no = nvml.ERROR_NOT_SUPPORTED
	return &mock.Device{
		GetTotalEnergyConsumptionFunc:       func() (uint64, nvml.Return) { return 0, no },
		GetPowerUsageFunc:                   func() (uint32, nvml.Return) { return 0, no },
		GetUtilizationRatesFunc:             func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, no },
		GetMemoryInfoFunc:                   func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, no },
		GetClockInfoFunc:                    func(nvml.ClockType) (uint32, nvml.Return) { return 0, no },
		GetTemperatureFunc:                  func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, no },
		GetCurrentClocksThrottleReasonsFunc: func() (uint64, nvml.Return) { return 0, no },
		GetComputeRunningProcessesFunc:      func() ([]nvml.ProcessInfo, nvml.Return) { return nil, no },
		GetGraphicsRunningProcessesFunc:     func() ([]nvml.ProcessInfo, nvml.Return) { return nil, no },
	}
}

func TestMeter(t *testing.T) {
	full := recorded()
	full.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { return 123456, nvml.SUCCESS }
	old := recorded()
	old.GetTotalEnergyConsumptionFunc, old.GetCurrentClocksThrottleReasonsFunc = nil, nil
	lacks := map[string]bool{"nvmlDeviceGetTotalEnergyConsumption": true, "nvmlDeviceGetCurrentClocksThrottleReasons": true}
	told := GPUReading{Utilization: ptr(0.12), Memory: ptr(uint64(1 << 30)), Power: ptr(70.5), Energy: ptr(123.456), ClockSM: ptr(1980.), ClockMemory: ptr(2619.),
		Temperature: ptr(41.), Limiting: []string{"power-cap", "thermal"}, Others: []GPUProcess{{PID: 42}}}
	without := told
	without.Energy, without.Limiting = nil, nil
	tests := []struct {
		name  string
		d     *mock.Device
		lacks map[string]bool
		want  GPUReading
	}{
		{"H100", full, nil, told},
		{"old driver", old, lacks, without},
		{"tells nothing", silent(), nil, GPUReading{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := openMeter(library(nvml.SUCCESS, []nvml.Device{tt.d}, tt.lacks), GPU{}, []int{10, 99})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // symbols are looked up once
				if d := cmp.Diff(tt.want, m.Read(), cmpopts.IgnoreFields(GPUReading{}, "At")); d != "" {
					t.Error(d)
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := openMeter(library(nvml.ERROR_LIBRARY_NOT_FOUND, nil, nil), GPU{}, nil); err == nil {
		t.Error("a meter without a library")
	}
	if _, err := openMeter(library(nvml.SUCCESS, []nvml.Device{nil}, nil), GPU{}, nil); err == nil {
		t.Error("a meter of a GPU that is lost")
	}
}

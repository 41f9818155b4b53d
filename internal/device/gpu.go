package device

import (
	"strconv"
	"strings"
)

// GPUs is what NVML says of the NVIDIA GPUs.
type GPUs struct {
	// Known is false where NVML cannot be asked by this program at all: then there may be GPUs.
	Known bool `json:"known"`
	// Reason is why there are none, or why they are not known; "" where there are some.
	Reason  string `json:"reason,omitempty"`
	Driver  string `json:"driver,omitempty"` // version of the driver
	CUDA    string `json:"cuda,omitempty"`   // the newest CUDA version the driver serves, such as "12.4"
	Devices []GPU  `json:"devices,omitempty"`
}

// GPU is one NVIDIA GPU. What it does not tell is zero.
type GPU struct {
	Index int `json:"index"` // NVML's number
	// Ordinal is CUDA's number of it, the N of cuda:N; -1 where CUDA_VISIBLE_DEVICES hides it.
	Ordinal           int     `json:"ordinal"`
	Name              string  `json:"name"`
	UUID              string  `json:"uuid"`
	ComputeCapability string  `json:"compute_capability,omitempty"` // such as "9.0"
	MemoryTotal       uint64  `json:"memory_total"`                 // bytes
	MemoryUsed        uint64  `json:"memory_used"`                  // bytes
	MIG               bool    `json:"mig"`                          // split into instances
	ComputeMode       string  `json:"compute_mode,omitempty"`       // default, exclusive-process, prohibited
	ClockSM           uint32  `json:"clock_sm_mhz,omitempty"`
	ClockMemory       uint32  `json:"clock_memory_mhz,omitempty"`
	Power             float64 `json:"power_w,omitempty"`
	Temperature       uint32  `json:"temperature_c,omitempty"`
	Utilization       uint32  `json:"utilization_percent"` // share of the last sampling period in which a kernel ran
	// Slowdown names why the clocks are below what was asked for: power-cap, thermal, hardware, power-brake.
	Slowdown []string `json:"slowdown,omitempty"`
	// Others are the processes other than this one that use it.
	Others []GPUProcess `json:"others,omitempty"`
}

// GPUProcess is a process that uses a GPU.
type GPUProcess struct {
	PID    uint32 `json:"pid"`
	Memory uint64 `json:"memory,omitempty"` // bytes; 0 where the driver does not tell
}

// free is the unused memory in bytes.
func (g GPU) free() uint64 {
	if g.MemoryUsed > g.MemoryTotal {
		return 0
	}
	return g.MemoryTotal - g.MemoryUsed
}

// number gives the GPUs CUDA's ordinals: NVML's order, or that of CUDA_VISIBLE_DEVICES, a list of numbers or of
// beginnings of UUIDs which ends at the first entry that names no GPU.
func (g *GPUs) number(visible string) {
	if visible == "" {
		for i := range g.Devices {
			g.Devices[i].Ordinal = i
		}
		return
	}
	for i := range g.Devices {
		g.Devices[i].Ordinal = -1
	}
	ordinal := 0
	for entry := range strings.SplitSeq(visible, ",") {
		i := g.find(strings.TrimSpace(entry))
		if i < 0 || g.Devices[i].Ordinal >= 0 {
			return
		}
		g.Devices[i].Ordinal = ordinal
		ordinal++
	}
}

// find is the position of the GPU that an entry of CUDA_VISIBLE_DEVICES names, or -1.
func (g *GPUs) find(entry string) int {
	n, err := strconv.Atoi(entry)
	for i, d := range g.Devices {
		if err == nil && d.Index == n || err != nil && strings.HasPrefix(entry, "GPU-") && strings.HasPrefix(d.UUID, entry) {
			return i
		}
	}
	return -1
}

// visible lists the GPUs that CUDA sees.
func (g *GPUs) visible() []GPU {
	var out []GPU
	for _, d := range g.Devices {
		if d.Ordinal >= 0 {
			out = append(out, d)
		}
	}
	return out
}

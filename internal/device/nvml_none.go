//go:build !(cgo && linux)

package device

import "runtime"

// nvmlGPUs says why NVML cannot be asked.
func nvmlGPUs() GPUs {
	if runtime.GOOS == "linux" {
		return GPUs{Reason: "NVIDIA GPUs are unknown: built without cgo"}
	}
	if runtime.GOOS == "darwin" {
		return GPUs{Known: true, Reason: "no NVIDIA driver: macOS has none"}
	}
	return GPUs{Reason: "NVIDIA GPUs are unknown: NVML is asked on Linux only"}
}

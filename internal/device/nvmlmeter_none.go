//go:build !(cgo && linux)

package device

import "errors"

// OpenGPUMeter says why NVML cannot be asked.
func OpenGPUMeter(GPU, ...int) (GPUMeter, error) {
	return nil, errors.New("no GPU can be read: " + nvmlGPUs().Reason)
}

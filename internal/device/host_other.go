//go:build !linux && !darwin && !windows

package device

import "runtime"

// readHost knows what Go knows.
func readHost(m *Machine) {
	m.CPU = CPU{ISA: hostISA(), Logical: runtime.NumCPU()}
}

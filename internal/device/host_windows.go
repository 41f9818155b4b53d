package device

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// readHost asks the kernel for its version and the registry for the processor. Physical cores and memory are left
// unknown.
func readHost(m *Machine) {
	v := windows.RtlGetVersion()
	m.Kernel = fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
	m.CPU = CPU{ISA: hostISA(), Logical: runtime.NumCPU()}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `HARDWARE\DESCRIPTION\System\CentralProcessor\0`, registry.QUERY_VALUE)
	if err != nil {
		return
	}
	defer k.Close()
	if s, _, err := k.GetStringValue("ProcessorNameString"); err == nil {
		m.CPU.Model = s
	}
}

package device

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// readHost asks sysctl.
func readHost(m *Machine) {
	text := func(name string) string {
		s, err := unix.Sysctl(name)
		if err != nil {
			return ""
		}
		return s
	}
	number := func(name string) int {
		n, err := unix.SysctlUint32(name)
		if err != nil {
			return 0
		}
		return int(n)
	}
	m.Kernel = text("kern.osrelease")
	m.CPU = CPU{
		Model: text("machdep.cpu.brand_string"), ISA: hostISA(),
		Sockets: number("hw.packages"), Cores: number("hw.physicalcpu"), Logical: number("hw.logicalcpu"),
	}
	if runtime.GOARCH == "arm64" {
		m.CPU.ISA = appleISA(number)
	}
	m.Virtual = number("kern.hv_vmm_present") == 1
	if n, err := unix.SysctlUint64("hw.memsize"); err == nil {
		m.Limits.MemoryTotal = int64(n)
	}
}

// appleISA asks for the features by the names that Apple gives them.
func appleISA(number func(string) int) []string {
	out := []string{"neon"}
	for key, name := range map[string]string{
		"FP16": "fp16", "DotProd": "dotprod", "I8MM": "i8mm", "BF16": "bf16", "SME": "sme",
	} {
		if number("hw.optional.arm.FEAT_"+key) == 1 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

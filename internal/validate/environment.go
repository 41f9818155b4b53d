package validate

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// environment says what the measurement runs on.
func environment(o Options) report.Environment {
	m := o.Machine
	e := report.Environment{
		Tool:    strings.TrimSpace(o.Tool.Name + " " + o.Tool.Version),
		Runtime: report.Runtime{Name: o.Info.Name, Version: o.Info.Version, SHA256: o.Info.SHA256, Provider: o.Choice.Provider},
		Device:  o.Session.Device, Kernel: m.Kernel, CPU: m.CPU.Model, ISA: slices.Clone(m.CPU.ISA),
		Cores: m.CPU.Logical, Threads: o.Session.Threads, Governor: m.CPU.Governor, Container: container(m),
	}
	if e.Device == "" {
		e.Device = "cpu"
	}
	if m.OS != "" {
		e.OS = m.OS + "/" + m.Arch
	}
	if n := len(m.Limits.CPUs); n > 0 {
		e.Cores = n
	}
	if g := o.Choice.GPU; g != nil {
		e.GPU = []string{g.Name}
		e.Driver = m.GPUs.Driver
	}
	return e
}

// container returns the limits of the control group; nil where there are none.
func container(m device.Machine) *report.Container {
	c := report.Container{MemoryBytes: m.Limits.Memory}
	if m.Limits.Quota > 0 {
		c.CPUQuota = report.Num(m.Limits.Quota)
	}
	if n := len(m.Limits.CPUs); n > 0 && n < m.CPU.Logical {
		c.CPUSet = device.List(m.Limits.CPUs)
	}
	if c.CPUQuota == nil && c.CPUSet == "" && c.MemoryBytes == 0 {
		return nil
	}
	return &c
}

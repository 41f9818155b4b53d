package profile

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/device"
)

// MachineFacts is what of the machine decides how fast a model runs on its
// processors.
type MachineFacts struct {
	CPU         string   `json:"cpu,omitempty"`          // model of the processor
	ISA         []string `json:"isa"`                    // instruction sets that kernels choose between
	Sockets     int      `json:"sockets,omitempty"`      // absent where it is not known
	Cores       int      `json:"cores,omitempty"`        // physical cores that are online
	Logical     int      `json:"logical,omitempty"`      // logical processors that are online
	SMT         bool     `json:"smt"`                    // cores run several threads each
	Governor    string   `json:"governor,omitempty"`     // of the frequency; absent where the machine shows none
	Virtual     bool     `json:"virtual"`                // a hypervisor is seen
	Container   string   `json:"container,omitempty"`    // what the process runs in
	Allowed     string   `json:"allowed,omitempty"`      // processors that the process may use, as 0-3,8
	Cpuset      string   `json:"cpuset,omitempty"`       // those of its control group
	Affinity    string   `json:"affinity,omitempty"`     // those it is bound to
	Pinned      bool     `json:"pinned"`                 // bound to fewer than the control group and the machine have
	QuotaCPUs   *float64 `json:"quota_cpus,omitempty"`   // processors' worth of time that the control group allows; absent where there is no limit
	MemoryLimit *int64   `json:"memory_limit,omitempty"` // bytes that the control group allows; absent where there is no limit
	Threads     int      `json:"threads" schema:"count"` // recommended
	Reason      string   `json:"threads_reason"`         // why so many
	Flag        string   `json:"threads_flag"`           // that sets them
	Used        int      `json:"threads_used"`           // threads that the numbers are for; 0 where nothing was run
	Warnings    []string `json:"warnings,omitempty"`     // what makes times vary or runs slow, one sentence each
}

// NewMachineFacts takes from a machine what matters here; used is the number of
// threads that models are run with, 0 for none.
func NewMachineFacts(m device.Machine, used int) *MachineFacts {
	t := m.Threads()
	f := &MachineFacts{
		CPU: m.CPU.Model, ISA: append([]string{}, m.CPU.ISA...), Sockets: m.CPU.Sockets, Cores: m.CPU.Cores, Logical: m.CPU.Logical, SMT: m.CPU.SMT(),
		Governor: m.CPU.Governor, Virtual: m.Virtual, Container: m.Container,
		Allowed: device.List(m.Limits.CPUs), Cpuset: device.List(m.Limits.Cpuset), Affinity: device.List(m.Limits.Affinity), Pinned: m.Pinned(),
		Threads: t.N, Reason: t.Reason, Flag: fmt.Sprintf("--threads %d", t.N), Used: used,
	}
	if m.Limits.Quota > 0 {
		f.QuotaCPUs = pointer(m.Limits.Quota)
	}
	if m.Limits.Memory > 0 {
		f.MemoryLimit = pointer(m.Limits.Memory)
	}
	f.Warnings = machineWarnings(m, t.N, used)
	return f
}

func machineWarnings(m device.Machine, recommended, used int) []string {
	var out []string
	for g := range strings.SplitSeq(m.CPU.Governor, ",") {
		if g != "" && g != "performance" {
			out = append(out, fmt.Sprintf("the frequency governor is %s: clocks follow the load, and times vary; set it to performance by cpupower frequency-set -g performance", m.CPU.Governor))
			break
		}
	}
	if why := m.Oversubscribed(used); used > 0 && why != "" {
		out = append(out, fmt.Sprintf("%d threads are more than can run at once: %s", used, why))
	} else if used > recommended {
		out = append(out, fmt.Sprintf("%d threads share cores: %d are recommended, since %s", used, recommended, m.Threads().Reason))
	}
	if q := m.Limits.Quota; q > 0 && q < float64(recommended) {
		out = append(out, fmt.Sprintf("the quota of %.4g processors ends within a thread: runs are throttled when they use it up", q))
	}
	if m.CPU.Sockets > 1 && recommended > m.CPU.Cores/m.CPU.Sockets {
		out = append(out, fmt.Sprintf("threads span %d sockets: memory of the other one is slower; bind the process to one by numactl --cpunodebind=0 --membind=0", m.CPU.Sockets))
	}
	return out
}

// machine writes the processors, their limits and the threads.
func (t *table) machine(m *MachineFacts) {
	cores := fmt.Sprintf("%d cores", m.Cores)
	if m.Cores == 0 {
		cores = fmt.Sprintf("%d logical processors", m.Logical)
	} else if m.SMT {
		cores += fmt.Sprintf(" with %d threads", m.Logical)
	}
	if m.Sockets > 1 {
		cores += fmt.Sprintf(" in %d sockets", m.Sockets)
	}
	t.fact("processors", "%s%s; %s", prefixed("", m.CPU), prefixed(", ", cores), strings.Join(m.ISA, " "))
	t.fact("limits", "%s", m.Limits())
	t.fact("threads", "%d recommended: %s (%s)", m.Threads, m.Reason, m.Flag)
	for _, w := range m.Warnings {
		t.fact("warn", "%s", w)
	}
}

func orText(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// Limits describes what the process may use, in a line.
func (m *MachineFacts) Limits() string {
	limits := "all processors"
	if m.Allowed != "" {
		limits = "processors " + m.Allowed
	}
	if m.Pinned {
		limits += ", pinned"
	}
	if m.QuotaCPUs != nil {
		limits += fmt.Sprintf(", quota %.4g processors", *m.QuotaCPUs)
	} else {
		limits += ", no quota"
	}
	if m.MemoryLimit != nil {
		limits += ", memory " + bytesText(*m.MemoryLimit)
	}
	return limits + "; governor " + orText(m.Governor, "not shown")
}

// Package device tells what the machine is and how busy it is: processor and instruction sets, the limits that cpuset,
// affinity and cgroups put on this process, GPUs; and which device of ONNX Runtime a request such as "auto" means.
//
// On Linux everything but the GPUs is read from /proc and /sys below a root folder that the caller may name. What a
// machine does not tell is left at its zero value; reading never fails.
package device

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Options say where to read. The zero value reads this machine and this process.
type Options struct {
	// Root is the folder that holds proc and sys; "" is "/". With a Root everything is read from files below it, on
	// every operating system.
	Root string
	// PID is the process whose limits and context switches are read; 0 is this one.
	PID int
	// GPUs asks for the GPUs; nil is NVML.
	GPUs func() GPUs
	// VisibleDevices is the value of CUDA_VISIBLE_DEVICES, by which CUDA hides and renumbers GPUs; "" is unset.
	VisibleDevices string
}

// Machine is what a machine is, and what this process may use of it.
type Machine struct {
	OS        string `json:"os"`   // in Go's names
	Arch      string `json:"arch"` // in Go's names
	Kernel    string `json:"kernel,omitempty"`
	Container string `json:"container,omitempty"` // docker, podman, kubernetes, lxc, wsl …; "" where nothing hints at one
	Virtual   bool   `json:"virtual"`             // a hypervisor is seen
	CPU       CPU    `json:"cpu"`
	Limits    Limits `json:"limits"`
	GPUs      GPUs   `json:"gpus"`
}

// Limits is what this process may use.
type Limits struct {
	// CPUs are the numbers of the logical processors on which the process may run: its affinity within its cpuset
	// and what is online. Empty where it is not known.
	CPUs []int `json:"cpus,omitempty"`
	// Cpuset are the processors that the control group allows, and Affinity those that the process is bound to.
	// Empty where it is not known.
	Cpuset   []int `json:"cpuset,omitempty"`
	Affinity []int `json:"affinity,omitempty"`
	// Cores counts the physical cores that CPUs belong to; 0 where it is not known.
	Cores int `json:"cores,omitempty"`
	// Quota is how many processors' worth of time the cgroup and its parents allow; 0 is no limit.
	Quota float64 `json:"quota,omitempty"`
	// Memory is the smallest memory limit of the cgroup and its parents, in bytes; 0 is no limit.
	Memory int64 `json:"memory,omitempty"`
	// MemoryTotal is the machine's memory in bytes; 0 where it is not known.
	MemoryTotal int64 `json:"memory_total,omitempty"`
	// Cgroup is "v1", "v2", or "" where there is none.
	Cgroup string `json:"cgroup,omitempty"`
}

// Threads is a thread count and where it comes from.
type Threads struct {
	N      int    `json:"n"`
	Reason string `json:"reason"`
}

// Threads is how many threads computation should use: the smallest of the processors allowed, the quota rounded up, and
// the physical cores behind them. More threads than that wait for each other on the same core, or are throttled.
func (m Machine) Threads() Threads {
	t := Threads{N: m.CPU.Logical, Reason: fmt.Sprintf("%d logical processors", m.CPU.Logical)}
	if t.N < 1 {
		t = Threads{N: runtime.NumCPU(), Reason: fmt.Sprintf("%d processors, as the Go runtime counts them", runtime.NumCPU())}
	}
	lower := func(n int, format string, args ...any) {
		if n > 0 && n < t.N {
			t = Threads{N: n, Reason: fmt.Sprintf(format, args...)}
		}
	}
	lower(len(m.Limits.CPUs), "cpuset and affinity allow %d of %d logical processors", len(m.Limits.CPUs), m.CPU.Logical)
	lower(m.Limits.Cores, "%d physical cores behind %d logical processors", m.Limits.Cores, max(len(m.Limits.CPUs), 1))
	lower(m.CPU.Cores, "%d physical cores", m.CPU.Cores)
	if q := m.Limits.Quota; q > 0 && q < math.MaxInt32 {
		lower(int(math.Ceil(q)), "the cgroup's quota allows %.4g processors", q)
	}
	return t
}

// Read reads the machine.
func Read(o Options) Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH}
	if o.Root != "" || runtime.GOOS == "linux" {
		readLinux(&m, tree{o.Root}, o)
	} else {
		readHost(&m)
	}
	ask := o.GPUs
	if ask == nil {
		ask = nvmlGPUs
	}
	m.GPUs = ask()
	m.GPUs.number(o.VisibleDevices)
	return m
}

// readLinux reads /proc and /sys.
func readLinux(m *Machine, t tree, o Options) {
	m.Kernel = t.line("proc/sys/kernel/osrelease")
	info := parseCPUInfo(t.text("proc/cpuinfo"))
	online := cpuList(t.line("sys/devices/system/cpu/online"))
	if online == nil {
		online = info.numbers
	}
	m.CPU = CPU{Model: info.model, ISA: info.isa, Logical: len(online), Vendor: info.vendor, Family: info.family}
	m.CPU.Sockets, m.CPU.Cores = t.topology(online, info)
	m.CPU.Governor, m.CPU.Clock = t.governor(online), t.maxClock(online)
	m.CPU.Cache = t.cache(online)
	m.Virtual = info.hypervisor
	m.Container = t.container()

	groups := t.cgroups(o.pid())
	m.Limits = groups.limits()
	m.Limits.MemoryTotal = meminfo(t, "MemTotal")
	if m.Limits.MemoryTotal > 0 && m.Limits.Memory >= m.Limits.MemoryTotal {
		m.Limits.Memory = 0 // cgroup v1 writes "no limit" as a huge number
	}
	m.Limits.Cpuset, m.Limits.Affinity = groups.cpuset(), cpuList(t.status(o.pid(), "Cpus_allowed_list"))
	m.Limits.CPUs = intersect(online, m.Limits.Cpuset, m.Limits.Affinity)
	_, m.Limits.Cores = t.topology(m.Limits.CPUs, info)
}

// pid is the process's folder in /proc.
func (o Options) pid() string {
	if o.PID == 0 {
		return "self"
	}
	return strconv.Itoa(o.PID)
}

// tree reads the files of /proc and /sys. A file that cannot be read is empty.
type tree struct{ root string }

// maxFile bounds what is read of one file; /proc/cpuinfo of a machine with 1024 processors has 2 MiB.
const maxFile = 16 << 20

func (t tree) path(name string) string { return filepath.Join("/", t.root, name) }

func (t tree) text(name string) string {
	f, err := os.Open(t.path(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(b)
}

func (t tree) line(name string) string {
	line, _, _ := strings.Cut(t.text(name), "\n")
	return strings.TrimSpace(line)
}

func (t tree) exists(name string) bool {
	_, err := os.Stat(t.path(name))
	return err == nil
}

func (t tree) number(name string) (uint64, bool) {
	n, err := strconv.ParseUint(t.line(name), 10, 64)
	return n, err == nil
}

// status is one field of /proc/PID/status.
func (t tree) status(pid, field string) string {
	return fieldOf(t.text("proc/"+pid+"/status"), field)
}

// fieldOf is the value on the line "field: value", or "".
func fieldOf(text, field string) string {
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == field {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// container looks for what container runtimes leave for the processes inside.
func (t tree) container() string {
	if s := t.line("run/systemd/container"); s != "" {
		return s
	}
	first := t.text("proc/1/cgroup")
	switch {
	case strings.Contains(first, "kubepods") || t.exists("run/secrets/kubernetes.io") || t.exists("var/run/secrets/kubernetes.io"):
		return "kubernetes"
	case t.exists("run/.containerenv"):
		return "podman"
	case t.exists(".dockerenv") || strings.Contains(first, "/docker"):
		return "docker"
	case strings.Contains(first, "/lxc"):
		return "lxc"
	case strings.Contains(strings.ToLower(t.line("proc/version")), "microsoft"):
		return "wsl"
	}
	return ""
}

// cpuMax is the highest processor number believed.
const cpuMax = 1 << 16

// cpuList reads "0-3,8"; nil where it is empty or wrong.
func cpuList(s string) []int {
	var out []int
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(lo)
		if err != nil || a < 0 {
			return nil
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(hi); err != nil {
				return nil
			}
		}
		if b < a || b >= cpuMax || len(out) > cpuMax {
			return nil
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	return out
}

// intersect keeps of the first list that is known what is in all others that are known.
func intersect(lists ...[]int) []int {
	var out []int
	for _, l := range lists {
		if l == nil {
			continue
		}
		if out == nil {
			out = append(out, l...)
			continue
		}
		in := make(map[int]bool, len(l))
		for _, n := range l {
			in[n] = true
		}
		kept := make([]int, 0, len(out))
		for _, n := range out {
			if in[n] {
				kept = append(kept, n)
			}
		}
		out = kept
	}
	return out
}

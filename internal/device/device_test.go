package device

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// fixture writes a tree of /proc and /sys.
func fixture(t testing.TB, name string) Options {
	t.Helper()
	a, err := txtar.ParseFile(filepath.Join("testdata", name+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range a.Files {
		put(t, root, f.Name, string(f.Data))
	}
	return Options{Root: root, GPUs: func() GPUs { return GPUs{Known: true, Reason: "no NVIDIA driver"} }}
}

func put(t testing.TB, root, name, data string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	xeon := []string{"amx_int8", "avx2", "avx512_vnni", "avx512f", "f16c", "fma"}
	const gib = 1 << 30
	const sapphire = "Intel(R) Xeon(R) Platinum 8480+"
	tests := []struct {
		name      string
		kernel    string
		container string
		virtual   bool
		cpu       CPU
		limits    Limits
		threads   Threads
	}{
		{"v2-nested", "6.8.0-test", "", false,
			CPU{Model: sapphire, ISA: xeon, Sockets: 2, Cores: 4, Logical: 8, Governor: "performance,powersave", Vendor: "GenuineIntel", Family: 6, Clock: 3800, Cache: 107520 << 10},
			Limits{CPUs: []int{2, 3, 4, 5, 6, 7}, Cpuset: []int{2, 3, 4, 5, 6, 7}, Affinity: []int{0, 1, 2, 3, 4, 5, 6, 7}, Cores: 3, Quota: 2.5, Memory: 4 * gib, MemoryTotal: 16 * gib, Cgroup: "v2"},
			Threads{3, "3 physical cores behind 6 logical processors"}},
		{"v1-docker", "6.8.0-test", "docker", false,
			CPU{Model: sapphire, ISA: xeon, Sockets: 1, Cores: 4, Logical: 8, Governor: "", Vendor: "GenuineIntel"},
			Limits{CPUs: []int{1, 2, 3, 4}, Cpuset: []int{1, 2, 3, 4}, Affinity: []int{0, 1, 2, 3, 4, 5, 6, 7}, Cores: 3, Quota: 1.5, Memory: 2 * gib, MemoryTotal: 16 * gib, Cgroup: "v1"},
			Threads{2, "the cgroup's quota allows 1.5 processors"}},
		{"v1-unlimited", "6.8.0-test", "", false,
			CPU{Model: sapphire, ISA: xeon, Sockets: 1, Cores: 2, Logical: 2, Governor: "", Vendor: "GenuineIntel"},
			Limits{CPUs: []int{0, 1}, Cpuset: []int{0, 1}, Affinity: []int{0, 1}, Cores: 2, MemoryTotal: 16 * gib, Cgroup: "v1"},
			Threads{2, "2 logical processors"}},
		{"v2-namespace", "6.8.0-test", "kubernetes", false,
			CPU{Model: sapphire, ISA: xeon, Sockets: 1, Cores: 4, Logical: 4, Governor: "", Vendor: "GenuineIntel"},
			Limits{CPUs: []int{0, 1, 2, 3}, Affinity: []int{0, 1, 2, 3}, Cores: 4, Quota: 0.5, Memory: gib, MemoryTotal: 16 * gib, Cgroup: "v2"},
			Threads{1, "the cgroup's quota allows 0.5 processors"}},
		{"offline", "6.8.0-test", "", true,
			CPU{Model: "AMD EPYC 9654", ISA: []string{"avx2", "avx_vnni"}, Sockets: 1, Cores: 3, Logical: 5, Governor: "", Vendor: "GenuineIntel"},
			Limits{CPUs: []int{1, 2, 3, 6}, Affinity: []int{1, 2, 3, 4, 6}, Cores: 3, MemoryTotal: 16 * gib},
			Threads{3, "3 physical cores behind 4 logical processors"}},
		{"arm", "", "", false,
			CPU{Model: "ARM Neoverse-V1", ISA: []string{"bf16", "dotprod", "fp16", "i8mm", "neon", "sve"}, Sockets: 0, Cores: 0, Logical: 2, Governor: ""},
			Limits{CPUs: []int{0, 1}},
			Threads{2, "2 logical processors"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Read(fixture(t, tt.name))
			want := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: tt.kernel, Container: tt.container, Virtual: tt.virtual,
				CPU: tt.cpu, Limits: tt.limits, GPUs: GPUs{Known: true, Reason: "no NVIDIA driver"}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.threads, got.Threads()); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestReadNothing: what tells nothing, or nonsense, gives zero values and a usable thread count.
func TestReadNothing(t *testing.T) {
	for _, name := range []string{"empty", "broken"} {
		o := fixture(t, name)
		got := Read(o)
		if got.CPU.Logical != 0 || got.Limits.Quota != 0 || got.Limits.Memory != 0 || got.Limits.MemoryTotal != 0 || got.Limits.CPUs != nil {
			t.Errorf("%s: %+v", name, got)
		}
		if th := got.Threads(); th.N != runtime.NumCPU() || th.Reason == "" {
			t.Errorf("%s: %+v", name, th)
		}
		if l := Snapshot(o).Since(Snapshot(o)); l.Steal != nil || l.Pressure != nil || l.Average != nil || l.ThrottledPeriods != nil || l.InvoluntarySwitches != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestReadHost compares with what Go knows of this machine.
func TestReadHost(t *testing.T) {
	m := Read(Options{})
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells everything")
	}
	if len(m.Limits.CPUs) != runtime.NumCPU() {
		t.Errorf("cpuset and affinity allow %v, Go counts %d processors", m.Limits.CPUs, runtime.NumCPU())
	}
	if n := m.Threads().N; n < 1 || n > runtime.NumCPU() {
		t.Errorf("%d threads on %d processors", n, runtime.NumCPU())
	}
	if m.Kernel == "" || m.CPU.Model == "" || m.CPU.Logical < runtime.NumCPU() || m.Limits.MemoryTotal == 0 {
		t.Errorf("unknown: %+v", m)
	}
	if len(m.GPUs.Devices) == 0 && m.GPUs.Reason == "" {
		t.Error("no GPU, and no reason")
	}
	t.Logf("%+v; threads %+v", m, m.Threads())
}

func TestSince(t *testing.T) {
	o := fixture(t, "v2-nested")
	set := func(stat, pressure, throttled string, switches map[string]string) Busy {
		put(t, o.Root, "proc/stat", stat)
		put(t, o.Root, "proc/pressure/cpu", pressure)
		put(t, o.Root, "sys/fs/cgroup/a.slice/b.scope/c/cpu.stat", throttled)
		put(t, o.Root, "proc/loadavg", "1.50 2.25 3.00 1/100 42\n")
		if err := os.RemoveAll(filepath.Join(o.Root, "proc/self/task")); err != nil {
			t.Fatal(err)
		}
		for tid, n := range switches {
			put(t, o.Root, "proc/self/task/"+tid+"/status", "voluntary_ctxt_switches:\t9\nnonvoluntary_ctxt_switches:\t"+n+"\n")
		}
		return Snapshot(o)
	}
	before := set("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1\n", "some avg10=0.00 total=1000\nfull avg10=0.00 total=5\n",
		"nr_throttled 3\nthrottled_usec 500\n", map[string]string{"1": "10", "2": "100"})
	// 200 ticks more: 60 in use, 100 idle, 40 stolen. Thread 2 ended, 3 began.
	after := set("cpu  130 0 130 760 140 0 0 40 90 0\ncpu0 1\n", "some avg10=0.00 total=251000\nfull avg10=0.00 total=5\n",
		"nr_throttled 5\nthrottled_usec 900\n", map[string]string{"1": "14", "3": "2"})
	before.at, after.at = before.at.Truncate(0), before.at.Truncate(0).Add(1e9)
	f := func(v float64) *float64 { return &v }
	u := func(v uint64) *uint64 { return &v }
	waited := after.at.Sub(before.at) * 400 / 1_000_000
	want := Load{Elapsed: 1e9, Steal: f(0.2), Used: f(0.3), ThrottledPeriods: u(2), Throttled: &waited,
		Pressure: f(0.25), InvoluntarySwitches: u(6), Average: &[3]float64{1.5, 2.25, 3}}
	near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-12 && b-a < 1e-12 })
	if d := cmp.Diff(want, after.Since(before), near); d != "" {
		t.Error(d)
	}
	// Counters that go backwards count as standing still.
	back := before.Since(after)
	if *back.ThrottledPeriods != 0 || back.Steal != nil {
		t.Errorf("backwards: %+v", back)
	}
}

func TestThrottledV1(t *testing.T) {
	o := fixture(t, "v1-docker")
	periods, micros, ok := tree{o.Root}.cgroups("self").throttled()
	if periods != 4 || micros != 2000 || !ok {
		t.Errorf("got %d, %d, %v, want 4, 2000, true", periods, micros, ok)
	}
}

// TestPID reads another process's limits.
func TestPID(t *testing.T) {
	o := fixture(t, "v2-nested")
	o.PID = 77
	put(t, o.Root, "proc/77/status", "Cpus_allowed_list:\t5\n")
	m := Read(o)
	if d := cmp.Diff(Limits{CPUs: []int{5}, Affinity: []int{5}, Cores: 1, MemoryTotal: 16 << 30}, m.Limits); d != "" {
		t.Error(d)
	}
}

// FuzzParsers reads lists of processors and /proc/cpuinfo as a kernel may write them.
func FuzzParsers(f *testing.F) {
	f.Add("0-3,8", "processor : 0\nflags : avx2\n")
	f.Fuzz(func(t *testing.T, list, info string) {
		if got := cpuList(list); len(got) > 2*cpuMax {
			t.Errorf("%d processors", len(got))
		}
		parseCPUInfo(info)
	})
}

func gpus(devices ...GPU) GPUs {
	g := GPUs{Known: true, Driver: "550.54", CUDA: "12.4", Devices: devices}
	for i := range g.Devices {
		g.Devices[i].Index = i
	}
	return g
}

func TestChoose(t *testing.T) {
	h100 := GPU{Name: "H100", UUID: "GPU-aaaa", MemoryTotal: 80 << 30, MemoryUsed: 1 << 30}
	busy := GPU{Name: "H100", UUID: "GPU-bbbb", MemoryTotal: 80 << 30, Others: []GPUProcess{{PID: 7}}, Slowdown: []string{"thermal"}}
	full := GPU{Name: "H100", UUID: "GPU-cccc", MemoryTotal: 80 << 30, MemoryUsed: 70 << 30}
	shut := GPU{Name: "T4", UUID: "GPU-dddd", MemoryTotal: 16 << 30, ComputeMode: "prohibited"}
	none := GPUs{Known: true, Reason: "no NVIDIA driver"}
	unknown := GPUs{Reason: "NVIDIA GPUs are unknown: built without cgo"}
	cpu, cuda := []string{cpuProvider}, []string{"TensorrtExecutionProvider", "CUDAExecutionProvider", cpuProvider}
	tests := []struct {
		name, request string
		providers     []string
		gpus          GPUs
		visible       string
		want          string // device
		says          string // in the reason, the warnings, or the error
	}{
		{"no driver", "auto", cuda, none, "", "cpu", "the CPU, since no NVIDIA driver"},
		{"empty is auto", "", cpu, none, "", "cpu", "no NVIDIA driver"},
		{"cpu library", "auto", cpu, gpus(h100), "", "cpu", "no CUDAExecutionProvider"},
		{"cpu library warns", "auto", cpu, gpus(h100), "", "cpu", "H100 is unused"},
		{"least busy", "auto", cuda, gpus(busy, full, h100), "", "cuda:2", "least busy of 3 usable"},
		{"busy warns", "AUTO", cuda, gpus(busy), "", "cuda:0", "1 other processes use GPU 0"},
		{"prohibited", "auto", cuda, gpus(shut), "", "cpu", "keeps this process from all 1"},
		{"renumbered", "auto", cuda, gpus(busy, full, h100), "GPU-bb,2", "cuda:1", "H100"},
		{"hidden", "auto", cuda, gpus(h100), "-1", "cpu", "CUDA_VISIBLE_DEVICES"},
		{"unknown", "auto", cuda, unknown, "", "cpu", "built without cgo"},
		{"asked cpu", "cpu", nil, gpus(h100), "", "cpu", "asked for"},
		{"asked cuda", "cuda", cuda, gpus(h100, full), "", "cuda:0", "asked for"},
		{"asked number", "CUDA:1", cuda, gpus(h100, busy), "", "cuda:1", "thermal"},
		{"asked tensorrt", "tensorrt:0", cuda, gpus(h100, shut), "", "tensorrt:0", "CUDA_DEVICE_ORDER"},
		{"asked unknown", "cuda:3", cuda, unknown, "", "cuda:3", "built without cgo"},
		{"asked openvino", "openvino:GPU", []string{"OpenVINOExecutionProvider"}, none, "", "openvino:GPU", "asked for"},
		{"asked coreml", "coreml", []string{"CoreMLExecutionProvider"}, none, "", "coreml", "asked for"},
		{"no provider", "cuda", cpu, gpus(h100), "", "", "has no CUDAExecutionProvider (it has CPUExecutionProvider)"},
		{"no gpu", "cuda", cuda, none, "", "", "there is no GPU: no NVIDIA driver"},
		{"no such gpu", "cuda:2", cuda, gpus(h100, full), "", "", "CUDA sees 0 (H100), 1 (H100)"},
		{"hidden gpu", "cuda:1", cuda, gpus(h100, full), "0", "", "CUDA_VISIBLE_DEVICES hides 1"},
		{"closed gpu", "cuda:0", cuda, gpus(shut), "", "", "compute mode of T4 is prohibited"},
		{"unknown device", "tpu", cuda, none, "", "", "want auto, cpu"},
		{"argument", "cpu:1", cuda, none, "", "", "takes no argument"},
		{"empty argument", "cuda:", cuda, none, "", "", "nothing follows the colon"},
		{"negative", "cuda:-1", cuda, none, "", "", "not the number of a GPU"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := Machine{GPUs: tt.gpus}
			m.GPUs.number(tt.visible)
			got, err := Choose(tt.request, tt.providers, m)
			said := got.Reason + "\n" + strings.Join(got.Warnings, "\n")
			if err != nil {
				said = err.Error()
			}
			if got.Device != tt.want || (err != nil) != (tt.want == "") || !strings.Contains(said, tt.says) {
				t.Errorf("got %+v, %v, want %q saying %q", got, err, tt.want, tt.says)
			}
			if err == nil && (got.Provider == "" || got.Reason == "") {
				t.Errorf("incomplete: %+v", got)
			}
		})
	}
}

package device

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CPU describes the processors of a machine.
type CPU struct {
	Model string `json:"model,omitempty"`
	// ISA names the instruction sets that ONNX Runtime's kernels choose between, sorted: on amd64 avx2, fma, f16c,
	// avx512f, avx512_vnni, avx512_bf16, avx512_fp16, avx_vnni, avx_vnni_int8, amx_int8, amx_bf16; on arm64 neon,
	// fp16, dotprod, i8mm, bf16, sve, sve2, sme.
	ISA     []string `json:"isa,omitempty"`
	Sockets int      `json:"sockets,omitempty"`
	Cores   int      `json:"cores,omitempty"`   // physical cores that are online
	Logical int      `json:"logical,omitempty"` // logical processors that are online
	// Governor is the frequency governor, several separated by commas; "" where the machine does not show one, as
	// most virtual machines do not.
	Governor string `json:"governor,omitempty"`
	Vendor   string `json:"vendor,omitempty"`        // as the processor names it: GenuineIntel, AuthenticAMD
	Family   int    `json:"family,omitempty"`        // of the vendor's numbering, on amd64
	Clock    int    `json:"max_clock_mhz,omitempty"` // highest frequency that the machine states; 0 where it states none
	Cache    int64  `json:"cache,omitempty"`         // bytes of the largest cache of one processor; 0 where it is not known
}

// SMT reports whether cores run several threads each.
func (c CPU) SMT() bool { return c.Cores > 0 && c.Logical > c.Cores }

// isaNames maps the kernel's names of instruction sets, on amd64 and on arm64, to those in CPU.ISA.
var isaNames = map[string]string{
	"avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f", "avx512_vnni": "avx512_vnni",
	"avx512_bf16": "avx512_bf16", "avx512_fp16": "avx512_fp16", "avx_vnni": "avx_vnni", "avx_vnni_int8": "avx_vnni_int8",
	"amx_int8": "amx_int8", "amx_bf16": "amx_bf16",
	"asimd": "neon", "neon": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16",
	"sve": "sve", "sve2": "sve2", "sme": "sme",
}

// cpuInfo is what /proc/cpuinfo says.
type cpuInfo struct {
	model      string
	vendor     string
	family     int
	isa        []string
	hypervisor bool
	numbers    []int
	pack       map[int]string // by processor number
	core       map[int]string
}

func parseCPUInfo(text string) cpuInfo {
	info := cpuInfo{pack: map[int]string{}, core: map[int]string{}}
	current := -1
	var implementer, part string
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch key {
		case "processor":
			n, err := strconv.Atoi(value)
			if err != nil { // 32-bit ARM kernels print the model here
				continue
			}
			current = n
			info.numbers = append(info.numbers, n)
		case "model name", "Model", "cpu model":
			info.model = firstOf(info.model, value)
		case "vendor_id":
			info.vendor = firstOf(info.vendor, value)
		case "cpu family":
			if n, err := strconv.Atoi(value); err == nil && info.family == 0 {
				info.family = n
			}
		case "CPU implementer":
			implementer = firstOf(implementer, value)
		case "CPU part":
			part = firstOf(part, value)
		case "physical id":
			info.pack[current] = value
		case "core id":
			info.core[current] = value
		case "flags", "Features":
			if info.isa == nil {
				info.isa, info.hypervisor = parseFlags(value)
			}
		}
	}
	if info.model == "" && implementer != "" {
		info.model = armModel(implementer, part)
	}
	return info
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func parseFlags(flags string) (isa []string, hypervisor bool) {
	isa = []string{}
	for f := range strings.FieldsSeq(flags) {
		hypervisor = hypervisor || f == "hypervisor"
		if name, ok := isaNames[f]; ok && !slices.Contains(isa, name) {
			isa = append(isa, name)
		}
	}
	slices.Sort(isa)
	return isa, hypervisor
}

// armModel names an ARM core by the numbers in its identification register, as its makers document them.
func armModel(implementer, part string) string {
	cores := map[string]string{
		"0x41 0xd03": "ARM Cortex-A53", "0x41 0xd05": "ARM Cortex-A55", "0x41 0xd07": "ARM Cortex-A57",
		"0x41 0xd08": "ARM Cortex-A72", "0x41 0xd0b": "ARM Cortex-A76", "0x41 0xd0c": "ARM Neoverse-N1",
		"0x41 0xd40": "ARM Neoverse-V1", "0x41 0xd49": "ARM Neoverse-N2", "0x41 0xd4f": "ARM Neoverse-V2",
		"0xc0 0xac3": "Ampere-1", "0xc0 0xac4": "Ampere-1a",
	}
	if name, ok := cores[implementer+" "+part]; ok {
		return name
	}
	return fmt.Sprintf("ARM implementer %s part %s", implementer, part)
}

// topology counts the sockets and physical cores that processors belong to: by /sys, else by /proc/cpuinfo; 0 where
// neither tells.
func (t tree) topology(cpus []int, info cpuInfo) (sockets, cores int) {
	packages, coreSet := map[string]bool{}, map[string]bool{}
	for _, n := range cpus {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", n)
		pack := firstOf(t.line(dir+"physical_package_id"), info.pack[n])
		siblings := firstOf(t.line(dir+"core_cpus_list"), t.line(dir+"thread_siblings_list"))
		switch {
		case siblings != "":
			coreSet[siblings] = true
		case info.core[n] != "":
			coreSet[pack+" "+info.core[n]] = true
		}
		if pack != "" && pack != "-1" {
			packages[pack] = true
		}
	}
	return len(packages), len(coreSet)
}

// governor lists the frequency governors in use.
func (t tree) governor(cpus []int) string {
	var seen []string
	for _, n := range cpus {
		g := t.line(fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", n))
		if g != "" && !slices.Contains(seen, g) {
			seen = append(seen, g)
		}
	}
	slices.Sort(seen)
	return strings.Join(seen, ",")
}

// maxClock is the highest frequency of any processor in MHz, by cpufreq; 0 where there is none.
func (t tree) maxClock(cpus []int) int {
	most := 0
	for _, n := range cpus {
		khz, ok := t.number(fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq", n))
		if ok && khz < 1<<30 {
			most = max(most, int(khz/1000))
		}
	}
	return most
}

// cache is the size of the largest cache of any processor in bytes; 0 where it is not known.
func (t tree) cache(cpus []int) int64 {
	most := int64(0)
	for _, n := range cpus[:min(len(cpus), 1)] {
		for level := range 8 {
			text := t.line(fmt.Sprintf("sys/devices/system/cpu/cpu%d/cache/index%d/size", n, level))
			if kib, err := strconv.ParseInt(strings.TrimSuffix(text, "K"), 10, 32); err == nil {
				most = max(most, kib<<10)
			}
		}
	}
	return most
}

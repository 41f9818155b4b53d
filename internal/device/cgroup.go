package device

import (
	"path"
	"strconv"
	"strings"
)

// cgroups are the control groups of a process, by controller.
type cgroups struct {
	t       tree
	version string
	// levels maps cpu, cpuset and memory to the folders of the process's group and its parents up to the mount
	// point, the process's own first.
	levels map[string][]string
	// unified says for which controllers the folders are of version 2.
	unified map[string]bool
}

// mount is one cgroup file system.
type mount struct {
	root, point string
	controllers []string // of version 1
	v2          bool
}

// cgroups finds the groups of a process: /proc/PID/cgroup names them, /proc/PID/mountinfo tells where they are mounted.
// Where both versions are mounted, a controller is taken from version 1 if that has it.
func (t tree) cgroups(pid string) cgroups {
	g := cgroups{t: t, levels: map[string][]string{}, unified: map[string]bool{}}
	paths := map[string]string{} // by controller; "" is version 2
	for line := range strings.Lines(t.text("proc/" + pid + "/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			paths[c] = parts[2]
		}
	}
	mounts := t.cgroupMounts(pid)
	for _, c := range []string{"cpu", "cpuset", "memory"} {
		for _, m := range mounts {
			name := ""
			if !m.v2 {
				if name = c; !contains(m.controllers, c) {
					continue
				}
			}
			p, ok := paths[name]
			if !ok || m.v2 && g.levels[c] != nil {
				continue
			}
			g.levels[c], g.unified[c] = t.chain(m, p), m.v2
		}
	}
	switch {
	case len(g.levels) == 0:
	case g.unified["cpu"]:
		g.version = "v2"
	default:
		g.version = "v1"
	}
	return g
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// cgroupMounts reads mountinfo: "ID PARENT MAJ:MIN ROOT POINT OPTIONS … - TYPE SOURCE SUPEROPTIONS". Mounts of version
// 1 come first.
func (t tree) cgroupMounts(pid string) []mount {
	var v1, v2 []mount
	for line := range strings.Lines(t.text("proc/" + pid + "/mountinfo")) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		m := mount{root: unescape(left[3]), point: unescape(left[4])}
		switch right[0] {
		case "cgroup":
			m.controllers = strings.Split(right[2], ",")
			v1 = append(v1, m)
		case "cgroup2":
			m.v2 = true
			v2 = append(v2, m)
		}
	}
	return append(v1, v2...)
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// chain lists the folders from a group up to the mount point. In a container the group's path may be one that only the
// host can see: then the mount point stands for the group.
func (t tree) chain(m mount, group string) []string {
	rel := group
	if m.root != "/" {
		switch {
		case group == m.root:
			rel = "/"
		case strings.HasPrefix(group, m.root+"/"):
			rel = strings.TrimPrefix(group, m.root)
		default:
			rel = "/"
		}
	}
	if strings.HasPrefix(rel, "/..") || !t.exists(path.Join(m.point, rel)) {
		rel = "/"
	}
	var out []string
	for rel = path.Clean(rel); ; rel = path.Dir(rel) {
		out = append(out, path.Join(m.point, rel))
		if rel == "/" || rel == "." {
			return out
		}
	}
}

// limits reads quota and memory limit: the tightest of the group and its parents.
func (g cgroups) limits() Limits {
	l := Limits{Cgroup: g.version}
	for _, dir := range g.levels["cpu"] {
		if q := g.quota(dir); q > 0 && (l.Quota == 0 || q < l.Quota) {
			l.Quota = q
		}
	}
	name := "memory.limit_in_bytes"
	if g.unified["memory"] {
		name = "memory.max"
	}
	for _, dir := range g.levels["memory"] {
		// The text "max" is not a number, and so no limit.
		if n, ok := g.t.number(path.Join(dir, name)); ok && n < 1<<62 && (l.Memory == 0 || int64(n) < l.Memory) {
			l.Memory = int64(n)
		}
	}
	return l
}

// quota is the processors' worth of time one group allows; 0 is no limit.
func (g cgroups) quota(dir string) float64 {
	var quota, period string
	if g.unified["cpu"] {
		quota, period, _ = strings.Cut(g.t.line(path.Join(dir, "cpu.max")), " ")
	} else {
		quota, period = g.t.line(path.Join(dir, "cpu.cfs_quota_us")), g.t.line(path.Join(dir, "cpu.cfs_period_us"))
	}
	q, err := strconv.ParseInt(quota, 10, 64)
	p, perr := strconv.ParseInt(period, 10, 64)
	if err != nil || perr != nil || q <= 0 || p <= 0 {
		return 0
	}
	return float64(q) / float64(p)
}

// cpuset lists the processors that the group may use: what the nearest group that says so says. nil is no limit.
func (g cgroups) cpuset() []int {
	names := []string{"cpuset.effective_cpus", "cpuset.cpus"}
	if g.unified["cpuset"] {
		names = []string{"cpuset.cpus.effective", "cpuset.cpus"}
	}
	for _, dir := range g.levels["cpuset"] {
		for _, name := range names {
			if list := cpuList(g.t.line(path.Join(dir, name))); list != nil {
				return list
			}
		}
	}
	return nil
}

// throttled sums over the group and its parents how many periods ended throttled, and for how long, in microseconds.
func (g cgroups) throttled() (periods, micros uint64, ok bool) {
	for _, dir := range g.levels["cpu"] {
		for line := range strings.Lines(g.t.text(path.Join(dir, "cpu.stat"))) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				continue
			}
			switch key {
			case "nr_throttled":
				periods += n
				ok = true
			case "throttled_usec":
				micros += n
			case "throttled_time": // version 1, in nanoseconds
				micros += n / 1000
			}
		}
	}
	return periods, micros, ok
}

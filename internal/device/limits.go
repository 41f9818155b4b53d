package device

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Pinned reports whether the process is bound to fewer processors than its cpuset and the machine have.
func (m Machine) Pinned() bool {
	within := m.CPU.Logical
	if n := len(m.Limits.Cpuset); n > 0 {
		within = min(within, n)
	}
	return len(m.Limits.Affinity) > 0 && len(m.Limits.CPUs) < within
}

// Oversubscribed says why n threads are more than can run at the same time; "" where they are not. Threads that share
// a core can: they are slower than on a core each, not in each other's way.
func (m Machine) Oversubscribed(n int) string {
	if q := m.Limits.Quota; q > 0 && q < math.MaxInt32 && n > int(math.Ceil(q)) {
		return fmt.Sprintf("the cgroup's quota allows %.4g processors", q)
	}
	if c := len(m.Limits.CPUs); c > 0 && n > c {
		return fmt.Sprintf("cpuset and affinity allow %d of %d logical processors", c, m.CPU.Logical)
	}
	if m.CPU.Logical > 0 && n > m.CPU.Logical {
		return fmt.Sprintf("there are %d logical processors", m.CPU.Logical)
	}
	return ""
}

// List writes numbers of processors as the kernel does: 0-3,8.
func List(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		part := strconv.Itoa(cpus[i])
		if j > i {
			part += "-" + strconv.Itoa(cpus[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}

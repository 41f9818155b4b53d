package device

import (
	"path"
	"strconv"
	"strings"
)

// FreeMemory is how many bytes of memory this process and its children can still take: what the machine has left, or the
// tightest of the control group and its parents, caches of files counted as free. 0 is nothing, or not known.
func FreeMemory(o Options) int64 {
	t := tree{o.Root}
	free := meminfo(t, "MemAvailable")
	g := t.cgroups(o.pid())
	for _, dir := range g.levels["memory"] {
		if n, ok := g.freeMemory(dir); ok && free > 0 {
			free = min(free, n)
		}
	}
	return max(free, 0)
}

// meminfo is a line of /proc/meminfo in bytes; 0 where there is none.
func meminfo(t tree, field string) int64 {
	kb, _, _ := strings.Cut(fieldOf(t.text("proc/meminfo"), field), " ")
	n, err := strconv.ParseInt(kb, 10, 50)
	if err != nil {
		return 0
	}
	return n << 10
}

// freeMemory is what one group may still take; false where it has no limit.
func (g cgroups) freeMemory(dir string) (int64, bool) {
	limit, used, prefix := "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"
	if g.unified["memory"] {
		limit, used, prefix = "memory.max", "memory.current", ""
	}
	most, limited := g.t.number(path.Join(dir, limit)) // the text "max" is not a number, and so no limit
	has, known := g.t.number(path.Join(dir, used))
	if !limited || !known || most >= 1<<62 {
		return 0, false
	}
	free := int64(most) - int64(has)
	for line := range strings.Lines(g.t.text(path.Join(dir, "memory.stat"))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != prefix+"inactive_file" && key != prefix+"active_file" {
			continue
		}
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			free += n
		}
	}
	return free, true
}

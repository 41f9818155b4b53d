package device

import "testing"

// TestFreeMemory takes the tightest of the machine and the groups, and counts caches of files as free.
func TestFreeMemory(t *testing.T) {
	const mib = 1 << 20
	const meminfo = "MemTotal: 16777216 kB\nMemFree: 1000 kB\nMemAvailable: 2097152 kB\n"
	nested, leaf := "sys/fs/cgroup/a.slice/", "sys/fs/cgroup/a.slice/b.scope/c/"
	tests := []struct {
		name, fixture string
		files         map[string]string
		want          int64
	}{
		{"no groups", "empty", map[string]string{"proc/meminfo": meminfo}, 2048 * mib},
		{"nothing known", "empty", nil, 0},
		{"the parent is full", "v2-nested", map[string]string{"proc/meminfo": meminfo,
			nested + "memory.max": "1073741824\n", nested + "memory.current": "1063256064\n", nested + "memory.stat": "anon 1\ninactive_file 3145728\nactive_file 1048576\n",
			leaf + "memory.max": "max\n", leaf + "memory.current": "1\n"}, (10 + 3 + 1) * mib},
		{"the machine is full", "v2-nested", map[string]string{"proc/meminfo": "MemAvailable: 1024 kB\n",
			nested + "memory.max": "1073741824\n", nested + "memory.current": "0\n"}, mib},
		{"over the limit", "v2-nested", map[string]string{"proc/meminfo": meminfo, nested + "memory.max": "100\n", nested + "memory.current": "200\n"}, 0},
		{"version 1", "v1-docker", map[string]string{"proc/meminfo": meminfo,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "104857600\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "94371840\n",
			"sys/fs/cgroup/memory/memory.stat": "inactive_file 99\ntotal_inactive_file 1048576\n"}, 11 * mib},
		{"version 1 without a limit", "v1-docker", map[string]string{"proc/meminfo": meminfo,
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n"}, 2048 * mib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := fixture(t, tt.fixture)
			for name, text := range tt.files {
				put(t, o.Root, name, text)
			}
			if got := FreeMemory(o); got != tt.want {
				t.Errorf("%d MiB (%d bytes), want %d MiB", got>>20, got, tt.want>>20)
			}
		})
	}
}

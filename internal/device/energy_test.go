package device

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// writeZone writes a power zone below root.
func writeZone(t *testing.T, root, zone, name string, microjoules uint64) {
	t.Helper()
	dir := filepath.Join(root, "sys/class/powercap", zone)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"name": name, "energy_uj": strconv.FormatUint(microjoules, 10), "max_energy_range_uj": "262143328850",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRAPL(t *testing.T) {
	root := t.TempDir()
	if _, err := OpenEnergy(nil, Options{Root: root}); err == nil || !strings.Contains(err.Error(), "no energy counter") {
		t.Errorf("no zones: %v", err)
	}
	writeZone(t, root, "intel-rapl:0", "package-0", 262143328850-1_000_000)
	writeZone(t, root, "intel-rapl:0:0", "core", 5)
	writeZone(t, root, "intel-rapl:1", "package-1", 1_000_000)
	writeZone(t, root, "intel-rapl:2", "psys", 7)
	m, err := OpenEnergy(nil, Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	end := m.Begin()
	writeZone(t, root, "intel-rapl:0", "package-0", 2_000_000) // gone round: 1 J to the end, and 2 J
	writeZone(t, root, "intel-rapl:0:0", "core", 9_000_000)
	writeZone(t, root, "intel-rapl:1", "package-1", 1_500_000)
	if joules, ok := end(); !ok || joules != 3.5 {
		t.Errorf("%v J, %v; want 3.5 of both packages", joules, ok)
	}
	if m.Name() != "rapl" || m.Window() <= 0 || m.Close() != nil {
		t.Errorf("meter %q with windows of %v", m.Name(), m.Window())
	}
	end = m.Begin()
	if err := os.Remove(filepath.Join(root, "sys/class/powercap/intel-rapl:1/energy_uj")); err != nil {
		t.Fatal(err)
	}
	if joules, ok := end(); ok {
		t.Errorf("%v J of a counter that is gone", joules)
	}
	if _, err := OpenEnergy(nil, Options{Root: root}); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("an unreadable counter: %v", err)
	}
}

package measured

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFile(t *testing.T) {
	k := Key{Library: strings.Repeat("ab", 32), Device: "cuda:0", CPU: "x", ISA: []string{"avx2"}, Threads: 2}
	base := k.File("/cache", "times")
	if !strings.HasPrefix(base, filepath.Join("/cache", "lapidary", "times")) || strings.Contains(filepath.Base(base), ":") {
		t.Errorf("file %s", base)
	}
	seen := map[string]bool{base: true}
	for _, other := range []Key{
		{strings.Repeat("cd", 32), k.Device, k.CPU, k.ISA, 2}, {k.Library, "cpu", k.CPU, k.ISA, 2}, {k.Library, k.Device, "y", k.ISA, 2},
		{k.Library, k.Device, k.CPU, []string{"avx512f"}, 2}, {k.Library, k.Device, k.CPU, k.ISA, 1},
	} {
		if f := other.File("/cache", "times"); seen[f] {
			t.Errorf("%+v has the file of another", other)
		} else {
			seen[f] = true
		}
	}
	if k.File("", "times") != "" || (Key{}).File("/cache", "times") != "" {
		t.Error("a file without a cache, or without a library to tell it by")
	}
}

func TestReadWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "b.json")
	var got map[string]int
	if ok, err := Read(file, &got); ok || err != nil {
		t.Errorf("no file yet: %v, %v", ok, err)
	}
	if err := Write(file, map[string]int{"x": 3}); err != nil {
		t.Fatal(err)
	}
	if ok, err := Read(file, &got); !ok || err != nil || got["x"] != 3 {
		t.Errorf("read back %v: %v, %v", got, ok, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := Read(file, &got); ok || err != nil {
		t.Errorf("a damaged file: %v, %v", ok, err)
	}
	if ok, err := Read("", &got); ok || err != nil || Write("", got) != nil {
		t.Error("no file is nothing to read, and nothing to write")
	}
}

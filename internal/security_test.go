package internal

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityLines: every line of the threat model names what holds it, and each test, fuzz target, folder and file that it names is there.
func TestSecurityLines(t *testing.T) {
	b, err := os.ReadFile("../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	lines := 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 3 || strings.HasPrefix(cells[0], " threat") || strings.HasPrefix(cells[0], "---") {
			continue
		}
		lines++
		held := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[2], -1)
		if len(held) == 0 {
			t.Errorf("nothing holds %q", strings.TrimSpace(cells[0]))
		}
		for _, m := range held {
			name := m[1]
			isTest := strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
			if _, err := os.Stat(filepath.Join("..", name)); isTest && !tests[name] || !isTest && err != nil {
				t.Errorf("%s: there is no %s", strings.TrimSpace(cells[0]), name)
			}
		}
	}
	if lines < 15 {
		t.Errorf("only %d lines were found", lines)
	}
}

// testNames returns the tests and fuzz targets of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(b, -1) {
			out[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

package main

import (
	"encoding/xml"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/growth"
)

// size reads how large the model is that a stand-in for netgen wrote.
func size(t *testing.T, path string) float64 {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := numbers(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return n[0]
}

// TestRun measures stand-ins of known growth: the document says of each row what it is, and the picture is well formed.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	netgen := filepath.Join(dir, "netgen")
	script := "#!/bin/sh\nout=$2; shift 2\nfor last; do :; done\nn=0\nwhile [ $# -gt 1 ]; do case $1 in -nodes|-bytes) n=$2; shift;; esac; shift; done\necho $n > $out/$last.onnx\n"
	if err := os.WriteFile(netgen, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	lapidary := filepath.Join(dir, "lapidary")
	if err := os.WriteFile(lapidary, []byte("#!/bin/sh\necho lapidary version v9.8.7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := &harness{lapidary: lapidary, netgen: netgen, work: filepath.Join(dir, "work"), say: func(string) {}}
	h.measure = func(_ string, args ...string) (growth.Cost, error) {
		model := args[slices.IndexFunc(args, func(a string) bool { return strings.HasSuffix(a, ".onnx") })]
		n := size(t, model)
		if args[0] == "verify" {
			n = size(t, args[len(args)-1])
		}
		seconds := 0.02 + n/1e4
		if args[0] == "diff" && strings.Contains(model, "deep") {
			seconds = 0.02 + n*n/1e5
		}
		wall := time.Duration(seconds * float64(time.Second))
		c := growth.Cost{Wall: wall, CPU: 2 * wall, Peak: 40e6 + int64(n*1e5), Own: 10e6}
		if args[0] == "validate" {
			return c, fail(t, 3)
		}
		if args[0] == "prune" && n >= 2000 {
			return c, fail(t, 1)
		}
		return c, nil
	}
	md, svg := filepath.Join(dir, "growth.md"), filepath.Join(dir, "growth.svg")
	if err := h.run("500,1000,2000", "500,1000,2000", md, svg); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(md)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"lapidary v9.8.7", "2 of 38 rows grow faster than the model: `diff` (by number of nodes), `diff --text` (by number of nodes).",
		"## By bytes of weights", "| `diff` | 20 ms (40 ms) | 2.52 s (5.04 s) | 10 s (20 s) | 40 s (80 s) | 2.00 | 2.00 **not linear** |",
		"| `validate --no-latency` | 20 ms (40 ms) |", "| failed | 1.00 | 1.00 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the document lacks %q:\n%s", want, text)
		}
	}
	if left, err := os.ReadDir(h.work); err != nil || len(left) > 0 {
		t.Errorf("%v is left in the folder of models (%v)", left, err)
	}
	wellFormed(t, svg)
}

func wellFormed(t *testing.T, path string) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, lines, dark := xml.NewDecoder(f), 0, false
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			if e.Name.Local == "polyline" {
				lines++
			}
			if e.Name.Local == "svg" && e.Name.Space != "http://www.w3.org/2000/svg" {
				t.Errorf("the picture is of %q: no viewer takes it for SVG", e.Name.Space)
			}
		case xml.CharData:
			dark = dark || strings.Contains(string(e), "prefers-color-scheme:dark")
		}
	}
	if lines < 60 || !dark {
		t.Errorf("%d lines, a dark theme: %v", lines, dark)
	}
}

func TestNumbers(t *testing.T) {
	if got, err := numbers("10e6,2.5e9"); err != nil || !slices.Equal(got, []float64{1e7, 2.5e9}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "5,5", "9,3", "x", "0", "1,,2"} {
		if _, err := numbers(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// fail is the error of a command that exits with a code.
func fail(t *testing.T, code int) error {
	err := exec.Command("sh", "-c", "exit "+strconv.Itoa(code)).Run()
	if err == nil {
		t.Fatal("sh ends with code 0")
	}
	return err
}

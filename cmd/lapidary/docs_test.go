package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

var update = flag.Bool("update", false, "write what the commands print into the documents")

// TestFuseGuide runs the commands in docs/fuse.md and compares what they print
// with what stands there.
func TestFuseGuide(t *testing.T) {
	lib := zootest.Library(t)
	path := filepath.Join(docs, "fuse.md")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"digits-cnn.onnx", "tabular-mlp.onnx", "digits-calib.npz", "tabular-calib.npz"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "testdata", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blocks := strings.Split(string(old), "```")
	for i := 1; i < len(blocks); i += 2 {
		blocks[i] = rerun(t, dir, lib, blocks[i])
	}
	now := strings.Join(blocks, "```")
	if *update {
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(rounded(string(old)), rounded(now)); diff != "" {
		t.Errorf("docs/fuse.md is not what the commands print; run make golden (-stands +printed):\n%s", diff)
	}
}

// rerun returns the block with each "$ command" followed by what it prints now.
func rerun(t *testing.T, dir, lib, block string) string {
	var out strings.Builder
	out.WriteString("\n")
	for _, line := range strings.Split(block, "\n") {
		command, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			continue
		}
		c := exec.CommandContext(t.Context(), "sh", "-c", command)
		c.Dir, c.Env = dir, append(os.Environ(), "LAPIDARY_ORT_LIB="+lib, "LAPIDARY_NO_MEASURE=true")
		text, err := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); err != nil && code != exitGate {
			t.Errorf("%s: %v\n%s", command, err, text)
		}
		out.WriteString(line + "\n")
		out.Write(text)
	}
	return out.String()
}

// machine are the numbers that depend on the processor: how the engine lays out
// its graph, and in what order it sums.
var machine = regexp.MustCompile(`in engine .*|what was asked for has a cost.*|-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)? dB|(want|got|up to) -?[0-9.e-]+|worst at [0-9]+|[0-9]+ of [0-9]+ elements`)

func rounded(text string) string { return machine.ReplaceAllString(text, "#") }

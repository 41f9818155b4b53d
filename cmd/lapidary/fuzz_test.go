package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfig reads configuration files for a command that only shows something: it
// takes the settings or says in one line why not.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"format: json\n", "verbose: true\nquantize:\n  to: int8\n  include: [Conv, \"Mat*\"]\n", "gates:\n  max-drop: 0.5pt\nrules:\n- name: a\n  cel: 'true'\n", "audit: log\n",
		"gates: [1]\n", "rules: {}\n", "quantize: 5\n", "fuse: {dim: {N: 1}}\n", "a: &a [*a]\n", "? {}\n: 1\n", "format: [json]\n", "validate:\n  score-command: rm\n", "\t", "--- \n---\n", "FORMAT: Json\n",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, filepath.Base(t.TempDir())+".yaml")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		var stdout, stderr bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, columns: 80}
		code := run(context.Background(), []string{"policy", "show", filepath.Join(dir, "none"), "--config", path}, e)
		if code != exitFailed && code != exitUsage {
			t.Fatalf("exit code %d\n%s", code, stderr.String())
		}
		if s := stderr.String(); strings.Contains(s, "internal fault") || strings.Count(s, "\n") != 1 {
			t.Fatalf("it says:\n%s", s)
		}
	})
}

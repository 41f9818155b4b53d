//go:build unix

package attest

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPipe has a pipe without a writer where a file should be: opening it the usual
// way would wait for ever.
func TestPipe(t *testing.T) {
	dir := modelDir(t)
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Skipf("named pipes: %v", err)
	}
	for name, args := range map[string]struct {
		model    string
		external []string
	}{
		"model":    {"pipe", nil},
		"external": {"model.onnx", []string{"pipe"}},
	} {
		_, err := HashModel(context.Background(), filepath.Join(dir, args.model), args.external)
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: error %v, want one about the pipe", name, err)
		}
	}
}

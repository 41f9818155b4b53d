package ortlib

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// client is a program of the machine: npm, pip, python3, go.
type client struct {
	name string
	path string
	args []string // before the caller's arguments
	vars []string
}

// client finds a program on the PATH of the Env. Relative entries of PATH are skipped: what runs may not depend on the
// working folder.
func (e Env) client(name string) (client, bool) {
	exts := []string{""}
	path := e.get("PATH")
	if runtime.GOOS == "windows" {
		exts = []string{".exe", ".cmd", ".bat"}
		if path == "" {
			path = e.get("Path")
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		for _, ext := range exts {
			full := filepath.Join(dir, name+ext)
			st, err := os.Stat(full)
			if err == nil && st.Mode().IsRegular() && (runtime.GOOS == "windows" || st.Mode()&0o111 != 0) {
				return client{name: name, path: full, vars: e.Vars}, true
			}
		}
	}
	return client{}, false
}

const (
	// maxClientOutput bounds what is kept of a client's stdout and of its stderr.
	maxClientOutput = 1 << 20
	// clientGrace is how long a cancelled client's children may hold its pipes open.
	clientGrace = 3 * time.Second
)

// run runs the client in a folder, with more variables in its environment, and returns its stdout. The error of a
// failed client ends in the last lines of its stderr.
func (c client) run(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.path, append(append([]string{}, c.args...), args...)...)
	cmd.Dir = dir
	cmd.Env = c.vars
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean this process's environment
	}
	cmd.WaitDelay = clientGrace
	stdout, stderr := &tail{max: maxClientOutput}, &tail{max: maxClientOutput}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", fmt.Errorf("running %s: %w", c.path, ctx.Err())
	}
	if err != nil {
		return "", fmt.Errorf("running %s %s: %v%s", c.path, strings.Join(args, " "), err, lastLines(stderr.String()))
	}
	return stdout.String(), nil
}

// lastLines is ": " and the last non-empty lines of a client's messages, at most 6 lines and 600 bytes.
func lastLines(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	lines = lines[max(0, len(lines)-6):]
	out := strings.Join(lines, "; ")
	if len(out) > 600 {
		out = "…" + strings.ToValidUTF8(out[len(out)-600:], "")
	}
	if out == "" {
		return ""
	}
	return ": " + out
}

// tail keeps the last max bytes written to it.
type tail struct {
	buf bytes.Buffer
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.max {
		p = p[len(p)-t.max:]
	}
	if over := t.buf.Len() + len(p) - t.max; over > 0 {
		t.buf.Next(over)
	}
	t.buf.Write(p)
	return n, nil
}

func (t *tail) String() string { return t.buf.String() }

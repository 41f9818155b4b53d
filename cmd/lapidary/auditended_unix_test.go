//go:build unix

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// logged runs commands in a folder with an audit log.
type logged struct {
	t   *testing.T
	dir string
}

// lapidary runs a command, in which one operation on a file has a fault where one is given.
func (l logged) lapidary(p *faultPlan, args ...string) (code int, stdout, stderr string) {
	l.t.Helper()
	c := exec.CommandContext(l.t.Context(), "lapidary", args...)
	c.Dir = l.dir
	c.Env = append(os.Environ(), "LAPIDARY_AUDIT_LOG=log.jsonl", "TMPDIR="+l.dir)
	if p != nil {
		p.Root = l.dir
		b, err := json.Marshal(p)
		if err != nil {
			l.t.Fatal(err)
		}
		c.Env = append(c.Env, faultVariable+"="+string(b))
	}
	var out, complaints strings.Builder
	c.Stdout, c.Stderr = &out, &complaints
	c.Run()
	return c.ProcessState.ExitCode(), out.String(), complaints.String()
}

// entries reads the log, whose chain must be whole.
func (l logged) entries() []audit.Entry {
	l.t.Helper()
	path := filepath.Join(l.dir, "log.jsonl")
	if _, err := audit.Verify(path, ""); err != nil {
		l.t.Fatal(err)
	}
	var out []audit.Entry
	if err := audit.Read(path, func(e *audit.Entry) error { out = append(out, *e); return nil }); err != nil {
		l.t.Fatal(err)
	}
	return out
}

// TestKilledIsLogged kills fuse with SIGKILL in the middle of its work: the next command says that it began, with what it read, and the
// one after that says nothing more.
func TestKilledIsLogged(t *testing.T) {
	l := logged{t, t.TempDir()}
	model := filepath.Join(corpusData, "tabular-mlp.onnx")
	fuse := []string{"fuse", model, "-o", "out.onnx", "--no-verify"}
	if code, _, stderr := l.lapidary(&faultPlan{At: "rename out.onnx", Fault: faultKill}, fuse...); code != -1 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if e := l.entries(); len(e) > 0 {
		t.Fatalf("%+v", e)
	}
	code, _, stderr := l.lapidary(nil, fuse...)
	if code != 0 || !strings.Contains(stderr, "did not come to its end: fuse, now entry 1 of log.jsonl") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := l.lapidary(nil, "diff", model, "out.onnx"); code != 0 || strings.Contains(stderr, "its end") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	e := l.entries()
	if len(e) != 3 || e[0].Outcome != audit.Unfinished || e[0].Exit != -1 || len(e[0].Inputs) != 1 || len(e[0].Outputs) > 0 || e[1].Outcome != "" || e[1].Command != "fuse" {
		t.Errorf("%+v", e)
	}
	if _, shown, _ := l.lapidary(nil, "audit", "show"); !strings.Contains(shown, "fuse  did not come to its end, began 2") {
		t.Error(shown)
	}
	if _, checked, _ := l.lapidary(nil, "audit", "verify"); !strings.Contains(checked, "0 commands were interrupted, 1 began and did not come to their end") {
		t.Error(checked)
	}
}

// TestInterruptedIsLogged ends fuse with SIGTERM in the middle of its work: it says so itself.
func TestInterruptedIsLogged(t *testing.T) {
	l := logged{t, t.TempDir()}
	code, _, stderr := l.lapidary(&faultPlan{At: "create .lapidary-tmp/out.onnx", Fault: faultTerm},
		"fuse", filepath.Join(corpusData, "tabular-mlp.onnx"), "-o", "out.onnx", "--ort-lib", zootest.Library(t))
	if code != exitFailed || !strings.Contains(stderr, "interrupted") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	e := l.entries()
	if len(e) != 1 || e[0].Outcome != audit.Interrupted || e[0].Exit != exitFailed || e[0].Error != "terminated signal received" || e[0].Began == nil {
		t.Errorf("%+v", e)
	}
	if _, shown, _ := l.lapidary(nil, "audit", "show"); !strings.Contains(shown, "fuse  interrupted (exit code 1)") {
		t.Error(shown)
	}
	if left, err := filepath.Glob(filepath.Join(l.dir, ".*lapidary-begun*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, "out.onnx")); err == nil {
		t.Error("it wrote its model all the same")
	}
}

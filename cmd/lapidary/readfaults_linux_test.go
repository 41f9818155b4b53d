package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readCalls are the system calls by which files are read.
var readCalls = []string{"openat", "fstat", "read", "pread64", "mmap"}

// unreadable is a file that a command reads, and the command.
type unreadable struct {
	name, file string
	args       []string
}

// TestReadFaults has the disk fail (EIO) at each way of reading each kind of input, by strace: the error is one line that
// names the file, and nothing is written.
func TestReadFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the program seventy times")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace on this machine")
	}
	library := runtimeLibrary()
	if library == "" {
		t.Skip("ONNX Runtime is not installed")
	}
	scene := &faultsScene{t: t, library: library, base: t.TempDir()}
	r := scene.run("reading")
	for _, u := range r.unreadables() {
		t.Run(u.name, func(t *testing.T) {
			tried := 0
			for _, call := range readCalls {
				if r.unread(t, strace, call, u) {
					tried++
				}
			}
			if tried == 0 {
				t.Errorf("none of %v is used to read it", readCalls)
			}
		})
	}
}

// unreadables makes inputs of each kind.
func (r *faultsRun) unreadables() []unreadable {
	r.t.Helper()
	model, data := filepath.Join(corpusData, "tabular-mlp.onnx"), filepath.Join(corpusData, "tabular-val.npz")
	for from, to := range map[string]string{model: "m.onnx", data: "d.npz", filepath.Join(corpusData, "tabular-val.csv"): "d.csv",
		"testdata/faults-policy.yaml": "p.yaml"} {
		if err := os.WriteFile(r.path(to), readAll(r.t, from), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := os.WriteFile(r.path("c.yaml"), []byte("threads: 1\n"), 0o600); err != nil {
		r.t.Fatal(err)
	}
	judged := []string{"validate", "m.onnx", "m.onnx", "--data", "d.npz", "--limit", "30", "--no-latency", "--no-explain", "--max-drop", "50pt"}
	for _, args := range [][]string{
		{"keygen", "k", "--unencrypted"},
		{"fuse", "m.onnx", "-o", "e.onnx", "--external-data", "always", "--no-verify"},
		append(judged, "--report", "r", "--sign", "k.key", "--audit-log", "log.jsonl"),
		{"quantize", "m.onnx", "-o", "q.onnx", "--data", "d.npz", "--limit", "30", "--for", "size", "--statistics", "s.json"},
	} {
		if code, stderr := r.lapidary(args, nil); code != 0 {
			r.t.Fatalf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	verified := func(data string) []string {
		return []string{"fuse", r.path("m.onnx"), "-o", "out", "--data", r.path(data), "--no-measure"}
	}
	return []unreadable{
		{"model", "m.onnx", []string{"prune", r.path("m.onnx"), "-o", "out", "--sparsity", "0.5"}},
		{"model, static", "m.onnx", []string{"profile", r.path("m.onnx"), "--static"}},
		{"external data", "e.onnx.data", []string{"prune", r.path("e.onnx"), "-o", "out", "--sparsity", "0.5"}},
		{"archive", "d.npz", verified("d.npz")},
		{"table", "d.csv", verified("d.csv")},
		{"private key", "k.key", []string{"sign", r.path("m.onnx"), "--key", r.path("k.key"), "-o", "out"}},
		{"what is signed", "e.onnx.data", []string{"sign", r.path("e.onnx"), "--key", r.path("k.key"), "-o", "out"}},
		{"public key", "k.pub", []string{"verify", r.path("r/evidence.sigstore.json"), "--key", r.path("k.pub")}},
		{"evidence", "r/evidence.sigstore.json", []string{"verify", r.path("r/evidence.sigstore.json"), "--key", r.path("k.pub")}},
		{"report", "r/report.json", []string{"report", r.path("r/report.json"), "-o", "out"}},
		{"policy", "p.yaml", []string{"policy", "lock", r.path("p.yaml"), "--data", r.path("d.npz"), "--key", r.path("k.key"), "-o", "out"}},
		{"configuration", "c.yaml", []string{"fuse", r.path("m.onnx"), "-o", "out", "--config", r.path("c.yaml")}},
		{"statistics", "s.json", []string{"quantize", r.path("m.onnx"), "-o", "out", "--data", r.path("d.npz"), "--limit", "30", "--for", "size", "--no-verify", "--statistics", r.path("s.json")}},
		{"audit log", "log.jsonl", []string{"audit", "verify", r.path("log.jsonl")}},
	}
}

// unread runs a command for which a system call on a file fails, and reports whether there was one.
func (r *faultsRun) unread(t *testing.T, strace, call string, u unreadable) bool {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	c := r.command(u.args)
	c.Args = append([]string{strace, "-f", "-qq", "-o", log, "-P", r.path(u.file), "-e", "trace=" + call, "-e", "inject=" + call + ":error=EIO", "lapidary"}, c.Args[1:]...)
	c.Path = strace
	os.RemoveAll(r.path("out"))
	text, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if !strings.Contains(string(readAll(t, log)), "(INJECTED)") {
		return false
	}
	code, line := c.ProcessState.ExitCode(), lastLine(string(text))
	why := strings.Contains(line, "input/output error") || strings.Contains(line, "does not load") // an engine has words of its own
	if code != exitFailed && code != exitUsage || !strings.HasPrefix(line, "lapidary: error: ") || !strings.Contains(line, filepath.Base(u.file)) || !why {
		t.Errorf("%s: exit code %d, want 1 or 2 and an error that names %s: %.300s", call, code, u.file, line)
	}
	if left := r.leavings(); len(left) > 0 || exists(r.path("out")) {
		t.Errorf("%s: written: %v, left: %v", call, exists(r.path("out")), left)
	}
	return true
}

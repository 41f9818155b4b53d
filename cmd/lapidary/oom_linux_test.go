package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/audit"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// memoryGroup is a control group whose processes have little memory.
type memoryGroup struct {
	dir    string
	events string // the file that counts the processes which the kernel killed for memory
}

// newMemoryGroup makes a group with a limit, or skips the test where that cannot be had.
func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	var why error
	for _, k := range []struct{ root, limit, swap, events string }{
		{"/sys/fs/cgroup", "memory.max", "memory.swap.max", "memory.events"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control"},
	} {
		if _, why = os.Stat(filepath.Join(k.root, "cgroup.procs")); why != nil {
			continue // it is not a group
		}
		g := &memoryGroup{dir: filepath.Join(k.root, fmt.Sprintf("lapidary-test-%d", os.Getpid())), events: k.events}
		if why = os.Mkdir(g.dir, 0o755); why != nil {
			continue
		}
		t.Cleanup(func() { g.remove(t) })
		swap := "0"
		if k.limit == "memory.limit_in_bytes" {
			swap = strconv.FormatInt(limit, 10)
		}
		if why = g.set(k.limit, strconv.FormatInt(limit, 10)); why == nil {
			_ = g.set(k.swap, swap) // not there without swap
			return g
		}
	}
	t.Skipf("no group of processes with little memory can be made here: %v", why)
	return nil
}

// set writes one of the group's files, which must be there.
func (g *memoryGroup) set(name, value string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

// remove deletes the group once its processes are gone.
func (g *memoryGroup) remove(t *testing.T) {
	var err error
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = os.Remove(g.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
	}
	t.Errorf("the group of the test is still there: %v", err)
}

// killed is how many processes of the group the kernel killed for memory so far.
func (g *memoryGroup) killed(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(string(readAll(t, filepath.Join(g.dir, g.events)))) {
		if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(rest))
			return n
		}
	}
	t.Skip("this kernel does not count what it kills for memory")
	return 0
}

// run runs a command in the group and returns its exit code, -1 where it was killed, and what it says.
func (g *memoryGroup) run(t *testing.T, b *bench, args ...string) (int, string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", append([]string{"-c", `echo $$ > "$0" && exec lapidary "$@"`, filepath.Join(g.dir, "cgroup.procs")}, args...)...)
	c.Dir = b.dir
	c.Env = append(os.Environ(), "LAPIDARY_ORT_LIB="+b.lib, "LAPIDARY_ROOFLINE=never", "XDG_CACHE_HOME="+b.path("cache"), "TMPDIR="+b.dir, "LAPIDARY_AUDIT_LOG=log.jsonl")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	var exit *exec.ExitError
	if err := c.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return c.ProcessState.ExitCode(), stderr.String()
}

// TestOutOfMemory runs commands in a group of processes whose memory does not do for a model, so that the kernel kills the
// process that loads or runs it: the command says so in a sentence that names the model and what helps, and to the audit log;
// it writes nothing, leaves nothing, and changes no input.
func TestOutOfMemory(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	g := newMemoryGroup(t, 400<<20)
	run, load, out := b.write(t, "run.onnx", filling()), b.write(t, "load.onnx", largeToLoad()), b.path("out.onnx")
	data := b.write(t, "large.npz", turns(t, 1<<28))
	modest := pbModel(pbGraph([][]byte{pbNode("Sin", []string{"x"}, []string{"y"})}, nil, [][]byte{pbValue("x", 1, 1, 2), pbValue("n", 7, 1)}, [][]byte{pbValue("y", 1, 1, 2)}))
	judged := []string{"--no-explain", "--max-drop", "5pt", "--report", "r", "--format", "json"}
	for name, args := range map[string][]string{
		"fuse":                {"fuse", run, "-o", out, "--data", data},
		"quantize":            {"quantize", run, "-o", out, "--to", "int8", "--for", "size", "--data", data},
		"prune":               {"prune", run, "-o", out, "--pattern", "1:2", "--importance", "wanda", "--data", data},
		"profile":             {"profile", run, "--data", data},
		"validate":            append([]string{"validate", run, run, "--data", data}, judged...),
		"validate, candidate": append([]string{"validate", b.write(t, "good.onnx", modest), run, "--data", data}, judged...),
		"fuse, at load":       {"fuse", load, "-o", out},
		"profile, at load":    {"profile", load},
		"validate, at load":   append([]string{"validate", load, load, "--data", "synthetic:3"}, judged...),
	} {
		t.Run(name, func(t *testing.T) {
			model, killed := args[1], g.killed(t)
			if args[0] == "validate" {
				model = args[2]
			}
			before := readAll(t, model)
			code, text := g.run(t, b, append(args, "--max-worker-memory", "0")...)
			line := lastLine(text)
			if code != exitFailed || !strings.Contains(line, filepath.Base(model)) && args[0] != "quantize" && args[0] != "prune" ||
				!strings.Contains(line, "signal 9 (killed)") || !strings.Contains(line, "the system had no memory left: use a smaller batch") || strings.Contains(line, "has its operators") {
				t.Errorf("exit code %d, the error is: %s", code, line)
			}
			if g.killed(t) == killed {
				t.Error("the kernel killed nothing")
			}
			if exists(out) || exists(b.path("r")) || !bytes.Equal(before, readAll(t, model)) {
				t.Error("an output is written, or the input is another one")
			}
			if left, err := filepath.Glob(b.path(".*lapidary*")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			l := logged{t, b.dir}
			e := l.entries()
			if last := e[len(e)-1]; last.Exit != exitFailed || !strings.Contains(last.Error, "signal 9") || last.Outcome != "" {
				t.Errorf("the audit log says: %+v", last)
			}
		})
	}
}

// TestCoordinatorOutOfMemory has the kernel kill a command itself for memory: what it was to replace is as before, and the
// next command removes what is left and says what happened.
func TestCoordinatorOutOfMemory(t *testing.T) {
	b := newBench(t, zootest.Library(t))
	src, out := b.path("big.onnx"), b.path("out.onnx")
	bigModel(t, src)
	args := []string{"fuse", src, "-o", out, "--no-verify"} // which multiplies the weights
	old := b.write(t, "old.onnx", turning())
	if err := os.WriteFile(out, readAll(t, old), 0o600); err != nil {
		t.Fatal(err)
	}
	before := mustContent(t, src)
	g := newMemoryGroup(t, 48<<20)
	code, text := g.run(t, b, args...)
	if code != -1 || g.killed(t) == 0 {
		t.Fatalf("exit code %d, %d killed: the test does not do what it is for: %s", code, g.killed(t), text)
	}
	if mustContent(t, src) != before || !bytes.Equal(readAll(t, out), readAll(t, old)) {
		t.Error("an input or the output is another one")
	}
	l := logged{t, b.dir}
	if code, _, text := l.lapidary(nil, args...); code != exitOK || !strings.Contains(text, "did not come to its end: fuse") {
		t.Errorf("the next command: exit code %d: %s", code, text)
	}
	if left, err := filepath.Glob(b.path(atomicfile.TempPrefix + "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if e := l.entries(); len(e) != 2 || e[0].Outcome != audit.Unfinished || e[1].Exit != exitOK {
		t.Errorf("the audit log says: %+v", e)
	}
}

package audit

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// logVariable makes the test's own program begin an entry in that log and die.
const logVariable = "LAPIDARY_TEST_AUDIT_LOG"

func TestMain(m *testing.M) {
	if path := os.Getenv(logVariable); path != "" {
		if _, _, err := Begin(path, Entry{Tool: "t", Command: "fuse", Args: []string{"a.onnx"}}); err != nil {
			panic(err)
		}
		p, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = p.Kill()
		}
		panic(err)
	}
	os.Exit(m.Run())
}

// die begins a command in a process of its own, which is killed.
func die(t *testing.T, log string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), logVariable+"="+log)
	if out, err := c.CombinedOutput(); err == nil || strings.Contains(string(out), "panic") {
		t.Fatalf("it was not killed: %v\n%s", err, out)
	}
}

func marks(t *testing.T, log string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(filepath.Dir(log), ".*.lapidary-begun-*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func outcomes(t *testing.T, log string) []string {
	t.Helper()
	var out []string
	if err := Read(log, func(e *Entry) error { out = append(out, strings.TrimSpace(e.Command+" "+e.Outcome)); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestUnfinished kills a process that has begun: the next one to begin says so, once, and the chain holds. A log of entries without
// these fields is continued.
func TestUnfinished(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if _, err := Append(log, entry(1)); err != nil {
		t.Fatal(err)
	}
	die(t, log)
	if got := outcomes(t, log); len(got) != 1 || len(marks(t, log)) != 1 {
		t.Fatalf("after the kill: entries %q, marks %q", got, marks(t, log))
	}
	b, found, err := Begin(log, Entry{Command: "prune"})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	e := found[0]
	if e.Outcome != Unfinished || e.Exit != -1 || e.Began == nil || e.Time.Before(*e.Began) || e.Seq != 2 || e.Args[0] != "a.onnx" {
		t.Errorf("%+v", e)
	}
	if _, found, err := Begin(log, Entry{Command: "diff"}); err != nil || len(found) > 0 {
		t.Errorf("beside one that runs, %v is found (%v)", found, err)
	}
	if e, err := b.End(Entry{Command: "prune"}); err != nil || e.Began == nil || e.Outcome != "" {
		t.Errorf("%+v, %v", e, err)
	}
	if d := cmp.Diff([]string{"verify", "fuse unfinished", "prune"}, outcomes(t, log)); d != "" {
		t.Error(d)
	}
	if s, err := Verify(log, ""); err != nil || s.Unfinished != 1 || s.Interrupted != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if left := marks(t, log); len(left) != 1 { // that of diff
		t.Errorf("marks %q", left)
	}
}

// TestLeftMark: a mark of a command that did end, one that was not written to its end, and files of others make no entry.
func TestLeftMark(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	b, _, err := Begin(log, Entry{Command: "prune"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(marks(t, log)[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.End(Entry{Command: "prune"}); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"1": string(text), "2": string(text[:len(text)/2]), "3": "", "4": "{}\n", "5": "no entry\n"} {
		if err := os.WriteFile(markPrefix(log)+"-"+name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, err := Begin(log, Entry{Command: "diff"}); err != nil || len(found) > 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if left := marks(t, log); len(left) != 1 { // that of diff
		t.Errorf("marks %q", left)
	}
}

// TestUnfinishedOnce lets many commands begin at once after a kill: one of them says so.
func TestUnfinishedOnce(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	die(t, log)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			b, _, err := Begin(log, entry(1))
			if err == nil {
				_, err = b.End(entry(1))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, err := Verify(log, ""); err != nil || s.Entries != 21 || s.Unfinished != 1 || len(marks(t, log)) > 0 {
		t.Errorf("%+v, %v, marks %q", s, err, marks(t, log))
	}
}

// TestNoMark: where nothing can be written beside the log, the command is told so and may go on.
func TestNoMark(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	atomicfile.Hook = func(op atomicfile.Op, path string) error {
		if op == atomicfile.OpCreate && path != log {
			return fs.ErrPermission
		}
		return nil
	}
	defer func() { atomicfile.Hook = nil }()
	b, _, err := Begin(log, entry(1))
	var unmarked *NoMarkError
	if !errors.As(err, &unmarked) || !errors.Is(err, fs.ErrPermission) || b == nil {
		t.Fatalf("%v, %v", b, err)
	}
	if _, err := b.End(entry(1)); err != nil {
		t.Error(err)
	}
	if got := outcomes(t, log); len(got) != 1 {
		t.Errorf("entries %q", got)
	}
}

// TestEarlierLog reads and continues a log as it was written before entries said when a command began.
func TestEarlierLog(t *testing.T) {
	text, err := os.ReadFile("testdata/log-v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Verify(log, ""); err != nil || s.Entries != 3 || s.Unfinished+s.Interrupted != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	die(t, log)
	b, found, err := Begin(log, entry(1))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d found, %v", len(found), err)
	}
	if _, err := b.End(entry(1)); err != nil {
		t.Fatal(err)
	}
	if s, err := Verify(log, ""); err != nil || s.Entries != 5 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestClockSetBack: a command never ends before it began, however the clock was set meanwhile.
func TestClockSetBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.jsonl")
	b, _, err := Begin(path, Entry{Tool: "t", Command: "fuse"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.End(Entry{Tool: "t", Command: "fuse", Time: time.Now().Add(-24 * time.Hour)})
	if err != nil || e.Time.Before(*e.Began) || e.Time.Sub(*e.Began) > time.Hour {
		t.Errorf("it began %v and ended %v (%v)", e.Began, e.Time, err)
	}
	if _, err := Verify(path, ""); err != nil {
		t.Error(err)
	}
}

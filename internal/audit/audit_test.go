package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func entry(i int) Entry {
	return Entry{Time: time.Date(2026, 1, 2, 3, 4, 5, i, time.FixedZone("", 3600)), Tool: "t", Command: "verify", Args: []string{fmt.Sprint(i), "<&>", "\xff\u2028"},
		Inputs: []File{{Name: "a\xff", SHA256: genesis, Bytes: 1}}, Verdict: "pass", Error: "no \xfe"}
}

// TestAppendConcurrently has many writers at once: no entry is lost or torn, and the chain holds.
func TestAppendConcurrently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := Append(path, entry(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := Verify(path, "")
	if err != nil || s.Entries != 40 {
		t.Fatalf("%+v, %v", s, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	seen := map[string]bool{}
	if err := Read(path, func(e *Entry) error { seen[e.Args[0]] = true; return nil }); err != nil || len(seen) != 40 {
		t.Errorf("%d different entries, %v", len(seen), err)
	}
}

// TestTornLine cuts the last line at every place: the next entry records what it cuts off, and the log is whole again.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for i := range 2 {
		if _, err := Append(path, entry(i)); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Index(string(whole), "\n") + 1
	for cut := first + 1; cut < len(whole); cut += 17 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		var broken *BrokenError
		if _, err := Verify(path, ""); !errors.As(err, &broken) || broken.Line != 2 {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		e, err := Append(path, entry(7))
		if err != nil || e.Seq != 2 || e.Recovered == nil || e.Recovered.Bytes != cut-first {
			t.Fatalf("cut at %d: %+v, %v", cut, e, err)
		}
		if s, err := Verify(path, ""); err != nil || s.Recovers != 1 || s.Entries != 2 {
			t.Fatalf("cut at %d: %+v, %v", cut, s, err)
		}
	}
}

func TestExpectedHead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var heads []string
	for i := range 5 {
		e, err := Append(path, entry(i))
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, e.Hash)
	}
	for i, h := range heads {
		if s, err := Verify(path, h); err != nil || s.Since != int64(4-i) {
			t.Errorf("head %d: %+v, %v", i, s, err)
		}
	}
	if _, err := Verify(path, strings.Repeat("1", 64)); err == nil {
		t.Error("a head that never was is accepted")
	}
}

// TestAppendRefuses does not continue what cannot be trusted.
func TestAppendRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	e, err := Append(path, entry(0))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "pass", "fail", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	var broken *BrokenError
	if _, err := Append(path, entry(1)); !errors.As(err, &broken) {
		t.Errorf("%v", err)
	}
	if err := Ready(path); !errors.As(err, &broken) {
		t.Errorf("%v", err)
	}
	if _, err := Append(dir, entry(1)); err == nil {
		t.Error("a folder is taken for a log")
	}
	again, err := parse([]byte(strings.TrimSuffix(string(text), "\n")))
	if d := cmp.Diff(&e, again); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// FuzzParse holds that a line that is accepted is what seal makes of it.
func FuzzParse(f *testing.F) {
	e := entry(1)
	e.clean()
	line, err := e.seal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(line))
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parse([]byte(s))
		if err != nil {
			return
		}
		if again, err := e.seal(); err != nil || string(again) != s {
			t.Errorf("%v\n%s\n%s", err, s, again)
		}
	})
}

// FuzzLog reads whole logs: one that is accepted says what its entries say, and can be continued.
func FuzzLog(f *testing.F) {
	path := filepath.Join(f.TempDir(), "log")
	for i := range 3 {
		if _, err := Append(path, entry(i)); err != nil {
			f.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for _, s := range []string{string(text), lines[0], lines[1], lines[0] + lines[2], lines[0] + lines[0], string(text[:len(text)-3]), "", "\n", "{}\n", strings.Repeat("x", 100)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, log, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Verify(path, "")
		if err != nil {
			return
		}
		n := int64(0)
		if err := Read(path, func(*Entry) error { n++; return nil }); err != nil || n != s.Entries {
			t.Fatalf("%d entries are read, %d verified (%v)", n, s.Entries, err)
		}
		if _, err := Append(path, entry(9)); err != nil {
			t.Fatalf("a log that is accepted cannot be continued: %v", err)
		}
		if again, err := Verify(path, ""); err != nil || again.Entries != s.Entries+1 {
			t.Fatalf("continued, it has %v entries (%v)", again, err)
		}
	})
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// TestLedger holds that docs/fuzzing.md has a row for every target, with what its
// comment says, and no other rows.
func TestLedger(t *testing.T) {
	list, err := targets(root)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "fuzzing.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	var have []target
	for _, r := range rows {
		have = append(have, r.target)
	}
	if d := cmp.Diff(list, have, cmp.AllowUnexported(target{})); d != "" {
		t.Errorf("make fuzz FUZZTIME=1s FUZZ=FuzzHead brings docs/fuzzing.md up to date (-targets +rows):\n%s", d)
	}
	for _, x := range list {
		if x.guards == "" || strings.ContainsAny(x.guards, "|\n") {
			t.Errorf("%v says %q, not what it holds", x, x.guards)
		}
	}
}

// TestAdd adds runs to a ledger: what was there stays, and the text around it too.
func TestAdd(t *testing.T) {
	a, b := target{"x", "FuzzA", "one"}, target{"y/z", "FuzzB", "two"}
	path := filepath.Join(t.TempDir(), "fuzzing.md")
	text := "# Title\n\n" + heading + "| `x.FuzzA` | old text | 1.5 | 10 | 1 |\n| `x.FuzzGone` | gone | 9.0 | 9 | 0 |\n\nEnd.\n"
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	list := []target{a, b}
	for _, step := range []struct {
		t target
		r result
	}{{a, result{30 * time.Second, 5, false}}, {b, result{6 * time.Second, 7, true}}, {a, result{}}} {
		if err := add(path, list, step.t, step.r); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\n" + heading + "| `x.FuzzA` | one | 2.00 | 15 | 1 |\n| `y/z.FuzzB` | two | 0.10 | 7 | 1 |\n\nEnd.\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	if err := os.WriteFile(path, []byte("no table"), 0o666); err != nil {
		t.Fatal(err)
	}
	if add(path, list, a, result{}) == nil {
		t.Error("a file without a table is taken for a ledger")
	}
}

// TestTurns takes those first that are furthest from the goal, for as long as they lack, and not those that have reached it.
func TestTurns(t *testing.T) {
	a, b, c := target{"x", "FuzzA", "one"}, target{"x", "FuzzB", "two"}, target{"y", "FuzzC", "three"}
	list := []target{a, b, c}
	path := filepath.Join(t.TempDir(), "fuzzing.md")
	if err := os.WriteFile(path, []byte(format("", []row{{a, 28, 1, 0}, {b, 30, 1, 0}}, "")), 0o666); err != nil {
		t.Fatal(err)
	}
	o := options{each: 5 * time.Minute, ledger: path, name: regexp.MustCompile(""), from: 4}
	for _, step := range []struct {
		upTo time.Duration
		jobs int
		want []turn
	}{
		{0, 1, []turn{{b, o.each}, {c, o.each}, {a, o.each}}},
		{30 * time.Minute, 1, []turn{{c, o.each}, {a, 2 * time.Minute}}},
		{30 * time.Minute, 4, []turn{{c, o.each}, {a, 30 * time.Second}}},
		{time.Minute, 1, []turn{{c, time.Minute}}},
	} {
		o.upTo, o.parallel = step.upTo, step.jobs
		got, err := o.turns(list)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(step.want, got, cmp.AllowUnexported(turn{}, target{})); d != "" {
			t.Errorf("up to %v with %d processes (-want +got):\n%s", step.upTo, step.jobs, d)
		}
	}
	o.name = regexp.MustCompile("FuzzD")
	if _, err := o.turns(list); err == nil {
		t.Error("a name without target is taken")
	}
}

func TestWatch(t *testing.T) {
	out := "fuzz: elapsed: 0s, gathering baseline coverage: 0/9 completed\nfuzz: elapsed: 3s, execs: 120 (40/sec), new interesting: 1 (total: 2)\n" +
		"fuzz: elapsed: 6s, execs: 241 (40/sec), new interesting: 1 (total: 2)\n"
	for end, want := range map[string]bool{
		"PASS\n": false,
		"--- FAIL: FuzzA (6.02s)\n    context deadline exceeded\nFAIL\n":                                       false,
		"--- FAIL: FuzzA (6.02s)\n    --- FAIL: FuzzA (0.00s)\n    Failing input written to testdata/fuzz/x\n": true,
	} {
		if n, found := watch(strings.NewReader(out+end), target{}); n != 241 || found != want {
			t.Errorf("%d executions, found %v, want 241 and %v of %q", n, found, want, end)
		}
	}
}

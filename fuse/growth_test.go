package fuse_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"golang.org/x/tools/txtar"
)

// wirings are how copies of a case are put together.
var wirings = map[string]growth.Wiring{"beside": growth.Beside, "chained": growth.Chained}

// ruleCase is a model in which a rule fires, or looks in vain.
type ruleCase struct {
	rule, target, name string
	text               []byte
}

// growing returns for every rule and pass the first case in which it fires.
func ruleCases(t *testing.T) []ruleCase {
	var out []ruleCase
	for _, pattern := range []string{"testdata/*.txtar", "testdata/*/*.txtar"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			target := fuse.TargetNames[0]
			if dir := filepath.Base(filepath.Dir(path)); dir != "testdata" {
				target = dir
			}
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i, f := range a.Files {
				c, ok := strings.CutSuffix(f.Name, "/in")
				if ok && i+1 < len(a.Files) && a.Files[i+1].Name == c+"/out" {
					out = append(out, ruleCase{strings.TrimSuffix(filepath.Base(path), ".txtar"), target, c, f.Data})
					break
				}
			}
		}
	}
	return out
}

// copies returns so many copies of the case in one model.
func (c ruleCase) copies(t *testing.T, count int, w growth.Wiring) *onnx.Model {
	m, err := onnxtext.Parse(c.name, c.text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := growth.Copies(m, count, w)
	if err != nil {
		t.Fatalf("%s %q: %v", c.rule, c.name, err)
	}
	return out
}

// run applies the rule of the case alone.
func (c ruleCase) run(t *testing.T, m *onnx.Model) int {
	o := fuse.Options{Target: fuse.Target{Name: c.target}, InlineFunctions: c.target == fuse.TargetNames[0], Unroll: 8, Opset: 20, Reorder: true}
	o.Rewrite.Only = []string{c.rule}
	log, err := fuse.Model(t.Context(), m, o)
	if err != nil {
		t.Fatalf("%s %q: %v", c.rule, c.name, err)
	}
	return len(log.Fired)
}

// TestLinearRules: every rule and pass, on twice as many copies of a model in which it fires, allocates about twice
// as much, where the copies read the same inputs, and where each reads the one before.
func TestLinearRules(t *testing.T) {
	const small = 40
	for _, c := range ruleCases(t) {
		for wiring, w := range wirings {
			var got []growth.Allocated
			for _, n := range []int{small, 2 * small} {
				m := c.copies(t, n, w)
				fired := 0
				got = append(got, growth.Allocations(func() { fired = c.run(t, m) }))
				if fired == 0 && !merges[c.rule] {
					t.Errorf("%s, copies %s: nothing is rewritten", c.rule, wiring)
				}
			}
			if !got[0].Linear(got[1]) {
				t.Errorf("%s, copies %s: %+v for %d copies, %+v for twice as many", c.rule, wiring, got[0], small, got[1])
			}
		}
	}
}

// merges are rules that put readers of one value together, and not so many.
var merges = map[string]bool{"conv-merge": true, "matmul-merge": true}

// TestLinear: all rules together on models of many shapes.
func TestLinear(t *testing.T) {
	for name, build := range fuse.Shapes {
		var got []growth.Allocated
		for _, n := range []int{400, 800} {
			m := build(n)
			got = append(got, growth.Allocations(func() {
				if _, err := fuse.Model(t.Context(), m, fuse.Options{}); err != nil {
					t.Fatal(err)
				}
			}))
		}
		if !got[0].Linear(got[1]) {
			t.Errorf("%s: %+v for 400 nodes, %+v for 800", name, got[0], got[1])
		}
	}
}

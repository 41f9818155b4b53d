package fuse_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// TestExpanded fuses the function bodies of operators that stand beside the
// operators themselves, and counts by family how many become the operator again,
// or as little. That they compute the same is for TestCorpus. 80 % must, and what
// does not has its reason in the ledger.
func TestExpanded(t *testing.T) {
	corpus(t)
	files := unzip(t, corpus(t)+"/onnx-expanded.zip")
	total, collapsed := map[string]int{}, map[string]int{}
	var left []string
	reasons, explained := ledger(t, "testdata/expanded.ledger"), map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		dir, ok := strings.CutSuffix(name, "/model.onnx")
		base, _, expanded := strings.Cut(dir, "_expanded")
		single := files[base+"/model.onnx"]
		if !ok || !expanded || single == nil {
			continue
		}
		want, err := onnxfile.Decode(single)
		if err != nil {
			t.Fatal(err)
		}
		_, after, _, err := fusedFor(t, files[name], "portable")
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		f := family(base)
		total[f]++
		switch got := opCounts(after); {
		case maps.Equal(got, opCounts(want)), sum(got) <= 1:
			collapsed[f]++
		default:
			found := false
			for start := range reasons {
				if strings.HasPrefix(dir, start) {
					found, explained[start] = true, true
				}
			}
			if !found {
				t.Errorf("%s is left as %v, and there is no reason in the ledger", dir, got)
			}
			left = append(left, fmt.Sprintf("%s: %v, the operator is %v", dir, got, opCounts(want)))
		}
	}
	for start := range reasons {
		if !explained[start] {
			t.Errorf("none of %s is left: take it out of the ledger", start)
		}
	}
	n := 0
	for _, f := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-24s %3d of %3d", f, collapsed[f], total[f])
		n += collapsed[f]
	}
	all := sum(total)
	t.Logf("%d of %d expansions collapse (%.0f %%)", n, all, 100*float64(n)/float64(max(1, all)))
	if testing.Verbose() {
		t.Logf("left:\n%s", strings.Join(left, "\n"))
	}
	if 100*n < 80*all {
		t.Errorf("%d of %d expansions collapse, want 80 %%", n, all)
	}
}

// family is the first word of a test's name, or two where the first says little.
func family(name string) string {
	words := strings.Split(strings.TrimPrefix(name, "test_"), "_")
	if len(words) > 1 && slices.Contains([]string{"reduce", "layer", "rms", "linear", "rotary", "sequence"}, words[0]) {
		return words[0] + "_" + words[1]
	}
	return words[0]
}

package fuse

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRulesDoc holds docs/rules.md equal to the list of rules.
func TestRulesDoc(t *testing.T) {
	const path = "../docs/rules.md"
	var b bytes.Buffer
	b.WriteString("# The rules of fuse\n\nGenerated from the list in `fuse/list.go` by `make golden`; `lapidary fuse --list-rules` prints the same. The\n" +
		"passes run in this order, and again until nothing changes. Each name works with `--only` and `--disable`.\n\n| rule | what it does |\n|---|---|\n")
	for _, r := range RuleNames() {
		if !strings.HasPrefix(r[1], strings.ToLower(r[1][:1])) || strings.HasSuffix(r[1], ".") || strings.Contains(r[1], "\n") {
			t.Errorf("rule %s: the doc is a sentence without capital and full stop: %q", r[0], r[1])
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", r[0], strings.ReplaceAll(r[1], "|", "\\|"))
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("%s is not what the list says; run make golden (-want +got):\n%s", path, diff)
	}
}

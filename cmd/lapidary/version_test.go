package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestVersionCommit: a release says the commit that the linker wrote into it, and whether files differed.
func TestVersionCommit(t *testing.T) {
	id := strings.Repeat("0a", 20)
	for written, want := range map[string]struct {
		commit   string
		modified bool
		text     string
	}{id: {id, false, "commit   " + id + "\n"}, id + "-dirty": {id, true, "commit   " + id + ", with changes\n"}} {
		defer func(was string) { releasedCommit = was }(releasedCommit)
		releasedCommit = written
		b := thisBuild()
		b.Time = "" // of the checkout that the test is built in
		if b.Commit != want.commit || b.Modified != want.modified {
			t.Errorf("%s: %q, modified %v", written, b.Commit, b.Modified)
		}
		var out bytes.Buffer
		(&app{env: &env{stdout: &out}}).printBuild(b)
		if !strings.Contains(out.String(), want.text) {
			t.Errorf("%s: no %q in\n%s", written, want.text, out.String())
		}
	}
}

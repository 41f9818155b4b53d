package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// git runs git in the current folder.
func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.com"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestSourceCommit: the commit is that of the checkout, says when files differ, and is never that of another checkout around.
func TestSourceCommit(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GIT_CEILING_DIRECTORIES", filepath.Dir(dir))
	t.Setenv(commitVariable, "")
	t.Chdir(dir)
	want := func(when, id string) {
		t.Helper()
		if got, err := sourceCommit(t.Context()); err != nil || got != id {
			t.Errorf("%s: %q (%v), want %q", when, got, err, id)
		}
	}
	wantError := func(when, part string) {
		t.Helper()
		if got, err := sourceCommit(t.Context()); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q (%v), want %q", when, got, err, part)
		}
	}
	want("no checkout", "")
	other := strings.Repeat("0a", 20)
	t.Setenv(commitVariable, other)
	want("no checkout, told", other)
	t.Setenv(commitVariable, "main")
	wantError("told a branch", "want the 40 digits of a commit")
	t.Setenv(commitVariable, "")

	git(t, "init", "-q")
	want("a checkout without a commit", "")
	os.WriteFile("file", []byte("a"), 0o644)
	os.Mkdir("folder", 0o755)
	git(t, "add", "file")
	git(t, "commit", "-q", "-m", "first")
	id := git(t, "rev-parse", "HEAD")
	want("clean", id)
	os.WriteFile("new", nil, 0o644)
	want("a file that git does not know", id+"-dirty")
	os.Remove("new")
	os.WriteFile("file", []byte("b"), 0o644)
	want("a change", id+"-dirty")
	t.Setenv(commitVariable, id)
	want("a change, told the commit", id+"-dirty")
	t.Setenv(commitVariable, other)
	wantError("told another commit", "this is a checkout of "+id)
	t.Chdir("folder")
	want("within the checkout of something else", other)
}

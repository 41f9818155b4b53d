package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// commitVariable names the commit of the sources where they are no checkout, beside SOURCE_DATE_EPOCH.
const commitVariable = "SOURCE_COMMIT"

// dirtySuffix stands behind a commit from which the sources differ; cmd/lapidary knows it.
const dirtySuffix = "-dirty"

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// sourceCommit returns the commit that the folder it runs in is a checkout of, with dirtySuffix behind it where files differ; elsewhere
// what the environment says, or nothing.
func sourceCommit(ctx context.Context) (string, error) {
	said := os.Getenv(commitVariable)
	if said != "" && !commitID.MatchString(said) {
		return "", fmt.Errorf("%s=%s: want the 40 digits of a commit, as git rev-parse HEAD prints it", commitVariable, said)
	}
	id, ok := checkedOut(ctx)
	if !ok {
		return said, nil
	}
	if said != "" && said != id {
		return "", fmt.Errorf("%s=%s, and this is a checkout of %s; unset it", commitVariable, said, id)
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain").Output()
	if err != nil {
		return "", fmt.Errorf("whether files differ from the commit: git status: %w", err)
	}
	if len(changes) > 0 {
		id += dirtySuffix
	}
	return id, nil
}

// checkedOut returns the commit of the checkout whose top is the folder it runs in. Sources that only lie somewhere in the checkout of
// something else have none.
func checkedOut(ctx context.Context) (id string, ok bool) {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--show-toplevel", "HEAD").Output()
	if err != nil {
		return "", false
	}
	top, id, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	at, err := os.Stat(top)
	here, err2 := os.Stat(".")
	return id, err == nil && err2 == nil && os.SameFile(at, here) && commitID.MatchString(id)
}

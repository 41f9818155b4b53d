package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	each, total time.Duration
	parallel    int
	ledger      string
	cache       string
	name        *regexp.Regexp
	blind       bool
	from        int // how many targets to put at the end
}

// run fuzzes all targets that o names and returns how many found something.
func run(ctx context.Context, o options) (found int, err error) {
	list, err := targets(".")
	if err != nil {
		return 0, err
	}
	var chosen []target
	for _, t := range list {
		if o.name.MatchString(t.String()) {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 0 {
		return 0, fmt.Errorf("no target is called %v; there are %v", o.name, list)
	}
	if o.cache == "" {
		cache, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
		if err != nil {
			return 0, fmt.Errorf("go env GOCACHE: %w", err)
		}
		o.cache = filepath.Join(strings.TrimSpace(string(cache)), "fuzz")
	}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if o.total > 0 {
		limited, cancel = context.WithTimeout(ctx, o.total)
	}
	defer cancel()
	ran := 0
	var failed error
	for i := range chosen {
		t := chosen[(i+o.from)%len(chosen)]
		r, err := fuzz(limited, t, o)
		if r.execs > 0 {
			ran++
		}
		if r.found {
			found++
		}
		if o.ledger != "" {
			if err := add(o.ledger, list, t, r); err != nil {
				return found, err
			}
		}
		if limited.Err() != nil {
			break
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%v: %w", t, err))
		}
	}
	fmt.Printf("%d of %d targets ran, %d found something\n", ran, len(chosen), found)
	return found, errors.Join(failed, ctx.Err())
}

// result is what one run of a target came to.
type result struct {
	cpu   time.Duration
	execs int64
	found bool
}

// fuzz compiles a target and runs it. An error is one of the machinery: what a
// target finds is none.
func fuzz(ctx context.Context, t target, o options) (r result, err error) {
	dir, err := os.MkdirTemp("", "fuzzing-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "test")
	exact := "^" + t.name + "$"
	build := []string{"test", "-c", "-o", program}
	if !o.blind {
		build = append(build, "-fuzz", exact)
	}
	if out, err := exec.CommandContext(ctx, "go", append(build, "./"+t.dir)...).CombinedOutput(); err != nil {
		return r, fmt.Errorf("compiling: %w\n%s", err, out)
	}
	args := []string{"-test.run=^$", "-test.fuzz=" + exact, "-test.fuzztime=" + o.each.String(), "-test.fuzzcachedir=" + filepath.Join(o.cache, filepath.FromSlash(t.dir))}
	if o.parallel > 0 {
		args = append(args, "-test.parallel="+strconv.Itoa(o.parallel))
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = t.dir
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 20 * time.Second
	out, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	fmt.Println(t)
	if err := c.Start(); err != nil {
		return r, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.execs, r.found = watch(out)
	}()
	err = c.Wait()
	w.Close()
	<-read
	r.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	var exit *exec.ExitError
	if errors.As(err, &exit) && (r.found || r.execs > 0) { // without a finding the time was over before a slow run was
		err = nil
	}
	fmt.Printf("  %d executions in %.1f minutes of CPU\n", r.execs, r.cpu.Minutes())
	return r, err
}

// progress is what Go prints while it fuzzes.
var progress = regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) `)

// finding is in what Go prints about an input that a target fails on.
var finding = regexp.MustCompile(`Failing input written to|failure while testing seed corpus entry`)

// watch passes on what a target says, but for its progress, and returns how often it
// ran, and whether an input failed.
func watch(r io.Reader) (execs int64, found bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := progress.FindStringSubmatch(lines.Text())
		if m == nil {
			found = found || finding.MatchString(lines.Text())
			if s := lines.Text(); s != "PASS" && !strings.HasPrefix(s, "fuzz: elapsed: ") {
				fmt.Println("  " + s)
			}
			continue
		}
		if n, err := strconv.ParseInt(m[1], 10, 64); err == nil {
			execs = n
		}
	}
	io.Copy(io.Discard, r) // a line that is too long
	return execs, found
}

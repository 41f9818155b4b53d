package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	each, total time.Duration
	upTo        time.Duration // of CPU, for each target in all its runs; 0: no matter how much it had
	parallel    int           // processes of a target
	atOnce      int           // targets
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
	turns, err := o.turns(list)
	if err != nil {
		return 0, err
	}
	if len(turns) == 0 {
		fmt.Printf("every target had %v of CPU\n", o.upTo)
		return 0, nil
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
	var sum tally
	var group sync.WaitGroup
	next := make(chan turn)
	for range max(1, o.atOnce) {
		group.Go(func() {
			for t := range next {
				r, err := fuzz(limited, t, o)
				sum.add(limited, o, list, t.target, r, err)
			}
		})
	}
	for _, t := range turns {
		select {
		case next <- t:
		case <-limited.Done():
		}
	}
	close(next)
	group.Wait()
	fmt.Printf("%d of %d targets ran, %d found something\n", sum.ran, len(turns), sum.found)
	return sum.found, errors.Join(sum.err, ctx.Err())
}

// turn is one target and how long it is to run.
type turn struct {
	target
	time time.Duration
}

// turns are the targets that o names, in their order. Where there is a goal for
// each of them, those that are furthest from it come first, and those that have
// reached it not at all.
func (o options) turns(list []target) ([]turn, error) {
	var chosen []turn
	for _, t := range list {
		if o.name.MatchString(t.String()) {
			chosen = append(chosen, turn{t, o.each})
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no target is called %v; there are %v", o.name, list)
	}
	if o.upTo == 0 {
		n := o.from % len(chosen)
		return slices.Concat(chosen[n:], chosen[:n]), nil
	}
	_, rows, _, err := read(o.ledger)
	if err != nil {
		return nil, err
	}
	rows = settle(rows, list)
	had := func(t target) time.Duration {
		return time.Duration(rows[slices.Index(list, t)].minutes * float64(time.Minute))
	}
	chosen = slices.DeleteFunc(chosen, func(t turn) bool { return had(t.target) >= o.upTo })
	slices.SortStableFunc(chosen, func(a, b turn) int { return cmp.Compare(had(a.target), had(b.target)) })
	for i, t := range chosen {
		lacks := (o.upTo - had(t.target)) / time.Duration(max(1, o.parallel))
		chosen[i].time = min(t.time, max(lacks, time.Second))
	}
	return chosen, nil
}

// tally is what the runs of all targets came to.
type tally struct {
	sync.Mutex
	ran, found int
	err        error
}

func (s *tally) add(ctx context.Context, o options, list []target, t target, r result, err error) {
	s.Lock()
	defer s.Unlock()
	if r.execs > 0 {
		s.ran++
	}
	if r.found {
		s.found++
	}
	if o.ledger != "" {
		s.err = errors.Join(s.err, add(o.ledger, list, t, r))
	}
	if err != nil && ctx.Err() == nil {
		s.err = errors.Join(s.err, fmt.Errorf("%v: %w", t, err))
	}
}

// minimizing is how long Go makes an input smaller that reaches new code, before it goes on to find others. Its own minute is longer than most
// runs, and nothing is counted in it.
const minimizing = "2s"

// memory is a folder that is kept in memory, for what targets write while they run, or "" where there is none.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return ""
	}
	return "/dev/shm"
}

// result is what one run of a target came to.
type result struct {
	cpu   time.Duration
	execs int64
	found bool
}

// fuzz compiles a target and runs it. An error is one of the machinery: what a
// target finds is none.
func fuzz(ctx context.Context, t turn, o options) (r result, err error) {
	dir, err := os.MkdirTemp(memory(), "fuzzing-")
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
	args := []string{"-test.run=^$", "-test.fuzz=" + exact, "-test.fuzztime=" + t.time.String(), "-test.fuzzminimizetime=" + minimizing,
		"-test.fuzzcachedir=" + filepath.Join(o.cache, filepath.FromSlash(t.dir))}
	if o.parallel > 0 {
		args = append(args, "-test.parallel="+strconv.Itoa(o.parallel))
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = t.dir
	c.Env = append(os.Environ(), "TMPDIR="+dir)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 20 * time.Second
	out, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	fmt.Println(t.target)
	if err := c.Start(); err != nil {
		return r, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.execs, r.found = watch(out, t.target)
	}()
	err = c.Wait()
	w.Close()
	<-read
	r.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	var exit *exec.ExitError
	if errors.As(err, &exit) && (r.found || r.execs > 0) { // without a finding the time was over before a slow run was
		err = nil
	}
	fmt.Printf("  %v: %d executions in %.1f minutes of CPU\n", t.target, r.execs, r.cpu.Minutes())
	return r, err
}

// progress is what Go prints while it fuzzes.
var progress = regexp.MustCompile(`^fuzz: elapsed: .*, execs: (\d+) `)

// finding is in what Go prints about an input that a target fails on.
var finding = regexp.MustCompile(`Failing input written to|failure while testing seed corpus entry`)

// watch passes on what t says, but for its progress, and returns how often it
// ran, and whether an input failed.
func watch(r io.Reader, t target) (execs int64, found bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := progress.FindStringSubmatch(lines.Text())
		if m == nil {
			found = found || finding.MatchString(lines.Text())
			if s := lines.Text(); s != "PASS" && !strings.HasPrefix(s, "fuzz: elapsed: ") {
				fmt.Printf("  %v: %s\n", t, s)
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

package produce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Transform rewrites m, observing o's limits and skips so that a wrong rewrite
// can be found and left out. The same arguments always do the same.
type Transform func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error)

// Options says how to produce a file.
type Options struct {
	Step     report.Step     // what is recorded in the model; digest of the input and Verified are filled in
	Rewrite  rewrite.Options // limits, rule selection, callbacks
	Verify   *Verify         // nil: the result is not run, and the record says so
	InPlace  bool            // the target may be the input file
	External onnxfile.External
	// Progress is told what is being done, such as "verifying"; may be nil.
	Progress func(stage string)
}

// Result says what was done.
type Result struct {
	Input      FileInfo     `json:"input"`
	Output     FileInfo     `json:"output"`
	Log        *rewrite.Log `json:"log"`
	Checked    *Checked     `json:"checked,omitempty"`     // absent with verification off
	RolledBack []RolledBack `json:"rolled_back,omitempty"` // rewrites that made a difference and were left out
}

// FileInfo describes a model file.
type FileInfo struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"` // with external data
	Nodes  int    `json:"nodes"` // subgraphs included
}

// RolledBack is a rewrite that was undone, with what it had broken.
type RolledBack struct {
	Firing rewrite.Firing `json:"firing"`
	Reason string         `json:"reason"`
}

// maxRollbacks bounds how many wrong rewrites are looked for before giving up.
const maxRollbacks = 8

// File rewrites the model at src into dst. Nothing is written to dst unless the
// result has the tolerance asked for; src is only ever replaced when it is dst
// and o.InPlace is set.
func File(ctx context.Context, dst, src string, f Transform, o Options) (*Result, error) {
	if err := checkTarget(dst, src, o.InPlace); err != nil {
		return nil, err
	}
	atomicfile.CleanStale(filepath.Dir(dst))
	m, err := onnxfile.Open(src, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	notices, err := m.Repair()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("%s is not a valid model: %w", src, err)
	}
	j := &job{dst: dst, src: src, f: f, o: o, m: m, skip: map[string]bool{}}
	maps.Copy(j.skip, o.Rewrite.Skip)
	r, err := j.run(ctx)
	if err != nil {
		return nil, err
	}
	r.Log.Notices = append(notices, r.Log.Notices...)
	return r, nil
}

func checkTarget(dst, src string, inPlace bool) error {
	if dst == "" {
		return errors.New("no output file; name one with -o")
	}
	a, err := os.Stat(src)
	if err != nil {
		return fmt.Errorf("reading %s: %w", src, errors.Unwrap(err))
	}
	if b, err := os.Stat(dst); err == nil && os.SameFile(a, b) && !inPlace {
		return fmt.Errorf("%s is both input and output; name another output, or allow it with --in-place", dst)
	}
	return nil
}

// job is one call of File.
type job struct {
	dst, src string
	f        Transform
	o        Options
	m        *onnx.Model // the original, repaired
	skip     map[string]bool
	ref      *reference
	digest   string
}

func (j *job) progress(stage string) {
	if j.o.Progress != nil {
		j.o.Progress(stage)
	}
}

func (j *job) run(ctx context.Context) (*Result, error) {
	j.progress("reading")
	digest, size, err := fileDigest(ctx, j.src)
	if err != nil {
		return nil, err
	}
	j.digest = digest
	r := &Result{Input: FileInfo{Path: j.src, SHA256: digest, Bytes: size + externalBytes(j.m), Nodes: countNodes(j.m)}}
	if j.o.Verify != nil {
		j.progress("running the original")
		if j.ref, err = j.o.Verify.prepare(ctx, j.src); err != nil {
			return nil, fmt.Errorf("%s cannot be verified: %w (write it unverified with --no-verify)", j.src, err)
		}
	}
	for {
		try, err := j.attempt(ctx, j.o.Rewrite.Limit)
		if err != nil {
			return nil, err
		}
		if try.failed == nil {
			return r, j.finish(ctx, r, try)
		}
		try.staged.Abort()
		undone, err := j.bisect(ctx, try)
		if err != nil {
			return nil, err
		}
		r.RolledBack = append(r.RolledBack, *undone)
		if len(r.RolledBack) > maxRollbacks {
			return nil, fmt.Errorf("%s: more than %d rewrites change the result, the last: %s: %s", j.src, maxRollbacks, undone.Firing.Key, undone.Reason)
		}
	}
}

// attempt is one rewritten and staged model.
type attempt struct {
	model   *onnx.Model
	log     *rewrite.Log
	staged  *onnxfile.Staged
	checked *Checked
	failed  error // why it must not be used
}

// attempt rewrites a copy of the original, stages it and checks it. An error is
// one that no rollback can mend.
func (j *job) attempt(ctx context.Context, limit int) (*attempt, error) {
	j.progress("rewriting")
	a := &attempt{model: j.m.Clone()}
	o := j.o.Rewrite
	o.Limit, o.Skip = limit, j.skip
	var err error
	if a.log, err = j.f(ctx, a.model, o); err != nil {
		return nil, fmt.Errorf("%s: %w", j.src, err)
	}
	step := j.o.Step
	step.InputSHA256, step.Verified = j.digest, j.o.Verify != nil
	if err := appendStep(a.model, step); err != nil {
		return nil, err
	}
	j.progress("writing")
	if a.staged, err = onnxfile.Stage(j.dst, a.model, onnxfile.WriteOptions{External: j.o.External}); err != nil {
		return nil, err
	}
	if j.o.Verify == nil {
		return a, nil
	}
	j.progress("verifying")
	a.checked, a.failed = j.o.Verify.check(ctx, a.staged.Path(), j.ref)
	if ctx.Err() != nil {
		a.staged.Abort()
		return nil, ctx.Err()
	}
	return a, nil
}

// bisect finds the first rewrite without which the result is right, and makes
// later attempts skip it.
func (j *job) bisect(ctx context.Context, bad *attempt) (*RolledBack, error) {
	fired := bad.log.Fired
	if len(fired) == 0 {
		return nil, fmt.Errorf("%s: nothing was rewritten, and yet: %w", j.src, bad.failed)
	}
	good, wrong, reason := 0, len(fired), bad.failed
	for wrong-good > 1 {
		mid := (good + wrong) / 2
		a, err := j.attempt(ctx, mid)
		if err != nil {
			return nil, err
		}
		a.staged.Abort()
		if a.failed != nil {
			wrong, reason = mid, a.failed
		} else {
			good = mid
		}
	}
	f := fired[wrong-1]
	if j.skip[f.Key] {
		return nil, fmt.Errorf("%s: %s cannot be left out: %w", j.src, f.Key, reason)
	}
	j.skip[f.Key] = true
	return &RolledBack{Firing: f, Reason: reason.Error()}, nil
}

func (j *job) finish(ctx context.Context, r *Result, a *attempt) error {
	defer a.staged.Abort()
	digest, size, err := fileDigest(ctx, a.staged.Path())
	if err != nil {
		return err
	}
	r.Output = FileInfo{Path: j.dst, SHA256: digest, Bytes: size + a.staged.Written.ExternalBytes, Nodes: countNodes(a.model)}
	r.Log, r.Checked = a.log, a.checked
	return a.staged.Commit()
}

// countNodes counts the nodes of all graphs.
func countNodes(m *onnx.Model) int {
	n := 0
	for _, g := range m.Graphs() {
		n += g.Len()
	}
	return n
}

// externalBytes sums the external content of m's constants.
func externalBytes(m *onnx.Model) int64 {
	var n int64
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			if v.Const.External != nil {
				n += v.Const.Size()
			}
		}
	}
	return n
}

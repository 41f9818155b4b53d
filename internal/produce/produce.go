package produce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Transform rewrites m, observing o's limits and skips so that a wrong rewrite
// can be found and left out. The same arguments always do the same.
type Transform func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error)

// Options says how to produce a file.
type Options struct {
	Step     report.Step     // what is recorded in the model; digest of the input and Verified are filled in
	Rewrite  rewrite.Options // limits, rule selection, callbacks
	Verify   *Verify         // nil: the result is not run, and the record says so
	Runs     bool            // the transform runs the original itself, and cannot do without
	Guard    *Guard          // what the result must not lose; nil: nothing is compared
	InPlace  bool            // the target may be the input file
	External onnxfile.External
	// Cut changes on purpose what the model computes, such as its outputs, and
	// says how; the result is held against the model after it. It may be nil.
	Cut func(ctx context.Context, m *onnx.Model) ([]string, error)
	// SaveOptimized asks for a second file; nil: there is none.
	SaveOptimized *SaveOptimized
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
	Cut        []string     `json:"cut,omitempty"`         // what was changed about the outputs because it was asked for
	Guarded    *Guarded     `json:"guarded,omitempty"`     // absent where nothing was compared
	Optimized  *Optimized   `json:"optimized,omitempty"`   // the engine's own graph, where asked for
}

// FileInfo describes a model file.
type FileInfo struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"` // with external data
	Nodes  int    `json:"nodes"` // subgraphs included
}

// RolledBack is a rewrite, or a whole rule, that was undone, with what it had broken.
type RolledBack struct {
	Judge  string          `json:"judge"` // what was wrong with the result: values, operators or latency
	Rule   string          `json:"rule"`
	Firing *rewrite.Firing `json:"firing,omitempty"` // absent where the whole rule was left out
	Reason string          `json:"reason"`
}

// What names what was undone.
func (r *RolledBack) What() string {
	if r.Firing == nil {
		return "the rule " + r.Rule
	}
	return r.Firing.Key
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
	keep, err := checkWeights(dst, src, m)
	if err != nil {
		return nil, err
	}
	notices, err := m.Repair()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("%s is not a valid model: %w", src, err)
	}
	j := &job{dst: dst, src: src, keep: keep, f: f, o: o, m: m, skip: map[string]bool{},
		blamed: map[string]int{}, probes: map[string]int{}, waived: map[*judge]bool{}}
	maps.Copy(j.skip, o.Rewrite.Skip)
	if o.Guard != nil {
		j.guard = o.Guard.filled()
	}
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
	keep     []string // files of the original's weights, which stay
	f        Transform
	o        Options
	guard    Guard
	m        *onnx.Model            // the original, repaired
	base     string                 // the file that results are held against: src, or what Cut made of it
	digest   func() (string, error) // the SHA-256 of src, once it is known
	ref      *reference
	original *loaded // nil without a guard
	silent   string  // why there is no census of the original

	skip     map[string]bool // firings to leave out
	off      []string        // rules to leave out
	blamed   map[string]int  // firings of each rule that were left out for what the result lost
	last     string          // the rule among these that was blamed last
	harmless []string        // rules to leave out with which nothing is lost, as far as is known
	probes   map[string]int  // results tried, by judge
	waived   map[*judge]bool // judges who may no longer reject anything

	searching time.Time // when the search for what to leave out began
	notes     []string
}

func (j *job) progress(stage string) {
	if j.o.Progress != nil {
		j.o.Progress(stage)
	}
}

// options returns how to rewrite, without what is to be left out.
func (j *job) options() rewrite.Options {
	o := j.o.Rewrite
	o.Skip = maps.Clone(j.skip)
	o.Disable = append(slices.Clone(o.Disable), j.off...)
	return o
}

func (j *job) run(ctx context.Context) (*Result, error) {
	j.progress("reading")
	info, err := os.Stat(j.src)
	if err != nil {
		return nil, err
	}
	var stop func()
	j.digest, stop = digesting(ctx, j.src)
	defer stop()
	r := &Result{Input: FileInfo{Path: j.src, Bytes: info.Size() + externalBytes(j.m), Nodes: countNodes(j.m)}}
	if r.Input.Bytes > mostCounted {
		j.silent = fmt.Sprintf("the model has more than %d MiB, which the engine would have to write once more", mostCounted>>20)
	}
	defer func() { j.original.close() }()
	done, err := j.cut(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := j.prepare(ctx); err != nil {
		return nil, err
	}
	a, refused, err := j.settle(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.drop()
	if r.Input.SHA256, err = j.digest(); err != nil {
		return nil, err
	}
	if r.Guarded, err = j.guarded(ctx, a, refused); err != nil {
		return nil, err
	}
	return r, j.finish(ctx, r, a)
}

// settle rewrites until every judge is content, and returns the result; where it
// is not all that the rules made, also why.
func (j *job) settle(ctx context.Context, r *Result) (*attempt, string, error) {
	for {
		a, err := j.attempt(ctx, j.options())
		if err != nil {
			return nil, "", err
		}
		g, why, err := j.judge(ctx, a)
		if err == nil && g == nil {
			return a, "", nil
		}
		a.drop()
		if err != nil {
			return nil, "", err
		}
		undone, err := g.find(j, ctx, g, a, why)
		if errors.Is(err, errAsked) || errors.Is(err, errOther) {
			j.waived[g] = true
			j.notes = append(j.notes, fmt.Sprintf("%v: %v", err, why))
			continue
		}
		if errors.Is(err, errTired) {
			return j.best(ctx, why)
		}
		if err != nil {
			return nil, "", err
		}
		r.RolledBack = append(r.RolledBack, *undone)
		if g == values && undoneBy(g, r) > maxRollbacks {
			return nil, "", fmt.Errorf("%s: more than %d rewrites change the result, the last: %s: %s", j.src, maxRollbacks, undone.What(), undone.Reason)
		}
	}
}

// undoneBy counts what g had left out.
func undoneBy(g *judge, r *Result) int {
	n := 0
	for _, b := range r.RolledBack {
		if b.Judge == g.name {
			n++
		}
	}
	return n
}

// varies reports whether m may compute something else in each run.
func varies(m *onnx.Model) bool {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if opset.Varies(n) {
				return true
			}
		}
	}
	return false
}

// prepare runs the original.
func (j *job) prepare(ctx context.Context) error {
	if j.o.Verify == nil {
		return nil
	}
	j.o.Verify.narrow = narrowOutputs(j.m)
	j.progress("running the original")
	var err error
	if j.ref, err = j.o.Verify.prepare(ctx, j.access(j.base, &j.original), varies(j.m)); err == nil {
		err = j.ref.tells()
	}
	if err != nil {
		return j.unverified(err)
	}
	if j.original == nil && j.o.Guard != nil {
		if j.original, err = j.load(ctx, j.base); err != nil {
			return fmt.Errorf("%s does not load: %w", j.src, err)
		}
	}
	if j.original != nil {
		j.silent = j.original.silent
	}
	return nil
}

// unverified says that the original does not run, and what helps: where the engine
// does not even load it, leaving out the check would give a model that nobody ran.
func (j *job) unverified(err error) error {
	var load *unloadable
	switch {
	case errors.As(err, &load) && !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(session.OutOfMemory)):
		return fmt.Errorf("%s cannot be verified: %w; if the model is sound, choose what has its operators, by --ort-lib or --engine", j.src, err)
	case load != nil, j.o.Runs:
		return fmt.Errorf("%s cannot be verified: %w", j.src, err)
	}
	return fmt.Errorf("%s cannot be verified: %w (write it unverified with --no-verify)", j.src, err)
}

// attempt is one rewritten and staged model.
type attempt struct {
	model   *onnx.Model
	log     *rewrite.Log
	staged  *onnxfile.Staged
	loaded  *loaded // nil as long as no judge needed it
	checked *Checked
	latency *Latency
	notes   []string
}

// drop ends what a holds; after its files are in place it only ends its worker.
func (a *attempt) drop() {
	a.loaded.close()
	a.staged.Abort()
}

// attempt rewrites a copy of the original and stages it.
func (j *job) attempt(ctx context.Context, o rewrite.Options) (*attempt, error) {
	j.progress("rewriting")
	a := &attempt{model: j.m.Clone()}
	silent := untyped(a.model)
	var err error
	if a.log, err = j.f(ctx, a.model, o); err != nil {
		return nil, fmt.Errorf("%s: %w", j.src, err)
	}
	forget(silent)
	step := j.o.Step
	step.Verified = j.o.Verify != nil
	step.InputSHA256 = pendingDigest
	key, err := appendStep(a.model, step)
	if err != nil {
		return nil, err
	}
	j.progress("writing")
	a.staged, err = onnxfile.Stage(j.dst, a.model, onnxfile.WriteOptions{External: j.o.External, Keep: j.keep, Digest: true, Late: &onnxfile.Late{Stands: pendingDigest, Text: j.digest}})
	if err != nil {
		return nil, err
	}
	if step.InputSHA256, err = j.digest(); err != nil {
		a.drop()
		return nil, err
	}
	return a, setStep(a.model, key, step)
}

func (j *job) finish(ctx context.Context, r *Result, a *attempt) error {
	w := a.staged.Written
	r.Output = FileInfo{Path: j.dst, SHA256: w.SHA256, Bytes: w.Bytes + w.ExternalBytes, Nodes: countNodes(a.model)}
	r.Log, r.Checked = a.log, a.checked
	var second *onnxfile.Staged
	var err error
	if j.o.SaveOptimized != nil {
		second, r.Optimized, err = j.stageOptimized(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			r.Optimized = &Optimized{FileInfo: FileInfo{Path: j.o.SaveOptimized.Path}, Refused: err.Error()}
		}
	}
	if second != nil {
		defer second.Abort()
	}
	if err := a.staged.Commit(); err != nil || second == nil {
		return err
	}
	return second.Commit()
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

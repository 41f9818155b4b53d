package produce

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Verify says how original and result are run against each other.
type Verify struct {
	Open    session.Opener  // the engine
	Session session.Options // for every session; the level is set by the verification
	Levels  []session.Level // of the engine's own optimizations; nil: off and all
	// Data gives the inputs; nil generates them from the types and shapes of
	// the model's inputs with Seed.
	Data    *dataset.Set
	Samples int    // how many; 0: 4
	Seed    uint64 // of generated inputs
	// Patience is how long a first run of generated inputs may take; 0: 2 minutes.
	Patience time.Duration
	Dims     map[string]int64 // sizes of symbolic dimensions of generated inputs; others are what the model runs with
	// Shapes gives generated inputs whole shapes by name; −1 leaves a dimension to Dims.
	Shapes map[string][]int64
	// Tolerance is the class that an output must meet; nil: the class of its
	// element type, or of float16 or bfloat16 where it is computed in that.
	Tolerance func(output string, d onnx.DType) compare.Class

	narrow map[string]onnx.DType // see narrowOutputs
}

// Checked is what the comparison of original and result found.
type Checked struct {
	Samples int             `json:"samples"`
	Inputs  string          `json:"inputs"` // "data" or "synthetic"
	Outputs []CheckedOutput `json:"outputs"`
	Random  []string        `json:"random,omitempty"` // outputs that differ from run to run and were not compared

	Undefined []string `json:"undefined,omitempty"` // outputs that are NaN in every sample, as those of a wrong result would be
}

// CheckedOutput is the largest distance of one output over samples and levels.
type CheckedOutput struct {
	Name   string   `json:"name"`
	Class  string   `json:"tolerance"`
	MaxAbs float64  `json:"max_abs"`
	SQNR   *float64 `json:"sqnr_db,omitempty"` // the least over the samples; absent where always equal
}

// Mismatch is the error of a result that does not compute what the original does.
type Mismatch struct {
	Output string
	Sample string
	Level  session.Level
	Reason string
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("output %q differs from the original's on sample %s with the engine's optimizations %s: %s",
		m.Output, m.Sample, levelName(m.Level), m.Reason)
}

func levelName(l session.Level) string {
	switch l {
	case session.LevelOff:
		return "off"
	case session.LevelBasic:
		return "basic"
	case session.LevelExtended:
		return "extended"
	}
	return "on"
}

// reference is what the original computes, at each level.
type reference struct {
	samples []*dataset.Sample
	outputs map[session.Level][]map[string]*onnx.Tensor
	random  []string // outputs that differ from run to run, which are not compared

	undefined []string // outputs that are NaN in every sample
	empty     bool     // all are
	source    string
}

func (v *Verify) levels() []session.Level {
	if v.Levels != nil {
		return v.Levels
	}
	return []session.Level{session.LevelOff, session.LevelAll}
}

// access opens one model at each level; the caller calls release after use.
type access func(ctx context.Context, level session.Level) (s session.Session, release func(), err error)

// unloadable is the error of an original that the engine does not load.
type unloadable struct{ err error }

func (e *unloadable) Error() string { return fmt.Sprintf("the original does not load: %v", e.err) }

func (e *unloadable) Unwrap() error { return e.err }

// prepare runs the original; where it draws random numbers, twice.
func (v *Verify) prepare(ctx context.Context, open access, random bool) (*reference, error) {
	ref := &reference{outputs: map[session.Level][]map[string]*onnx.Tensor{}}
	for _, level := range v.levels() {
		s, release, err := open(ctx, level)
		if err != nil {
			return nil, &unloadable{err}
		}
		if ref.samples == nil {
			err = v.collect(ctx, s, ref)
		}
		if err == nil {
			ref.outputs[level], err = runAll(ctx, s, ref.samples)
		}
		if err == nil && random {
			err = v.findRandom(ctx, s, level, ref)
		}
		release()
		if err != nil {
			return nil, fmt.Errorf("running the original: %w", err)
		}
	}
	ref.findUndefined()
	return ref, nil
}

// runsOfRandom is how often a model that draws random numbers runs again: few
// elements may come out the same by chance.
const runsOfRandom = 8

// findRandom runs the first sample again and takes outputs that come out
// otherwise, as those of operators that draw random numbers, from the comparison.
func (v *Verify) findRandom(ctx context.Context, s session.Session, level session.Level, ref *reference) error {
	for range runsOfRandom {
		again, err := runAll(ctx, s, ref.samples[:1])
		if err != nil {
			return err
		}
		for name, w := range ref.outputs[level][0] {
			d, err := v.distance(name, w, again[0][name])
			if (err != nil || !d.OK) && !slices.Contains(ref.random, name) {
				ref.random = append(ref.random, name)
			}
		}
	}
	slices.Sort(ref.random)
	if len(ref.random) == len(ref.outputs[level][0]) {
		return fmt.Errorf("every output differs from run to run: %s", strings.Join(ref.random, ", "))
	}
	return nil
}

func (v *Verify) open(ctx context.Context, path string, level session.Level) (session.Session, error) {
	o := v.Session
	o.Level = level
	return v.Open(ctx, path, o)
}

func runAll(ctx context.Context, s session.Session, samples []*dataset.Sample) ([]map[string]*onnx.Tensor, error) {
	var out []map[string]*onnx.Tensor
	for _, sample := range samples {
		r, err := s.Run(ctx, sample.Inputs)
		if err != nil {
			return nil, fmt.Errorf("sample %s: %w", sample.ID, err)
		}
		out = append(out, r.Outputs)
	}
	return out, nil
}

// collect takes samples from the data, or generates some that the original can run.
func (v *Verify) collect(ctx context.Context, s session.Session, ref *reference) error {
	count := v.Samples
	if count == 0 {
		count = 4
	}
	if v.Data != nil {
		ref.source = "data"
		if v.Data.Synthetic() {
			ref.source = "synthetic"
		}
		if v.Data.BatchSize() > 1 {
			return takeBatches(ctx, v.Data, count, &ref.samples)
		}
		return take(ctx, v.Data, count, &ref.samples)
	}
	ref.source = "synthetic"
	if len(s.Inputs()) == 0 { // it computes the same each time
		ref.samples = []*dataset.Sample{{ID: "0", Inputs: map[string]*onnx.Tensor{}}}
		return nil
	}
	var last error
	for _, size := range []int64{2, 1, 3, 8, 64, 512} {
		var list []*dataset.Sample
		set, err := dataset.Open(fmt.Sprintf("synthetic:%d", count), dataset.Options{
			Inputs: ports(v.shaped(s.Inputs())), Dims: fillDims(v.shaped(s.Inputs()), v.Dims, size), Seed: v.Seed})
		if err == nil {
			err = take(ctx, set, count, &list)
			set.Close()
		}
		if err == nil {
			err = v.try(ctx, s, list[:1])
		}
		if err == nil {
			ref.samples = list
			return nil
		}
		if last = err; errors.Is(err, context.DeadlineExceeded) {
			break // the session may be gone with it
		}
	}
	return fmt.Errorf("no generated input runs, give real ones with --data: %w", last)
}

// defaultPatience is long for one run of any model, and short for a person who waits.
const defaultPatience = 2 * time.Minute

// try runs generated inputs, which may be none that a model ends with: a number
// of turns, or one that an engine's kernel never comes back from.
func (v *Verify) try(ctx context.Context, s session.Session, list []*dataset.Sample) error {
	patience := v.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	limited, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w: it runs for more than %v", context.DeadlineExceeded, patience))
	defer cancel()
	_, err := runAll(limited, s, list)
	return err
}

func take(ctx context.Context, set *dataset.Set, count int, out *[]*dataset.Sample) error {
	for sample, err := range set.Samples(ctx) {
		if err != nil {
			return err
		}
		if *out = append(*out, sample); len(*out) == count {
			break
		}
	}
	if len(*out) == 0 {
		return fmt.Errorf("the data has no samples")
	}
	return nil
}

// shaped returns the inputs of a session with the shapes of v.Shapes. A symbol
// that one of them settles has that size in the others too.
func (v *Verify) shaped(list []session.Port) []session.Port {
	out := slices.Clone(list)
	symbols := map[string]int64{}
	for i, p := range out {
		want, ok := v.Shapes[p.Name]
		if !ok || !p.Type.IsTensor() {
			continue
		}
		shape := make(onnx.Shape, len(want))
		for k, n := range want {
			if shape[k] = onnx.Fixed(n); k >= len(p.Type.Shape) {
				continue
			}
			if d := p.Type.Shape[k]; n < 0 {
				shape[k] = d
			} else if opset.Named(d) {
				symbols[d.Param] = n
			}
		}
		out[i].Type = p.Type.WithShape(shape)
	}
	for i, p := range out {
		if len(symbols) == 0 || !p.Type.IsTensor() {
			continue
		}
		shape := slices.Clone(p.Type.Shape)
		for k, d := range shape {
			if n, ok := symbols[d.Param]; ok && !d.Known() {
				shape[k] = onnx.Fixed(n)
			}
		}
		out[i].Type = p.Type.WithShape(shape)
	}
	return out
}

func ports(list []session.Port) []dataset.Port {
	out := make([]dataset.Port, len(list))
	for i, p := range list {
		out[i] = dataset.Port{Name: p.Name, Type: p.Type}
	}
	return out
}

// fillDims gives every symbolic dimension that dims leaves open the given size.
func fillDims(list []session.Port, dims map[string]int64, size int64) map[string]int64 {
	out := map[string]int64{}
	for _, p := range list {
		if p.Type == nil {
			continue
		}
		for _, d := range p.Type.Shape {
			if d.Param != "" {
				out[d.Param] = size
			}
		}
	}
	for name, n := range dims {
		out[name] = n
	}
	return out
}

// check runs the result that open opens and compares it with ref. The error is a
// *[Mismatch] where it runs and differs.
func (v *Verify) check(ctx context.Context, open access, ref *reference) (*Checked, error) {
	c := &Checked{Samples: len(ref.samples), Inputs: ref.source, Random: ref.random, Undefined: ref.undefined}
	worst := map[string]*CheckedOutput{}
	for _, level := range v.levels() {
		s, release, err := open(ctx, level)
		if err != nil {
			return nil, &Failure{Stage: StageLoad, Level: level, Err: err}
		}
		err = v.compare(ctx, s, level, ref, worst)
		release()
		if err != nil {
			return nil, err
		}
		if c.Outputs == nil {
			for _, p := range s.Outputs() {
				if w := worst[p.Name]; w != nil && !slices.Contains(ref.undefined, p.Name) {
					c.Outputs = append(c.Outputs, *w)
				}
			}
		}
	}
	for i := range c.Outputs {
		c.Outputs[i] = *worst[c.Outputs[i].Name]
	}
	return c, nil
}

func (v *Verify) compare(ctx context.Context, s session.Session, level session.Level, ref *reference, worst map[string]*CheckedOutput) error {
	got, err := runAll(ctx, s, ref.samples)
	if err != nil {
		return &Failure{Stage: StageRun, Level: level, Err: err}
	}
	for i, want := range ref.outputs[level] {
		for name, w := range want {
			if slices.Contains(ref.random, name) {
				continue
			}
			g := got[i][name]
			if g == nil {
				return &Mismatch{name, ref.samples[i].ID, level, "the result does not have it"}
			}
			d, err := v.distance(name, w, g)
			if err == nil && !d.OK && level != session.LevelOff {
				d = v.optimized(name, ref, i, d, g)
			}
			if err != nil {
				return &Mismatch{name, ref.samples[i].ID, level, err.Error()}
			}
			if !d.OK {
				return &Mismatch{name, ref.samples[i].ID, level, d.Reason}
			}
			note(worst, name, d)
		}
	}
	return nil
}

// asNoise follows the name of a class that was met by [compare.Distance.Noise].
const asNoise = " as noise"

// optimized judges anew an output that the engine's own optimizations moved away
// from what they make of the original. They may have broken the original, so
// that the result may be what the original is without them. And they
// compute in another order where the graph has another form: where the result is within the
// class without them, what they add must be no more than noise.
func (v *Verify) optimized(name string, ref *reference, sample int, d *compare.Distance, got *onnx.Tensor) *compare.Distance {
	plain := ref.outputs[session.LevelOff]
	if plain == nil {
		return d
	}
	off, err := v.distance(name, plain[sample][name], got)
	if err == nil && off.OK {
		return off
	}
	for _, x := range []*compare.Distance{d, off} {
		if err == nil && x.Noise(v.class(name, got.DType)) {
			x.OK, x.Class = true, x.Class+asNoise
			return x
		}
	}
	return d
}

// distance compares one output. An element of a sequence or an optional may be
// there in one run only.
func (v *Verify) distance(name string, want, got *onnx.Tensor) (*compare.Distance, error) {
	if want == nil || got == nil {
		return nil, fmt.Errorf("it is not there in each run")
	}
	return compare.Tensors(want, got, v.class(name, want.DType))
}

func (v *Verify) class(output string, t onnx.DType) compare.Class {
	if v.Tolerance != nil {
		return v.Tolerance(output, t)
	}
	if d, ok := v.narrow[output]; ok && t.IsFloat() {
		t = d
	}
	return compare.ClassFor(t)
}

func note(worst map[string]*CheckedOutput, name string, d *compare.Distance) {
	w := worst[name]
	if w == nil {
		w = &CheckedOutput{Name: name}
		worst[name] = w
	}
	if !strings.HasSuffix(w.Class, asNoise) {
		w.Class = d.Class
	}
	w.MaxAbs = max(w.MaxAbs, d.MaxAbs)
	if !math.IsInf(d.SQNR, 0) && !math.IsNaN(d.SQNR) && (w.SQNR == nil || d.SQNR < *w.SQNR) {
		x := d.SQNR
		w.SQNR = &x
	}
}

// String describes the check in one line.
func (c *Checked) String() string {
	var parts []string
	for _, o := range c.Outputs {
		text := fmt.Sprintf("%s within %s", o.Name, o.Class)
		if o.SQNR != nil {
			text += fmt.Sprintf(" (SQNR %.1f dB)", *o.SQNR)
		}
		parts = append(parts, text)
	}
	if len(c.Random) > 0 {
		parts = append(parts, strings.Join(c.Random, ", ")+" not compared: different in each run")
	}
	if len(c.Undefined) > 0 {
		parts = append(parts, strings.Join(c.Undefined, ", ")+" not compared: NaN in every sample")
	}
	return fmt.Sprintf("%d %s samples: %s", c.Samples, c.Inputs, strings.Join(parts, ", "))
}

package bisect

import (
	"context"
	"errors"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// ReduceRewrite makes the smallest model found on which the rule of the first
// wrong rewrite still goes wrong by itself. f must not fix symbolic dimensions:
// the recorded values have sizes already.
func ReduceRewrite(ctx context.Context, src string, f produce.Transform, found *Finding, o Options) (*Case, error) {
	if found.First == nil || found.First.Number == 0 {
		return nil, errors.New("there is no wrong rewrite to reduce")
	}
	m, err := Open(src)
	if err != nil {
		return nil, err
	}
	c, err := reduceRewrite(ctx, src, m, f, found, o)
	if err != nil {
		m.Close()
		return nil, err
	}
	c.base = m
	return c, nil
}

func reduceRewrite(ctx context.Context, src string, m *onnx.Model, f produce.Transform, found *Finding, o Options) (*Case, error) {
	l, err := newLab(o)
	if err != nil {
		return nil, err
	}
	defer l.close()
	ref, err := o.Verify.Prepare(ctx, src)
	if err != nil {
		return nil, err
	}
	sample := pickSample(ref.Samples(), found.First)
	recorded, err := l.record(ctx, m, sample.Inputs)
	if err != nil {
		return nil, err
	}
	t := &ruleTest{lab: l, f: f, rule: found.First.Firing.Rule, ro: found.rewrite, kind: found.First.Fault.Kind}
	r := &reducer{base: m, recorded: recorded, types: typesOf(recorded), sample: sample.Inputs, shows: t.shows, progress: o.progress}
	c, err := r.reduce(ctx, startOutputs(m, found.First, recorded))
	if errors.Is(err, errNotShown) { // the broken value may not be the whole of it
		c, err = r.reduce(ctx, outputNames(m))
	}
	return c, err
}

// pickSample returns the sample on which the fault was seen.
func pickSample(list []*dataset.Sample, w *FirstWrong) *dataset.Sample {
	if w.Broken != nil {
		for _, s := range list {
			if s.ID == w.Broken.Sample {
				return s
			}
		}
	}
	return list[0]
}

// startOutputs is the broken value where the original has it, else all outputs.
func startOutputs(m *onnx.Model, w *FirstWrong, recorded map[string]*onnx.Tensor) []string {
	if w.Broken != nil && recorded[w.Broken.Value] != nil {
		return []string{w.Broken.Value}
	}
	return outputNames(m)
}

// outputNames are the outputs of m that its nodes compute.
func outputNames(m *onnx.Model) []string {
	var out []string
	values := produced(m)
	for _, v := range m.Graph.Outputs() {
		if values[v.Name()] != nil {
			out = append(out, v.Name())
		}
	}
	return unique(out)
}

// ruleTest tells whether one rule goes wrong on a case.
type ruleTest struct {
	*lab
	f    produce.Transform
	rule string
	ro   rewrite.Options
	kind Kind
}

// shows reports whether the original runs, the rule fires, and what it leaves
// has a fault of the same kind.
func (t *ruleTest) shows(ctx context.Context, c *Case) (bool, error) {
	want, err := t.run(ctx, c.Model, session.LevelOff, c.Feed)
	if err != nil {
		return false, ctx.Err()
	}
	m := c.Model.Clone()
	log, err := t.f(ctx, m, rewrite.Options{Only: []string{t.rule}, Disable: t.ro.Disable})
	if err != nil || len(log.Fired) == 0 {
		return false, ctx.Err()
	}
	bad, err := t.bad(ctx, c, m, want)
	if bad {
		c.Want = want
	}
	return bad, err
}

func (t *ruleTest) bad(ctx context.Context, c *Case, m *onnx.Model, want map[string]*onnx.Tensor) (bool, error) {
	for _, level := range t.levels() {
		got, err := t.run(ctx, m, level, c.Feed)
		if err != nil {
			f := faultOf(err)
			return f != nil && f.Kind == t.kind, ctx.Err()
		}
		if t.kind != Wrong || t.agree(want, got) {
			continue
		}
		if level == session.LevelOff {
			return true, nil
		}
		// The engine's own optimizations may break the original alike.
		same, err := t.run(ctx, c.Model, level, c.Feed)
		if err != nil {
			return false, ctx.Err()
		}
		if !t.agree(same, got) {
			return true, nil
		}
	}
	return false, nil
}

func (t *ruleTest) agree(want, got map[string]*onnx.Tensor) bool {
	for name, w := range want {
		g := got[name]
		if g == nil {
			return false
		}
		if d, err := t.o.Verify.Distance(name, w, g); err != nil || !d.OK {
			return false
		}
	}
	return true
}

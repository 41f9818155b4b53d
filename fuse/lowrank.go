package fuse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// LowRank asks for weights to be replaced by a product of two smaller ones.
type LowRank struct {
	Ratio   float64 // most multiplications of a factored layer, as a share of before, in (0, 1)
	MinSQNR float64 // dB that every output must keep, measured with each layer
}

// lowRankName is the name of the pass in logs.
const lowRankName = "low-rank"

// measured is how many samples judge a layer, where the caller sets no number.
const measured = 16

// LowRankFile fuses the model at src, and then factors the weights of the fused
// model as far as its outputs keep lr.MinSQNR on the data of o.Verify, layer by
// layer. Fusing is held to the usual tolerance, factoring to that floor; the
// model records two steps.
func LowRankFile(ctx context.Context, dst, src string, o Options, lr LowRank) (*Result, error) {
	switch {
	case o.Verify == nil || o.Verify.Data == nil:
		return nil, errors.New("low-rank factorization is judged by the error on data, and there is none")
	case !(lr.Ratio > 0 && lr.Ratio < 1):
		return nil, fmt.Errorf("low-rank factorization to a share %v of the multiplications; want one between 0 and 1", lr.Ratio)
	case o.External == onnxfile.ExternalKeep:
		return nil, errors.New("low-rank factorization writes new weights; it cannot keep references to the model's own data files")
	}
	dir, err := atomicfile.TempDir(filepath.Dir(dst))
	if err != nil {
		return nil, err
	}
	defer dir.Remove()
	fused := filepath.Join(dir.Path, "fused.onnx")
	first := o
	first.InPlace, first.External, first.SaveOptimized = false, onnxfile.ExternalAuto, nil
	first.Step.Options = withoutLowRank(o.Step.Options)
	a, err := File(ctx, fused, src, first)
	if err != nil {
		return nil, err
	}
	b, err := factorFile(ctx, dst, fused, o, lr)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), fused, src))
	}
	return joinResults(a, b), nil
}

func withoutLowRank(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(s string) bool {
		return strings.HasPrefix(s, "--low-rank=") || strings.HasPrefix(s, "--min-sqnr=")
	})
}

func factorFile(ctx context.Context, dst, fused string, o Options, lr LowRank) (*Result, error) {
	v := *o.Verify
	v.Tolerance = lr.tolerance
	if v.Samples == 0 {
		v.Samples = measured
	}
	quick := v
	quick.Levels = []session.Level{session.LevelOff}
	ref, err := quick.Prepare(ctx, fused)
	if err != nil {
		return nil, err
	}
	pass := &lowRank{lr: lr, verdicts: map[string]verdict{}, made: map[string]bool{}, check: func(m *onnx.Model) (*produce.Checked, error) {
		s, err := onnxfile.Stage(fused, m, onnxfile.WriteOptions{})
		if err != nil {
			return nil, err
		}
		defer s.Abort()
		return quick.Check(ctx, s.Path(), ref)
	}}
	if o.Guard != nil { // it was asked for, whatever the engine makes of it
		g := *o.Guard
		g.Asked = append(slices.Clone(g.Asked), lowRankName)
		o.Guard = &g
	}
	step := o.Step
	step.Options = []string{fmt.Sprintf("--low-rank=%v", lr.Ratio), fmt.Sprintf("--min-sqnr=%v", lr.MinSQNR)}
	return produce.File(ctx, dst, fused, func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		return rewrite.Run(ctx, m, []rewrite.Pass{pass}, nil, ro)
	}, produce.Options{Step: step, Verify: &v, Guard: o.Guard, InPlace: o.InPlace, External: o.External,
		SaveOptimized: o.SaveOptimized, Progress: o.Progress})
}

// tolerance holds floating-point outputs to the floor; indices may change where
// two candidates are close.
func (lr LowRank) tolerance(_ string, d onnx.DType) compare.Class {
	c := compare.Class{Name: lowRankName, ATol: math.Inf(1), Why: "factoring changes the outputs on purpose, down to a floor"}
	if d.IsFloat() {
		c.MinSQNR = lr.MinSQNR
	}
	return c
}

// joinResults tells of fusing and factoring as of one step from a to b.
func joinResults(a, b *Result) *Result {
	out := *b
	out.Input, out.Cut = a.Input, a.Cut
	out.RolledBack = append(a.RolledBack, b.RolledBack...)
	log := rewrite.NewLog()
	log.Fired = append(a.Log.Fired, b.Log.Fired...)
	log.Declined = append(a.Log.Declined, b.Log.Declined...)
	log.Notices = append(a.Log.Notices, b.Log.Notices...)
	out.Log = log
	if out.Guarded != nil {
		out.Guarded.Notes = append(out.Guarded.Notes, "compared with the fused model before factoring")
	}
	return &out
}

// lowRank is the pass that factors weights, those that lose least first.
type lowRank struct {
	lr       LowRank
	check    func(m *onnx.Model) (*produce.Checked, error)
	verdicts map[string]verdict // of layers that were measured, by output
	made     map[string]bool    // values that factored layers compute
}

// verdict is what measuring a layer said.
type verdict struct {
	ok   bool
	text string
}

func (*lowRank) Name() string { return lowRankName }

// Run tries each layer on a copy of the model and keeps those with which every
// output keeps the floor.
func (p *lowRank) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	var list []*factored
	for n := range m.Graph.Nodes() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !factorable(n) || p.made[n.Output(0).Name()] {
			continue
		}
		f, err := factor(n, p.lr.Ratio)
		if reason := (*rewrite.Declined)(nil); errors.As(err, &reason) {
			e.Decline(lowRankName, n, "%s", reason.Reason)
		} else if err != nil {
			return err
		} else {
			list = append(list, f)
		}
	}
	slices.SortStableFunc(list, func(a, b *factored) int { return cmp.Compare(a.lost, b.lost) })
	for _, f := range list {
		if err := p.layer(m, f, e); err != nil {
			return err
		}
	}
	return nil
}

func (p *lowRank) layer(m *onnx.Model, f *factored, e *rewrite.Env) error {
	if !e.Allow(lowRankName, f.node) {
		return nil
	}
	v, err := p.measure(m, f)
	if err != nil {
		return err
	}
	if !v.ok {
		e.Decline(lowRankName, f.node, "%s", v.text)
		return nil
	}
	site := e.At(lowRankName, f.node)
	made, err := f.apply(m.Graph)
	if err != nil {
		return err
	}
	for _, v := range made {
		p.made[v.Name()] = true
	}
	return e.Fired(lowRankName, site, 1, 2, fmt.Sprintf("%s; %s", f.text(), v.text))
}

// measure runs a copy of m with f factored too.
func (p *lowRank) measure(m *onnx.Model, f *factored) (verdict, error) {
	key := f.node.Output(0).Name()
	if v, ok := p.verdicts[key]; ok {
		return v, nil
	}
	trial := m.Clone()
	twin := *f
	for n := range trial.Graph.Nodes() {
		if o := n.Output(0); o != nil && o.Name() == key {
			twin.node = n
		}
	}
	if _, err := twin.apply(trial.Graph); err != nil {
		return verdict{}, err
	}
	trial.Graph.Sweep()
	checked, err := p.check(trial)
	var mismatch *produce.Mismatch
	var v verdict
	switch {
	case errors.As(err, &mismatch):
		v = verdict{false, fmt.Sprintf("with rank %d, output %q: %s", f.rank, mismatch.Output, mismatch.Reason)}
	case err != nil:
		return v, err
	default:
		v = verdict{true, keptText(checked)}
	}
	p.verdicts[key] = v
	return v, nil
}

func keptText(c *produce.Checked) string {
	least := math.Inf(1)
	for _, o := range c.Outputs {
		if o.SQNR != nil {
			least = min(least, *o.SQNR)
		}
	}
	if math.IsInf(least, 1) {
		return "outputs unchanged"
	}
	return fmt.Sprintf("outputs keep %.1f dB", least)
}

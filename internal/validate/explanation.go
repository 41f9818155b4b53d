package validate

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

const (
	defaultExplained = 32
	explainBudget    = 30 * time.Second // per method
	fewestExplained  = 4
)

// explaining is what one explanation section is made from.
type explaining struct {
	v       *validation
	s       *both
	methods []explain.Method
	samples []explain.Sample
	o       explain.Options
	graphs  *graphs
}

// explanation compares what the models look at, on the first samples of the data, by each method that was asked for.
func (v *validation) explanation(ctx context.Context) error {
	if v.set.Synthetic() {
		v.skip("explanation", "generated inputs hold nothing to look at")
		return nil
	}
	if len(v.carried) > 0 {
		v.skip("explanation", "the models carry state from sample to sample")
		return nil
	}
	methods, err := v.o.Explain.methods()
	if err != nil {
		return err
	}
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	x := &explaining{v: v, s: s, methods: methods, graphs: newGraphs(v)}
	defer x.graphs.close()
	if ready, err := x.choose(ctx); err != nil || !ready {
		return err
	}
	return x.run(ctx)
}

// run compares by all methods. The first that was asked for is the section itself, also where it could not be measured: a gate is
// never judged by another method than the one that was asked for.
func (x *explaining) run(ctx context.Context) error {
	var measured []report.Explanation
	any := false
	for i, m := range x.methods {
		r, err := x.compare(ctx, m)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			x.v.skip(x.section(i), "%s: %v", m.Name, err)
			x.v.warn("explanation by %s: %v", m.Name, err)
			if i == 0 {
				measured = append(measured, report.Explanation{Method: m.Name})
			}
			continue
		}
		any = true
		measured = append(measured, *explanationOf(r, x.v.o.IncludeSamples))
		for _, w := range r.Warnings {
			x.v.warn("explanation: %s", w) // the same words of several methods stand there once
		}
	}
	if !any {
		return nil
	}
	x.v.r.Explanation = &measured[0]
	x.v.r.Explanation.Others = measured[1:]
	return nil
}

// section names what is skipped where method i cannot be used.
func (x *explaining) section(i int) string {
	if i == 0 {
		return "explanation"
	}
	return "explanation.others"
}

// by names the method in messages where there are several.
func (x *explaining) by(m explain.Method) string {
	if len(x.methods) == 1 {
		return ""
	}
	return " by " + m.Name
}

func (x *explaining) compare(ctx context.Context, m explain.Method) (*explain.Result, error) {
	o := x.o
	o.Method = m
	o.Progress = func(done, total int) { x.v.o.progress("explanation"+x.by(m), int64(done), int64(total)) }
	return explain.Compare(ctx, x.graphs.model(x.s.baseline, false), x.graphs.model(x.s.candidate, true), x.samples, o)
}

// choose takes as many samples as the budget allows by the time of one run, and prepares what all methods share. It returns false,
// with the reason in Skipped, where nothing can be explained.
func (x *explaining) choose(ctx context.Context) (bool, error) {
	v := x.v
	n := v.o.Explain.Samples
	if n == 0 {
		n = defaultExplained
	}
	for sample, err := range v.set.Samples(ctx) {
		if err != nil {
			return false, err
		}
		s := explain.Sample{ID: sample.ID, Inputs: sample.Inputs}
		if len(x.samples) == 0 {
			input, why, err := x.explainable(s)
			if err != nil {
				return false, err
			}
			if why != "" {
				v.skip("explanation", "%s", why)
				return false, nil
			}
			x.o = v.o.Explain.options()
			x.o.Input, x.o.Output, x.o.Seed, x.o.KeepMaps = input, v.output, v.o.Seed, v.o.IncludeSamples
			if n, err = x.afford(ctx, s, n); err != nil || n == 0 {
				return false, err
			}
		}
		if x.samples = append(x.samples, s); len(x.samples) == n {
			break
		}
	}
	if len(x.samples) == 0 {
		v.skip("explanation", "the data holds no sample")
		return false, nil
	}
	return true, x.reference(ctx)
}

// afford returns how many of at most n samples like s the budget allows, and says what they will cost. Methods that were asked for
// by name get a few samples at any price; automatic ones give up, with the reason in Skipped.
func (x *explaining) afford(ctx context.Context, s explain.Sample, n int) (int, error) {
	v := x.v
	budget := v.o.Explain.Budget
	if budget == 0 {
		budget = explainBudget * time.Duration(len(x.methods))
	}
	n = min(n, int(v.set.Len()))
	each, err := v.cost(ctx, x.s, s.Inputs)
	if err != nil {
		return 0, err
	}
	runs, took, err := x.price(ctx, s, n, each)
	if err != nil {
		v.skip("explanation", "%v", err)
		return 0, nil
	}
	asked := n
	for took > budget && n > 1 {
		fit := int(float64(n) * float64(budget) / float64(took))
		n = max(1, min(n-1, fit))
		if runs, took, err = x.price(ctx, s, n, each); err != nil {
			return 0, err
		}
	}
	if few := min(fewestExplained, asked); n < few {
		if v.o.Explain.auto() {
			v.skip("explanation", "%d samples take about %v, more than the %v that explanations may take", n, rounded(took), budget)
			return 0, nil
		}
		n = few
		if runs, took, err = x.price(ctx, s, n, each); err != nil {
			return 0, err
		}
	}
	if n < asked {
		v.warn("explanation: %v allow %d samples instead of %d", budget, n, asked)
	}
	var names []string
	for _, m := range x.methods {
		names = append(names, m.Name)
	}
	v.o.notice("explanations of %d samples by %s: %s inferences at most, about %v", n, strings.Join(names, ", "), report.FormatCount(runs), rounded(took))
	return n, nil
}

// price returns how many inferences the methods take for n samples, and about how long. each is the time of one run of both models;
// a head counts as a tenth of a model, since it is not known before the model is split.
func (x *explaining) price(ctx context.Context, s explain.Sample, n int, each time.Duration) (runs int, took time.Duration, err error) {
	for _, m := range x.methods {
		o := x.o
		o.Method = m
		c, err := explain.CostOf(s, x.o.Input, n, o)
		if err != nil {
			return 0, 0, err
		}
		runs += c.Whole + c.Heads
		took += each * time.Duration(c.Whole) / 2
		took += each * time.Duration(c.Heads) / 20
	}
	return runs, took, ctx.Err()
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// cost is the wall time of one run of each model, after a first one that is not counted; of a sample in a batch, where both take
// batches of any size and that is less.
func (v *validation) cost(ctx context.Context, s *both, in map[string]*onnx.Tensor) (time.Duration, error) {
	each, err := timed(ctx, s, in)
	if err != nil || !freeBatch(s.baseline) || !freeBatch(s.candidate) {
		return each, err
	}
	for b, err := range v.set.Batches(ctx, costBatch) {
		if err != nil {
			return 0, err
		}
		n := len(b.Samples) + b.Padding
		if together, err := timed(ctx, s, b.Inputs); err == nil { // else they will run one by one
			each = min(each, together/time.Duration(n))
		}
		break
	}
	return each, ctx.Err()
}

// costBatch is about how many inputs run at once where they can.
const costBatch = 32

// freeBatch says whether every input of a session has an open first dimension.
func freeBatch(s session.Session) bool {
	for _, p := range s.Inputs() {
		if !p.Type.IsTensor() || len(p.Type.Shape) == 0 || p.Type.Shape[0].Known() {
			return false
		}
	}
	return true
}

// timed is the wall time of one run of each model, after a first one.
func timed(ctx context.Context, s *both, in map[string]*onnx.Tensor) (time.Duration, error) {
	var began time.Time
	for range 2 {
		began = time.Now()
		if _, err := s.baseline.Run(ctx, in); err != nil {
			return 0, fmt.Errorf("running the baseline: %w", err)
		}
		if _, err := s.candidate.Run(ctx, in); err != nil {
			return 0, candidateFault("running it: %w", err)
		}
	}
	return time.Since(began), nil
}

// explainable returns the input to explain, or why there is none: the first of floating-point numbers, else the first of integers,
// of several the first that is embedded.
func (x *explaining) explainable(s explain.Sample) (input, why string, err error) {
	var integers []string
	for _, p := range x.v.in {
		t := s.Inputs[p.Name]
		if t == nil || len(t.Shape) < 2 {
			continue
		}
		n, _ := t.Elements()
		if n < 2 {
			continue
		}
		if t.DType.IsFloat() {
			return p.Name, "", nil
		}
		if t.DType.IsInt() && t.DType.Bits() >= 8 {
			integers = append(integers, p.Name)
		}
	}
	if len(integers) == 0 {
		return "", "no input is an array of numbers with at least two axes, of which parts could be hidden", nil
	}
	input, err = x.graphs.tokens(integers)
	return input, "", err
}

func explanationOf(r *explain.Result, samples bool) *report.Explanation {
	e := &report.Explanation{
		Method: r.Method, Samples: r.Samples, Flipped: report.Count(r.Flipped), Features: r.Features, Perturbations: r.Perturbations, TopK: r.TopK,
		Fill: r.Fill, Target: r.Target, BackgroundRows: r.BackgroundRows, BackgroundDigest: r.Background,
		NoiseFloor: r.NoiseFloor, SelfCheck: r.SelfCheck, StandardError: r.StandardError, CompletenessResidual: r.Completeness,
		CrossFaithfulness: r.CrossFaithfulness, CrossCI95: interval(r.CrossInterval), DeadMaps: r.DeadMaps,
		Deletion: faithfulnessOf(r.Deletion), Insertion: faithfulnessOf(r.Insertion),
	}
	if s := r.StraightThrough; s != nil {
		e.BaselineStraightThrough, e.StraightThrough = report.Count(s[0]), report.Count(s[1])
	}
	if c := r.Calibrated; c != nil {
		e.Calibrated = &report.Calibrated{Spearman: report.Num(c.Spearman), TopKJaccard: report.Num(c.TopKJaccard), Samples: c.Samples, How: c.How}
	}
	if r.Samples > 0 {
		similaritiesOf(e, r)
	}
	if len(r.MeanBaseline) > 0 && len(r.MeanCandidate) > 0 {
		e.MeanMap = &report.Map{Rows: r.Rows, Cols: r.Cols, Baseline: r.MeanBaseline, Candidate: r.MeanCandidate}
	}
	if !samples {
		return e
	}
	for _, f := range r.Flips {
		e.Flips = append(e.Flips, flipOf(f))
	}
	for i := range r.Pairs {
		e.Maps = append(e.Maps, *mapOf(&r.Pairs[i]))
	}
	return e
}

// similaritiesOf fills in how alike the maps are.
func similaritiesOf(e *report.Explanation, r *explain.Result) {
	e.Spearman, e.CI95 = report.Num(r.Spearman.Median), interval(r.Spearman.Interval)
	e.SpearmanP10 = report.Num(r.Spearman.P10)
	e.TopKJaccard, e.TopKCI95 = report.Num(r.TopKJaccard.Median), interval(r.TopKJaccard.Interval)
	for i, share := range explain.TopShares {
		o := r.Overlaps[i]
		e.TopKShares = append(e.TopKShares, report.TopKOverlap{Share: share, K: r.TopKs[i], Jaccard: report.Num(o.Median), CI95: interval(o.Interval)})
	}
	e.Cosine, e.CosineCI95 = report.Num(r.Cosine.Median), interval(r.Cosine.Interval)
	e.Sign, e.SignCI95 = report.Num(r.SignAgreement.Median), interval(r.SignAgreement.Interval)
	e.ArgmaxDistance, e.ArgmaxDistanceCI95 = report.Num(r.ArgmaxDistance.Median), interval(r.ArgmaxDistance.Interval)
	e.MassDisplacement, e.MassDisplacementCI95 = report.Num(r.MassDisplacement.Median), interval(r.MassDisplacement.Interval)
	if r.SSIM != nil {
		e.SSIM, e.SSIMCI95 = report.Num(r.SSIM.Median), interval(r.SSIM.Interval)
	}
	if r.StraightThrough == nil { // else nothing was hidden
		e.BaselineDeadPerturbations, e.DeadPerturbations = report.Num(r.DeadPerturbations[0]), report.Num(r.DeadPerturbations[1])
	}
}

func faithfulnessOf(f *explain.Faithfulness) *report.Faithfulness {
	if f == nil {
		return nil
	}
	return &report.Faithfulness{Baseline: report.Num(f.Own[0]), Candidate: report.Num(f.Own[1]), Delta: report.Num(f.Delta), DeltaCI95: interval(f.Interval)}
}

func flipOf(p explain.Pair) report.ExplanationFlip {
	x := report.ExplanationFlip{ID: p.ID, Baseline: strconv.Itoa(p.Classes[0]), Candidate: strconv.Itoa(p.Classes[1]), Map: mapOf(&p)}
	if p.Defined {
		x.Spearman = report.Num(p.Spearman)
	}
	return x
}

func mapOf(p *explain.Pair) *report.Map {
	return &report.Map{ID: p.ID, Rows: p.Rows, Cols: p.Cols, Baseline: p.Baseline, Candidate: p.Candidate}
}

func interval(i *measure.Interval) *report.Interval {
	if i == nil {
		return nil
	}
	return report.CI(i.Low, i.High)
}

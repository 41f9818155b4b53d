package validate

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

// rows are both models' values of one output for one sample; shape is that of the whole output, and theirs that of the candidate, where
// a task allows it to differ.
type rows struct {
	baseline, candidate []float64
	shape, theirs       []int64
}

// scored is what both models gave for one batch.
type scored struct {
	samples []*dataset.Sample
	n       int // rows of the outputs: the samples, and what fills the batch up
	values  map[string]rows
	tensors [2]map[string]*onnx.Tensor // baseline, candidate
}

// sample cuts out the i-th sample of an output.
func (b *scored) sample(i int, output string) (rows, error) {
	all, ok := b.values[output]
	if !ok {
		return rows{}, fmt.Errorf("output %q has no numbers for %s", output, b.samples[i].ID)
	}
	if b.n > 1 && (len(all.shape) == 0 || all.shape[0] != int64(b.n)) {
		return rows{}, fmt.Errorf("output %q has shape %v for a batch of %d: its first axis is not the batch; give a batch size of 1", output, all.shape, b.n)
	}
	k, l := len(all.baseline)/b.n, len(all.candidate)/b.n
	return rows{baseline: all.baseline[i*k : (i+1)*k], candidate: all.candidate[i*l : (i+1)*l], shape: all.shape, theirs: all.theirs}, nil
}

// scorer compares both models' outputs with the labels.
type scorer interface {
	add(ctx context.Context, b *scored) error
	// fill writes the outcome into the report and returns doubts about it.
	fill(a *report.Accuracy) ([]string, error)
}

// sampleScorer is a scorer that reads one output, sample by sample.
type sampleScorer interface {
	add(s *dataset.Sample, r rows) error
	fill(a *report.Accuracy) ([]string, error)
}

// each hands a sampleScorer the samples of its output.
type each struct {
	output string
	sampleScorer
}

func (e each) add(_ context.Context, b *scored) error {
	for i, s := range b.samples {
		r, err := b.sample(i, e.output)
		if err != nil {
			return err
		}
		if err := e.sampleScorer.add(s, r); err != nil {
			return err
		}
	}
	return nil
}

// scoring turns the options into those of package score.
func (o *Options) scoring() score.Options {
	k := o.Accuracy.TopK
	if k != nil && !slices.Contains(k, 1) {
		k = append([]int{1}, k...)
	}
	return score.Options{
		Margin: o.Margin, TopK: k, MinSlice: o.Accuracy.MinSlice, Seed: o.Seed,
		Ignore: o.Accuracy.Ignore, Gallery: o.Accuracy.Gallery,
	}
}

// margin is the loss that required numbers of samples are stated for, of a metric that is a share.
func (o *Options) margin() float64 {
	if o.Margin > 0 {
		return o.Margin
	}
	return 0.005
}

func better(lower bool) string {
	if lower {
		return report.BetterLower
	}
	return report.BetterHigher
}

// paired makes p the metric of the report.
func paired(a *report.Accuracy, p score.Paired) {
	a.Metric, a.Better = p.Metric, better(p.LowerIsBetter)
	a.Baseline, a.Candidate, a.Delta = report.Num(p.Baseline), report.Num(p.Candidate), report.Num(p.Delta)
	a.CI95, a.CIMethod, a.PValue = report.CI(p.Low, p.High), p.Method, p.PValue
	kept, lo, hi := p.Ratio, p.RatioLow, p.RatioHigh
	if p.LowerIsBetter {
		kept, lo, hi = 1/kept, 1/hi, 1/lo
	}
	a.Ratio, a.RatioCI95 = report.Num(kept), report.CI(lo, hi)
}

// measureOf is p as a further number; share says that it is a fraction.
func measureOf(p score.Paired, share bool) report.Measure {
	return report.Measure{
		Name: p.Metric, Better: better(p.LowerIsBetter), Share: share, CIMethod: p.Method, PValue: p.PValue,
		Baseline: report.Num(p.Baseline), Candidate: report.Num(p.Candidate), Delta: report.Num(p.Delta), CI95: report.CI(p.Low, p.High),
		Ratio: report.Num(p.Ratio), RatioCI95: report.CI(p.RatioLow, p.RatioHigh),
	}
}

// plan states how many samples a loss of margin takes and which loss these samples can rule out; a margin of 0 is none.
func plan(a *report.Accuracy, p score.Paired, margin float64) {
	a.MinDetectable = report.Num(p.Detectable())
	if n := p.RequiredFor(margin); n > 0 {
		a.Margin, a.NRequired = report.Num(margin), report.Count(int(math.Ceil(float64(n)*float64(p.N)/float64(max(p.Clusters, 1)))))
	}
}

// fillSlices lists classes and named slices and finds the worst of them.
func fillSlices(a *report.Accuracy, perClass, named []score.Slice) {
	if len(perClass) <= maxGroups {
		for _, s := range perClass {
			s.Name = "class=" + s.Name
			a.Slices = append(a.Slices, slice(s))
		}
	}
	for _, s := range named {
		a.Slices = append(a.Slices, slice(s))
	}
	a.SetWorst()
}

func slice(s score.Slice) report.Slice {
	out := report.Slice{
		Name: s.Name, N: s.N, Baseline: report.Num(s.Baseline), Candidate: report.Num(s.Candidate), Delta: report.Num(s.Delta),
		CI95: report.CI(s.OwnLow, s.OwnHigh), PValue: report.Num(s.PValue), Small: !s.Tested,
	}
	if s.Tested {
		out.CI95All, out.PHolm = report.CI(s.Low, s.High), report.Num(s.Adjusted)
	}
	return out
}

func distribution(a *report.Accuracy, d *score.Distribution) {
	if d == nil {
		return
	}
	a.KL, a.KLP95 = report.Num(d.KLMean), report.Num(d.KLP95)
	if e := d.ECE; e != nil {
		a.ECE = &report.ECE{
			Baseline: report.Num(e.Baseline), Candidate: report.Num(e.Candidate), Delta: report.Num(e.Delta),
			CI95: report.CI(e.Low, e.High), Bins: 15, Floor: report.Num(e.Floor),
		}
	}
	if d.NLL != nil {
		nll, brier := measureOf(*d.NLL, false), measureOf(*d.Brier, false)
		a.NLL, a.Brier = &nll, &brier
	}
}

// forget drops what was taken over the samples with finite outputs only, where the candidate has others.
func forget(a *report.Accuracy, n score.NonFinite) {
	if n.Candidate > 0 {
		a.KL, a.KLP95, a.ECE, a.NLL, a.Brier, a.Perplexity = nil, nil, nil, nil, nil, nil
	}
}

func agreementOf(a *report.Accuracy, s score.Share) {
	a.Agreement, a.AgreementCI95 = report.Num(s.Value), report.CI(s.Low, s.High)
}

func flips(f score.Flips) *report.Flips {
	out := &report.Flips{RightToWrong: report.Count(f.RightToWrong), WrongToRight: report.Count(f.WrongToRight), WrongToOther: report.Count(f.WrongToOther)}
	out.Changed = f.RightToWrong + f.WrongToRight + f.WrongToOther
	for _, x := range slices.Concat(f.Lost, f.Gained, f.Changed) {
		out.Samples = append(out.Samples, flip(x))
	}
	return out
}

func flip(x score.Flip) report.Flip {
	r := report.Flip{ID: x.ID, Baseline: className(x.Baseline), Candidate: className(x.Candidate)}
	if x.Label >= 0 {
		r.Label = className(x.Label)
	}
	if x.Margin != nil {
		r.Margin = report.Num(*x.Margin)
	}
	return r
}

func className(c int) string {
	if c < 0 {
		return "none"
	}
	return strconv.Itoa(c)
}

// labelOf returns the label of a sample, which must have one.
func labelOf(s *dataset.Sample) (*onnx.Tensor, error) {
	if s.Label == nil {
		return nil, fmt.Errorf("%s has no label: every sample needs one, or none", s.ID)
	}
	return s.Label, nil
}

// classOf returns the label of a sample as a class.
func classOf(s *dataset.Sample) (int, error) {
	t, err := labelOf(s)
	if err != nil {
		return 0, err
	}
	l, err := t.Ints()
	if err != nil || len(l) != 1 {
		return 0, fmt.Errorf("%s: its label is not one class", s.ID)
	}
	return int(l[0]), nil
}

// unscored is what package score is told of a sample besides its label.
func unscored(s *dataset.Sample) score.Sample { return score.Sample{ID: s.ID, Slices: s.Slices} }

// argmax returns the first index of the highest score, -1 where a score is not a number or infinitely high.
func argmax(row []float64) int {
	best := -1
	for i, v := range row {
		if math.IsNaN(v) || math.IsInf(v, 1) {
			return -1
		}
		if !math.IsInf(v, -1) && (best < 0 || v > row[best]) {
			best = i
		}
	}
	return best
}

// Bounds of what a report lists: cells of the confusion matrix that are counted, classes that are slices of their own, changes.
const (
	maxCells   = 1 << 18
	maxGroups  = 1000
	maxChanges = 20
)

package validate

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/score"
)

// rows are both models' output for one sample; shape is that of the whole output.
type rows struct {
	baseline, candidate []float64
	shape               []int64
}

// scorer compares both models' outputs with the labels.
type scorer interface {
	add(s *dataset.Sample, r rows) error
	// fill writes the outcome into the report and returns doubts about it.
	fill(a *report.Accuracy) ([]string, error)
}

// newScorer returns the scorer of a task for an output like t, which holds n samples.
func newScorer(task Task, o Options, t *onnx.Tensor, n int) (scorer, error) {
	so := score.Options{Margin: o.Margin}
	count, _ := t.Elements()
	each := count / int64(n)
	switch {
	case task == Tokens:
		s, err := score.NewTokens(so)
		return &tokens{s: s}, err
	case task == Regression:
		s, err := score.NewRegression(so)
		return &regression{s: s}, err
	case task == MultiLabel || task == Classification && each == 1 && t.DType.IsFloat():
		s, err := score.NewMultiLabel(so)
		return &multiLabel{s: s}, err
	case task == Classification:
		s, err := score.NewClassification(so)
		return &classification{s: s, groups: map[string]*group{}, cells: map[[2]int]*[2]int{}}, err
	}
	numeric := each < 2 || len(t.Shape) != 2
	s, err := score.NewAgreement(so, numeric)
	return &agreement{s: s, numeric: numeric}, err
}

func paired(a *report.Accuracy, p score.Paired) {
	a.Metric, a.Better = p.Metric, report.BetterHigher
	if p.LowerIsBetter {
		a.Better = report.BetterLower
	}
	a.Baseline, a.Candidate, a.Delta = report.Num(p.Baseline), report.Num(p.Candidate), report.Num(p.Delta)
	a.CI95, a.CIMethod, a.PValue = report.CI(p.Low, p.High), p.Method, p.PValue
}

func distribution(a *report.Accuracy, d *score.Distribution) {
	if d == nil {
		return
	}
	a.KL, a.KLP95 = report.Num(d.KLMean), report.Num(d.KLP95)
	if e := d.ECE; e != nil {
		a.ECE = &report.ECE{Baseline: report.Num(e.Baseline), Candidate: report.Num(e.Candidate), Delta: report.Num(e.Delta), Bins: 15}
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
	return r
}

func className(c int) string {
	if c < 0 {
		return "none"
	}
	return strconv.Itoa(c)
}

// classOf returns the label of a sample as a class.
func classOf(s *dataset.Sample) (int, error) {
	if s.Label == nil {
		return 0, fmt.Errorf("%s has no label: every sample needs one, or none", s.ID)
	}
	l, err := s.Label.Ints()
	if err != nil || len(l) != 1 {
		return 0, fmt.Errorf("%s: its label is not one class", s.ID)
	}
	return int(l[0]), nil
}

// maxCells bounds the confusion matrix, maxGroups the classes that are slices of their own, maxChanges what is listed.
const (
	maxCells   = 1 << 18
	maxGroups  = 1000
	maxChanges = 20
)

type group struct{ gains, losses, n int }

// classification scores rows of classes, or class indices where a row has one element.
type classification struct {
	s      *score.Classification
	labels bool
	groups map[string]*group
	cells  map[[2]int]*[2]int // by label and predicted class; nil once there are too many
}

func (c *classification) add(s *dataset.Sample, r rows) error {
	label, err := classOf(s)
	if err != nil {
		return err
	}
	x := score.Sample{ID: s.ID, Label: label, Slices: s.Slices}
	picked := [2]int{argmax(r.baseline), argmax(r.candidate)}
	if c.labels = len(r.baseline) == 1; c.labels {
		picked = [2]int{int(r.baseline[0]), int(r.candidate[0])}
		err = c.s.AddLabels(x, picked[0], picked[1])
	} else {
		err = c.s.Add(x, r.baseline, r.candidate)
	}
	if err != nil {
		return err
	}
	c.tally("class="+strconv.Itoa(label), picked, label)
	for _, name := range s.Slices {
		c.tally(name, picked, label)
	}
	for m, cell := range picked {
		if c.cells == nil {
			break
		}
		at := [2]int{label, cell}
		if c.cells[at] == nil {
			c.cells[at] = new([2]int)
		}
		c.cells[at][m]++
	}
	if len(c.cells) > maxCells {
		c.cells = nil
	}
	return nil
}

func (c *classification) tally(name string, picked [2]int, label int) {
	g := c.groups[name]
	if g == nil {
		g = new(group)
		c.groups[name] = g
	}
	g.n++
	switch right := [2]bool{picked[0] == label, picked[1] == label}; {
	case right[0] && !right[1]:
		g.losses++
	case right[1] && !right[0]:
		g.gains++
	}
}

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

func (c *classification) fill(a *report.Accuracy) ([]string, error) {
	r, err := c.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskClassification, r.N
	for _, p := range r.TopK {
		if p.Metric == "top1" {
			paired(a, p)
		}
	}
	a.NRequired = report.Count(r.Required)
	agreementOf(a, r.Agreement)
	a.Flips = flips(r.Flips)
	a.Flips.Changed = r.N - r.Agreement.Count
	distribution(a, r.Distribution)
	if r.NonFinite.Candidate > 0 {
		a.KL, a.KLP95, a.ECE = nil, nil, nil // taken over the other samples only
	}
	if len(r.PerClass) <= maxGroups {
		for _, s := range r.PerClass {
			s.Name = "class=" + s.Name
			a.Slices = append(a.Slices, c.slice(s))
		}
	}
	for _, s := range r.Slices {
		a.Slices = append(a.Slices, c.slice(s))
	}
	a.Confusion = c.changes()
	return r.Warnings, nil
}

// slice reports a slice with the interval that it has alone.
func (c *classification) slice(s score.Slice) report.Slice {
	g := c.groups[s.Name]
	lo, hi := score.Tango(g.gains, g.losses, g.n, 0.95)
	return report.Slice{Name: s.Name, N: s.N, Baseline: report.Num(s.Baseline), Candidate: report.Num(s.Candidate), Delta: report.Num(s.Delta), CI95: report.CI(lo, hi)}
}

// changes returns the cells of the confusion matrix that changed most.
func (c *classification) changes() []report.ConfusionChange {
	type cell struct {
		at [2]int
		n  [2]int
	}
	var all []cell
	for at, n := range c.cells {
		if n[0] != n[1] {
			all = append(all, cell{at, *n})
		}
	}
	size := func(x cell) int { return max(x.n[0]-x.n[1], x.n[1]-x.n[0]) }
	slices.SortFunc(all, func(x, y cell) int {
		if d := size(y) - size(x); d != 0 {
			return d
		}
		return slices.Compare(x.at[:], y.at[:])
	})
	var out []report.ConfusionChange
	for _, x := range all[:min(len(all), maxChanges)] {
		out = append(out, report.ConfusionChange{Label: className(x.at[0]), Predicted: className(x.at[1]), Baseline: x.n[0], Candidate: x.n[1]})
	}
	return out
}

// tokens scores a row of classes per position.
type tokens struct{ s *score.Tokens }

func (t *tokens) add(s *dataset.Sample, r rows) error {
	if s.Label == nil {
		return fmt.Errorf("%s has no label: every sample needs one, or none", s.ID)
	}
	labels, err := s.Label.Ints()
	if err != nil {
		return err
	}
	classes := int(r.shape[len(r.shape)-1])
	if classes*len(labels) != len(r.baseline) {
		return fmt.Errorf("%s has %d labels, the output %d positions", s.ID, len(labels), len(r.baseline)/max(classes, 1))
	}
	sequence := s.Sequence
	if sequence == "" {
		sequence = s.ID
	}
	for i, l := range labels {
		if err := t.s.Add(sequence, int(l), r.baseline[i*classes:(i+1)*classes], r.candidate[i*classes:(i+1)*classes]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tokens) fill(a *report.Accuracy) ([]string, error) {
	r, err := t.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskTokens, r.N
	paired(a, r.Accuracy)
	a.Flips = flips(r.Flips)
	distribution(a, r.Distribution)
	if r.NonFinite.Candidate > 0 {
		a.KL, a.KLP95, a.ECE = nil, nil, nil
	}
	return r.Warnings, nil
}

// regression scores numbers by their mean absolute error.
type regression struct{ s *score.Regression }

func (g *regression) add(s *dataset.Sample, r rows) error {
	if s.Label == nil {
		return fmt.Errorf("%s has no label: every sample needs one, or none", s.ID)
	}
	target, err := s.Label.Float64s()
	if err != nil {
		return err
	}
	return g.s.Add(s.ID, target, r.baseline, r.candidate)
}

func (g *regression) fill(a *report.Accuracy) ([]string, error) {
	a.Task, a.Metric, a.Better = report.TaskRegression, "mae", report.BetterLower
	r, err := g.s.Result()
	if err != nil {
		return []string{err.Error()}, nil // no number at all: the metric stays absent, and gates on it fail
	}
	a.N = r.N
	paired(a, r.MAE)
	if r.NonFinite.Candidate > r.NonFinite.Baseline {
		a.Candidate, a.Delta, a.CI95 = nil, nil, nil // an error over the other samples would flatter the candidate
	}
	return r.Warnings, nil
}

// multiLabel scores one yes or no per label.
type multiLabel struct{ s *score.MultiLabel }

func (m *multiLabel) add(s *dataset.Sample, r rows) error {
	if s.Label == nil {
		return fmt.Errorf("%s has no label: every sample needs one, or none", s.ID)
	}
	on, err := s.Label.Ints()
	if err != nil {
		return err
	}
	labels := make([]int, len(r.baseline))
	if len(labels) == 1 && len(s.Label.Shape) == 0 {
		labels[0] = int(on[0])
		return m.s.Add(s.ID, labels, r.baseline, r.candidate)
	}
	for _, i := range on {
		if i < 0 || i >= int64(len(labels)) {
			return fmt.Errorf("%s: label %d is not one of %d outputs", s.ID, i, len(labels))
		}
		labels[i] = 1
	}
	return m.s.Add(s.ID, labels, r.baseline, r.candidate)
}

func (m *multiLabel) fill(a *report.Accuracy) ([]string, error) {
	r, err := m.s.Result()
	if err != nil {
		return nil, err
	}
	a.Task, a.N = report.TaskMultiLabel, r.N
	paired(a, r.Exact)
	a.NRequired, a.Flips = report.Count(r.Required), flips(r.Flips)
	return r.Warnings, nil
}

// agreement compares the outputs with each other only.
type agreement struct {
	s       *score.Agreement
	numeric bool
}

func (g *agreement) add(s *dataset.Sample, r rows) error {
	return g.s.Add(s.ID, r.baseline, r.candidate)
}

func (g *agreement) fill(a *report.Accuracy) ([]string, error) {
	r, err := g.s.Result()
	if err != nil {
		return nil, err
	}
	a.N = r.N
	if g.numeric {
		return r.Warnings, nil
	}
	a.Task = report.TaskClassification
	if r.Same != nil {
		agreementOf(a, *r.Same)
		a.Flips = &report.Flips{Changed: r.N - r.Same.Count}
		for _, x := range r.Disagreements {
			a.Flips.Samples = append(a.Flips.Samples, flip(x))
		}
	}
	distribution(a, r.Distribution)
	if r.NonFinite.Candidate > 0 {
		a.KL, a.KLP95 = nil, nil
	}
	return r.Warnings, nil
}

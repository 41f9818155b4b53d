package score

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Sample names a labelled sample.
type Sample struct {
	ID     string
	Label  int      // class index
	Slices []string // the groups it belongs to, such as "country=DE"; may be empty
}

// Classification scores models that pick one class of several. State: O(classes + slices + flips).
type Classification struct {
	o         Options
	classes   int // 0 until the first row
	topK      map[int]*outcomes
	agree     int
	flips     Flips
	ties      [2]int
	nonFinite NonFinite
	dist      *distribution
	perClass  map[string]*outcomes
	slices    map[string]*outcomes
}

// ClassificationResult is the comparison of two classifiers.
type ClassificationResult struct {
	N       int
	Classes int      // 0 where only labels were given
	TopK    []Paired // metrics "top1", "top5", …, in the order asked for

	Agreement           Share // same predicted class
	Flips               Flips
	Ties                [2]int // samples whose highest score two classes share: baseline, candidate
	NonFinite           NonFinite
	Distribution        *Distribution // nil where only labels were given
	PerClass            []Slice       // by class, ascending
	Slices              []Slice       // by name
	Worst               *Slice        // tested slice (or class, without slices) with the lowest Delta; nil where none was tested
	Required            int           // samples that show non-inferiority by Options.Margin with 80 % power
	Margin, Discordance float64       // the margin and the disagreement it was computed for
	MDE                 float64       // smallest margin that these samples can show
	Warnings            []string
}

// Share is a proportion with its exact (Clopper-Pearson) interval.
type Share struct {
	Count, N         int
	Value, Low, High float64
}

func shareOf(count, n int, confidence float64) Share {
	s := Share{Count: count, N: n, High: 1}
	if n > 0 {
		s.Value = float64(count) / float64(n)
		s.Low, s.High = ClopperPearson(count, n, confidence)
	}
	return s
}

// Slice is the paired accuracy within a group of samples.
type Slice struct {
	Name                string
	N                   int
	Baseline, Candidate float64
	Delta               float64
	Low, High           float64 // Tango interval at the level that makes all tested slices hold at once (Bonferroni)
	PValue              float64 // exact McNemar
	Adjusted            float64 // PValue after Holm's correction over the tested slices
	Tested              bool    // false below Options.MinSlice samples: no interval correction, Adjusted is 1
}

// NewClassification returns an empty scorer.
func NewClassification(o Options) (*Classification, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Classification{
		o: o, topK: map[int]*outcomes{}, dist: newDistribution(o.Kind),
		perClass: map[string]*outcomes{}, slices: map[string]*outcomes{},
	}, nil
}

// Add scores one sample by both models' scores per class. It errs, leaving the scorer as it was, when the rows' lengths
// differ from each other or from those before, when they hold fewer than two classes, or when the label is not one of them.
func (c *Classification) Add(s Sample, baseline, candidate []float64) error {
	switch {
	case len(baseline) != len(candidate):
		return fmt.Errorf("sample %q: the baseline gives %d classes, the candidate %d", s.ID, len(baseline), len(candidate))
	case len(baseline) < 2:
		return fmt.Errorf("sample %q: %d scores do not choose a class; score a single output as multi-label", s.ID, len(baseline))
	case c.classes != 0 && len(baseline) != c.classes:
		return fmt.Errorf("sample %q: %d classes, want %d as before", s.ID, len(baseline), c.classes)
	case s.Label < 0 || s.Label >= len(baseline):
		return fmt.Errorf("sample %q: label %d is not one of %d classes", s.ID, s.Label, len(baseline))
	}
	c.classes = len(baseline)
	rows := [2][]float64{baseline, candidate}
	ok := [2]bool{finite(baseline), finite(candidate)}
	picked, ranks := [2]int{-1, -1}, [2]int{c.classes, c.classes}
	for m, row := range rows {
		if !ok[m] {
			continue
		}
		var tied bool
		if picked[m], tied = argmax(row); tied {
			c.ties[m]++
		}
		ranks[m] = rank(row, s.Label)
	}
	c.nonFinite.add(s.ID, !ok[0], !ok[1])
	if ok[0] && ok[1] {
		c.dist.add(s.Label, baseline, candidate)
		c.dist.close()
	}
	c.record(s, picked, ranks)
	return nil
}

// AddLabels scores one sample by the predicted classes alone, for models that give no scores.
func (c *Classification) AddLabels(s Sample, baseline, candidate int) error {
	if s.Label < 0 {
		return fmt.Errorf("sample %q: label %d is not a class", s.ID, s.Label)
	}
	ranks := [2]int{}
	for m, predicted := range []int{baseline, candidate} {
		if predicted != s.Label {
			ranks[m] = 1 << 30
		}
	}
	c.record(s, [2]int{baseline, candidate}, ranks)
	return nil
}

func (c *Classification) record(s Sample, picked, ranks [2]int) {
	for _, k := range append([]int{1}, c.o.TopK...) {
		if c.topK[k] == nil {
			c.topK[k] = new(outcomes)
		}
	}
	for k, o := range c.topK {
		o.add(ranks[0] < k, ranks[1] < k)
	}
	right := [2]bool{ranks[0] == 0, ranks[1] == 0}
	if picked[0] == picked[1] && picked[0] >= 0 {
		c.agree++
	}
	c.flips.add(Flip{ID: s.ID, Label: s.Label, Baseline: picked[0], Candidate: picked[1]}, right[0], right[1], c.o.MaxFlips)
	tally(c.perClass, strconv.Itoa(s.Label), right)
	for i, name := range s.Slices {
		if !slices.Contains(s.Slices[:i], name) {
			tally(c.slices, name, right)
		}
	}
}

func tally(groups map[string]*outcomes, name string, right [2]bool) {
	if groups[name] == nil {
		groups[name] = new(outcomes)
	}
	groups[name].add(right[0], right[1])
}

// Result returns the comparison so far; it errs when no sample was added.
func (c *Classification) Result() (*ClassificationResult, error) {
	top1 := c.topK[1]
	if top1 == nil {
		return nil, fmt.Errorf("there are no samples to score")
	}
	n := top1.n()
	psi := discordance(top1.gains, top1.losses, n)
	r := &ClassificationResult{
		N: n, Classes: c.classes,
		Agreement: shareOf(c.agree, n, c.o.Confidence),
		Flips:     c.flips, Ties: c.ties, NonFinite: c.nonFinite,
		Distribution: c.dist.result(c.o.Confidence),
		PerClass:     slicesOf(c.perClass, c.o), Slices: slicesOf(c.slices, c.o),
		Margin: c.o.Margin, Discordance: psi, Required: Required(psi, c.o.Margin), MDE: Detectable(psi, n),
	}
	slices.SortFunc(r.PerClass, func(a, b Slice) int {
		return cmp.Or(cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	for _, k := range c.o.TopK {
		if k == 1 || k < c.classes {
			r.TopK = append(r.TopK, c.topK[k].paired(fmt.Sprintf("top%d", k), c.o.Confidence))
		}
	}
	r.Worst = worst(r.Slices)
	if len(r.Slices) == 0 {
		r.Worst = worst(r.PerClass)
	}
	r.Warnings = append(r.NonFinite.warnings(), r.Distribution.warnings()...)
	if n < r.Required {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d samples can show a drop of %.2f points at best; %.2f points need %d",
			n, 100*r.MDE, 100*c.o.Margin, r.Required))
	}
	for m, name := range []string{"baseline", "candidate"} {
		if 20*c.ties[m] > n {
			r.Warnings = append(r.Warnings, fmt.Sprintf("the %s's highest score is shared by two classes in %d of %d samples", name, c.ties[m], n))
		}
	}
	return r, nil
}

// slicesOf turns tallies into slices in name order, corrected for their number.
func slicesOf(groups map[string]*outcomes, o Options) []Slice {
	out := make([]Slice, 0, len(groups))
	var tested []int
	for name, g := range groups {
		p := g.paired("", o.Confidence)
		out = append(out, Slice{
			Name: name, N: p.N, Baseline: p.Baseline, Candidate: p.Candidate, Delta: p.Delta,
			Low: p.Low, High: p.High, PValue: *p.PValue, Adjusted: 1, Tested: p.N >= o.MinSlice,
		})
	}
	slices.SortFunc(out, func(a, b Slice) int { return cmp.Compare(a.Name, b.Name) })
	var p []float64
	for i := range out {
		if out[i].Tested {
			tested = append(tested, i)
			p = append(p, out[i].PValue)
		}
	}
	for i, adjusted := range Holm(p) {
		s, g := &out[tested[i]], groups[out[tested[i]].Name]
		s.Adjusted = adjusted
		s.Low, s.High = Tango(g.gains, g.losses, g.n(), 1-(1-o.Confidence)/float64(len(p)))
	}
	return out
}

// worst returns the tested slice with the lowest Delta, of equals the one with more samples, then the first.
func worst(all []Slice) *Slice {
	var w *Slice
	for i := range all {
		s := &all[i]
		if s.Tested && (w == nil || s.Delta < w.Delta || s.Delta == w.Delta && s.N > w.N) {
			w = s
		}
	}
	return w
}

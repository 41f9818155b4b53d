package score

import (
	"fmt"
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

// NewClassification returns an empty scorer.
func NewClassification(o Options) (*Classification, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Classification{
		o: o, topK: map[int]*outcomes{}, dist: newDistribution(o),
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
	var leads *[2]float64
	if ok[0] && ok[1] {
		c.dist.add(s.Label, baseline, candidate)
		c.dist.close()
		if picked[0] != picked[1] {
			leads = c.dist.leads()
		}
	}
	c.record(s, picked, ranks, leads)
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
	c.record(s, [2]int{baseline, candidate}, ranks, nil)
	return nil
}

func (c *Classification) record(s Sample, picked, ranks [2]int, leads *[2]float64) {
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
	c.flips.add(Flip{ID: s.ID, Label: s.Label, Baseline: picked[0], Candidate: picked[1], leads: leads}, right[0], right[1], c.o.MaxFlips)
	tally := func(g *outcomes) { g.add(right[0], right[1]) }
	intoSlices(c.perClass, []string{strconv.Itoa(s.Label)}, tally)
	intoSlices(c.slices, s.Slices, tally)
}

// Result returns the comparison so far; it errs when no sample was added.
func (c *Classification) Result() (*ClassificationResult, error) {
	top1 := c.topK[1]
	if top1 == nil {
		return nil, fmt.Errorf("there are no samples to score")
	}
	for _, list := range [][]Flip{c.flips.Lost, c.flips.Gained, c.flips.Changed} {
		c.dist.margins(list)
	}
	n := top1.n()
	psi := discordance(top1.gains, top1.losses, n)
	r := &ClassificationResult{
		N: n, Classes: c.classes,
		Agreement: shareOf(c.agree, n, c.o.Confidence),
		Flips:     c.flips, Ties: c.ties, NonFinite: c.nonFinite,
		Distribution: c.dist.result(c.o),
		PerClass:     slicesOf(c.perClass, c.o), Slices: slicesOf(c.slices, c.o),
		Margin: c.o.Margin, Discordance: psi, Required: Required(psi, c.o.Margin), MDE: Detectable(psi, n),
	}
	byClass(r.PerClass)
	for _, k := range c.o.TopK {
		if k == 1 || k < c.classes {
			r.TopK = append(r.TopK, c.topK[k].paired(fmt.Sprintf("top%d", k), c.o.Confidence))
		}
	}
	r.Worst = worst(r.Slices, false)
	if len(r.Slices) == 0 {
		r.Worst = worst(r.PerClass, false)
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

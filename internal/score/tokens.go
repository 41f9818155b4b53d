package score

import (
	"fmt"
	"math"
)

// Tokens scores language models: one row of scores per position, in sequences. Tokens of one sequence are not independent,
// so that intervals take sequences as their units. State: O(classes + flips).
type Tokens struct {
	o         Options
	sequence  string
	started   bool
	classes   int
	ignored   int
	outcomes  outcomes
	right     ratio
	slices    map[string]*ratio
	open      map[string]bool // slices with tokens of the current sequence
	flips     Flips
	nonFinite NonFinite
	dist      *distribution
}

// TokensResult is the comparison of two language models.
type TokensResult struct {
	N, Sequences, Ignored int
	NLL                   *Paired // mean negative log-likelihood per token, in nats; nil where no row of both was finite
	Perplexity            [2]float64
	PerplexityRatio       float64 // candidate / baseline
	PerplexityLow         float64 // interval of the ratio
	PerplexityHigh        float64
	PerplexityDelta       [2]float64 // interval of candidate - baseline
	Accuracy              Paired     // "token-accuracy"
	Slices                []Slice    // of Accuracy
	Flips                 Flips
	NonFinite             NonFinite
	Distribution          *Distribution
	Warnings              []string
}

// NewTokens returns an empty scorer.
func NewTokens(o Options) (*Tokens, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	return &Tokens{
		o: o, dist: newDistribution(o), right: ratio{share: true}, slices: map[string]*ratio{}, open: map[string]bool{},
	}, nil
}

// Add scores one position of the sequence that s.ID names, with the token s.Label. Positions of a sequence must come one after the other: another name starts another
// sequence. A label below 0 is ignored (padding, prompt). It errs, leaving the scorer as it was, on rows of different length
// or a label out of range.
func (t *Tokens) Add(s Sample, baseline, candidate []float64) error {
	sequence, label := s.ID, s.Label
	switch {
	case len(baseline) != len(candidate):
		return fmt.Errorf("sequence %q: the baseline gives %d scores, the candidate %d", sequence, len(baseline), len(candidate))
	case len(baseline) < 2:
		return fmt.Errorf("sequence %q: %d scores do not choose a token", sequence, len(baseline))
	case t.classes != 0 && len(baseline) != t.classes:
		return fmt.Errorf("sequence %q: %d scores, want %d as before", sequence, len(baseline), t.classes)
	case label >= len(baseline):
		return fmt.Errorf("sequence %q: label %d is not one of %d tokens", sequence, label, len(baseline))
	}
	if !t.started || sequence != t.sequence {
		t.close()
		t.sequence, t.started = sequence, true
	}
	t.classes = len(baseline)
	if label < 0 {
		t.ignored++
		return nil
	}
	ok := [2]bool{finite(baseline), finite(candidate)}
	picked := [2]int{-1, -1}
	for m, row := range [2][]float64{baseline, candidate} {
		if ok[m] {
			picked[m], _ = argmax(row)
		}
	}
	t.nonFinite.add(sequence, !ok[0], !ok[1])
	if ok[0] && ok[1] {
		t.dist.add(label, baseline, candidate)
	}
	right := [2]bool{picked[0] == label, picked[1] == label}
	t.outcomes.add(right[0], right[1])
	t.right.item(number(right[0]), number(right[1]))
	for _, name := range s.Slices {
		t.open[name] = true
	}
	intoSlices(t.slices, s.Slices, func(g *ratio) {
		g.share = true
		g.item(number(right[0]), number(right[1]))
	})
	t.flips.add(Flip{ID: sequence, Label: label, Baseline: picked[0], Candidate: picked[1]}, right[0], right[1], t.o.MaxFlips)
	return nil
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (t *Tokens) close() {
	t.right.close()
	t.dist.close()
	for name := range t.open {
		t.slices[name].close()
	}
	clear(t.open)
}

// Result returns the comparison so far, ending the current sequence; it errs when no labelled token was added.
func (t *Tokens) Result() (*TokensResult, error) {
	t.close()
	t.started = false
	if t.outcomes.n() == 0 {
		return nil, fmt.Errorf("there are no labelled tokens to score")
	}
	r := &TokensResult{
		N: t.outcomes.n(), Sequences: t.right.m.n, Ignored: t.ignored,
		Accuracy: t.right.paired("token-accuracy", t.o.Confidence),
		Flips:    t.flips, NonFinite: t.nonFinite,
		Slices:       slicesOf(t.slices, t.o),
		Distribution: t.dist.result(t.o),
	}
	if r.Distribution != nil {
		r.NLL = r.Distribution.NLL
		r.Perplexity = [2]float64{math.Exp(r.NLL.Baseline), math.Exp(r.NLL.Candidate)}
		r.PerplexityRatio = math.Exp(r.NLL.Delta)
		r.PerplexityLow, r.PerplexityHigh = math.Exp(r.NLL.Low), math.Exp(r.NLL.High)
		half := t.dist.perplexity(t.o)
		r.PerplexityDelta = [2]float64{r.Perplexity[1] - r.Perplexity[0] - half, r.Perplexity[1] - r.Perplexity[0] + half}
	}
	r.Warnings = append(r.NonFinite.warnings(), r.Distribution.warnings()...)
	if r.Sequences < 10 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d sequences are few independent units, want at least 10", r.Sequences))
	}
	return r, nil
}

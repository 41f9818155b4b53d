package score

import (
	"fmt"
	"math"
	"strconv"
)

// MultiLabel scores models with one yes-or-no score per label; a binary classifier with a single output is the case of one
// label. Probabilities (every finite value from 0 to 1) are cut at 0.5, logits at 0. State: O(flips).
type MultiLabel struct {
	o         Options
	labels    int
	n         int
	maybe     [2]bool // may still be probabilities
	joint     [2][2]*multiJoint
	nonFinite NonFinite
}

type multiJoint struct {
	exact outcomes
	label ratio
	f1    moments // 2tp and 2tp+fp+fn of the baseline, then of the candidate
	flips Flips

	perLabel []outcomes
	slices   map[string]*outcomes
}

// MultiLabelResult is the comparison of two multi-label models.
type MultiLabelResult struct {
	N, Labels                   int
	BaselineKind, CandidateKind Kind
	Exact                       Paired  // "accuracy" for one label, else "exact-match": every label of the sample right
	Label                       Paired  // "label-accuracy": share of right labels
	MicroF1                     Paired  // "micro-f1"
	PerLabel                    []Slice // right answers per label, by label
	Slices                      []Slice // of Exact, by name
	Flips                       Flips   // of Exact; Label, Baseline and Candidate of a flip are counts of positive labels
	NonFinite                   NonFinite
	Required                    int
	MDE                         float64
	Warnings                    []string
}

// NewMultiLabel returns an empty scorer.
func NewMultiLabel(o Options) (*MultiLabel, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	m := &MultiLabel{o: o, maybe: [2]bool{o.Kind != Logits, o.Kind != Logits}}
	for b := range m.joint {
		for c := range m.joint[b] {
			m.joint[b][c] = &multiJoint{label: ratio{share: true}, slices: map[string]*outcomes{}}
		}
	}
	return m, nil
}

// Add scores one sample, whose Label is not used; a label is 1 (yes), 0 (no) or negative (unknown, left out). It errs, leaving the scorer as it was,
// when lengths differ from each other or from those before, or when a label is above 1.
func (m *MultiLabel) Add(s Sample, labels []int, baseline, candidate []float64) error {
	id := s.ID
	if len(labels) == 0 || len(baseline) != len(labels) || len(candidate) != len(labels) || m.labels != 0 && len(labels) != m.labels {
		return fmt.Errorf("sample %q: %d labels, %d scores of the baseline and %d of the candidate, want equal numbers above 0, the same for every sample",
			id, len(labels), len(baseline), len(candidate))
	}
	for i, l := range labels {
		if l > 1 {
			return fmt.Errorf("sample %q: label %d is %d, want 1, 0 or -1", id, i, l)
		}
	}
	m.labels = len(labels)
	m.n++
	bad := [2]bool{}
	for k, row := range [2][]float64{baseline, candidate} {
		for _, v := range row {
			bad[k] = bad[k] || math.IsNaN(v)
			if m.o.Kind == Auto && (v < -1e-6 || v > 1.001) {
				m.maybe[k] = false
			}
		}
	}
	m.nonFinite.add(id, bad[0], bad[1])
	for b := range m.joint {
		for c := range m.joint[b] {
			m.joint[b][c].add(s, labels, baseline, candidate, [2]float64{threshold(b), threshold(c)}, m.o.MaxFlips)
		}
	}
	return nil
}

// threshold is where a hypothesis cuts: 0 for logits (index 0), 0.5 for probabilities (index 1).
func threshold(hypothesis int) float64 { return 0.5 * float64(hypothesis) }

func (j *multiJoint) add(s Sample, labels []int, baseline, candidate []float64, cut [2]float64, maxFlips int) {
	exact := [2]bool{true, true}
	var twice, union [2]float64
	var positive [2]int
	truth := 0
	if j.perLabel == nil {
		j.perLabel = make([]outcomes, len(labels))
	}
	for i, l := range labels {
		if l < 0 {
			continue
		}
		truth += l
		var right [2]bool
		for k, v := range [2]float64{baseline[i], candidate[i]} {
			yes := v > cut[k] // false for NaN
			right[k] = yes == (l == 1) && !math.IsNaN(v)
			exact[k] = exact[k] && right[k]
			positive[k] += int(number(yes))
			twice[k] += 2 * number(yes && l == 1)
			union[k] += number(yes) + float64(l)
		}
		j.label.item(number(right[0]), number(right[1]))
		j.perLabel[i].add(right[0], right[1])
	}
	j.label.close()
	j.exact.add(exact[0], exact[1])
	j.f1.add(twice[0], union[0], twice[1], union[1])
	intoSlices(j.slices, s.Slices, func(g *outcomes) { g.add(exact[0], exact[1]) })
	j.flips.add(Flip{ID: s.ID, Label: truth, Baseline: positive[0], Candidate: positive[1]}, exact[0], exact[1], maxFlips)
}

// Result returns the comparison so far; it errs when no sample was added.
func (m *MultiLabel) Result() (*MultiLabelResult, error) {
	if m.n == 0 {
		return nil, fmt.Errorf("there are no samples to score")
	}
	h, kinds := [2]int{}, [2]Kind{Logits, Logits}
	for k := range h {
		if m.o.Kind == Probabilities || m.maybe[k] {
			h[k], kinds[k] = 1, Probabilities
		}
	}
	j := m.joint[h[0]][h[1]]
	name := "exact-match"
	if m.labels == 1 {
		name = "accuracy"
	}
	psi := discordance(j.exact.gains, j.exact.losses, m.n)
	r := &MultiLabelResult{
		N: m.n, Labels: m.labels, BaselineKind: kinds[0], CandidateKind: kinds[1],
		Exact: j.exact.paired(name, m.o.Confidence), Label: j.label.paired("label-accuracy", m.o.Confidence),
		MicroF1: j.microF1(m.o.Confidence), Flips: j.flips, NonFinite: m.nonFinite,
		Required: Required(psi, m.o.Margin), MDE: Detectable(psi, m.n),
	}
	r.Slices = slicesOf(j.slices, m.o)
	if perLabel := map[string]*outcomes{}; m.labels > 1 {
		for i := range j.perLabel {
			perLabel[strconv.Itoa(i)] = &j.perLabel[i]
		}
		r.PerLabel = slicesOf(perLabel, m.o)
		byClass(r.PerLabel)
	}
	r.Warnings = m.nonFinite.warnings()
	if kinds[0] != kinds[1] {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the baseline gives %v and the candidate %v: each is cut at its own threshold", kinds[0], kinds[1]))
	}
	return r, nil
}

func (j *multiJoint) microF1(confidence float64) Paired {
	p := Paired{Metric: "micro-f1", Confidence: confidence, Method: "delta-method", N: j.f1.n, Clusters: j.f1.n, Low: math.Inf(-1), High: math.Inf(1), SE: math.Inf(1), Ratio: math.NaN()}
	ub, uc := j.f1.at(1), j.f1.at(3)
	if ub == 0 || uc == 0 {
		return p // no label is positive, in truth or prediction: F1 has no value
	}
	p.Baseline, p.Candidate = j.f1.at(0)/ub, j.f1.at(2)/uc
	p.Delta = p.Candidate - p.Baseline
	p.spread(j.f1.half(confidence, -1/ub, p.Baseline/ub, 1/uc, -p.Candidate/uc), j.f1.n)
	return p
}

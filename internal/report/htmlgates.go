package report

import (
	"cmp"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// gatesView is the section of requirements.
type gatesView struct {
	Counts string
	Rows   []gateView
	Left   int
}

type gateView struct {
	Name, Requires, Observed, Reason string
	Verdict                          Verdict
	Chart                            template.HTML
}

// gatesView shows the gates that did not pass first.
func (r *Report) gatesView() *gatesView {
	v := &gatesView{Counts: r.verdictCounts(), Left: max(0, len(r.Gates)-maxRows)}
	for i, g := range r.urgentGates(maxRows) {
		v.Rows = append(v.Rows, gateView{
			Name: clean(g.Name), Requires: g.requirement(), Observed: g.observation(), Reason: clean(g.Reason), Verdict: g.Verdict,
			Chart: gateChart(fmt.Sprintf("gate%d", i), &g),
		})
	}
	return v
}

// urgentGates returns at most n gates: those that failed, then those that are not decided, then the others, each in the policy's order.
func (r *Report) urgentGates(n int) []Gate {
	out := slices.Clone(r.Gates)
	slices.SortStableFunc(out, func(a, b Gate) int { return cmp.Compare(urgency(a.Verdict), urgency(b.Verdict)) })
	return out[:min(n, len(out))]
}

func urgency(v Verdict) int {
	return slices.Index([]string{string(Fail), string(Inconclusive), string(Pass)}, verdictClass(v))
}

// verdictCounts says how many gates there are of each verdict, such as "1 failed, 1 undecided, 2 passed".
func (r *Report) verdictCounts() string {
	n := map[string]int{}
	for _, g := range r.Gates {
		n[verdictClass(g.Verdict)]++
	}
	var out []string
	for _, v := range []struct {
		verdict Verdict
		word    string
	}{{Fail, "failed"}, {Inconclusive, "undecided"}, {Pass, "passed"}} {
		if k := n[string(v.verdict)]; k > 0 {
			out = append(out, FormatCount(k)+" "+v.word)
		}
	}
	return strings.Join(out, ", ")
}

// compareView is the section that sets the two models side by side.
type compareView struct {
	Chart template.HTML
	Table *table
}

func (r *Report) compareView() *compareView {
	var rows [][]string
	for _, q := range r.rows() {
		rows = append(rows, []string{q.Name, q.Baseline, q.Candidate, q.Change})
	}
	return &compareView{
		Chart: ratiosChart(r.ratios()),
		Table: newTable("Change is candidate / baseline for sizes and times (below 1 is smaller or faster), candidate − baseline otherwise; brackets are 95 % intervals",
			[]string{"Quantity", "Baseline#", "Candidate#", "Change"}, rows, maxRows),
	}
}

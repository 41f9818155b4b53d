package rewrite

import (
	"cmp"
	"slices"
)

// RuleSummary is what one rule did in a run.
type RuleSummary struct {
	Rule     string        `json:"rule"`
	Fired    int           `json:"fired"`
	Declined int           `json:"declined"` // places that matched and stayed
	Reasons  []ReasonCount `json:"reasons,omitempty"`
}

// ReasonCount is one reason for which a rule declined, most frequent first.
type ReasonCount struct {
	Reason string   `json:"reason"`
	Count  int      `json:"count"`
	Nodes  []string `json:"nodes"` // the first few, as messages name them
}

// summaryNodes bounds the nodes named for one reason.
const summaryNodes = 3

// Summary groups the log by rule: those that fired first, in order of their
// first firing, then those that only declined.
func (l *Log) Summary() []RuleSummary {
	at := map[string]int{}
	out := []RuleSummary{}
	rule := func(name string) *RuleSummary {
		i, ok := at[name]
		if !ok {
			i = len(out)
			at[name] = i
			out = append(out, RuleSummary{Rule: name})
		}
		return &out[i]
	}
	for _, f := range l.Fired {
		rule(f.Rule).Fired++
	}
	type key struct{ rule, reason string }
	reasons := map[key]int{}
	for _, d := range l.Declined {
		r, k := rule(d.Rule), key{d.Rule, d.Reason}
		i, ok := reasons[k]
		if !ok {
			i = len(r.Reasons)
			reasons[k] = i
			r.Reasons = append(r.Reasons, ReasonCount{Reason: d.Reason})
		}
		r.Declined++
		r.Reasons[i].add(d.Node)
	}
	for i := range out {
		slices.SortStableFunc(out[i].Reasons, func(a, b ReasonCount) int { return cmp.Compare(b.Count, a.Count) })
	}
	return out
}

func (c *ReasonCount) add(node string) {
	if c.Count++; len(c.Nodes) < summaryNodes {
		c.Nodes = append(c.Nodes, node)
	}
}

// NearMisses returns the rules that fired at some places and, of those that
// matched, declined at few: no more than one in four, where somebody will ask
// why the rest is left.
func (l *Log) NearMisses() []RuleSummary {
	var out []RuleSummary
	for _, r := range l.Summary() {
		if r.Declined > 0 && r.Fired >= 3*r.Declined {
			out = append(out, r)
		}
	}
	return out
}

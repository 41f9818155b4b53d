package gate

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// Gate is one requirement: the metric must stand in the relation Operator to Threshold.
type Gate struct {
	Name      string  `json:"name" mapstructure:"name"`           // unique within the policy
	Metric    string  `json:"metric" mapstructure:"metric"`       // one of [Metrics]
	Operator  string  `json:"operator" mapstructure:"operator"`   // one of <=, >=, <, >
	Threshold float64 `json:"threshold" mapstructure:"threshold"` // in the metric's unit
}

// Policy is a list of requirements and where they came from.
type Policy struct {
	Source string // "default", "flags" or the name of a configuration file
	Gates  []Gate // in the order in which they are reported
	Rules  []Rule // reported after the gates
}

// Empty reports whether nothing is required.
func (p Policy) Empty() bool { return len(p.Gates)+len(p.Rules) == 0 }

// First names the first requirement, such as `gate "max-drop"`.
func (p Policy) First() string {
	switch {
	case len(p.Gates) > 0:
		return fmt.Sprintf("gate %q", p.Gates[0].Name)
	case len(p.Rules) > 0:
		return fmt.Sprintf("rule %q", p.Rules[0].Name)
	}
	return "requirement"
}

// Digest returns the lower-case hexadecimal SHA-256 of the canonical JSON of the gates, or of gates and rules where there are any rules. The
// source does not enter it.
func (p Policy) Digest() (string, error) {
	var v any = p.Gates
	if len(p.Rules) > 0 {
		v = struct {
			Gates []Gate `json:"gates"`
			Rules []Rule `json:"rules"`
		}{append([]Gate{}, p.Gates...), p.Rules}
	}
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encoding the policy: %v", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// Merge returns p with every gate and rule of over added, in the place of p's gate or rule of the same name where there is one.
func (p Policy) Merge(over Policy) Policy {
	if over.Empty() {
		return p
	}
	if p.Empty() {
		return over
	}
	out := Policy{Source: p.Source + " and " + over.Source, Gates: slices.Clone(p.Gates), Rules: slices.Clone(p.Rules)}
	for _, r := range over.Rules {
		if i := slices.IndexFunc(out.Rules, func(o Rule) bool { return o.Name == r.Name }); i >= 0 {
			out.Rules[i] = r
		} else {
			out.Rules = append(out.Rules, r)
		}
	}
	for _, g := range over.Gates {
		if i := slices.IndexFunc(out.Gates, func(o Gate) bool { return o.Name == g.Name }); i >= 0 {
			out.Gates[i] = g
		} else {
			out.Gates = append(out.Gates, g)
		}
	}
	return out
}

// Check returns an error where a gate has no name or one that is taken, an unknown metric or operator, a threshold that is not
// finite, or an operator that points to the metric's bad side, or where a rule does not compile.
func (p Policy) Check() error {
	seen := map[string]bool{}
	for _, g := range p.Gates {
		if g.Name == "" {
			return fmt.Errorf("a gate on %q has no name; give it one", g.Metric)
		}
		if seen[g.Name] {
			return fmt.Errorf("gate %q is given twice; rename one", g.Name)
		}
		seen[g.Name] = true
		if err := g.check(); err != nil {
			return err
		}
	}
	for _, r := range p.Rules {
		if seen[r.Name] {
			return fmt.Errorf("the name %q of a rule is given twice; rename one", r.Name)
		}
		seen[r.Name] = true
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (g Gate) check() error {
	m, ok := lookup(g.Metric)
	if !ok {
		return fmt.Errorf("gate %q: there is no metric %q; the metrics are %s", g.Name, g.Metric, metricNames())
	}
	switch g.Operator {
	case "<=", "<", ">=", ">":
	default:
		return fmt.Errorf("gate %q: operator is %q, want <=, <, >= or >", g.Name, g.Operator)
	}
	if m.Higher != strings.HasPrefix(g.Operator, ">") {
		good := "lower"
		if m.Higher {
			good = "higher"
		}
		return fmt.Errorf("gate %q: operator is %s, but %s values of %s are better; turn it around", g.Name, g.Operator, good, m.Name)
	}
	if math.IsNaN(g.Threshold) || math.IsInf(g.Threshold, 0) {
		return fmt.Errorf("gate %q: the threshold must be a finite number", g.Name)
	}
	return nil
}

func metricNames() string {
	var names []string
	for _, m := range Metrics() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// Limits of the default policy.
const (
	DefaultMaxDrop         = 0.01  // 1 percentage point of the accuracy metric
	DefaultMinAgreement    = 0.99  // of the predictions
	DefaultMinSQNR         = 20.0  // dB
	DefaultMinCosine       = 0.995 // of embeddings: what noise of 1 % of their power leaves
	DefaultMaxLatencyRatio = 1.05  // candidate / baseline
)

// Default returns the policy for a user who states none. It asks the two questions that every replacement must answer, each in
// the strongest form that the data supports:
//
//   - Is it as good? With labels for a classification: a drop of at most 1 point. Without labels: at least 99 % of the predictions stay the
//     same, which bounds the drop by the same 1 point whatever the labels are. For outputs that are not classes: at least 20 dB,
//     which is noise of at most 1 % of the outputs' power; an absolute margin for an error such as MAE would depend on its unit. For embeddings without
//     labels: a mean cosine of at least 0.995, which is the same noise.
//   - Is it not slower? A ratio of at most 1.05. The limit is not 1, because the interval of two equally fast models
//     always contains 1 and could never decide; 5 % is what a run on a shared machine resolves.
//
// There is no default limit for explanations, because no threshold in the literature carries over from one model to another, and
// none for the size, because a fused model may be a little larger and much faster. A user who cares states them.
func Default(r *report.Report) Policy {
	p := Policy{Source: "default"}
	switch {
	case r.Accuracy != nil && !r.Accuracy.IsShare():
		p.Gates = append(p.Gates, Gate{"min-sqnr", "accuracy.sqnr_db", ">=", DefaultMinSQNR})
	case r.Accuracy != nil && r.Accuracy.Task == report.TaskEmbeddings && r.Accuracy.Metric == "":
		p.Gates = append(p.Gates, Gate{"min-cosine", "accuracy.cosine", ">=", DefaultMinCosine})
	case r.Data != nil && !r.Data.Labelled:
		p.Gates = append(p.Gates, Gate{"min-agreement", "accuracy.agreement", ">=", DefaultMinAgreement})
	default:
		p.Gates = append(p.Gates, Gate{"max-drop", "accuracy.drop", "<=", DefaultMaxDrop})
	}
	p.Gates = append(p.Gates, Gate{"max-latency-ratio", "latency.ratio", "<=", DefaultMaxLatencyRatio})
	return p
}

package gate

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// Evaluate holds the policy against the report and returns one gate for each requirement, in order, rules last. It reads the measured numbers
// only, never the verdicts that the report already holds.
func Evaluate(r *report.Report, p Policy) []report.Gate {
	gates := make([]report.Gate, 0, len(p.Gates))
	for _, g := range p.Gates {
		gates = append(gates, evaluate(r, g))
	}
	return append(gates, evaluateRules(r, p.Rules)...)
}

// Verdict combines gates: fail if any failed, else inconclusive if any is, else pass. Without any gate nothing was asked and so
// nothing is shown: inconclusive.
func Verdict(gates []report.Gate) report.Verdict {
	v := report.Pass
	if len(gates) == 0 {
		return report.Inconclusive
	}
	for _, g := range gates {
		switch g.Verdict {
		case report.Pass:
		case report.Inconclusive:
			v = report.Inconclusive
		default:
			return report.Fail
		}
	}
	return v
}

// Apply evaluates the policy and writes gates, verdict and the policy's origin into the report.
func Apply(r *report.Report, p Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	digest, err := p.Digest()
	if err != nil {
		return err
	}
	r.Gates = Evaluate(r, p)
	r.Verdict = Verdict(r.Gates)
	policy := report.Policy{Source: p.Source, SHA256: digest}
	if r.Policy != nil {
		policy.Locked = r.Policy.Locked
	}
	r.Policy = &policy
	return nil
}

func evaluate(r *report.Report, g Gate) report.Gate {
	out := report.Gate{Name: g.Name, Metric: g.Metric, Operator: g.Operator, Threshold: g.Threshold, Verdict: report.Fail}
	if err := g.check(); err != nil {
		out.Reason = err.Error()
		return out
	}
	m, _ := lookup(g.Metric)
	read := m.read(r)
	if !finite(read.value, read.ci) {
		read = reading{}
	}
	out.Unit, out.Observed = m.Unit, read.value
	if m.ofAccuracy(r) {
		out.Unit = differenceUnit(r.Accuracy)
	}
	if !m.Exact {
		out.CI95 = read.ci
	}
	out.Verdict, out.Reason = decide(r, m, out, read)
	if read.detail != "" && out.Verdict != report.Pass && out.Observed != nil {
		out.Reason += "; " + read.detail
	}
	if read.hint != "" && out.Verdict == report.Inconclusive {
		out.Reason += "; " + read.hint
	}
	return out
}

func decide(r *report.Report, m Metric, g report.Gate, read reading) (report.Verdict, string) {
	if why := notReal(r); m.Real && why != "" {
		return report.Fail, why
	}
	if g.Unit == report.UnitDifference && (!m.Higher && g.Threshold >= 1 || m.Higher && g.Threshold <= -1) {
		return report.Fail, fmt.Sprintf("the limit %s allows any loss; write %vpt for %v percentage points", report.FormatLimit(g.Unit, g.Threshold), g.Threshold, g.Threshold)
	}
	switch {
	case read.best:
		return report.Pass, "every output is bitwise the same"
	case read.value == nil:
		return report.Fail, missing(r, m)
	case m.Exact:
		return byValue(g)
	case read.ci == nil:
		return report.Inconclusive, "the report states no interval for " + m.Name + ", and a point estimate alone decides nothing"
	}
	return byInterval(g)
}

// notReal says why a gate that needs the user's data cannot pass. It asks for the positive statement, so that leaving the
// field out never helps.
func notReal(r *report.Report) string {
	switch {
	case r.Data == nil:
		return "the report does not say which data it was measured on"
	case r.Data.Origin == report.OriginSynthetic:
		return "it was measured on generated inputs, which say nothing about the user's data; give real data"
	case r.Data.Origin != report.OriginFiles:
		return fmt.Sprintf("the origin of the data is %q, want %q", r.Data.Origin, report.OriginFiles)
	}
	return ""
}

func finite(v *float64, ci *report.Interval) bool {
	ok := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	return (v == nil || ok(*v)) && (ci == nil || ok(ci[0]) && ok(ci[1]) && ci[0] <= ci[1])
}

// missing says that the report lacks a metric, and why where it is known.
func missing(r *report.Report, m Metric) string {
	section, _, _ := strings.Cut(m.Name, ".")
	for _, s := range r.Skipped {
		if s.Section == section || s.Section == m.Name || strings.HasPrefix(m.Name, s.Section+"_") {
			return fmt.Sprintf("%s was not measured: %s", m.Name, s.Reason)
		}
	}
	if m.ofAccuracy(r) && r.Data != nil && !r.Data.Labelled {
		return "the data has no labels, so " + m.Name + " cannot be measured"
	}
	if m.Name == "latency.throughput_ratio" && r.Latency != nil {
		return "samples per second were not compared; name loads with --throughput"
	}
	if strings.HasPrefix(m.Name, "latency.p") && r.Latency != nil {
		return "too few runs were measured to state " + m.Name
	}
	return "the report does not contain " + m.Name
}

func holds(operator string, v, threshold float64) bool {
	switch operator {
	case "<=":
		return v <= threshold
	case "<":
		return v < threshold
	case ">=":
		return v >= threshold
	case ">":
		return v > threshold
	}
	return false
}

// sides names the good and the bad side of an operator's limit.
func sides(operator string) (good, bad string) {
	switch operator {
	case "<=":
		return "at or below", "above"
	case "<":
		return "below", "at or above"
	case ">=":
		return "at or above", "below"
	}
	return "above", "at or below"
}

func byValue(g report.Gate) (report.Verdict, string) {
	good, bad := sides(g.Operator)
	value, limit := report.FormatValue(g.Unit, *g.Observed), report.FormatLimit(g.Unit, g.Threshold)
	if holds(g.Operator, *g.Observed, g.Threshold) {
		return report.Pass, fmt.Sprintf("%s is %s the limit %s", value, good, limit)
	}
	return report.Fail, fmt.Sprintf("%s is %s the limit %s", value, bad, limit)
}

func byInterval(g report.Gate) (report.Verdict, string) {
	good, bad := sides(g.Operator)
	lo, hi := holds(g.Operator, g.CI95[0], g.Threshold), holds(g.Operator, g.CI95[1], g.Threshold)
	ci, limit := report.FormatInterval(g.Unit, *g.CI95), report.FormatLimit(g.Unit, g.Threshold)
	switch {
	case lo && hi:
		return report.Pass, fmt.Sprintf("the whole 95 %% interval %s is %s the limit %s", ci, good, limit)
	case !lo && !hi:
		return report.Fail, fmt.Sprintf("the whole 95 %% interval %s is %s the limit %s", ci, bad, limit)
	}
	return report.Inconclusive, fmt.Sprintf("the 95 %% interval %s contains the limit %s", ci, limit)
}

func sampleHint(required, given int) string {
	return fmt.Sprintf("about %s samples would decide at this rate of disagreement, %s were given", report.FormatCount(required), report.FormatCount(given))
}

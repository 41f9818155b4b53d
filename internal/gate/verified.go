package gate

import (
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// ReasonVerdict says that a signed report contradicts itself: what it concludes does not follow from its numbers.
const ReasonVerdict attest.Reason = "verdict"

// Outcome is what a verified report amounts to.
type Outcome struct {
	Report   *report.Report // as it was signed
	Gates    []report.Gate  // the caller's own requirements, or the report's where the caller has none, evaluated now
	Verdict  report.Verdict // of Gates
	Recorded report.Verdict // as it was signed; always what the report's own gates amount to
}

// EvaluateVerified reads the report out of verified evidence, evaluates the gates that it records again on its numbers, and then
// the caller's own policy, if any, on the same numbers.
//
// The error is an [*attest.RejectedError] where the evidence is not a report of this kind, where it is about another candidate
// than the files that it was signed for, or where a recorded gate, verdict or policy digest is not what the numbers give.
// A failed gate is not an error: see Outcome.Verdict.
func EvaluateVerified(v *attest.Verified, own Policy) (*Outcome, error) {
	if err := own.Check(); err != nil {
		return nil, err
	}
	if got := v.PredicateType(); got != report.PredicateType {
		return nil, reject(attest.ReasonSchema, "it is of type %q, want %q", got, report.PredicateType)
	}
	r := new(report.Report)
	if err := attest.UnmarshalStrict(v.Predicate(), r, attest.JSONOptions{AllowUnknown: true}); err != nil {
		return nil, reject(attest.ReasonSchema, "the signed report cannot be read: %v", err)
	}
	if err := r.CheckSchema(); err != nil {
		return nil, reject(attest.ReasonSchema, "the signed report cannot be read: %v", err)
	}
	if err := checkSubjects(v.Subjects(), r); err != nil {
		return nil, err
	}
	recorded, err := checkRecorded(r)
	if err != nil {
		return nil, err
	}
	out := &Outcome{Report: r, Gates: recorded, Verdict: r.Verdict, Recorded: r.Verdict}
	if !own.Empty() {
		out.Gates = Evaluate(r, own)
		out.Verdict = Verdict(out.Gates)
	}
	return out, nil
}

// EvaluateUnder is [EvaluateVerified] for evidence that must have been judged by exactly the locked policy, on its data and with its seed,
// after it was registered. The policy's gates are evaluated on the signed numbers.
func EvaluateUnder(v *attest.Verified, locked *Signed) (*Outcome, error) {
	out, err := EvaluateVerified(v, locked.Policy())
	if err != nil {
		return nil, err
	}
	if err := locked.Matches(out.Report); err != nil {
		return nil, err
	}
	return out, nil
}

// checkSubjects makes sure that the files which the evidence was signed for are the candidate of the report, all of it and nothing
// else: a verifier accepts the statement for any one of its subjects.
func checkSubjects(subjects []attest.Subject, r *report.Report) error {
	want := []string{r.Candidate.SHA256}
	for _, f := range r.Candidate.External {
		want = append(want, f.SHA256)
	}
	for _, digest := range want {
		if !slices.ContainsFunc(subjects, func(s attest.Subject) bool { return s.SHA256 == digest }) {
			return reject(attest.ReasonDigest, "the report is about a candidate with the digest %q, for which it was not signed", digest)
		}
	}
	for _, s := range subjects {
		if !slices.Contains(want, s.SHA256) {
			return reject(attest.ReasonDigest, "it was signed for %q (%s), which is not the candidate of the report", s.Name, s.SHA256)
		}
	}
	return nil
}

// checkRecorded evaluates the recorded gates again and refuses any difference.
func checkRecorded(r *report.Report) ([]report.Gate, error) {
	p, err := policyOf(r.Gates)
	if err == nil {
		err = p.Check()
	}
	if err != nil {
		return nil, reject(ReasonVerdict, "the signed report holds a gate that cannot be evaluated: %v", err)
	}
	gates := Evaluate(r, p)
	for i, g := range gates {
		was := r.Gates[i]
		if was.Verdict != g.Verdict {
			return nil, reject(ReasonVerdict, "the signed report records %q for the gate %q, but its numbers give %q: %s", was.Verdict, g.Name, g.Verdict, g.Reason)
		}
		if !same(was.Observed, g.Observed) || !sameInterval(was.CI95, g.CI95) {
			return nil, reject(ReasonVerdict, "the signed report records another value of %s for the gate %q than it measured", g.Metric, g.Name)
		}
	}
	if got := Verdict(gates); r.Verdict != got {
		return nil, reject(ReasonVerdict, "the signed report records the verdict %q, but its gates give %q", r.Verdict, got)
	}
	if r.Policy != nil {
		digest, err := p.Digest()
		if err != nil {
			return nil, err
		}
		if r.Policy.SHA256 != digest {
			return nil, reject(ReasonVerdict, "the signed report names the policy %s, but its gates are the policy %s", r.Policy.SHA256, digest)
		}
	}
	return gates, nil
}

// policyOf returns the requirements of recorded gates.
func policyOf(gates []report.Gate) (Policy, error) {
	var p Policy
	for _, g := range gates {
		switch {
		case g.Metric == RuleMetric && (g.Operator != ">=" || g.Threshold != 1):
			return p, fmt.Errorf("rule %q is recorded as %s %v, want >= 1", g.Name, g.Operator, g.Threshold)
		case g.Metric == RuleMetric:
			p.Rules = append(p.Rules, Rule{g.Name, g.CEL, g.Message})
		case g.CEL != "" || g.Message != "":
			return p, fmt.Errorf("gate %q has an expression or a message, which only rules have", g.Name)
		case len(p.Rules) > 0:
			return p, fmt.Errorf("gate %q comes after a rule; rules come last", g.Name)
		default:
			p.Gates = append(p.Gates, Gate{g.Name, g.Metric, g.Operator, g.Threshold})
		}
	}
	return p, nil
}

// same compares two numbers that were derived from the same ones, perhaps in another order of operations.
func same(a, b *float64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return math.Abs(*a-*b) <= 1e-9*max(math.Abs(*a), math.Abs(*b))
}

func sameInterval(a, b *report.Interval) bool {
	if a == nil || b == nil {
		return a == b
	}
	return same(&a[0], &b[0]) && same(&a[1], &b[1])
}

func reject(reason attest.Reason, format string, args ...any) error {
	return &attest.RejectedError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

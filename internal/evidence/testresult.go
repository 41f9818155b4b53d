package evidence

import (
	"crypto/sha256"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// TestResultType is the predicate type of an in-toto test result v0.1:
// github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md.
const TestResultType = "https://in-toto.io/attestation/test-result/v0.1"

// The results of a test run. The type has no word for "undecided": that is a warning
// here, so who demands that something was shown demands PASSED.
const (
	passed = "PASSED"
	warned = "WARNED"
	failed = "FAILED"
)

// TestResult is a test result: one test for each gate.
type TestResult struct {
	Result        string       `json:"result"`
	Configuration []descriptor `json:"configuration"`
	Passed        []string     `json:"passedTests,omitempty"`
	Warned        []string     `json:"warnedTests,omitempty"` // the evidence did not decide
	Failed        []string     `json:"failedTests,omitempty"`
}

// newTestResult says which gates passed. What it was run with is named by digest: the
// report that it is drawn from, the policy, the data and the baseline.
func newTestResult(r *report.Report, data []byte) *TestResult {
	t := &TestResult{Result: failed}
	for _, g := range r.Gates {
		switch g.Verdict {
		case report.Pass:
			t.Passed = append(t.Passed, g.Name)
		case report.Inconclusive:
			t.Warned = append(t.Warned, g.Name)
		default:
			t.Failed = append(t.Failed, g.Name)
		}
	}
	switch r.Verdict {
	case report.Pass:
		t.Result = passed
	case report.Inconclusive:
		t.Result = warned
	}
	t.Configuration = []descriptor{describe("report.json", fmt.Sprintf("%x", sha256.Sum256(data)), "the report with the numbers that this is drawn from")}
	if p := r.Policy; p != nil {
		t.Configuration = append(t.Configuration, describe("policy "+p.Source, p.SHA256, "over the gates as canonical JSON"))
	}
	if d := r.Data; d != nil {
		t.Configuration = append(t.Configuration, describe("data "+d.Name, d.Digest, "over the rows in order, labels included"))
	}
	t.Configuration = append(t.Configuration, describe("baseline "+r.Baseline.Name, r.Baseline.SHA256, ""))
	for _, f := range r.Baseline.External {
		t.Configuration = append(t.Configuration, describe("baseline "+f.Path, f.SHA256, ""))
	}
	return t
}

// ReadTestResult reads a test result that was verified. One that contradicts itself, or
// passes without naming what passed, is an [*attest.RejectedError].
func ReadTestResult(v *attest.Verified) (*TestResult, error) {
	t := new(TestResult)
	if err := attest.UnmarshalStrict(v.Predicate(), t, attest.JSONOptions{AllowUnknown: true}); err != nil {
		return nil, reject("the signed test result cannot be read: %v", err)
	}
	want := passed
	switch {
	case len(t.Failed) > 0:
		want = failed
	case len(t.Warned) > 0:
		want = warned
	case len(t.Passed) == 0:
		return nil, reject("the signed test result names no test, so it shows nothing")
	}
	if t.Result != want {
		return nil, reject("the signed test result is %q, but the tests that it names give %q", t.Result, want)
	}
	return t, nil
}

// Verdict returns what the result means for a gate.
func (t *TestResult) Verdict() report.Verdict {
	switch t.Result {
	case passed:
		return report.Pass
	case warned:
		return report.Inconclusive
	}
	return report.Fail
}

func reject(format string, args ...any) error {
	return &attest.RejectedError{Reason: attest.ReasonSchema, Detail: fmt.Sprintf(format, args...)}
}

package gate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// FuzzPolicyFile reads policy files, which are YAML: what is read can be checked
// and judged by, and asks for something.
func FuzzPolicyFile(f *testing.F) {
	for _, s := range []string{
		"name: p\ngates:\n  max-drop: 0.5pt\nrules:\n- name: r\n  cel: report.data.samples > 5\nrequires:\n  min-samples: 3\n  devices: [cpu]\nexpires: 2026-12-31\n",
		"gates: {max-drop: [1, 2]}\n", "gates: {g: {metric: accuracy.drop, operator: <=, threshold: .nan}}\n", "---\n---\n",
		"a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\ngates: {d: [*c, *c, *c, *c]}\n",
		"gates: &g\n  max-drop: *g\n", strings.Repeat("[", 300), "? [a]\n: b\n", "name: !!binary aGk=\n",
	} {
		f.Add([]byte(s))
	}
	r := measured()
	f.Fuzz(func(t *testing.T, data []byte) {
		file, p, err := ParseFile("policy.yaml", data)
		if err != nil {
			return
		}
		if _, err := ParseExpiry(file.Expires); err != nil && file.Expires == "" {
			return
		}
		if err := p.Check(); err != nil {
			t.Fatalf("it is read, and then refused: %v", err)
		}
		if got := Evaluate(r, p); len(got) != len(p.Gates)+len(p.Rules) {
			t.Fatalf("%d verdicts for %d gates and %d rules", len(got), len(p.Gates), len(p.Rules))
		}
	})
}

// FuzzLocked reads signed policies: what is read survives being signed again.
func FuzzLocked(f *testing.F) {
	digest := strings.Repeat("ab", 32)
	f.Add([]byte(`{"schema":"`+LockedSchemaURI+`","schemaVersion":"1.0","name":"p","gates":[{"name":"max-drop","metric":"accuracy.drop","operator":"<=","threshold":0.5}],`+
		`"data":{"digest":"`+digest+`","samples":5},"seed":"7","requires":{"min_samples":3},"registered_at":"2026-01-01T00:00:00Z"}`), digest)
	f.Add([]byte(`{"schema":"`+LockedSchemaURI+`","gates":null,"seed":"-1"}`), "")
	f.Fuzz(func(t *testing.T, predicate []byte, subject string) {
		st := attest.Statement{PredicateType: LockedPredicateType, Subjects: []attest.Subject{{Name: "d", SHA256: subject}}, Predicate: predicate}
		s, err := Unverified(st)
		if err != nil {
			return
		}
		again, err := s.Statement()
		if err != nil {
			t.Fatalf("it is read, and cannot be signed: %v", err)
		}
		back, err := Unverified(again)
		if err != nil {
			t.Fatalf("it is signed, and cannot be read: %v", err)
		}
		if d := cmp.Diff(s.Locked, back.Locked); d != "" {
			t.Error(d)
		}
		s.Matches(measured())
	})
}

// FuzzReport evaluates the gates of whatever can be read as a report, as verify and report do.
func FuzzReport(f *testing.F) {
	own := Policy{Gates: []Gate{{"max-drop", "accuracy.drop", "<=", 0.5}}, Rules: []Rule{{Name: "r", CEL: "report.latency.ratio < 1.0 && report.accuracy.slices.all(s, s.delta > -1.0)"}}}
	r := measured()
	if err := Apply(r, own); err != nil {
		f.Fatal(err)
	}
	for _, r := range []*report.Report{r, measured(), {}} {
		data, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := new(report.Report)
		if attest.UnmarshalStrict(data, r, attest.JSONOptions{AllowUnknown: true}) != nil {
			return
		}
		if gates, err := checkRecorded(r); err == nil && Verdict(gates) != r.Verdict {
			t.Fatalf("the verdict %q is accepted, and the gates give %q", r.Verdict, Verdict(gates))
		}
		if got := Evaluate(r, own); len(got) != 2 {
			t.Fatalf("%d verdicts of 2", len(got))
		}
	})
}

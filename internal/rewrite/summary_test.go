package rewrite_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestSummary: firings and refusals by rule, the reasons by how often they came.
func TestSummary(t *testing.T) {
	l := rewrite.NewLog()
	for i := range 9 {
		l.Fired = append(l.Fired, rewrite.Firing{Rule: "norm", Node: fmt.Sprint("n", i)})
	}
	for i, reason := range []string{"axis", "shape", "shape"} {
		l.Declined = append(l.Declined, rewrite.Refusal{Rule: "norm", Node: fmt.Sprint("d", i), Reason: reason})
	}
	for i := range 5 {
		l.Declined = append(l.Declined, rewrite.Refusal{Rule: "gelu", Node: fmt.Sprint("g", i), Reason: "no"})
	}
	norm := rewrite.RuleSummary{Rule: "norm", Fired: 9, Declined: 3, Reasons: []rewrite.ReasonCount{
		{Reason: "shape", Count: 2, Nodes: []string{"d1", "d2"}}, {Reason: "axis", Count: 1, Nodes: []string{"d0"}}}}
	gelu := rewrite.RuleSummary{Rule: "gelu", Declined: 5, Reasons: []rewrite.ReasonCount{
		{Reason: "no", Count: 5, Nodes: []string{"g0", "g1", "g2"}}}}
	if diff := cmp.Diff([]rewrite.RuleSummary{norm, gelu}, l.Summary()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]rewrite.RuleSummary{norm}, l.NearMisses()); diff != "" {
		t.Error(diff)
	}
}

// TestFiringAccount: a firing says which nodes went and came, and their work.
func TestFiringAccount(t *testing.T) {
	m, err := onnxtext.Parse("m", []byte(`<ir_version: 8, opset_import: ["" : 17]>
main (float[2,3] x) => (float[2,3] y) { a = Neg (x)  b = Neg (a)  y = Exp (b) }`))
	if err != nil {
		t.Fatal(err)
	}
	pass, err := rewrite.Rules("r", []rewrite.Rule{{Name: "to-abs", Doc: "test", Pattern: "Neg(Neg(x))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			p.Swap(m.Root.Output(0), p.Add("Identity", []*onnx.Value{m.Value("x")}))
			return nil
		}}})
	if err != nil {
		t.Fatal(err)
	}
	log, err := rewrite.Run(t.Context(), m, []rewrite.Pass{pass}, nil, rewrite.Options{})
	if err != nil || len(log.Fired) != 1 {
		t.Fatalf("%+v, %v", log, err)
	}
	f := log.Fired[0]
	if len(f.Took) != 2 || len(f.Gave) != 1 || f.Before == nil || f.After == nil {
		t.Fatalf("%+v", f)
	}
	if f.Before.FLOPs != 12 || f.Before.Bytes != 4*24 || f.After.FLOPs != 0 || f.After.Bytes != 2*24 {
		t.Errorf("work %+v → %+v", f.Before, f.After)
	}
}

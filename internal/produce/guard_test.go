package produce

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

var (
	harmless = swap("drop-identity", "Identity", "")
	costly   = swap("neg-to-tanh", "Neg", "Tanh")
	unfusing = swap("relu-to-sigmoid", "Relu", "Sigmoid")
	wrong    = swap("abs-to-sin", "Abs", "Sin")
	neutral  = swap("floor-to-ceil", "Floor", "Ceil")
)

// slowTanh makes a model with a Tanh take 20 % longer.
func slowTanh(_ string, m *onnx.Model) float64 {
	if has(m, "Tanh") {
		return 1.2
	}
	return 1
}

func undone(r *Result) []string {
	var out []string
	for _, b := range r.RolledBack {
		out = append(out, b.Judge+": "+b.What())
	}
	return out
}

// TestSlowRule plants a rule that costs 20 % among others, and finds it by name.
func TestSlowRule(t *testing.T) {
	for seed := range uint64(20) {
		r := fuseBy(t, newFake(seed, slowTanh), &Guard{}, seed, harmless, costly, neutral)
		// Each of three firings alone makes the difference, so the whole rule goes.
		rules := map[string]bool{}
		for _, b := range r.RolledBack {
			rules[b.Rule] = true
			if b.Judge != "latency" || !strings.Contains(b.Reason, "times as long as the original") {
				t.Errorf("seed %d: %+v", seed, b)
			}
		}
		if diff := cmp.Diff(map[string]bool{"neg-to-tanh": true}, rules); diff != "" {
			t.Errorf("seed %d: left out (-want +got):\n%s", seed, diff)
		}
		if countOp(t, r.Output.Path, "Tanh") != 0 || countOp(t, r.Output.Path, "Identity") != 0 || countOp(t, r.Output.Path, "Ceil") != 1 {
			t.Errorf("seed %d: the output has not the other rewrites", seed)
		}
		if r.Guarded.Refused != "" || r.Guarded.Latency.CI95[0] > 1.05 {
			t.Errorf("seed %d: %+v", seed, r.Guarded)
		}
	}
}

// TestNoFalseAlarm times models of equal speed against each other, 200 times.
func TestNoFalseAlarm(t *testing.T) {
	for seed := range uint64(200) {
		r := fuseBy(t, newFake(seed, nil), &Guard{}, seed, harmless, costly, neutral)
		if len(r.RolledBack) > 0 || r.Guarded.Refused != "" {
			t.Errorf("seed %d: left out %v, refused %q", seed, undone(r), r.Guarded.Refused)
		}
	}
}

// TestLostFusion has the engine fuse less of the result.
func TestLostFusion(t *testing.T) {
	r := fuseBy(t, newFake(1, nil), &Guard{NoMeasure: true}, 1, harmless, unfusing, neutral)
	want := []string{"operators: relu-to-sigmoid at c1", "operators: relu-to-sigmoid at c2", "operators: the rule relu-to-sigmoid"}
	if diff := cmp.Diff(want, undone(r)); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if reason := r.RolledBack[0].Reason; !strings.Contains(reason, "the engine no longer fuses") || !strings.Contains(reason, "com.microsoft.FusedConv") {
		t.Errorf("reason %q", reason)
	}
	fused := map[string]int{"com.microsoft.FusedConv": 3}
	if diff := cmp.Diff(&Operators{OperatorCount{11, fused}, OperatorCount{8, fused}}, r.Guarded.Operators); diff != "" {
		t.Errorf("operators (-want +got):\n%s", diff)
	}
	if r.Guarded.Latency != nil {
		t.Errorf("timed in spite of NoMeasure: %+v", r.Guarded.Latency)
	}
}

// TestOneFiring leaves out the one firing that costs, and keeps the others.
func TestOneFiring(t *testing.T) {
	slow := func(_ string, m *onnx.Model) float64 {
		for n := range m.Graph.Nodes() { // the Neg behind Identity a2 keeps its name only where it was not rewritten
			if n.Is("Neg") && n.Output(0).Name() == "b2" {
				return 1
			}
		}
		if has(m, "Tanh") {
			return 1.3
		}
		return 1
	}
	r := fuseBy(t, newFake(3, slow), &Guard{}, 3, costly)
	if diff := cmp.Diff([]string{"latency: neg-to-tanh at b2"}, undone(r)); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if n := countOp(t, r.Output.Path, "Tanh"); n != 2 {
		t.Errorf("%d rewrites kept, want 2", n)
	}
}

// TestWrongValues leaves out what computes something else, alone.
func TestWrongValues(t *testing.T) {
	r := fuseBy(t, newFake(1, nil), &Guard{}, 1, harmless, wrong, costly)
	if diff := cmp.Diff([]string{"values: abs-to-sin at d1"}, undone(r)); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}

// TestRefused has every change make the model slower: what is written is the
// model as it was.
func TestRefused(t *testing.T) {
	slow := func(path string, m *onnx.Model) float64 {
		if filepath.Base(path) != "drill.onnx" && Count(m).Ops["Neg"]+Count(m).Ops["Identity"] < 6 {
			return 1.4
		}
		return 1
	}
	r := fuseBy(t, newFake(1, slow), &Guard{Attempts: 3}, 1, harmless, costly)
	if !strings.Contains(r.Guarded.Refused, "1.4") || !strings.Contains(r.Guarded.Refused, "the model as it was") {
		t.Errorf("refused: %q", r.Guarded.Refused)
	}
	if len(r.Log.Fired) > 0 || r.Input.Nodes != r.Output.Nodes {
		t.Errorf("%d rewrites in the output", len(r.Log.Fired))
	}
	if r.Guarded.Attempts > 3 {
		t.Errorf("%d results tried, want at most 3", r.Guarded.Attempts)
	}
}

// TestBestSubset runs out of attempts when some rules are known to do no harm.
func TestBestSubset(t *testing.T) {
	r := fuseBy(t, newFake(1, slowTanh), &Guard{Attempts: 2}, 1, harmless, neutral, costly)
	if !strings.Contains(r.Guarded.Refused, "known to do no harm") {
		t.Errorf("refused: %q", r.Guarded.Refused)
	}
	if countOp(t, r.Output.Path, "Tanh") != 0 || countOp(t, r.Output.Path, "Identity") != 0 {
		t.Errorf("the output is not the harmless part: %v", r.Log.Fired)
	}
}

// TestAsked keeps what was asked for, whatever it costs, and says so.
func TestAsked(t *testing.T) {
	r := fuseBy(t, newFake(1, slowTanh), &Guard{Asked: []string{"neg-to-tanh"}}, 1, harmless, costly)
	if len(r.RolledBack) > 0 || countOp(t, r.Output.Path, "Tanh") != 3 {
		t.Errorf("left out %v", undone(r))
	}
	if n := r.Guarded.Notes; len(n) != 1 || !strings.Contains(n[0], "what was asked for has a cost: it takes 1.2") {
		t.Errorf("notes %q", n)
	}
}

// TestNoRule has a result that is slower whatever is rewritten: nothing is left
// out for it.
func TestNoRule(t *testing.T) {
	slow := func(path string, _ *onnx.Model) float64 {
		if filepath.Base(path) != "drill.onnx" {
			return 1.3
		}
		return 1
	}
	r := fuseBy(t, newFake(1, slow), &Guard{}, 1, harmless, costly)
	if len(r.RolledBack) > 0 || countOp(t, r.Output.Path, "Tanh") != 3 {
		t.Errorf("left out %v", undone(r))
	}
	if n := r.Guarded.Notes; len(n) != 1 || !strings.Contains(n[0], "no rewrite is the reason for this: it takes 1.3") {
		t.Errorf("notes %q", n)
	}
}

// TestMuteEngine has an engine that writes no graphs.
func TestMuteEngine(t *testing.T) {
	f := newFake(1, nil)
	f.mute = true
	r := fuseBy(t, f, &Guard{}, 1, harmless, unfusing)
	if r.Guarded.Operators != nil || r.Guarded.Latency == nil || len(r.Guarded.Notes) != 1 || !strings.Contains(r.Guarded.Notes[0], "writes no graphs") {
		t.Errorf("%+v", r.Guarded)
	}
}

// TestGains has one rule that makes the model a fifth faster.
func TestGains(t *testing.T) {
	slow := func(_ string, m *onnx.Model) float64 {
		if has(m, "Identity") {
			return 1.25
		}
		return 1
	}
	r := fuseBy(t, newFake(1, slow), &Guard{Full: 10 * time.Second}, 1, harmless, costly)
	within := func(l *Latency, want float64) {
		t.Helper()
		if math.Abs(l.Ratio-want) > 0.02 || l.CI95[0] > l.Ratio || l.CI95[1] < l.Ratio || l.Processes < 5 {
			t.Errorf("ratio %+v, want %v", l, want)
		}
	}
	within(r.Guarded.Latency, 0.8)
	if g := r.Guarded.Gains; len(g) != 2 || g[0].Rule != "drop-identity" || g[1].Rule != "neg-to-tanh" || g[0].Firings != 3 {
		t.Fatalf("gains %+v", g)
	}
	within(r.Guarded.Gains[0].Latency, 0.8)
	within(r.Guarded.Gains[1].Latency, 1)
}

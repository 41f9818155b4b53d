package validate

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// TestClaims times a model LAPIDARY_AA times against itself, and as often against a copy with a planted slowdown of about
// 5 %, and says how often a difference was claimed. It prints and does not judge: the machine may be busy.
// LAPIDARY_AA_MODEL and LAPIDARY_AA_DATA name another model and its data.
func TestClaims(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("LAPIDARY_AA"))
	if err != nil || n < 1 {
		t.Skip("LAPIDARY_AA=N runs N comparisons of a model with itself and N with a slower copy")
	}
	model, data := testdata+"digits-cnn.onnx", testdata+"digits-val.npz"
	if m := os.Getenv("LAPIDARY_AA_MODEL"); m != "" {
		model, data = m, os.Getenv("LAPIDARY_AA_DATA")
	}
	nodes := plantedNodes(t, model, data)
	slow := planted(t, model, nodes)
	same, found, interval := 0, 0, 0
	for i := range n {
		a := ratioOf(t, model, model, data, uint64(2*i))
		b := ratioOf(t, model, slow, data, uint64(2*i+1))
		if claimed(a, 0.01) {
			same++
		}
		if a.CI95 != nil && (a.CI95[0] > 1 || a.CI95[1] < 1) {
			interval++
		}
		if b.CI95 != nil && b.CI95[0] > 1 {
			found++
		}
		fmt.Printf("%d: same %s, planted %s\n", i, ratioText(a), ratioText(b))
	}
	fmt.Printf("the same model: %d of %d claims of a difference above 1 %% (%d intervals without 1); planted by %d nodes: %d of %d found\n", same, n, interval, nodes, found, n)
}

// claimed says whether the interval excludes 1 and the ratio differs by more than what nobody would act on.
func claimed(l *report.Latency, negligible float64) bool {
	return l.CI95 != nil && (l.CI95[0] > 1 && *l.Ratio > 1+negligible || l.CI95[1] < 1 && *l.Ratio < 1/(1+negligible))
}

func ratioText(l *report.Latency) string {
	if l.CI95 == nil {
		return fmt.Sprintf("%.4f (no interval: %v)", *l.Ratio, l.Noise.Warnings)
	}
	return fmt.Sprintf("%.4f [%.4f, %.4f]", *l.Ratio, l.CI95[0], l.CI95[1])
}

func ratioOf(t *testing.T, baseline, candidate, data string, seed uint64) *report.Latency {
	t.Helper()
	o := runtimeOptions(t, baseline, candidate, data)
	o.Accuracy.Off, o.Explain.Off, o.Seed = true, true, seed
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Latency
}

// plantedNodes measures how many extra nodes slow the model down by 5 %: a first
// guess from a slowdown that is plain to see, and a second from the first.
func plantedNodes(t *testing.T, model, data string) int {
	t.Helper()
	cost := func(nodes int, seed uint64) float64 {
		return *ratioOf(t, model, planted(t, model, nodes), data, seed).Ratio - 1
	}
	for probe := 16; ; probe *= 4 {
		c := cost(probe, 1)
		if c <= 0.1 && probe <= 4000 {
			continue
		}
		if c <= 0 {
			t.Fatalf("%d extra nodes cost nothing", probe)
		}
		n := max(1, int(math.Round(0.05/c*float64(probe))))
		sum := 0.0
		for seed := range uint64(5) {
			sum += cost(n, 2+seed)
		}
		if sum > 0 {
			n = max(1, int(math.Round(0.05/(sum/5)*float64(n))))
		}
		return n
	}
}

// planted returns a copy of the model that computes n error functions of its input in a row beside what it computes already.
func planted(t *testing.T, model string, n int) string {
	return edited(t, model, func(m *onnx.Model) {
		g := m.Graph
		var v *onnx.Value
		for _, in := range g.Inputs() {
			if in.Const == nil {
				v = in
				break
			}
		}
		typ := v.Type
		for i := range n {
			node := onnx.NewNode("Erf", []*onnx.Value{v}, m.Fresh("planted"+strconv.Itoa(i)))
			g.Append(node)
			v = node.Outputs()[0]
		}
		v.Type = typ
		g.AddOutput(v)
	})
}

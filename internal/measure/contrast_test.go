package measure

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/measure/measuretest"
)

var update = flag.Bool("update", false, "write the simulated rates into docs/latency.md")

// guide is where the simulated rates are published, between two marks.
const guide = "../../docs/latency.md"

const (
	ratesBegin = "<!-- simulated rates: go test ./internal/measure -run TestContrast -update -->\n"
	ratesEnd   = "<!-- end -->\n"
)

// TestContrast simulates validations of equal models and of planted slow-downs, with drift, spikes and steps, and holds our method
// beside what benchmarks mostly do: all runs of the one in one process, then all of the other in another, and a Mann-Whitney
// test. Both get the same number of runs. The table is a golden in the guide.
func TestContrast(t *testing.T) {
	const n = 1000
	seed := uint64(1 << 20) // other machines in every row
	var b strings.Builder
	b.WriteString("| fresh processes differ by | planted | ours: claimed | ours: 1 outside of the interval | ours: interval covers | A then B, Mann-Whitney p < 0.05 |\n|---|---|---|---|---|---|\n")
	for _, between := range []float64{0, 0.01} {
		for _, planted := range []float64{0, 0.03, 0.05, 0.10} {
			seed += n
			ours := simulate(t, n, seed, between, math.Log1p(planted), 0.01)
			theirs := 0
			for i := range n {
				if sequentialDiffers(newMachine(seed+uint64(i)+1, between, math.Log1p(planted)), 80) {
					theirs++
				}
			}
			share := func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v/n) }
			fmt.Fprintf(&b, "| %.0f %% | %.0f %% | %s | %s | %s | %s |\n", 100*between, 100*planted,
				share(ours.claims), share(ours.excludes), share(ours.covers), share(float64(theirs)))
			judgeContrast(t, between, planted, ours, float64(theirs)/n)
		}
	}
	t.Logf("%d simulated validations in each row:\n%s", n, b.String())
	golden(t, b.String())
}

// judgeContrast holds what is promised of our method, and that the contrast is one.
func judgeContrast(t *testing.T, between, planted float64, ours rates, theirs float64) {
	n := float64(ours.n)
	slack := 2 * math.Sqrt(0.05*0.95/n)
	if c := ours.covers / n; c < 0.93-slack || c > 0.97+slack {
		t.Errorf("planted %.0f %%, %.0f %% between processes: the interval covers in %.1f %%, want 93 to 97 %%", 100*planted, 100*between, 100*c)
	}
	switch found := ours.claims / n; {
	case planted == 0 && found > 0.06:
		t.Errorf("equal models, %.0f %% between processes: %.1f %% false alarms, want at most 6 %%", 100*between, 100*found)
	case planted == 0 && theirs < 0.3:
		t.Errorf("equal models, %.0f %% between processes: the sequential test errs in %.1f %% only: the noise is not what it is meant to be", 100*between, 100*theirs)
	case planted >= 0.05 && found < 0.95:
		t.Errorf("planted %.0f %%, %.0f %% between processes: %.1f %% found, want at least 95 %%", 100*planted, 100*between, 100*found)
	}
}

// sequentialDiffers times the baseline, then the candidate, n runs each after five to warm up, and tests whether they differ.
func sequentialDiffers(m *machine, n int) bool {
	var times [2][]float64
	for _, arm := range []Arm{Baseline, Candidate} {
		for i := range n + 5 {
			d := m.time(arm, i == 0).Seconds()
			if i >= 5 {
				times[arm] = append(times[arm], d)
			}
		}
	}
	return measuretest.MannWhitney(times[0], times[1]) < 0.05
}

// golden compares the table with the one in the guide, or writes it there.
func golden(t *testing.T, table string) {
	t.Helper()
	text, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), ratesBegin)
	old, after, also := strings.Cut(rest, ratesEnd)
	if !ok || !also {
		t.Fatalf("%s has no place between %q and %q", guide, ratesBegin, ratesEnd)
	}
	if old == table {
		return
	}
	if !*update {
		t.Errorf("%s holds\n%s\nthe simulation gives\n%s", guide, old, table)
		return
	}
	if err := os.WriteFile(guide, []byte(before+ratesBegin+table+ratesEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

package measure

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var simulations = flag.Int("simulations", 400, "repetitions of each simulated comparison")

// machine is the noise model: AR(1) drift (phi 0.98, sd 0.4 %), white noise 1 %, 2 % of the runs 15 % slower, in half of the
// sessions one lasting 3 % step, and an offset per fresh process. Baseline and candidate meet the same drift and step.
type machine struct {
	rng       *rand.Rand
	between   float64 // sd of a process's offset
	slowdown  float64 // true log-ratio
	base      float64 // seconds per run
	drift     float64
	run, step int
	offset    [2]float64
}

func newMachine(seed uint64, between, slowdown float64) *machine {
	m := &machine{rng: rand.New(rand.NewPCG(seed, 99)), between: between, slowdown: slowdown, base: 0.010, step: -1}
	if m.rng.IntN(2) == 0 {
		m.step = m.rng.IntN(300)
	}
	m.drift = 0.004 * m.rng.NormFloat64()
	m.start()
	return m
}

func (m *machine) start() {
	for arm := range m.offset {
		m.offset[arm] = m.between * m.rng.NormFloat64()
	}
}

func (m *machine) time(arm Arm, first bool) time.Duration {
	const phi = 0.98
	m.drift = phi*m.drift + 0.004*math.Sqrt(1-phi*phi)*m.rng.NormFloat64()
	m.run++
	v := m.drift + m.offset[arm] + 0.01*m.rng.NormFloat64()
	if m.step >= 0 && m.run >= m.step {
		v += 0.03
	}
	if arm == Candidate {
		v += m.slowdown
	}
	if m.rng.Float64() < 0.02 {
		v += math.Log(1.15)
	}
	if first {
		v += 1
	}
	return time.Duration(m.base * math.Exp(v) * float64(time.Second))
}

// measure drives a plan to its end on the simulated machine.
func (m *machine) measure(t testing.TB, o PlanOptions) *Plan {
	t.Helper()
	p, err := NewPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	cold := [2]bool{}
	for steps := 0; p.Next().Kind != Finish; steps++ {
		if steps > 1e6 {
			t.Fatal("the plan does not end")
		}
		step := p.Next()
		var runs []time.Duration
		wall := 200 * time.Millisecond
		if step.Kind == Start {
			m.start()
			cold = [2]bool{true, true}
		} else {
			wall = 0
			for range step.Runs {
				d := m.time(step.Arm, cold[step.Arm])
				cold[step.Arm] = false
				runs = append(runs, d)
				wall += d
			}
		}
		if err := p.Record(wall, runs); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

type rates struct {
	excludes, claims, covers, blocksCover, clusterCover float64
	processes, half                                     float64
}

func simulate(t testing.TB, n int, between, slowdown float64, o PlanOptions) rates {
	var r rates
	for i := range n {
		o.Seed = uint64(i)
		m := newMachine(uint64(i)+1, between, slowdown)
		p := m.measure(t, o)
		d, err := Compare(p.Blocks(), CompareOptions{Seed: uint64(i), Resamples: 400, Pilot: p.Pilot()})
		if err != nil {
			t.Fatal(err)
		}
		truth := math.Exp(slowdown)
		count := func(into *float64, yes bool) {
			if yes {
				*into += 1 / float64(n)
			}
		}
		count(&r.excludes, !d.Interval.Contains(1))
		count(&r.claims, d.Claim == Slower || d.Claim == Faster)
		count(&r.covers, d.Interval.Contains(truth))
		count(&r.blocksCover, d.Blocks.Contains(truth))
		count(&r.clusterCover, d.Cluster.Contains(truth))
		r.processes += float64(d.Processes) / float64(n)
		r.half += math.Log(d.Interval.High/d.Interval.Low) / 2 / float64(n)
	}
	return r
}

// TestSimulatedRates holds what the comparison promises: it claims a difference between equal models in at most 6 % of the
// runs, its interval covers the truth in 93 to 98 %, and a slow-down of 5 % is found in at least 95 %. The block bootstrap
// is logged beside it: it fails as soon as processes differ.
func TestSimulatedRates(t *testing.T) {
	five := math.Log(1.05)
	for _, tt := range []struct {
		name              string
		between, slowdown float64
	}{
		{"A/A, equal processes", 0, 0},
		{"A/A, 1 % between processes", 0.01, 0},
		{"A/A, 2 % between processes", 0.02, 0},
		{"5 % slower, equal processes", 0, five},
		{"5 % slower, 1 %", 0.01, five},
		{"5 % slower, 2 %", 0.02, five},
	} {
		r := simulate(t, *simulations, tt.between, tt.slowdown, PlanOptions{})
		t.Logf("%-28s claimed %5.1f %%, 1 excluded %5.1f %%, coverage: process-t %5.1f %%, blocks %5.1f %%, cluster %5.1f %%; %4.1f processes, half-width %.2f %%",
			tt.name, 100*r.claims, 100*r.excludes, 100*r.covers, 100*r.blocksCover, 100*r.clusterCover, r.processes, 100*r.half)
		slack := 2 * math.Sqrt(0.05*0.95/float64(*simulations)) // Monte Carlo error
		if r.covers < 0.93-slack || r.covers > 0.98+slack {
			t.Errorf("%s: the interval covers in %.1f %%, want 93 to 98 %%", tt.name, 100*r.covers)
		}
		if tt.slowdown == 0 && r.claims > 0.06 {
			t.Errorf("%s: a difference is claimed in %.1f %%, want at most 6 %%", tt.name, 100*r.claims)
		}
		if tt.slowdown > 0 && r.claims < 0.95 {
			t.Errorf("%s: the slow-down is found in %.1f %%, want at least 95 %%", tt.name, 100*r.claims)
		}
	}
}

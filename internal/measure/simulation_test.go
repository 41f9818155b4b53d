package measure

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var simulations = flag.Int("simulations", 1000, "repetitions of each simulated comparison")

// machine is the noise model: AR(1) drift (phi 0.98, sd 0.4 %), white noise 1 %, 2 % of the runs 15 % slower, in half of the
// sessions one lasting 3 % step, and an offset per fresh process. Baseline and candidate meet the same drift and step.
type machine struct {
	rng       *rand.Rand
	between   float64 // sd of a process's offset
	slowdown  float64 // true log-ratio
	white     float64 // sd of single runs
	base      float64 // seconds per run
	drift     float64
	run, step int
	offset    [2]float64
}

func newMachine(seed uint64, between, slowdown float64) *machine {
	m := &machine{rng: rand.New(rand.NewPCG(seed, 99)), between: between, slowdown: slowdown, base: 0.010, white: 0.01, step: -1}
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
	v := m.drift + m.offset[arm] + m.white*m.rng.NormFloat64()
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
	n                                int
	excludes, claims, covers         float64
	blocksCover, clusterCover, extra float64 // over every tenth repetition
	processes, half                  float64
}

// simulate measures n times, on machines drawn from seed on. The bootstrap intervals, which decide nothing, are computed in every tenth repetition.
func simulate(t testing.TB, n int, seed uint64, between, slowdown, white float64) rates {
	r := rates{n: n}
	truth := math.Exp(slowdown)
	count := func(into *float64, yes bool) {
		if yes {
			*into++
		}
	}
	for i := range n {
		m := newMachine(seed+uint64(i)+1, between, slowdown)
		m.white = white
		p := m.measure(t, PlanOptions{Seed: seed + uint64(i)})
		groups, err := byProcess(p.Blocks())
		if err != nil {
			t.Fatal(err)
		}
		e := estimate(groups, 0.95, p.Pilot())
		interval := Interval{Low: math.Exp(e.center - e.half), High: math.Exp(e.center + e.half)}
		c := claim(math.Exp(e.center), interval, 0.01)
		count(&r.excludes, !interval.Contains(1))
		count(&r.claims, c == Slower || c == Faster)
		count(&r.covers, interval.Contains(truth))
		r.processes += float64(len(groups))
		r.half += e.half
		if i%10 != 0 {
			continue
		}
		d, err := Compare(p.Blocks(), CompareOptions{Resamples: 200, Pilot: p.Pilot()})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(d.Interval.Low-interval.Low) > 1e-12 || d.Claim != c {
			t.Fatalf("Compare gives [%v, %v] and %q, its parts give %+v and %q", d.Interval.Low, d.Interval.High, d.Claim, interval, c)
		}
		r.extra++
		count(&r.blocksCover, d.Blocks.Contains(truth))
		count(&r.clusterCover, d.Cluster.Contains(truth))
	}
	return r
}

// TestSimulatedRates holds what the comparison promises: it claims a difference between equal models in at most 6 % of the
// runs, its interval covers the truth in 94 to 97 %, and a slow-down of 5 % is found in at least 95 %. The block bootstrap
// is logged beside it: it fails as soon as processes differ.
func TestSimulatedRates(t *testing.T) {
	five := math.Log(1.05)
	for _, tt := range []struct {
		name                     string
		between, slowdown, white float64
	}{
		{"A/A, equal processes", 0, 0, 0.01},
		{"A/A, 1 % between processes", 0.01, 0, 0.01},
		{"A/A, 2 % between processes", 0.02, 0, 0.01},
		{"5 % slower, equal processes", 0, five, 0.01},
		{"5 % slower, 1 %", 0.01, five, 0.01},
		{"5 % slower, 2 %", 0.02, five, 0.01},
		{"A/A, busy machine", 0.01, 0, 0.15},
		{"5 % slower, busy machine", 0.01, five, 0.15},
	} {
		n := *simulations
		if tt.white > 0.1 {
			n /= 10 // many pairs each
		}
		r := simulate(t, n, 0, tt.between, tt.slowdown, tt.white)
		share := func(v float64) float64 { return v / float64(n) }
		t.Logf("%-28s claimed %5.1f %%, 1 excluded %5.1f %%, coverage: process-t %5.1f %%, blocks %5.1f %%, cluster %5.1f %%; %4.1f processes, half-width %.2f %%",
			tt.name, 100*share(r.claims), 100*share(r.excludes), 100*share(r.covers), 100*r.blocksCover/r.extra, 100*r.clusterCover/r.extra,
			share(r.processes), 100*share(r.half))
		slack := 2 * math.Sqrt(0.05*0.95/float64(n)) // Monte Carlo error
		if c := share(r.covers); c < 0.94-slack || c > 0.97+slack {
			t.Errorf("%s: the interval covers in %.1f %%, want 94 to 97 %%", tt.name, 100*c)
		}
		if tt.slowdown == 0 && share(r.claims) > 0.06 {
			t.Errorf("%s: a difference is claimed in %.1f %%, want at most 6 %%", tt.name, 100*share(r.claims))
		}
		if tt.slowdown > 0 && share(r.claims) < 0.95 {
			t.Errorf("%s: the slow-down is found in %.1f %%, want at least 95 %%", tt.name, 100*share(r.claims))
		}
	}
}

package produce

import (
	"context"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// Guard says what a result must not lose against the original in the engine at
// hand, with the engine's own optimizations on: operators that the engine fuses,
// and time. It needs a [Verify]. The zero value checks both.
type Guard struct {
	NoMeasure bool          // time nothing
	Quick     time.Duration // of runs that may raise a suspicion; 0: 300 ms
	Confirm   time.Duration // of runs that must confirm it before anything is left out; 0: 3 s
	// Full is the time of runs for precise figures, once for the result as a whole
	// and once more for all its rules together; 0: none.
	Full    time.Duration
	NoGains bool    // Full: of the result as a whole only
	Slower  float64 // relative slow-down that must be exceeded by the whole interval; 0: 0.05
	// Attempts is the most results that are timed while looking for what to leave
	// out; twice as many are loaded for their operators. 0: 24.
	Attempts int
	// Patience is how long results are tried to find what to leave out; the best of
	// what is known by then is used. 0: 30 s.
	Patience time.Duration
	// Whole refuses a result whose ratio is more than Slower above 1, with a
	// [Slower], instead of looking for what makes it so, and does not compare the
	// engine's operators.
	Whole bool
	// Asked are rules and passes that somebody asked for: what they cost is said,
	// and they stay.
	Asked []string
}

func (g Guard) filled() Guard {
	if g.Quick == 0 {
		g.Quick = 300 * time.Millisecond
	}
	if g.Confirm == 0 {
		g.Confirm = 3 * time.Second
	}
	if g.Slower == 0 {
		g.Slower = 0.05
	}
	if g.Patience == 0 {
		g.Patience = 30 * time.Second
	}
	if g.Attempts == 0 {
		g.Attempts = 24
	}
	return g
}

// Guarded is what the engine makes of original and result.
type Guarded struct {
	Operators *Operators `json:"operators,omitempty"` // absent where the engine did not write its graph
	Latency   *Latency   `json:"latency,omitempty"`   // absent where nothing was timed
	Gains     []Gain     `json:"gains,omitempty"`     // of each rule, where asked for
	Notes     []string   `json:"notes,omitempty"`     // why something is absent
	Attempts  int        `json:"attempts,omitempty"`  // results tried to find what to leave out
	// Refused says why the output is not all that was rewritten: the best found is.
	Refused string `json:"refused,omitempty"`
}

// Operators compares the engine's optimized graphs.
type Operators struct {
	Before OperatorCount `json:"before"`
	After  OperatorCount `json:"after"`
}

// OperatorCount is one census.
type OperatorCount struct {
	Nodes int            `json:"nodes"` // subgraphs included
	Fused map[string]int `json:"fused"` // operators that the engine made of others
}

func (c *Census) summary() OperatorCount { return OperatorCount{Nodes: c.Nodes, Fused: c.Fused()} }

// Latency compares times by interleaved pairs.
type Latency struct {
	Ratio     float64       `json:"ratio"` // of the result's time to the original's
	CI95      [2]float64    `json:"ci95"`
	Pairs     int           `json:"pairs"`
	Processes int           `json:"processes"` // pairs of fresh processes; with one, the interval does not know how they vary
	Claim     measure.Claim `json:"claim"`
}

func newLatency(d *measure.Difference) *Latency {
	return &Latency{Ratio: d.Ratio, CI95: [2]float64{d.Interval.Low, d.Interval.High}, Pairs: d.Pairs, Processes: d.Processes, Claim: d.Claim}
}

// Gain is what one rule contributes: the result against what it is without the rule.
type Gain struct {
	Rule    string   `json:"rule"`
	Firings int      `json:"firings"`
	Latency *Latency `json:"latency,omitempty"` // baseline: the result without the rule
	Note    string   `json:"note,omitempty"`    // why there is no figure
}

// guarded says what the engine makes of a, the result.
func (j *job) guarded(ctx context.Context, a *attempt, refused string) (*Guarded, error) {
	if j.original == nil {
		return nil, nil
	}
	g := &Guarded{Latency: a.latency, Notes: append(j.notes, a.notes...), Refused: refused}
	for _, n := range j.probes {
		g.Attempts += n
	}
	if before := j.original.census; before != nil && a.loaded != nil && a.loaded.census != nil {
		g.Operators = &Operators{before.summary(), a.loaded.census.summary()}
	}
	for _, l := range []*loaded{j.original, a.loaded} {
		if l != nil && l.silent != "" {
			g.Notes = append(g.Notes, "operators not compared: "+l.silent)
			break
		}
	}
	if j.guard.Full == 0 || j.guard.NoGains || a.latency == nil {
		return g, nil
	}
	var err error
	g.Gains, err = j.gains(ctx, a)
	return g, err
}

// minGain is the time of runs that one rule's gain gets even where there are many rules.
const minGain = 2 * time.Second

// gains times a against itself without each of its rules, one rule left out at a
// time: what a rule does that another one would do in its place is no gain of it.
func (j *job) gains(ctx context.Context, a *attempt) ([]Gain, error) {
	names := rulesOf(a.log)
	budget := max(min(minGain, j.guard.Full), j.guard.Full/time.Duration(max(1, len(names))))
	var out []Gain
	for _, name := range names {
		gain := Gain{Rule: name}
		for _, f := range a.log.Fired {
			if f.Rule == name {
				gain.Firings++
			}
		}
		j.progress("timing " + name)
		d, err := j.gain(ctx, a, name, budget)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			gain.Note = err.Error()
		case d == nil:
			gain.Note = "without it, other rules make the same model"
		default:
			gain.Latency = newLatency(d)
		}
		out = append(out, gain)
	}
	return out, nil
}

// gain times a against what it is without the rule of that name; nil where that
// is the same.
func (j *job) gain(ctx context.Context, a *attempt, name string, budget time.Duration) (*measure.Difference, error) {
	o := j.options()
	o.Disable = append(o.Disable, name)
	o.Fired = nil
	without, err := j.attempt(ctx, o)
	if err != nil {
		return nil, err
	}
	defer without.drop()
	if a.staged.Written.SHA256 == without.staged.Written.SHA256 {
		return nil, nil
	}
	return j.race(without.staged.Path(), a).full(ctx, budget, fullPrecision)
}

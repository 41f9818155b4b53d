package produce

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// judge decides whether a result may be used.
type judge struct {
	name  string
	tries int // results that may be tried to find a fault, as multiples of [Guard].Attempts; 0: any number
	// look returns why a must not be used. What cannot be found out is noted, and
	// lets a pass.
	look func(j *job, ctx context.Context, a *attempt) error
	// shares returns the fault of a where a has the one that look found in another
	// result: bisection asks it.
	shares func(j *job, ctx context.Context, a *attempt, found error) error
	// find leaves out a rewrite that has the fault.
	find func(j *job, ctx context.Context, g *judge, bad *attempt, found error) (*RolledBack, error)
}

var (
	values    = &judge{"values", 0, (*job).sameValues, again((*job).sameValues), (*job).byFiring}
	operators = &judge{"operators", 2, (*job).sameOperators, again((*job).sameOperators), (*job).byRule}
	latency   = &judge{"latency", 1, (*job).sameSpeed, (*job).mostOfLoss, (*job).byRule}
	whole     = &judge{"latency", 1, (*job).sameSpeed, (*job).mostOfLoss, (*job).refuse}
)

func again(look func(j *job, ctx context.Context, a *attempt) error) func(*job, context.Context, *attempt, error) error {
	return func(j *job, ctx context.Context, a *attempt, _ error) error { return look(j, ctx, a) }
}

// judges returns who judges results, in order.
func (j *job) judges() []*judge {
	switch {
	case j.o.Verify == nil:
		return nil
	case j.o.Guard == nil:
		return []*judge{values}
	case j.guard.Whole:
		return []*judge{values, whole}
	case j.guard.NoMeasure:
		return []*judge{values, operators}
	}
	return []*judge{values, operators, latency}
}

// judge returns the first judge that rejects a, with the reason. Where nothing
// was rewritten only the values are looked at.
func (j *job) judge(ctx context.Context, a *attempt) (*judge, error, error) {
	for _, g := range j.judges() {
		if g != values && len(a.log.Fired) == 0 {
			continue
		}
		why := g.look(j, ctx, a)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if errors.As(why, new(session.OutOfMemory)) { // which says nothing about what was rewritten
			return nil, nil, fmt.Errorf("the result for %s cannot be verified: %w", j.dst, why)
		}
		if why != nil && !j.waived[g] {
			return g, why, nil
		}
	}
	return nil, nil, nil
}

// sameValues runs a on the inputs of the original.
func (j *job) sameValues(ctx context.Context, a *attempt) error {
	j.progress("verifying")
	var err error
	a.checked, err = j.o.Verify.check(ctx, j.access(a.staged.Path(), &a.loaded), j.ref)
	return err
}

// sameOperators compares the graphs that the engine makes.
func (j *job) sameOperators(ctx context.Context, a *attempt) error {
	if j.original == nil || j.original.census == nil {
		return nil
	}
	if err := j.ensure(ctx, a); err != nil || a.loaded.census == nil {
		return err
	}
	if lost := Lost(j.original.census, a.loaded.census); lost != "" {
		return errors.New(lost)
	}
	return nil
}

// ensure loads a, unless that was done.
func (j *job) ensure(ctx context.Context, a *attempt) error {
	if a.loaded != nil {
		return nil
	}
	l, err := j.load(ctx, a.staged.Path())
	if err != nil {
		return fmt.Errorf("the result does not load: %w", err)
	}
	a.loaded = l
	return nil
}

// refuse leaves nothing out: the result as a whole is not wanted.
func (j *job) refuse(_ context.Context, _ *judge, _ *attempt, found error) (*RolledBack, error) {
	return nil, found
}

// Slower is the error of a result that takes longer than the original.
type Slower struct{ Latency }

func (s *Slower) Error() string {
	return fmt.Sprintf("it takes %.2f times as long as the original (95 %% interval %.2f to %.2f, %d pairs in %d processes)",
		s.Ratio, s.CI95[0], s.CI95[1], s.Pairs, s.Processes)
}

// sameSpeed times a against the original: quickly, in the workers that are open,
// and where that raises a suspicion again in fresh ones.
func (j *job) sameSpeed(ctx context.Context, a *attempt) error {
	j.progress("timing")
	if err := j.ensure(ctx, a); err != nil {
		return err
	}
	budget, precision := j.guard.Full, fullPrecision
	if j.guard.Whole {
		return j.fasterAtAll(ctx, a)
	}
	if budget == 0 {
		suspect, err := j.race(j.base, a).quick(ctx, [2]session.Session{j.original.session, a.loaded.session}, j.guard.Quick)
		if a.timed(suspect, err); err != nil || suspect.Interval.Low <= 1+j.guard.Slower {
			return nil
		}
		budget, precision = j.guard.Confirm, quickPrecision
	}
	d, err := j.again(ctx, a, budget, precision)
	if a.timed(d, err); err != nil || d.Interval.Low <= 1+j.guard.Slower {
		return nil
	}
	return &Slower{*newLatency(d)}
}

// fasterAtAll times a in fresh processes at once: whoever wants a result only if
// it is fast is not content with the lack of a proof that it is slow.
func (j *job) fasterAtAll(ctx context.Context, a *attempt) error {
	d, err := j.race(j.base, a).full(ctx, j.guard.Confirm, quickPrecision)
	if a.timed(d, err); err != nil || d.Ratio <= 1+j.guard.Slower {
		return nil
	}
	return &Slower{*newLatency(d)}
}

// timed notes what was measured of a.
func (a *attempt) timed(d *measure.Difference, err error) {
	if err != nil {
		a.notes = append(a.notes, fmt.Sprintf("not timed: %v", err))
		return
	}
	a.latency = newLatency(d)
}

// heavy is how long a model takes to load for its times to be taken in the workers
// that are open, and not in pairs of fresh ones, which take many times that.
const heavy = 750 * time.Millisecond

// again times a against the original more closely.
func (j *job) again(ctx context.Context, a *attempt, budget time.Duration, precision float64) (*measure.Difference, error) {
	if j.guard.Full == 0 && j.original.took > heavy && a.loaded != nil {
		return j.race(j.base, a).quick(ctx, [2]session.Session{j.original.session, a.loaded.session}, budget)
	}
	return j.race(j.base, a).full(ctx, budget, precision)
}

// mostOfLoss returns the loss of a where a is slower by more than half of what
// was found, on a logarithmic scale: halves of a loss can be told apart where
// neither is beyond doubt.
func (j *job) mostOfLoss(ctx context.Context, a *attempt, found error) error {
	var whole *Slower
	if !errors.As(found, &whole) {
		return found
	}
	if err := j.ensure(ctx, a); err != nil {
		return err
	}
	d, err := j.again(ctx, a, j.guard.Confirm, quickPrecision)
	if err != nil {
		return err
	}
	if math.Log(d.Ratio) > math.Log(whole.Ratio)/2 {
		return &Slower{*newLatency(d)}
	}
	return nil
}

// race returns a race of a against the model at path.
func (j *job) race(path string, a *attempt) *race {
	return &race{in: j.ref.samples[0].Inputs, seed: j.o.Verify.Seed, open: func(ctx context.Context, arm measure.Arm) (session.Session, error) {
		if arm == measure.Candidate {
			return j.o.Verify.open(ctx, a.staged.Path(), session.LevelAll)
		}
		return j.o.Verify.open(ctx, path, session.LevelAll)
	}}
}

package produce

import (
	"context"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// race times two models by turns on the same inputs.
type race struct {
	in      map[string]*onnx.Tensor
	open    func(ctx context.Context, arm measure.Arm) (session.Session, error) // for fresh pairs of workers
	workers [2]session.Session
	held    bool // workers are the caller's and the only pair
	seed    uint64
}

// Precisions at which a race may end before its time, as half-widths of the ratio's interval.
const (
	quickPrecision = 0.02
	fullPrecision  = 0.005
)

// quick races a pair of workers that are open already. Its interval does not know
// how processes vary; it is for suspicions.
func (r *race) quick(ctx context.Context, workers [2]session.Session, budget time.Duration) (*measure.Difference, error) {
	r.workers, r.held = workers, true
	return r.run(ctx, measure.PlanOptions{Seed: r.seed, Processes: 2, MaxProcesses: 2, Budget: 2 * budget, Precision: quickPrecision})
}

// full races fresh pairs of workers.
func (r *race) full(ctx context.Context, budget time.Duration, precision float64) (*measure.Difference, error) {
	return r.run(ctx, measure.PlanOptions{Seed: r.seed, Processes: 5, MaxProcesses: 8, Budget: budget, Precision: precision})
}

// run follows a plan. Its budget is of the models' runs only.
func (r *race) run(ctx context.Context, o measure.PlanOptions) (*measure.Difference, error) {
	plan, err := measure.NewPlan(o)
	if err != nil {
		return nil, err
	}
	defer r.end()
	for step := plan.Next(); step.Kind != measure.Finish; step = plan.Next() {
		if r.held && step.Process > 0 {
			break
		}
		runs, err := r.do(ctx, step)
		if err != nil {
			return nil, err
		}
		var spent time.Duration
		for _, d := range runs {
			spent += d
		}
		if err := plan.Record(spent, runs); err != nil {
			return nil, err
		}
	}
	c := measure.CompareOptions{Seed: r.seed}
	if !r.held {
		c.Pilot = plan.Pilot()
	}
	return measure.Compare(plan.Blocks(), c)
}

func (r *race) do(ctx context.Context, step measure.Step) ([]time.Duration, error) {
	if step.Kind == measure.Start {
		return nil, r.start(ctx, step.Process)
	}
	s := r.workers[step.Arm]
	if t, ok := s.(session.Timer); ok {
		return t.Time(ctx, r.in, step.Runs)
	}
	out := make([]time.Duration, step.Runs)
	for i := range out {
		res, err := s.Run(ctx, r.in)
		if err != nil {
			return nil, err
		}
		out[i] = res.Elapsed
	}
	return out, nil
}

// start opens a fresh pair, in alternating order.
func (r *race) start(ctx context.Context, process int) error {
	if r.held {
		return nil
	}
	r.end()
	for i := range r.workers {
		arm := measure.Arm((i + process) % 2)
		s, err := r.open(ctx, arm)
		if err != nil {
			return err
		}
		r.workers[arm] = s
	}
	return nil
}

func (r *race) end() {
	if r.held {
		return
	}
	for arm, s := range r.workers {
		if s != nil {
			s.Close()
			r.workers[arm] = nil
		}
	}
}

// Race times two model files against each other on the same inputs, in fresh pairs of processes by turns, for about
// the budget. The ratio is the second over the first.
func Race(ctx context.Context, v *Verify, baseline, candidate string, in map[string]*onnx.Tensor, budget time.Duration) (*measure.Difference, error) {
	r := &race{in: in, seed: v.Seed, open: func(ctx context.Context, arm measure.Arm) (session.Session, error) {
		if arm == measure.Candidate {
			return v.open(ctx, candidate, session.LevelAll)
		}
		return v.open(ctx, baseline, session.LevelAll)
	}}
	return r.full(ctx, budget, quickPrecision)
}

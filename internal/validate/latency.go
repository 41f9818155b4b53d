package validate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// defaultBudget is the wall time of the latency section, starting workers included.
const defaultBudget = 30 * time.Second

// defaultProcesses is the least number of fresh pairs of processes, unless fewer are allowed.
const defaultProcesses = 6

// latency times both models on the first batch of the data, by interleaved blocks in several pairs of fresh processes.
func (v *validation) latency(ctx context.Context) error {
	t, err := v.newTiming(ctx, v.o.Latency.Batch)
	if err != nil {
		return err
	}
	o := v.o.Latency.plan(v.o.Seed)
	meter, windows := v.energyMeter(o.Budget)
	if meter != nil {
		defer meter.Close()
		o.Budget -= windows.total()
	}
	m, err := t.race(ctx, o, func(share float64) { v.o.progress("latency", int64(1000*share), 1000) })
	if err != nil {
		return err
	}
	if err := t.report(m); err != nil {
		return err
	}
	if meter != nil {
		if err := t.energy(ctx, meter, windows); err != nil {
			return err
		}
	}
	for _, l := range v.o.Latency.Throughput {
		if err := v.throughput(ctx, l); err != nil {
			return err
		}
	}
	return v.selfTest(ctx)
}

// plan returns how to measure.
func (l Latency) plan(seed uint64) measure.PlanOptions {
	o := measure.PlanOptions{
		Seed: seed, Processes: l.Processes, MaxProcesses: l.MaxProcesses, Pairs: l.Pairs, Budget: l.Budget, Precision: l.Precision,
	}
	if o.Budget == 0 {
		o.Budget = defaultBudget
	}
	if o.Processes == 0 && o.MaxProcesses > 0 {
		o.Processes = min(defaultProcesses, o.MaxProcesses)
	}
	return o
}

// timing is the pair of models that are timed, the workers that run them at present, and what those before them cost.
type timing struct {
	v         *validation
	paths     [2]string
	in        [2]map[string]*onnx.Tensor // by arm, in the model's own types
	batch     int
	instances int // workers per model, all of which run at the same time
	session   session.Options
	self      bool // both models are the baseline

	workers [2][]session.Session
	first   [2]int64 // involuntary switches before the first timed run
	counted bool

	peaks    [2][]float64 // most memory of any worker, in bytes, by pair of processes
	cold     [2][]cold    // by pair of processes
	switches int64
	metered  bool
}

// newTiming takes the first batch of n samples of the data, or of as many as the model demands.
func (v *validation) newTiming(ctx context.Context, n int) (*timing, error) {
	t := &timing{v: v, paths: [2]string{v.o.Baseline, v.o.Candidate}, instances: 1, session: v.o.Session}
	t.session.TimeRead = true
	for b, err := range v.set.Batches(ctx, max(n, 1)) {
		if err != nil {
			return nil, err
		}
		t.batch = len(b.Samples) + b.Padding
		for arm := range t.in {
			in, err := v.set.Carrier().Feed(b.Samples[0])
			if err != nil {
				return nil, err
			}
			if len(v.carried) == 0 {
				in = b.Inputs
			}
			t.in[arm] = in
		}
		in, err := v.bounds.inputs(t.in[1])
		if err != nil {
			return nil, candidateFault("its inputs: %w", err)
		}
		t.in[1] = in
		return t, nil
	}
	return nil, fmt.Errorf("timing: the data has no samples")
}

// race carries out a plan and returns what came of it.
func (t *timing) race(ctx context.Context, o measure.PlanOptions, progress func(share float64)) (*measurement, error) {
	plan, err := measure.NewPlan(o)
	if err != nil {
		return nil, fmt.Errorf("timing: %w", err)
	}
	w := t.v.watch()
	defer w.End() // nothing happens where it has ended
	defer t.stop()
	for step := plan.Next(); step.Kind != measure.Finish; step = plan.Next() {
		began := time.Now()
		runs, err := t.do(ctx, step)
		if err != nil {
			return nil, err
		}
		if err := plan.Record(time.Since(began), runs); err != nil {
			return nil, fmt.Errorf("timing: %w", err)
		}
		progress(plan.Progress())
	}
	if err := t.end(); err != nil {
		return nil, err
	}
	m := &measurement{plan: plan}
	m.load, m.gpu = w.End()
	m.d, err = measure.Compare(plan.Blocks(), measure.CompareOptions{Seed: o.Seed, Pilot: plan.Pilot()})
	if err != nil {
		return nil, fmt.Errorf("timing: %w", err)
	}
	m.judge(t)
	return m, nil
}

func (t *timing) do(ctx context.Context, step measure.Step) ([]time.Duration, error) {
	if step.Kind == measure.Start {
		if err := t.end(); err != nil {
			return nil, err
		}
		return nil, t.start(ctx, step.Process)
	}
	if step.Kind == measure.Time && !t.counted {
		t.counted = true
		t.countSwitches()
	}
	runs, err := t.run(ctx, step.Arm, step.Runs)
	return runs, t.blame(ctx, step.Arm, err)
}

// countSwitches reads how often the workers were interrupted before anything was timed.
func (t *timing) countSwitches() {
	for arm, list := range t.workers {
		t.first[arm] = 0
		for _, w := range list {
			if m, ok := w.(session.Meter); ok {
				if st, err := m.Stats(); err == nil {
					t.first[arm] += st.Switches
				}
			}
		}
	}
}

// run lets all instances of one model run n times, and returns the time of each run: of several instances, that which all of them
// took, so that they have run instances × n times in the sum.
func (t *timing) run(ctx context.Context, arm measure.Arm, n int) ([]time.Duration, error) {
	list := t.workers[arm]
	if len(list) == 1 {
		return timeRuns(ctx, list[0], t.in[arm], n)
	}
	took, errs := make([]time.Duration, len(list)), make([]error, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() {
			runs, err := timeRuns(ctx, s, t.in[arm], n)
			errs[i] = err
			for _, r := range runs {
				took[i] += r
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return slices.Repeat([]time.Duration{slices.Max(took) / time.Duration(n)}, n), nil
}

// timeRuns lets a session time itself; one that cannot is asked for single runs.
func timeRuns(ctx context.Context, s session.Session, in map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	if timer, ok := s.(session.Timer); ok {
		return timer.Time(ctx, in, n)
	}
	out := make([]time.Duration, n)
	for i := range out {
		r, err := s.Run(ctx, in)
		if err != nil {
			return nil, err
		}
		out[i] = r.Elapsed
	}
	return out, nil
}

func (t *timing) blame(ctx context.Context, arm measure.Arm, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case arm == measure.Candidate && !t.self:
		return candidateFault("timing it: %w", err)
	}
	return fmt.Errorf("timing the baseline: %w", err)
}

// start opens fresh workers of both models, whose order alternates so that none always finds the caches warm.
func (t *timing) start(ctx context.Context, process int) error {
	t.counted = false
	for i := range t.paths {
		arm := (i + process) % 2
		for range t.instances {
			s, err := t.v.o.Open(ctx, t.paths[arm], t.session)
			if err != nil {
				return t.blame(ctx, measure.Arm(arm), err)
			}
			t.workers[arm] = append(t.workers[arm], s)
		}
	}
	return nil
}

// end reads what the workers cost and ends them.
func (t *timing) end() error {
	var started [2]cold
	var peak [2]int64
	for arm, list := range t.workers {
		switches := int64(0)
		for _, w := range list {
			m, ok := w.(session.Meter)
			if !ok {
				continue
			}
			st, err := m.Stats()
			if err != nil {
				return t.blame(context.Background(), measure.Arm(arm), err)
			}
			t.metered = true
			peak[arm] = max(peak[arm], st.PeakMemory)
			switches += st.Switches
			started[arm] = cold{st.Read, st.Create, st.FirstRun}
		}
		t.switches += max(0, switches-t.first[arm])
	}
	if peak[0] > 0 && peak[1] > 0 {
		for arm, bytes := range peak {
			t.peaks[arm] = append(t.peaks[arm], float64(bytes))
		}
	}
	if started[0].first > 0 && started[1].first > 0 {
		for arm := range started {
			t.cold[arm] = append(t.cold[arm], started[arm])
		}
	}
	t.stop()
	return nil
}

func (t *timing) stop() {
	for arm, list := range t.workers {
		for _, w := range list {
			w.Close()
		}
		t.workers[arm] = nil
	}
}

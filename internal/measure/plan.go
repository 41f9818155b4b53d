package measure

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// PlanOptions says how a comparison is to be measured; the zero value is the default of every field.
type PlanOptions struct {
	Seed      uint64
	Order     Order
	Processes int // least number of fresh pairs of worker processes, the pilot; 0 means 6, at least 2
	// MaxProcesses ends the extension of a measurement that is not precise enough; 0 means 20.
	MaxProcesses int
	Pairs        int           // least number of pairs of blocks per process, if the budget allows; 0 means 10
	MinBlock     time.Duration // inner runs are batched until a block takes this long; 0 means 5 ms
	Budget       time.Duration // wall time for everything, starting workers included; 0 means 60 s
	// Precision is the half-width of the ratio's interval at which to stop; 0 means 0.01 (1 %).
	Precision  float64
	Confidence float64 // 0 means 0.95
	Steadiness Steadiness
	// MaxSamples bounds the single-run samples that are kept per arm; beyond it a uniform random subset stays. 0 means 1<<18.
	MaxSamples int
}

// Order is how the two models take turns within pairs.
type Order int

const (
	// Balanced draws AB BA or BA AB for every two pairs by a coin: each process sees both orders equally often.
	Balanced Order = iota
	// Coin draws every pair's order independently.
	Coin
)

const (
	minPairs     = 4       // per process, when the budget is short
	maxPairs     = 2000    // per process, when the timings are noisy
	pilotShare   = 0.5     // of the budget: what the first Processes may take to reduce noise within a process
	minProcesses = 3       // measured even when the budget is spent
	maxInner     = 1 << 16 // inner runs per block
	warmupShare  = 0.2     // of the budget
)

func (o PlanOptions) filled() (PlanOptions, error) {
	if o.Processes == 0 {
		o.Processes = 6
	}
	if o.MaxProcesses == 0 {
		o.MaxProcesses = max(20, o.Processes)
	}
	if o.Pairs == 0 {
		o.Pairs = 10
	}
	if o.MinBlock == 0 {
		o.MinBlock = 5 * time.Millisecond
	}
	if o.Budget == 0 {
		o.Budget = time.Minute
	}
	if o.Precision == 0 {
		o.Precision = 0.01
	}
	if o.Confidence == 0 {
		o.Confidence = defaultConfidence
	}
	if o.MaxSamples == 0 {
		o.MaxSamples = 1 << 18
	}
	o.Steadiness = o.Steadiness.filled()
	switch {
	case o.Processes < 2 || o.MaxProcesses < o.Processes:
		return o, fmt.Errorf("processes %d to %d, want at least 2 and a maximum that is no smaller", o.Processes, o.MaxProcesses)
	case o.Pairs < 2:
		return o, fmt.Errorf("%d pairs per process, want at least 2", o.Pairs)
	case o.MinBlock < 0 || o.Budget < 0:
		return o, fmt.Errorf("block %v and budget %v must not be negative", o.MinBlock, o.Budget)
	case !(o.Precision > 0) || !(o.Confidence > 0 && o.Confidence < 1):
		return o, fmt.Errorf("precision %v must be above 0 and confidence %v inside (0, 1)", o.Precision, o.Confidence)
	case o.MaxSamples < 1:
		return o, fmt.Errorf("a limit of %d samples keeps none, want at least 1", o.MaxSamples)
	case o.Order != Balanced && o.Order != Coin:
		return o, fmt.Errorf("order %d is unknown", o.Order)
	case o.Steadiness.Windows < 1 || o.Steadiness.Window < 1 || !(o.Steadiness.Tolerance > 0):
		return o, fmt.Errorf("steadiness %+v must have positive fields", o.Steadiness)
	}
	return o, nil
}

// StepKind is what the coordinator is asked to do.
type StepKind int

const (
	// Start: end the workers of the process before, if any, and start two fresh ones.
	Start StepKind = iota
	// Warm: let one worker run; its times steer the warm-up only.
	Warm
	// Time: let one worker run; its times are the measurement.
	Time
	// Finish: end the workers; the measurement is complete.
	Finish
)

// Step is one instruction of a Plan.
type Step struct {
	Kind    StepKind
	Process int // which pair of fresh processes, from 0
	Arm     Arm // for Warm and Time
	Runs    int // inferences to run back to back, for Warm and Time
}

// StopReason says why a measurement ended.
type StopReason string

const (
	StopPrecise   StopReason = "precise"   // the interval is as narrow as asked
	StopBudget    StopReason = "budget"    // another process would not have fitted into the budget
	StopProcesses StopReason = "processes" // the largest number of processes was measured
)

// Plan decides whose turn it is and when enough has been measured. It is a state machine without a clock: ask Next, do it,
// Record what it took, until Next says Finish.
//
// Per process it starts two fresh workers, warms both until their timings are steady (or a fifth of the budget, divided over
// the processes, is spent), then times pairs of blocks in random order: at least Pairs of them, and more while the noise
// within the process is what limits the precision. After the first Processes it computes how many the precision takes, and ends when these are done, when another process would not fit into the budget, or at
// MaxProcesses. That decision looks at the variance only, never at the ratio, so that it does not favour a finding. Where
// even 3 processes of 4 pairs do not fit into the budget, they are measured none the less: less would support no statement.
type Plan struct {
	o       PlanOptions
	rng     *rand.Rand
	step    Step
	process int
	due     int // processes that the precision takes, 0 before it is known
	used    time.Duration
	began   time.Duration // used when this process started
	reason  StopReason

	warm  [2]warmState
	inner int // runs per block

	order  []Arm // who runs first, per pair of this process
	turn   int   // 2*pair + 0 or 1
	first  float64
	least  int           // pairs of this process before it may end
	check  int           // pairs at which to look at its noise again
	share  time.Duration // what this process may take, starting it included
	blocks []Block

	samples [2]reservoir
	warmups []Warmup
}

type warmState struct {
	series []float64 // seconds per run, of blocks long enough
	spent  time.Duration
	record Warmup
	done   bool
}

// NewPlan returns a plan at its first step.
func NewPlan(o PlanOptions) (*Plan, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	p := &Plan{o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x706c616e)), inner: 1}
	for arm := range p.samples {
		p.samples[arm].rng = rand.New(rand.NewPCG(o.Seed, 0x73616d70+uint64(arm)))
		p.samples[arm].limit = o.MaxSamples
	}
	p.step = Step{Kind: Start}
	return p, nil
}

// Next returns the step to do now. It changes nothing: only Record moves on.
func (p *Plan) Next() Step { return p.step }

// Record tells what the current step took: its wall time as the coordinator saw it, and for Warm and Time the duration of
// each of its runs as the worker measured them. It errs, without moving on, on a wrong number of runs, a negative wall time,
// or runs most of which took no measurable time.
func (p *Plan) Record(wall time.Duration, runs []time.Duration) error {
	if wall < 0 {
		return fmt.Errorf("process %d: step took %v, want a duration ≥ 0", p.process, wall)
	}
	if p.step.Kind == Finish {
		return fmt.Errorf("the plan is finished, there is nothing to record")
	}
	if len(runs) != p.step.Runs {
		return fmt.Errorf("process %d, %v: got %d timings, want %d", p.process, p.step.Arm, len(runs), p.step.Runs)
	}
	var total time.Duration
	for _, r := range runs {
		if r < 0 {
			return fmt.Errorf("process %d, %v: a run took %v, want a duration ≥ 0", p.process, p.step.Arm, r)
		}
		total += r
	}
	if len(runs) > 0 && medianSeconds(runs) == 0 {
		return fmt.Errorf("process %d, %v: %d runs took no measurable time each", p.process, p.step.Arm, len(runs))
	}
	p.used += wall
	switch p.step.Kind {
	case Start:
		p.beginWarmup()
	case Warm:
		p.recordWarm(total, runs)
	case Time:
		p.recordTime(runs)
	}
	return nil
}

func (p *Plan) beginWarmup() {
	for arm := range p.warm {
		p.warm[arm] = warmState{record: Warmup{Process: p.process, Arm: Arm(arm)}}
	}
	p.step = Step{Kind: Warm, Process: p.process, Arm: Baseline, Runs: 1}
}

func (p *Plan) recordWarm(total time.Duration, runs []time.Duration) {
	w := &p.warm[p.step.Arm]
	if w.record.Runs == 0 {
		w.record.First = runs[0].Seconds()
	} else if p.step.Runs == p.inner {
		// The first run of a worker allocates and initializes: it tells nothing of the block's length.
		if total < p.o.MinBlock && p.inner < maxInner {
			p.inner *= 2
			p.warm[0].series, p.warm[1].series = nil, nil
		} else {
			w.series = append(w.series, medianSeconds(runs))
		}
	}
	w.record.Runs += len(runs)
	w.spent += total
	limit := time.Duration(warmupShare / 2 / float64(p.o.Processes) * float64(p.o.Budget))
	for arm := range p.warm {
		s := &p.warm[arm]
		s.record.Steady = p.o.Steadiness.Steady(s.series)
		s.done = s.record.Steady || (s.spent >= limit && s.record.Runs >= 2)
	}
	next := p.step.Arm.Other()
	if p.warm[next].done {
		next = p.step.Arm
	}
	if p.warm[next].done {
		p.beginPairs()
		return
	}
	size := p.inner
	if p.warm[next].record.Runs == 0 {
		size = 1
	}
	p.step = Step{Kind: Warm, Process: p.process, Arm: next, Runs: size}
}

func (p *Plan) beginPairs() {
	pair := 0.0 // seconds of one pair of blocks
	for arm := range p.warm {
		p.warmups = append(p.warmups, p.warm[arm].record)
		perRun := p.warm[arm].spent.Seconds() / float64(p.warm[arm].record.Runs)
		if n := len(p.warm[arm].series); n > 0 {
			perRun = Median(p.warm[arm].series[max(0, n-p.o.Steadiness.Window):])
		}
		pair += perRun * float64(p.inner)
	}
	n := p.o.Pairs
	// What is left is divided among the processes still due, each of which starts and warms up as this one did.
	due := max(1, p.o.Processes-p.process)
	overhead := (p.used - p.began).Seconds()
	left := (p.o.Budget - p.used).Seconds() - overhead*float64(due-1)
	if fit := left / float64(due) / pair; fit < float64(n) {
		n = max(min(n, minPairs), int(fit))
	}
	p.least, p.check = n, n
	p.share = time.Duration(pilotShare / float64(p.o.Processes) * float64(p.o.Budget))
	p.order, p.turn = p.order[:0], 0
	p.timeTurn()
}

// drawPair adds the order of the next pair, or the next two.
func (p *Plan) drawPair() {
	first := Arm(p.rng.IntN(2))
	p.order = append(p.order, first)
	if p.o.Order == Balanced {
		p.order = append(p.order, first.Other())
	}
}

func (p *Plan) timeTurn() {
	if p.turn/2 == len(p.order) {
		p.drawPair()
	}
	arm := p.order[p.turn/2]
	if p.turn%2 == 1 {
		arm = arm.Other()
	}
	p.step = Step{Kind: Time, Process: p.process, Arm: arm, Runs: p.inner}
}

func (p *Plan) recordTime(runs []time.Duration) {
	for _, r := range runs {
		p.samples[p.step.Arm].add(r.Seconds(), p.process)
	}
	perRun := medianSeconds(runs)
	if p.turn%2 == 0 {
		p.first = perRun
	} else {
		b := Block{Process: p.process, First: p.order[p.turn/2], Runs: len(runs), Baseline: p.first, Candidate: perRun}
		if b.First == Candidate {
			b.Baseline, b.Candidate = b.Candidate, b.Baseline
		}
		p.blocks = append(p.blocks, b)
	}
	p.turn++
	if p.turn%2 == 1 || !p.enoughPairs(p.turn/2) {
		p.timeTurn()
		return
	}
	p.endProcess()
}

// enoughPairs says whether this process may end: at its least number of pairs, once the standard error of their median is
// well below the precision, or its time is up.
func (p *Plan) enoughPairs(pairs int) bool {
	if pairs < p.least || pairs < p.check && p.used-p.began < p.share {
		return false
	}
	if pairs >= maxPairs || p.used-p.began >= p.share {
		return true
	}
	p.check = pairs + max(2, pairs/8)
	ratios := make([]float64, pairs)
	for i, b := range p.blocks[len(p.blocks)-pairs:] {
		ratios[i] = b.logRatio()
	}
	// The median of n normal values has a standard error of sqrt(π/2n) standard deviations.
	se := robustSD(ratios, Median(ratios)) * math.Sqrt(math.Pi/2/float64(pairs))
	return se <= p.o.Precision/1.5
}

func medianSeconds(runs []time.Duration) float64 {
	s := make([]float64, len(runs))
	for i, r := range runs {
		s[i] = r.Seconds()
	}
	return medianInPlace(s)
}

func (p *Plan) endProcess() {
	done := p.process + 1
	switch {
	case done >= p.o.Processes && done >= p.needed(done):
		p.reason = StopPrecise
	case done >= p.o.MaxProcesses:
		p.reason = StopProcesses
	case done >= min(minProcesses, p.o.Processes) && p.used+p.used/time.Duration(done) > p.o.Budget:
		p.reason = StopBudget
	default:
		p.process, p.began = done, p.used
		p.step = Step{Kind: Start, Process: done}
		return
	}
	p.step = Step{Kind: Finish, Process: p.process}
}

// needed returns how many processes the precision takes. It is computed once, from the variance over the first Processes of
// them (an internal pilot). Looking at the interval after every process and stopping when it is narrow would stop on
// variances that are small by chance: simulated coverage falls to 92 %.
func (p *Plan) needed(done int) int {
	if p.due == 0 && done == p.o.Processes {
		if groups, err := byProcess(p.blocks); err == nil {
			p.due = processesFor(variance(estimate(groups, p.o.Confidence, 0).medians), p.o)
		}
	}
	return p.due
}

// processesFor returns the least number of processes, from o.Processes on, for which the t interval of a mean with this
// variance per process has at most the half-width o.Precision; at most o.MaxProcesses + 1.
func processesFor(variance float64, o PlanOptions) int {
	t := studentQuantile((1+o.Confidence)/2, float64(o.Processes-1))
	return searchRank(o.Processes, o.MaxProcesses+1, func(k int) bool {
		return t*math.Sqrt(variance/float64(k)) <= o.Precision
	})
}

// Blocks returns the timed pairs so far, in the order of measurement.
func (p *Plan) Blocks() []Block { return p.blocks }

// Samples returns the durations in seconds of an arm's single timed runs, in the order of measurement unless there were more
// than MaxSamples of them; total is how many there were.
func (p *Plan) Samples(arm Arm) (seconds []float64, total int) {
	return p.samples[arm].kept.Seconds, p.samples[arm].seen
}

// Timed returns what Samples does with the process of each run.
func (p *Plan) Timed(arm Arm) Timed { return p.samples[arm].kept }

// Warmups returns one record per process and arm.
func (p *Plan) Warmups() []Warmup { return p.warmups }

// Pilot returns the number of processes from whose variance the number of processes was chosen, for CompareOptions.
func (p *Plan) Pilot() int { return p.o.Processes }

// Used returns the recorded wall time.
func (p *Plan) Used() time.Duration { return p.used }

// Reason returns why the plan finished; "" before that.
func (p *Plan) Reason() StopReason { return p.reason }

// Progress estimates the finished share of the work, 0 to 1, by the nearer of its certain ends: the budget, and the largest
// number of processes.
func (p *Plan) Progress() float64 {
	if p.step.Kind == Finish {
		return 1
	}
	byTime := 0.0
	if p.o.Budget > 0 {
		byTime = p.used.Seconds() / p.o.Budget.Seconds()
	}
	return min(0.99, max(byTime, float64(p.process)/float64(p.o.MaxProcesses)))
}

// reservoir keeps a uniform random subset of at most limit runs (Vitter's algorithm R).
type reservoir struct {
	rng   *rand.Rand
	limit int
	seen  int
	kept  Timed
}

func (r *reservoir) add(seconds float64, process int) {
	r.seen++
	if len(r.kept.Seconds) < r.limit {
		r.kept.Seconds, r.kept.Process = append(r.kept.Seconds, seconds), append(r.kept.Process, process)
		return
	}
	if i := r.rng.IntN(r.seen); i < r.limit {
		r.kept.Seconds[i], r.kept.Process[i] = seconds, process
	}
}

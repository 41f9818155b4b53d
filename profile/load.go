package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Objective is a latency that a share of the requests must keep.
type Objective struct {
	MS       float64 `json:"ms"`                         // latency that may not be exceeded
	Quantile float64 `json:"quantile" schema:"fraction"` // share of the requests that must keep it: 0.99
}

// LoadOptions say what load to put on a model; the zero value of a field is its
// default. Give a Rate, an Objective, or both.
type LoadOptions struct {
	Session   session.Options // how each instance loads the model
	Rate      float64         // requests per second; 0 with an objective looks for the highest that keeps it
	Objective *Objective
	Instances int                     // sessions that serve side by side, each a process where the opener makes one; 0 means 1
	Duration  time.Duration           // of the load at one rate; more where a quantile needs more requests; 0 means 5 s
	Seed      uint64                  // of the arrivals
	Progress  func(done, total int64) // nil for none
}

// Load is what an open-loop load found out: requests arrive when they are due,
// whether or not the model is ready.
//
// Arrivals are Poisson. A request's latency counts from its intended arrival to
// its result in the caller's memory, so that time in the queue is in it, also
// where the generator itself had to wait. Several rates use the same arrivals,
// drawn closer together.
type Load struct {
	Instances  int         `json:"instances" schema:"count"` // sessions that serve side by side
	Seed       string      `json:"seed" schema:"decimal"`    // of the arrivals
	ServiceMS  float64     `json:"service_ms"`               // median time of a request without a queue, as the caller sees it
	EngineMS   float64     `json:"engine_ms"`                // of it, in the engine: the rest hands inputs and outputs over
	Capacity   float64     `json:"capacity_per_second"`      // requests per second back to back
	Objective  *Objective  `json:"objective,omitempty"`      // what was asked for
	Trials     []LoadTrial `json:"trials"`                   // in the order of measurement
	Highest    *LoadRate   `json:"highest,omitempty"`        // the highest rate that keeps the objective; absent where a rate was given
	Impossible string      `json:"impossible,omitempty"`     // why no rate keeps the objective
	Warnings   []Warning   `json:"warnings,omitempty"`       // doubts about the numbers
}

// LoadRate is a rate with its uncertainty.
type LoadRate struct {
	PerSecond       float64  `json:"per_second"`        // the highest rate whose quantile kept the objective
	Holds           float64  `json:"holds"`             // highest rate at which the whole interval kept it; 0 where there is none
	Fails           *float64 `json:"fails,omitempty"`   // lowest rate at which the whole interval missed it; absent where there is none
	ShareOfCapacity float64  `json:"share_of_capacity"` // PerSecond over the capacity back to back
}

// LoadTrial is the load at one rate.
type LoadTrial struct {
	Rate     float64   `json:"rate"`                                           // requests per second that were offered
	Requests int       `json:"requests" schema:"count"`                        // that arrived
	Served   float64   `json:"served_per_second"`                              // completed, per second from the first arrival on
	Busy     float64   `json:"busy" schema:"fraction"`                         // share of the instances' time in which they served
	MeanMS   float64   `json:"mean_ms"`                                        // mean latency
	WaitMS   float64   `json:"wait_ms"`                                        // of it, mean time in the queue
	P50      *Quantile `json:"p50,omitempty"`                                  // median latency
	P90      *Quantile `json:"p90,omitempty"`                                  // 90th percentile
	P95      *Quantile `json:"p95,omitempty"`                                  // 95th percentile
	P99      *Quantile `json:"p99,omitempty"`                                  // 99th percentile; absent below 368 requests
	MaxMS    float64   `json:"max_ms"`                                         // slowest request
	LateMS   float64   `json:"late_ms"`                                        // 99th percentile of how late the generator itself was; it is within the latencies
	Kept     *float64  `json:"kept,omitempty"`                                 // share of the requests that kept the objective
	Verdict  string    `json:"verdict,omitempty" schema:"holds|fails|unclear"` // of the objective, by the quantile's interval
	Unstable bool      `json:"unstable,omitempty"`                             // the queue grew without end, and the trial was stopped
}

const (
	verdictHolds   = "holds"
	verdictFails   = "fails"
	verdictUnclear = "unclear"

	maxTrials    = 9    // rates that the search tries
	rateStep     = 0.04 // relative width at which the search ends
	maxRequests  = 200_000
	serviceRuns  = 60  // back to back, before the load
	queueLimit   = 30  // a wait of so many objectives, or of so many times the service, shows that the queue has no end
	backlogLimit = 50  // requests in the queue from which on that is looked at
	stallShare   = 0.2 // of the trial's time
)

func (o LoadOptions) filled() (LoadOptions, error) {
	if o.Instances == 0 {
		o.Instances = 1
	}
	if o.Duration == 0 {
		o.Duration = 5 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	o.Session.Profile, o.Session.SaveModel, o.Session.Outputs = "", "", nil
	switch {
	case o.Rate == 0 && o.Objective == nil:
		return o, errors.New("neither a rate nor an objective is given")
	case !(o.Rate >= 0) || math.IsInf(o.Rate, 0):
		return o, fmt.Errorf("a rate of %v requests per second is not above 0", o.Rate)
	case o.Instances < 1 || o.Duration < 0:
		return o, fmt.Errorf("%d instances and a duration of %v must be positive", o.Instances, o.Duration)
	}
	if j := o.Objective; j != nil && !(j.MS > 0 && j.Quantile > 0 && j.Quantile < 1) {
		return o, fmt.Errorf("an objective of %v ms at the quantile %v: the first must be above 0, the second inside (0, 1)", j.MS, j.Quantile)
	}
	return o, nil
}

// RunLoad puts an open-loop load on the model file at path, whose inputs are
// samples in turn.
func RunLoad(ctx context.Context, path string, open session.Opener, samples []map[string]*onnx.Tensor, o LoadOptions) (*Load, error) {
	o, err := o.filled()
	if err == nil && len(samples) == 0 {
		err = errors.New("there are no inputs to run it on; give at least one sample")
	}
	if err != nil {
		return nil, fmt.Errorf("loading %s with requests: %w", path, err)
	}
	var servers []server
	for range o.Instances {
		s, err := open(ctx, path, o.Session)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		next := 0
		servers = append(servers, func(ctx context.Context) (time.Duration, error) {
			r, err := s.Run(ctx, samples[next%len(samples)])
			next++
			if err != nil {
				return 0, err
			}
			return r.Elapsed, nil
		})
	}
	l, err := drive(ctx, servers, wallClock{}, o)
	if err != nil {
		return nil, fmt.Errorf("loading %s with requests: %w", path, err)
	}
	return l, nil
}

// server serves one request and returns the engine's own part of the time.
type server func(ctx context.Context) (time.Duration, error)

// loadClock is the time by which requests arrive and are served.
type loadClock interface {
	now() time.Duration
	until(ctx context.Context, t time.Duration) error // waits until then
}

// wallClock is real time. Sleeping overshoots by up to a tenth of a
// millisecond, so the last stretch is waited out awake.
type wallClock struct{}

var clockStart = time.Now()

func (wallClock) now() time.Duration { return time.Since(clockStart) }

const awake = 200 * time.Microsecond

func (c wallClock) until(ctx context.Context, t time.Duration) error {
	if d := t - c.now() - awake; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for c.now() < t {
	}
	return ctx.Err()
}

// drive measures the servers without a queue, then under load.
func drive(ctx context.Context, servers []server, clock loadClock, o LoadOptions) (*Load, error) {
	d := &driver{servers: servers, clock: clock, o: o, l: &Load{Instances: len(servers), Seed: fmt.Sprint(o.Seed), Objective: o.Objective, Trials: []LoadTrial{}}}
	if err := d.service(ctx); err != nil {
		return nil, err
	}
	var err error
	if o.Rate > 0 {
		_, err = d.trial(ctx, o.Rate)
		o.Progress(1, 1)
	} else {
		err = d.search(ctx)
		o.Progress(maxTrials, maxTrials)
	}
	if err != nil {
		return nil, err
	}
	d.doubts()
	return d.l, nil
}

// driver is a load generator at work.
type driver struct {
	servers []server
	clock   loadClock
	o       LoadOptions
	l       *Load
}

// service measures requests back to back, one instance after the other has
// warmed up: all at once, as under load.
func (d *driver) service(ctx context.Context) error {
	var mu sync.Mutex
	var walls, engines []float64
	err := d.each(func(s server) error {
		for i := range 2 * serviceRuns {
			began := d.clock.now()
			engine, err := s(ctx)
			if err != nil {
				return err
			}
			if i < serviceRuns {
				continue // warm-up
			}
			mu.Lock()
			walls, engines = append(walls, (d.clock.now()-began).Seconds()), append(engines, engine.Seconds())
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.l.ServiceMS, d.l.EngineMS = 1e3*measure.Median(walls), 1e3*measure.Median(engines)
	total := 0.0
	for _, w := range walls {
		total += w
	}
	if !(total > 0) {
		return errors.New("serving takes no measurable time")
	}
	d.l.Capacity = float64(len(walls)*len(d.servers)) / total
	return nil
}

// each runs f for every server at once and returns the first error.
func (d *driver) each(f func(server) error) error {
	if len(d.servers) == 1 {
		return f(d.servers[0])
	}
	errs := make([]error, len(d.servers))
	var wg sync.WaitGroup
	for i, s := range d.servers {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// requests returns how many requests a trial takes: as many as arrive in its
// time, and enough for the quantiles that it is to state.
func (d *driver) requests(rate float64) int {
	n := int(math.Min(maxRequests, rate*d.o.Duration.Seconds()))
	least := measure.MinSamples(0.9, 0.95)
	if d.o.Objective != nil {
		least = measure.MinSamples(d.o.Objective.Quantile, 0.95)
	}
	return max(n, least)
}

// arrivals returns n gaps of a Poisson process with one arrival per unit of
// time, added up. The same seed gives the same, and more of them.
func arrivals(n int, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 0x6c6f6164))
	out := make([]float64, n)
	at := 0.0
	for i := range out {
		at += rng.ExpFloat64()
		out[i] = at
	}
	return out
}

// trial offers requests at a rate and keeps what came of it.
func (d *driver) trial(ctx context.Context, rate float64) (*LoadTrial, error) {
	n := d.requests(rate)
	t := &flight{due: make([]time.Duration, n), latency: make([]float64, n), wait: make([]float64, n), late: make([]float64, n)}
	start := d.clock.now() + time.Millisecond
	for i, a := range arrivals(n, d.o.Seed) {
		t.due[i] = start + time.Duration(a/rate*float64(time.Second))
	}
	if err := d.each(func(s server) error { return d.serve(ctx, s, t) }); err != nil {
		return nil, err
	}
	out := t.summary(rate, len(d.servers), d.o.Objective, d.o.Seed)
	d.l.Trials = append(d.l.Trials, *out)
	return out, nil
}

// flight is a trial under way. Instances take requests in the order of their
// arrival, so that together they are one queue.
type flight struct {
	due                 []time.Duration
	latency, wait, late []float64 // seconds, by request
	busy                atomic.Int64
	next                atomic.Int64
	stopped             atomic.Bool
}

// serve takes requests until there are no more.
func (d *driver) serve(ctx context.Context, s server, t *flight) error {
	free := d.clock.now()
	for {
		i := int(t.next.Add(1)) - 1
		if i >= len(t.due) || t.stopped.Load() {
			return nil
		}
		if err := d.clock.until(ctx, t.due[i]); err != nil {
			return err
		}
		began := d.clock.now()
		if _, err := s(ctx); err != nil {
			t.stopped.Store(true)
			return err
		}
		end := d.clock.now()
		t.wait[i] = (began - t.due[i]).Seconds()
		t.late[i] = (began - max(free, t.due[i])).Seconds()
		t.latency[i] = (end - t.due[i]).Seconds()
		t.busy.Add(int64(end - began))
		free = end
		if d.hopeless(t, i, began) {
			t.stopped.Store(true)
		}
	}
}

// hopeless reports whether the queue has grown beyond what the trial could
// still make good: a wait far above the objective, behind which others stand,
// and of a length that no single stall explains.
func (d *driver) hopeless(t *flight, i int, now time.Duration) bool {
	limit := queueLimit * d.l.ServiceMS / 1e3
	if d.o.Objective != nil {
		limit = max(limit, queueLimit*d.o.Objective.MS/1e3)
	}
	if t.wait[i] < limit {
		return false
	}
	behind, last := i+backlogLimit, len(t.due)-1
	return behind <= last && t.due[behind] < now && t.wait[i] > stallShare*(t.due[last]-t.due[0]).Seconds()
}

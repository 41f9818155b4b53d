package profile

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// simulated is time that passes only by waiting and by serving.
type simulated struct{ at time.Duration }

func (c *simulated) now() time.Duration { return c.at }
func (c *simulated) until(_ context.Context, t time.Duration) error {
	c.at = max(c.at, t)
	return nil
}

// serving returns a server that takes what next says.
func (c *simulated) serving(next func() time.Duration) server {
	return func(context.Context) (time.Duration, error) {
		d := next()
		c.at += d
		return d, nil
	}
}

func constant(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// TestMeanWaitOfMD1 holds the generator against queueing theory: with Poisson
// arrivals and a constant service time D the mean wait is ρD / 2(1-ρ)
// (Pollaczek and Khinchine).
func TestMeanWaitOfMD1(t *testing.T) {
	const service = 10 * time.Millisecond
	for _, busy := range []float64{0.3, 0.6, 0.8} {
		var c simulated
		rate := busy / service.Seconds()
		l, err := drive(t.Context(), []server{c.serving(constant(service))}, &c, LoadOptions{
			Rate: rate, Duration: time.Duration(100_000 / rate * float64(time.Second)), Seed: 3, Progress: func(int64, int64) {}})
		if err != nil {
			t.Fatal(err)
		}
		r := l.Trials[0]
		want := 1e3 * busy * service.Seconds() / 2 / (1 - busy)
		t.Logf("utilization %.1f: %d requests waited %.3f ms on average, theory %.3f ms", busy, r.Requests, r.WaitMS, want)
		if math.Abs(r.WaitMS/want-1) > 0.05 || math.Abs(r.MeanMS-r.WaitMS-10) > 1e-6 || math.Abs(r.Busy-busy) > 0.01 || math.Abs(r.Served/rate-1) > 0.01 {
			t.Errorf("utilization %.1f: %+v, want a mean wait of %.3f ms", busy, r, want)
		}
		if math.Abs(l.Capacity-100) > 1e-6 || r.Unstable || r.P99 == nil || r.P99.CI95[0] > r.P99.MS || r.P99.CI95[1] < r.P99.MS {
			t.Errorf("utilization %.1f: capacity %v, %+v", busy, l.Capacity, r.P99)
		}
	}
}

// TestHighestRateOfMM1 holds the search against theory: with exponential service
// times of rate µ a request takes an exponential time of rate µ-λ, so that
// p99 = T at λ = µ - ln(100)/T.
func TestHighestRateOfMM1(t *testing.T) {
	var c simulated
	rng := rand.New(rand.NewPCG(9, 9))
	const mu, limit = 100.0, 0.150
	next := func() time.Duration { return time.Duration(rng.ExpFloat64() / mu * float64(time.Second)) }
	l, err := drive(t.Context(), []server{c.serving(next)}, &c, LoadOptions{
		Objective: &Objective{MS: 1e3 * limit, Quantile: 0.99}, Duration: 400 * time.Second, Seed: 5, Progress: func(int64, int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	want := mu - math.Log(100)/limit
	if l.Highest == nil {
		t.Fatalf("no rate was found: %+v", l)
	}
	t.Logf("highest rate %.1f, surely held up to %.1f, failed from %v on; theory %.1f", l.Highest.PerSecond, l.Highest.Holds, *l.Highest.Fails, want)
	if math.Abs(l.Highest.PerSecond/want-1) > 0.08 || l.Highest.Holds > want || *l.Highest.Fails < want {
		t.Errorf("%+v (fails at %v), want about %.1f", l.Highest, *l.Highest.Fails, want)
	}
}

// TestIntervalsOfAQueueCover: with correlated latencies the interval of p90 must
// still hold the truth in about 95 % of repetitions; by order statistics alone
// it would not.
func TestIntervalsOfAQueueCover(t *testing.T) {
	const mu, lambda, n, times = 1.0, 0.8, 4000, 100
	truth := 1e3 * math.Log(10) / (mu - lambda)
	covered := 0
	for k := range times {
		rng := rand.New(rand.NewPCG(uint64(k), 1))
		latency := make([]float64, 0, n)
		wait := 0.0
		for i := range n + 500 {
			service := rng.ExpFloat64() / mu
			if i >= 500 { // the queue began empty
				latency = append(latency, wait+service)
			}
			wait = max(0, wait+service-rng.ExpFloat64()/lambda)
		}
		if q := queueQuantiles(latency, uint64(k), 0.9)[0]; q.CI95[0] <= truth && truth <= q.CI95[1] {
			covered++
		}
	}
	t.Logf("%d of %d intervals hold the truth", covered, times)
	if covered < 88 {
		t.Errorf("%d of %d intervals hold the truth", covered, times)
	}
}

// TestAStallCountsForAllWhoWaited: a server that stands still for a second, once.
// Timing each request from its start would see one slow request; those that were
// due meanwhile waited too.
func TestAStallCountsForAllWhoWaited(t *testing.T) {
	var c simulated
	served := 0
	s := c.serving(func() time.Duration {
		if served++; served == 1000 {
			return time.Second
		}
		return time.Millisecond
	})
	l, err := drive(t.Context(), []server{s}, &c, LoadOptions{Rate: 100, Duration: 40 * time.Second, Seed: 1, Progress: func(int64, int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	r := l.Trials[0]
	if r.MaxMS < 1000 || r.P99 == nil || r.P99.MS < 300 || r.P50.MS > 2 {
		t.Errorf("max %.0f, p99 %+v, p50 %+v: about a hundred of 4000 requests waited for the stall", r.MaxMS, r.P99, r.P50)
	}
}

func TestOverload(t *testing.T) {
	var c simulated
	o := LoadOptions{Rate: 150, Objective: &Objective{MS: 20, Quantile: 0.99}, Duration: time.Minute, Seed: 1, Progress: func(int64, int64) {}}
	l, err := drive(t.Context(), []server{c.serving(constant(10 * time.Millisecond))}, &c, o)
	if err != nil {
		t.Fatal(err)
	}
	if r := l.Trials[0]; !r.Unstable || r.Verdict != verdictFails || r.Requests > 6000 || len(l.Warnings) == 0 {
		t.Errorf("%+v, warnings %v", r, l.Warnings)
	}
	o.Rate, o.Objective = 0, &Objective{MS: 5, Quantile: 0.9}
	l, err = drive(t.Context(), []server{c.serving(constant(10 * time.Millisecond))}, &c, o)
	if err != nil || l.Highest != nil || l.Impossible == "" {
		t.Errorf("half of the service time cannot be kept: %+v, %v", l, err)
	}
}

// napping serves by sleeping.
type napping struct{}

func (s *napping) Inputs() []session.Port  { return nil }
func (s *napping) Outputs() []session.Port { return nil }
func (s *napping) Close() error            { return nil }
func (s *napping) Run(ctx context.Context, _ map[string]*onnx.Tensor) (*session.Result, error) {
	time.Sleep(5 * time.Millisecond)
	return &session.Result{Elapsed: 5 * time.Millisecond}, nil
}

// TestInstancesServeSideBySide in real time: at a rate that is too much for one
// server, two serve more.
func TestInstancesServeSideBySide(t *testing.T) {
	open := func(context.Context, string, session.Options) (session.Session, error) { return &napping{}, nil }
	in := []map[string]*onnx.Tensor{sample(1)}
	served := map[int]float64{}
	for _, n := range []int{1, 2} {
		l, err := RunLoad(t.Context(), "m.onnx", open, in, LoadOptions{Rate: 330, Instances: n, Duration: 500 * time.Millisecond, Seed: 2})
		if err != nil {
			t.Fatal(err)
		}
		served[n] = l.Trials[0].Served
	}
	t.Logf("requests served a second: %.0f by one, %.0f by two", served[1], served[2])
	if served[2] < 1.25*served[1] {
		t.Errorf("two servers served %.0f requests a second, one %.0f", served[2], served[1])
	}
}

func TestLoadErrors(t *testing.T) {
	broken := errors.New("no such engine")
	open := func(context.Context, string, session.Options) (session.Session, error) { return nil, broken }
	in := []map[string]*onnx.Tensor{sample(1)}
	if _, err := RunLoad(t.Context(), "m.onnx", open, in, LoadOptions{Rate: 1}); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the engine", err)
	}
	for _, o := range []LoadOptions{{}, {Rate: -1}, {Rate: math.NaN()}, {Rate: 1, Instances: -1}, {Objective: &Objective{MS: 0, Quantile: 0.5}}, {Objective: &Objective{MS: 1, Quantile: 1}}} {
		if _, err := RunLoad(t.Context(), "m.onnx", open, in, o); err == nil || errors.Is(err, broken) {
			t.Errorf("%+v: error %v, want one about the options", o, err)
		}
	}
	if _, err := RunLoad(t.Context(), "m.onnx", open, nil, LoadOptions{Rate: 1}); err == nil || errors.Is(err, broken) {
		t.Errorf("error %v, want one about the inputs", err)
	}
}

package profile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TimedOptions say how a model is to be timed; the zero value is the default of every field.
type TimedOptions struct {
	Session   session.Options // how the model is loaded; Profile, SaveModel and Outputs are ignored
	Processes int             // fresh sessions, each a process where the opener makes one; 0 means 3
	Runs      int             // timed runs of all sessions together, where the budget allows; 0 means 1000
	Budget    time.Duration   // time of all runs together; 0 means 15 s
	Batch     int             // samples that one set of inputs holds, for the throughput; 0 means 1
	Machine   *device.Machine // this machine, to judge by its counters how quiet it was; nil leaves them unread
	MinBlock  time.Duration   // runs are batched until a batch takes this long; 0 means 5 ms
	// ProfiledRuns is the number of runs that per-node times are averaged over; 0 means 100, or fewer where the
	// budget is short. Negative leaves the per-node times out.
	ProfiledRuns int
	Steadiness   measure.Steadiness      // end of the warm-up
	TempDir      string                  // for the engine's trace while it records; "" is the system's
	Progress     func(done, total int64) // nil for none
	Clock        func() time.Time        // measures the opening of sessions; nil means time.Now
}

const (
	minRuns     = 6   // timed runs per session, whatever the budget
	maxBatch    = 256 // runs per batch
	warmupShare = 0.25
)

func (o TimedOptions) filled() (TimedOptions, error) {
	if o.Processes == 0 {
		o.Processes = 3
	}
	if o.Runs == 0 {
		o.Runs = 1000
	}
	if o.Budget == 0 {
		o.Budget = 15 * time.Second
	}
	if o.MinBlock == 0 {
		o.MinBlock = 5 * time.Millisecond
	}
	if o.ProfiledRuns == 0 {
		o.ProfiledRuns = 100
	}
	if o.Batch == 0 {
		o.Batch = 1
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	o.Session.Profile, o.Session.SaveModel, o.Session.Outputs, o.Session.TimeRead = "", "", nil, true
	if o.Processes < 0 || o.Runs < 0 || o.Budget < 0 || o.MinBlock < 0 {
		return o, fmt.Errorf("processes %d, runs %d, budget %v and batch time %v must not be negative", o.Processes, o.Runs, o.Budget, o.MinBlock)
	}
	return o, nil
}

// TimedProfile is what running a model took.
//
// A run is timed from its inputs in place to its outputs in host memory.
type TimedProfile struct {
	Device           string        `json:"device,omitempty"`       // as asked for; absent for the CPU
	Provider         string        `json:"provider,omitempty"`     // execution provider that the engine reports
	Threads          int           `json:"threads" schema:"count"` // within an operator, as asked for; 0 leaves it to the engine
	Samples          int           `json:"samples" schema:"count"` // sets of inputs, taken in turn
	InputShapes      []string      `json:"input_shapes"`           // distinct shapes of the samples' inputs, each warmed up
	Latency          Latency       `json:"latency"`                // of one run, all sessions together
	Batch            int           `json:"batch" schema:"count"`   // samples in one run
	PerSecond        float64       `json:"per_second"`             // runs per second back to back: 1 / mean latency
	SamplesPerSecond float64       `json:"samples_per_second"`     // samples per second back to back
	Cold             Cold          `json:"cold"`                   // the way to the first result, medians over the sessions
	Memory           *Memory       `json:"memory,omitempty"`       // of the process that runs the model; absent where it is not known
	Fallbacks        *int          `json:"fallbacks,omitempty"`    // nodes that ran on another device than asked for; absent where it is not known
	Sessions         []SessionRuns `json:"sessions"`               // each fresh session
	Nodes            []NodeTime    `json:"nodes,omitempty"`        // from the engine's profile, most time first
	Operators        []GroupTime   `json:"operators,omitempty"`    // times of nodes by operator as the engine ran it, most time first
	Providers        []GroupTime   `json:"providers,omitempty"`    // times of nodes by execution provider, most time first
	Accounting       *Accounting   `json:"accounting,omitempty"`   // node times against wall time
	Matching         *Matching     `json:"matching,omitempty"`     // nodes that ran against nodes of the model
	Skipped          string        `json:"skipped,omitempty"`      // why there are no times of nodes
	Noise            *Noise        `json:"noise,omitempty"`        // how independent the runs and how quiet the machine were
	Warnings         []Warning     `json:"warnings,omitempty"`     // doubts about the numbers

	Series   [][]float64 `json:"-"` // seconds of each timed run, by session
	Timeline []Span      `json:"-"` // one profiled run, node by node
}

// Noise is how far the runs were from independent draws, and what the machine
// did meanwhile. A field is absent where it is not known, which is not zero.
type Noise struct {
	Lag1             *float64 `json:"lag1,omitempty"`                                // autocorrelation of successive batches; absent where several inputs take turns
	TrendP           *float64 `json:"trend_p,omitempty" schema:"fraction"`           // of the Mann-Kendall test for a drift
	Drift            *float64 `json:"drift,omitempty"`                               // relative change from the first to the last third of the time
	Steal            *float64 `json:"steal,omitempty" schema:"fraction"`             // processor time that the hypervisor gave to others
	ThrottledPeriods *int64   `json:"throttled_periods,omitempty" schema:"count"`    // periods in which the cgroup's quota ran out
	Pressure         *float64 `json:"cpu_pressure,omitempty" schema:"fraction"`      // time in which some task waited for a processor
	Switches         *int64   `json:"involuntary_switches,omitempty" schema:"count"` // of the processes that ran the model
}

// Warning is a doubt about a measurement.
type Warning struct {
	Code     string `json:"code"`                               // kebab-case identifier
	Severity string `json:"severity" schema:"note|warn|severe"` // how far it reaches
	Message  string `json:"message"`                            // one sentence
}

func (t *TimedProfile) warn(list ...measure.Warning) {
	for _, w := range list {
		t.Warnings = append(t.Warnings, Warning{Code: w.Code, Severity: w.Severity.String(), Message: w.Message})
	}
}

// Latency is the distribution of the time of one run. Quantiles that the number
// of runs cannot support are absent: a 99th percentile takes 368 runs.
type Latency struct {
	Runs     int       `json:"runs" schema:"count"`     // timed
	MeanMS   float64   `json:"mean_ms"`                 // arithmetic mean
	SDMS     float64   `json:"sd_ms"`                   // standard deviation
	MinMS    float64   `json:"min_ms"`                  // fastest run
	MaxMS    float64   `json:"max_ms"`                  // slowest run; none is ever left out
	P50      *Quantile `json:"p50,omitempty"`           // median
	P90      *Quantile `json:"p90,omitempty"`           // 90th percentile
	P95      *Quantile `json:"p95,omitempty"`           // 95th percentile
	P99      *Quantile `json:"p99,omitempty"`           // 99th percentile
	Outliers int       `json:"outliers" schema:"count"` // runs farther than 10 scaled median absolute deviations from the median
}

// Quantile is an estimate with the order statistics that hold the true quantile
// with at least 95 % confidence, whatever the distribution, for independent runs.
type Quantile struct {
	MS   float64    `json:"ms"`   // interpolated between order statistics
	CI95 [2]float64 `json:"ci95"` // in ms
}

// Cold is the way from nothing to the first result.
type Cold struct {
	OpenMS     float64  `json:"open_ms"`             // from asking for a session to having it, a process's start included
	StartMS    *float64 `json:"start_ms,omitempty"`  // of it, starting the process and the engine, where the rest is known
	ReadMS     *float64 `json:"read_ms,omitempty"`   // of it, reading the model file, where the engine tells it apart
	CreateMS   *float64 `json:"create_ms,omitempty"` // of it, creating the engine's session
	FirstRunMS float64  `json:"first_run_ms"`        // the first run
	Slowdown   float64  `json:"slowdown"`            // first run over median run
}

// Memory is resident memory of a process.
type Memory struct {
	PeakBytes int64 `json:"peak_bytes" schema:"count"` // most over loading and all runs, median over the sessions
	BaseBytes int64 `json:"base_bytes" schema:"count"` // before the model was loaded, median over the sessions
	OwnBytes  int64 `json:"own_bytes" schema:"count"`  // peak less base
}

// SessionRuns is what one fresh session took.
type SessionRuns struct {
	OpenMS     float64  `json:"open_ms"`                             // until the session was there
	StartMS    *float64 `json:"start_ms,omitempty"`                  // starting the process and the engine: what reading and creating leave
	ReadMS     *float64 `json:"read_ms,omitempty"`                   // reading the file, where known apart
	CreateMS   *float64 `json:"create_ms,omitempty"`                 // creating the engine's session, where known
	FirstRunMS float64  `json:"first_run_ms"`                        // the first run
	Warmup     int      `json:"warmup" schema:"count"`               // untimed runs before the measurement
	Steady     bool     `json:"steady"`                              // timings agreed at the end of the warm-up
	Runs       int      `json:"runs" schema:"count"`                 // timed
	MedianMS   float64  `json:"median_ms"`                           // of the timed runs
	PeakBytes  int64    `json:"peak_bytes,omitempty" schema:"count"` // resident at most; absent where not known
	BaseBytes  int64    `json:"base_bytes,omitempty" schema:"count"` // resident before the model was loaded
	Switches   int64    `json:"switches,omitempty" schema:"count"`   // involuntary context switches
}

// Timed runs the model file at path on samples, sets of inputs by name that are
// taken in turn.
//
// Every session warms up on each distinct shape of inputs until its timings are
// steady. Times of nodes come from one more session in which the engine's own
// profiler runs; an engine without one leaves them out and says so.
func Timed(ctx context.Context, path string, open session.Opener, samples []map[string]*onnx.Tensor, o TimedOptions) (*TimedProfile, error) {
	o, err := o.filled()
	if err != nil {
		return nil, fmt.Errorf("timing %s: %w", path, err)
	}
	if len(samples) == 0 {
		return nil, fmt.Errorf("timing %s: there are no inputs to run it on; give at least one sample", path)
	}
	r := &runner{o: o, path: path, open: open, samples: samples, batch: 1}
	r.shapes, r.byShape = distinctShapes(samples)
	r.total = int64(o.Runs)
	if o.ProfiledRuns > 0 {
		r.total += int64(o.ProfiledRuns)
	}
	t := &TimedProfile{Device: o.Session.Device, Threads: o.Session.Threads, Batch: o.Batch, Samples: len(samples), InputShapes: r.shapes}
	if o.Machine != nil {
		r.before = device.Snapshot(device.Options{})
	}
	for i := range o.Processes {
		s, err := r.process(ctx, i)
		if err != nil {
			return nil, err
		}
		t.Sessions = append(t.Sessions, *s)
	}
	if err := r.summarize(t); err != nil {
		return nil, fmt.Errorf("timing %s: %w", path, err)
	}
	if o.ProfiledRuns < 0 {
		t.Skipped = "times of nodes were not asked for"
	} else if err := r.profile(ctx, t); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		t.Skipped = err.Error()
	}
	o.Progress(r.total, r.total)
	return t, nil
}

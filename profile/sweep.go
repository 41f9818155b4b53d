package profile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// SweepOptions say what settings are to be compared; the zero value of a field
// is its default.
type SweepOptions struct {
	Session session.Options // what no axis sets; Profile, SaveModel and Outputs are ignored
	Batch   int             // samples at once where no axis sets it; 0 means 1
	Dims    map[string]int64
	Axes    []SweepAxis
	// Inputs returns inputs with a batch and dimensions of the given sizes.
	Inputs     func(ctx context.Context, batch int, dims map[string]int64) ([]map[string]*onnx.Tensor, error)
	Processes  int                     // fresh sessions of each setting; 0 means 5, at least 2
	Rounds     int                     // turns of each setting within a session, where the budget allows; 0 means 12
	Budget     time.Duration           // time of all runs together; 0 means 30 s
	MinBlock   time.Duration           // runs of one turn take about this long; 0 means 5 ms
	MaxOpen    int                     // sessions that are open at one time; 0 means 12, at least 2
	Seed       uint64                  // of the order in which settings take turns
	Steadiness measure.Steadiness      // end of each warm-up
	Progress   func(done, total int64) // nil for none
	Clock      func() time.Time        // nil means time.Now
}

// Sweep is what a model takes under several settings.
//
// Fresh sessions of all settings are open at the same time and take turns in an
// order drawn anew for each round, so that a slow moment of the machine hits all
// alike. Intervals are Student's t over processes.
type Sweep struct {
	Axes      []SweepAxis  `json:"axes"`                     // in the order given
	Processes int          `json:"processes" schema:"count"` // fresh sessions of each setting
	Seed      string       `json:"seed" schema:"decimal"`    // of the order of turns
	Points    []SweepPoint `json:"points"`                   // one per combination, the last axis changing fastest
	Best      []SweepBest  `json:"best"`                     // the fastest by latency and by throughput, for each combination of dimensions
	Warnings  []Warning    `json:"warnings,omitempty"`       // doubts about the numbers
}

// SweepPoint is one combination of settings.
type SweepPoint struct {
	Settings  []Setting   `json:"settings"`                            // one per axis
	Batch     int         `json:"batch" schema:"count"`                // samples in one run
	MS        float64     `json:"ms,omitempty"`                        // median time of one run
	CI95      *[2]float64 `json:"ci95,omitempty"`                      // of it, over processes
	PerSecond float64     `json:"samples_per_second,omitempty"`        // samples per second at that time
	Ratio     *float64    `json:"ratio,omitempty"`                     // time per sample over that of the first combination with these dimensions, by pairs of turns
	RatioCI95 *[2]float64 `json:"ratio_ci95,omitempty"`                // of it, over processes
	Runs      int         `json:"runs" schema:"count"`                 // timed
	PeakBytes int64       `json:"peak_bytes,omitempty" schema:"count"` // resident at most, median over the processes
	Failed    string      `json:"failed,omitempty"`                    // why there are no times
}

// SweepBest is the best of the combinations that answer the same question.
type SweepBest struct {
	For       string      `json:"for" schema:"latency|throughput"` // shortest run, or most samples per second
	Where     []Setting   `json:"where,omitempty"`                 // dimensions for which this holds
	Point     int         `json:"point"`                           // its place among the points
	Flags     string      `json:"flags"`                           // what chooses it on the command line
	Ratio     *float64    `json:"ratio,omitempty"`                 // of its time (of a run, or per sample) to that of the first combination with these dimensions; absent where it is that one
	RatioCI95 *[2]float64 `json:"ratio_ci95,omitempty"`            // of it, wider by Bonferroni's correction for having chosen the best
	Within    []int       `json:"within,omitempty"`                // other points that this measurement cannot tell from it: the interval of their ratio holds 1
}

// sweepRun is one setting while it is measured.
type sweepRun struct {
	runner
	point  *SweepPoint
	batch  int
	group  int           // settings with the same dimensions
	times  []sweepTurn   // of all processes
	peaks  []float64     // by process
	opened *sweepSession // of this process, nil where it is not open
}

type sweepSession struct {
	session.Session
	inner int // runs per turn
}

// sweepTurn is one turn: the median time of a run, in seconds per sample.
type sweepTurn struct {
	process, round int
	perSample      float64
	runs           int
}

func (o SweepOptions) filled() (SweepOptions, error) {
	for _, f := range []struct {
		at       *int
		standard int
	}{{&o.Batch, 1}, {&o.Processes, 5}, {&o.Rounds, 12}, {&o.MaxOpen, 12}} {
		if *f.at == 0 {
			*f.at = f.standard
		}
	}
	if o.Budget == 0 {
		o.Budget = 30 * time.Second
	}
	switch {
	case len(o.Axes) == 0:
		return o, errors.New("no setting is varied; name one, as in threads=1,2")
	case o.Batch < 1 || o.Rounds < 1 || o.Budget < 0:
		return o, fmt.Errorf("batch %d, rounds %d and budget %v must be positive", o.Batch, o.Rounds, o.Budget)
	case o.Processes < 2 || o.MaxOpen < 2:
		return o, fmt.Errorf("%d processes and %d open at once: at least 2 of each are needed to compare", o.Processes, o.MaxOpen)
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	return o, nil
}

// RunSweep times the model file at path under every combination of the axes.
// It fails where none of them can be timed; one that cannot says why.
func RunSweep(ctx context.Context, path string, open session.Opener, o SweepOptions) (*Sweep, error) {
	o, err := o.filled()
	if err != nil {
		return nil, fmt.Errorf("sweeping %s: %w", path, err)
	}
	s := &Sweep{Axes: o.Axes, Processes: o.Processes, Seed: fmt.Sprint(o.Seed), Best: []SweepBest{}}
	w := &sweeper{o: o, s: s, rng: rand.New(rand.NewPCG(o.Seed, 0x73776565))}
	if err := w.prepare(ctx, path, open); err != nil {
		return nil, fmt.Errorf("sweeping %s: %w", path, err)
	}
	for p := range o.Processes {
		for _, some := range w.shares() {
			if err := w.process(ctx, p, some); err != nil {
				return nil, fmt.Errorf("sweeping %s: %w", path, err)
			}
		}
	}
	if err := w.conclude(); err != nil {
		return nil, fmt.Errorf("sweeping %s: %w", path, err)
	}
	return s, nil
}

// sweeper measures a sweep.
type sweeper struct {
	o           SweepOptions
	s           *Sweep
	rng         *rand.Rand
	runs        []*sweepRun
	done, total int64
}

// prepare makes the points and their inputs.
func (w *sweeper) prepare(ctx context.Context, path string, open session.Opener) error {
	list := combinations(w.o.Axes)
	w.s.Points = make([]SweepPoint, len(list))
	w.total = int64(len(list) * w.o.Processes)
	groups := map[string]int{}
	for i, settings := range list {
		p := &w.s.Points[i]
		*p = SweepPoint{Settings: settings, Batch: w.o.Batch}
		r := &sweepRun{point: p}
		o := TimedOptions{Session: w.o.Session, MinBlock: w.o.MinBlock, Steadiness: w.o.Steadiness, Clock: w.o.Clock}
		dims := maps.Clone(w.o.Dims)
		if dims == nil {
			dims = map[string]int64{}
		}
		if err := apply(settings, &o.Session, &p.Batch, dims); err != nil {
			return err
		}
		samples, err := w.o.Inputs(ctx, p.Batch, dims)
		if err == nil && len(samples) == 0 {
			err = errors.New("there are no inputs")
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			p.Failed = err.Error()
		}
		if o, err = o.filled(); err != nil {
			return err
		}
		r.runner = runner{o: o, path: path, open: open, samples: samples, batch: 1}
		if len(samples) > 0 {
			r.shapes, r.byShape = distinctShapes(samples)
		}
		key := fmt.Sprint(dimensions(settings))
		if _, seen := groups[key]; !seen {
			groups[key] = len(groups)
		}
		r.group, r.batch = groups[key], p.Batch
		w.runs = append(w.runs, r)
	}
	return nil
}

// dimensions returns those settings that are sizes of the input: they make
// another question, not another answer.
func dimensions(settings []Setting) []Setting {
	var out []Setting
	for _, s := range settings {
		if len(s.Name) > len(dimPrefix) && s.Name[:len(dimPrefix)] == dimPrefix {
			out = append(out, s)
		}
	}
	return out
}

// shares divides the settings that work into lots that may be open at one time,
// at random. Each lot begins with the first setting of its group, to which the
// others are compared.
func (w *sweeper) shares() [][]*sweepRun {
	byGroup := map[int][]*sweepRun{}
	var order []int
	for _, r := range w.runs {
		if r.point.Failed != "" {
			continue
		}
		if byGroup[r.group] == nil {
			order = append(order, r.group)
		}
		byGroup[r.group] = append(byGroup[r.group], r)
	}
	var out [][]*sweepRun
	for _, g := range order {
		first, others := byGroup[g][0], byGroup[g][1:]
		w.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		for at := 0; at == 0 || at < len(others); at += w.o.MaxOpen - 1 {
			end := min(len(others), at+w.o.MaxOpen-1)
			out = append(out, append([]*sweepRun{first}, others[at:end]...))
		}
	}
	return out
}

// process opens fresh sessions of some settings and has them take turns.
func (w *sweeper) process(ctx context.Context, index int, some []*sweepRun) error {
	share := w.o.Budget / time.Duration(w.o.Processes*len(w.runs))
	defer func() {
		for _, r := range some {
			if r.opened != nil {
				r.opened.Close()
				r.opened = nil
			}
		}
	}()
	for _, i := range w.rng.Perm(len(some)) {
		if err := w.start(ctx, some[i], index, share); err != nil {
			return err
		}
	}
	first := len(some[0].times) // rounds have numbers of their own, also where the first setting is in several lots
	var spent time.Duration
	for round := range w.o.Rounds {
		if round >= minRuns && spent.Seconds() > (1-warmupShare)*share.Seconds()*float64(len(some)) {
			break
		}
		for _, i := range w.rng.Perm(len(some)) {
			took, err := w.turn(ctx, some[i], index, first+round)
			if err != nil {
				return err
			}
			spent += took
		}
	}
	for _, r := range some {
		if r.opened != nil {
			out := SessionRuns{}
			r.meter(r.opened.Session, &out)
			if out.PeakBytes > 0 {
				r.peaks = append(r.peaks, float64(out.PeakBytes))
			}
		}
		w.done++
		w.o.Progress(min(w.done, w.total), w.total)
	}
	return nil
}

// start opens and warms a session; a setting with which that fails is out.
func (w *sweeper) start(ctx context.Context, r *sweepRun, index int, share time.Duration) error {
	if r.point.Failed != "" {
		return nil
	}
	r.runner.batch = 1
	s, out, _, err := r.begin(ctx, index, time.Duration(warmupShare*float64(share)))
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		r.point.Failed = err.Error()
		return nil
	}
	if !out.Steady {
		w.warnOnce("warm-up", measure.Warn, "at least one warm-up ended by its time limit before the timings were steady; give a larger budget")
	}
	r.opened = &sweepSession{s, r.runner.batch}
	return nil
}

// turn times one turn of a setting. Its first run, which finds the caches full
// of another session's data, is left out.
func (w *sweeper) turn(ctx context.Context, r *sweepRun, process, round int) (time.Duration, error) {
	if r.opened == nil {
		return 0, nil
	}
	n := r.opened.inner + 1
	times, err := r.time(ctx, r.opened.Session, round%len(r.samples), n)
	if err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		r.point.Failed = err.Error()
		r.opened.Close()
		r.opened = nil
		return 0, nil
	}
	seconds := make([]float64, 0, n-1)
	for _, d := range times[1:] {
		seconds = append(seconds, d.Seconds())
	}
	r.times = append(r.times, sweepTurn{process, round, measure.Median(seconds) / float64(r.batch), len(seconds)})
	return sum(times), nil
}

func (w *sweeper) warnOnce(code string, severity measure.Severity, message string) {
	for _, x := range w.s.Warnings {
		if x.Code == code {
			return
		}
	}
	w.s.Warnings = append(w.s.Warnings, Warning{Code: code, Severity: severity.String(), Message: message})
}

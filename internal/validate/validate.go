// Package validate holds a candidate model against its baseline: it runs both on the same samples, times them in interleaved
// pairs of fresh processes, compares what they look at, and writes what it found into a [report.Report].
//
// It measures and never judges: gates are the business of package gate. A section that could not be measured is absent from
// the report and named, with the reason, in Report.Skipped, so that a gate on it fails.
package validate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// Options says what to compare, on what, and how thoroughly. Baseline, Candidate, Open and Data are needed; the zero value of
// every other field is its default.
type Options struct {
	Baseline, Candidate string // model files

	Open    session.Opener  // starts a fresh process per call
	Info    session.Info    // the engine, for the report
	Session session.Options // how both models are loaded: device, threads, limits
	Machine device.Machine  // where it runs, for the report and the number of threads
	Choice  device.Choice   // why Session.Device was chosen, for the report

	Data    string          // as dataset.Open takes it
	Dataset dataset.Options // how to read it; Inputs, Outputs and Sum are set here
	Batch   int             // samples per run while outputs are compared; 0 means 1

	Calibration  []string // data that the candidate was calibrated on, as dataset.Open takes it
	AllowOverlap bool     // report validation rows that are calibration rows instead of failing with [*OverlapError]

	Task   Task
	Output string  // the output that labels are about; "" is decided by type and shape
	Margin float64 // loss of accuracy, as a fraction, for which the report says how many samples it takes; 0 means 0.005

	Accuracy Accuracy
	Latency  Latency
	Explain  Explain

	CacheDir string // the user's cache folder, for self-tests; "" keeps and cites none

	Seed           uint64
	IncludeSamples bool // name single samples and keep their attribution maps; else aggregates only

	Progress func(stage string, done, total int64) // called now and then; total 0 is unknown
	Notice   func(text string)                     // called with what is about to be done and what it costs; may be nil
	Tool     report.Tool
	Now      func() time.Time // clock of Started and Finished; nil is time.Now
}

// Accuracy says how outputs are compared.
type Accuracy struct {
	Off         bool
	TopK        []int // k of top-k accuracy and recall@k; nil means 1 and 5, and 1 is always among them
	MinSlice    int   // samples below which a slice is listed but not judged; 0 means 10
	Head        *Head // of a detector
	Score       Score // who scores a custom task
	Ignore      int   // class of label maps that is not scored; 0 means 255, negative none
	ClassesLast bool  // segmentations have their classes along the last axis: [N,H,W,C]
	Gallery     int   // embeddings that others are looked up in; 0 means 4096
}

// Latency says how long and how precisely to time.
type Latency struct {
	Off          bool
	Batch        int           // samples per inference; 0 means 1, or what the model demands
	Processes    int           // least number of fresh pairs of processes; 0 means 6
	MaxProcesses int           // 0 means 20
	Pairs        int           // least number of pairs per process; 0 means 10
	Budget       time.Duration // wall time; 0 means 30 s
	Precision    float64       // half-width of the ratio's interval at which to stop; 0 means 0.01

	Throughput     []Load        // loads under which samples per second are compared too, each in half of Budget
	SelfTest       int           // comparisons of the baseline with a copy of itself; 0: what was found before is cited
	SelfTestBudget time.Duration // wall time of each; 0 means 3 s

	Watch  func() func() device.Load          // begins to count what the machine does; nil reads this machine
	GPU    func() (device.GPUMeter, error)    // reads the GPU meanwhile; nil reads that of Options.Choice, if any
	Energy func() (device.EnergyMeter, error) // tells energy; nil takes the GPU's or the processor's counter
}

// Explain says how many samples are explained and by which methods.
type Explain struct {
	Off           bool
	Methods       []string      // names of [explain.Methods]; the first is the one that gates judge; empty or "auto" is the first of the list
	Samples       int           // most samples; 0 means 32
	Budget        time.Duration // wall time aimed at, by which the number of samples is lowered; 0 means 30 s for each method
	Grid          int           // cells along each side of an image; 0 means 7
	Window        int           // occlusion: side of a sliding window, in pixels of an image, else in features; 0 hides the features themselves
	Stride        int           // occlusion: step of the window; 0 means half of it
	Rows          int           // rows of the data that hidden features are taken from; 0 means 16 for tables, else the fill; negative the fill
	Perturbations int           // coalitions or masks of the methods that draw them; 0 is the method's own number
	Fill          explain.Fill  // what hides features
	Token         int64         // what replaces a hidden token
	NamedToken    bool          // Token was asked for: gradients start at its embedding too, and not at zeros
	Keep          []int64       // tokens that are never hidden
}

// Check says what is wrong with the names and numbers.
func (e *Explain) Check() error {
	if _, err := e.methods(); err != nil {
		return err
	}
	return e.options().Check()
}

// options returns what is asked of every method.
func (e *Explain) options() explain.Options {
	return explain.Options{
		Grid: e.Grid, Window: e.Window, Stride: e.Stride, Rows: e.Rows, Perturbations: e.Perturbations, Fill: e.Fill, Token: e.Token, NamedToken: e.NamedToken, Keep: e.Keep,
	}
}

// auto says whether no method was asked for by name.
func (e *Explain) auto() bool {
	return len(e.Methods) == 0 || len(e.Methods) == 1 && (e.Methods[0] == "" || e.Methods[0] == "auto")
}

// methods looks the methods up; one that is named twice is used once.
func (e *Explain) methods() ([]explain.Method, error) {
	names := e.Methods
	if len(names) == 0 {
		names = []string{"auto"}
	}
	var out []explain.Method
	for _, name := range names {
		m, err := explain.Lookup(name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o explain.Method) bool { return o.Name == m.Name }) {
			out = append(out, m)
		}
	}
	return out, nil
}

// OverlapError says that the candidate was calibrated on rows that it is now validated on.
type OverlapError struct {
	Rows, Samples int
	Examples      []string // up to five of them
}

func (e *OverlapError) Error() string {
	example := ""
	if len(e.Examples) > 0 {
		example = fmt.Sprintf(" (such as %s)", strings.Join(e.Examples, ", "))
	}
	return fmt.Sprintf("%d of %d validation rows are calibration rows%s: give other data, or allow the overlap and have it reported", e.Rows, e.Samples, example)
}

// candidateError is a fault of the candidate at run time. It ends a section, not the validation.
type candidateError struct{ cause error }

func (e *candidateError) Error() string { return "the candidate failed: " + e.cause.Error() }
func (e *candidateError) Unwrap() error { return e.cause }

func candidateFault(format string, args ...any) error {
	return &candidateError{fmt.Errorf(format, args...)}
}

// Run compares the two models and returns the report, without gates: Verdict is inconclusive and Gates is empty.
//
// It errs where the models or the data cannot be read, where the baseline fails, where the two models cannot be compared at
// all, with an [*OverlapError] where validation data was calibrated on, and where the candidate fails in every section. A
// candidate that fails in some sections is reported: these are in Report.Skipped.
func Run(ctx context.Context, o Options) (*report.Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	v := &validation{o: o, r: newReport(o)}
	if err := v.models(ctx); err != nil {
		return nil, err
	}
	defer v.release()
	if err := v.pair(ctx); err != nil {
		return nil, err
	}
	defer v.set.Close()
	if err := v.measure(ctx); err != nil {
		return nil, err
	}
	v.r.Finished = finished(v.r.Started, o.now())
	v.r.Normalize()
	return v.r, nil
}

func (o *Options) check() error {
	switch {
	case o.Open == nil:
		return errors.New("validating: there is no engine to run the models with")
	case o.Baseline == "" || o.Candidate == "":
		return errors.New("validating: a baseline and a candidate are needed")
	case o.Data == "":
		return errors.New("validating: no data was given; name files, or synthetic to compare on generated inputs")
	case o.Batch < 0 || o.Latency.Batch < 0:
		return errors.New("validating: batch sizes must not be negative")
	case o.Margin < 0 || o.Margin >= 1:
		return fmt.Errorf("validating: margin %v is outside [0, 1)", o.Margin)
	case o.Explain.Samples < 0 || o.Explain.Budget < 0 || o.Latency.Budget < 0 || o.Latency.SelfTest < 0 || o.Latency.SelfTestBudget < 0:
		return errors.New("validating: numbers of samples, comparisons and budgets must not be negative")
	}
	if err := o.Explain.Check(); err != nil {
		return fmt.Errorf("validating: %v", err)
	}
	if _, err := ParseTask(string(o.Task)); err != nil {
		return fmt.Errorf("validating: %v", err)
	}
	if o.Session.Threads == 0 && o.Machine.CPU.Logical > 0 {
		o.Session.Threads = o.Machine.Threads().N
	}
	return nil
}

func (o *Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o *Options) progress(stage string, done, total int64) {
	if o.Progress != nil {
		o.Progress(stage, done, total)
	}
}

func (o *Options) notice(format string, args ...any) {
	if o.Notice != nil {
		o.Notice(fmt.Sprintf(format, args...))
	}
}

// finished is when what began at started ends: as much later as has passed, however the clock of the wall was set meanwhile.
func finished(started, now time.Time) time.Time {
	return started.Add(max(0, now.Sub(started)))
}

func newReport(o Options) *report.Report {
	return &report.Report{
		Schema: report.SchemaURI, SchemaVersion: report.SchemaVersion, Tool: o.Tool,
		Seed: strconv.FormatUint(o.Seed, 10), Started: o.now(), Verdict: report.Inconclusive,
		Environment: environment(o), Gates: []report.Gate{},
	}
}

// validation is the state of one Run.
type validation struct {
	o Options
	r *report.Report

	in      []dataset.Port // inputs that both models take
	bounds  *boundary      // from the baseline's inputs to the candidate's
	set     *dataset.Set
	known   map[[16]byte]struct{} // sums of the calibration rows; nil where no calibration data was given
	carried map[string]bool       // outputs that feed inputs
	kept    *both                 // the sessions that pair opened, until they are taken

	output  string  // the output that is scored; "" before the first batch
	failure []error // one per section in which the candidate failed
}

func (v *validation) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(v.r.Warnings, text) {
		v.r.Warnings = append(v.r.Warnings, text)
	}
}

func (v *validation) skip(section, format string, args ...any) {
	v.r.Skipped = append(v.r.Skipped, report.Skip{Section: section, Reason: fmt.Sprintf(format, args...)})
}

// measure runs the sections one after another: nothing else runs while latency is timed.
func (v *validation) measure(ctx context.Context) error {
	for _, s := range []struct {
		name string
		off  bool
		run  func(context.Context) error
	}{
		{"accuracy", v.o.Accuracy.Off, v.accuracy},
		{"latency", v.o.Latency.Off, v.latency},
		{"explanation", v.o.Explain.Off, v.explanation},
	} {
		if s.off {
			v.skip(s.name, "it was switched off")
			if s.name == "accuracy" {
				v.release()
				if err := v.describeData(ctx); err != nil {
					return err
				}
			}
			continue
		}
		err := s.run(ctx)
		var fault *candidateError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
		case errors.As(err, &fault):
			v.failure = append(v.failure, err)
			v.skip(s.name, "%v", fault)
			v.warn("%s: %v", s.name, fault)
			if s.name == "accuracy" {
				if err := v.describeData(ctx); err != nil {
					return err
				}
			}
		default:
			return err
		}
	}
	if r := v.r; r.Accuracy == nil && r.Latency == nil && r.Explanation == nil && len(v.failure) > 0 {
		return v.failure[0]
	}
	return nil
}

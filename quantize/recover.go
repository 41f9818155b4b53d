package quantize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/trial"
)

// RecoverOptions say how static int8 wins back accuracy. Nothing is kept that
// does not lower the error on calibration data that is held out: every fourth
// run is never used to fit anything.
type RecoverOptions struct {
	Recover string // "auto": all steps of [Recoveries]; "" or "none": none; else some of them, between commas
	HeldOut int64  // most held-out samples that candidates are compared on; 0: 32
}

// Step is what became of one step of the recovery.
type Step struct {
	Name   string   `json:"name"`
	Kept   bool     `json:"kept"`
	Before float64  `json:"before_db"` // on held-out data, see [Recovery]
	After  float64  `json:"after_db"`  // of what was kept, else of the best that was tried
	Layers []string `json:"layers,omitempty"`
	Note   string   `json:"note,omitempty"` // what was chosen, or why nothing was
}

// Recovery is what the recovery did.
type Recovery struct {
	Samples int64  `json:"held_out_samples"` // that candidates were compared on
	Measure string `json:"measure"`          // what the figures are of: outputs, or log-probabilities
	Trials  int    `json:"trials"`           // models that were compared
	Steps   []Step `json:"steps"`
}

// leastHeld is the least number of held-out samples that say anything.
const leastHeld = 4

// recoveryStep proposes changes; the driver judges them.
type recoveryStep struct {
	name string
	run  func(ctx context.Context, r *recovery, s *stepper) error
}

// recoverySteps are in the order in which they run, with what each does and why
// it stands there.
var recoverySteps = []recoveryStep{
	{"float", leaveRuinous},       // layers without which the model is unusable: before, nothing can be judged
	{"method", chooseMethod},      // one calibration method for all tensors: before the ranges change
	{"equalize", equalizeLayers},  // scales between consecutive convolutions
	{"absorb", absorbBiases},      // high biases into the next layer: after the scales of channels
	{"smooth", smoothActivations}, // scales from activations into the weights of products
	{"weights", fitWeights},       // scales of weights by squared error: once the weights are final
	{"round", roundWeights},       // codes above or below instead of the nearest: once the scales are final
	{"bias", correctBiases},       // mean errors of channels: last, it corrects what all others left
}

// Recoveries returns the names of the steps, in their order.
func Recoveries() []string {
	var out []string
	for _, s := range recoverySteps {
		out = append(out, s.name)
	}
	return out
}

// steps returns the names of the steps that are asked for.
func (o *RecoverOptions) steps() ([]string, error) {
	switch o.Recover {
	case "", "none":
		return nil, nil
	case "auto":
		return Recoveries(), nil
	}
	list := strings.Split(o.Recover, ",")
	for _, name := range list {
		if !slices.Contains(Recoveries(), name) {
			return nil, fmt.Errorf("recovery step %q is unknown; want auto, none, or some of %s", name, strings.Join(Recoveries(), ","))
		}
	}
	return list, nil
}

// Check says what is wrong with the options; nil if nothing is.
func (o *RecoverOptions) Check() error {
	if o.HeldOut < 0 {
		return fmt.Errorf("recovery on %d held-out samples; want 1 or more, or 0 for 32", o.HeldOut)
	}
	_, err := o.steps()
	return err
}

// choices are all that the recovery decides. They are not changed once made.
type choices struct {
	edits  []edit                      // of the float model, in order
	stats  map[string]*calibrate.Stats // of its activations
	method calibrate.Method
	float  map[string]string        // why nodes stay in float32, by their first output
	scales map[string][]float32     // of weights, by the first output of their node; nil: from the peaks
	codes  map[string]*roundedCodes // of weights, by the first output of their node; nil: the nearest
	shifts []edit                   // of biases, which change what the float model computes
	narrow map[string]bool          // outputs of nodes whose weights are in 7 bits
}

func (c *choices) with(change func(*choices)) *choices {
	d := *c
	d.edits, d.shifts = slices.Clip(c.edits), slices.Clip(c.shifts)
	change(&d)
	return &d
}

// edit gives input in of the node whose first output has a name a new constant,
// made of the old one, which is nil where the input is omitted.
type edit struct {
	output string
	input  int
	what   func(old *onnx.Tensor) (*onnx.Tensor, error)
}

// apply makes the edits in m. What else reads an old constant keeps it.
func apply(m *onnx.Model, edits []edit) error {
	nodes := map[string]*onnx.Node{}
	for n := range measurable(m) {
		nodes[outputName(n)] = n
	}
	for _, e := range edits {
		n := nodes[e.output]
		if n == nil {
			return fmt.Errorf("recovery: no node computes %q", e.output)
		}
		var old *onnx.Tensor
		if v := n.Input(e.input); v != nil {
			old = v.Constant()
		}
		t, err := e.what(old)
		if err != nil {
			return err
		}
		n.SetInput(e.input, n.Graph().NewConst(t))
	}
	return nil
}

// recovery finds the choices for one model.
type recovery struct {
	s      *static
	base   *onnx.Model // the float model as prepared
	held   *trial.Held
	now    *choices
	score  score
	past   []moment // before the first step and after each
	report *Recovery
}

type moment struct {
	choices *choices
	score   score
}

func newStatic(o *Options) *static {
	return &static{o: o, prober: &kernels.Prober{Open: o.Open, Session: o.Session}, factor: 1, at: -1, decision: decision{choices: &choices{method: o.method}}, decided: map[float64]decision{}, left: map[float64]map[string]string{}, known: map[rangeKey]calibrate.Range{}}
}

// decide measures m the first time, and recovers accuracy for what is quantized.
func (s *static) decide(ctx context.Context, m *onnx.Model) (notices []string, err error) {
	names, why := s.o.recovering()
	if (len(names) > 0 || s.o.judges()) && why == "" && weightBytes(m) > mostWeights {
		names, why = nil, fmt.Sprintf("the model has more than %d MiB of weights, of which dozens of candidates would be written", mostWeights>>20)
	}
	if asked, err := s.o.steps(); why != "" && (len(asked) > 0 || s.o.Saturates || s.o.PredictISA) && err == nil {
		notices = append(notices, "no accuracy was recovered: "+why)
	}
	if s.measured == nil {
		facts, err := opset.Infer(m, opset.Options{Dims: s.o.Rewrite.Dims})
		if err != nil {
			return nil, err
		}
		if s.measured, err = measure(ctx, s.o, m, s.wants(m, facts), why == "" && (len(names) > 0 || s.o.decides())); err != nil {
			return nil, err
		}
	}
	if d, known := s.decided[s.factor]; known && s.at != s.factor {
		s.decision, s.at = d, s.factor
		s.find()
	}
	if s.at != s.factor {
		s.decision = decision{choices: &choices{stats: s.measured.Stats, method: s.o.method}}
		if s.o.budgeted() && why != "" {
			return nil, fmt.Errorf("no budget can be kept: %s", why)
		}
		if len(names) > 0 || s.o.judges() && why == "" {
			if err := s.recover(ctx, m, names); err != nil {
				return nil, err
			}
		}
		s.at, s.decided[s.factor] = s.factor, s.decision
		s.find()
	}
	return append(notices, s.measured.Notices...), nil
}

// mostWeights is the size of the largest model that candidates are made of.
const mostWeights = 1 << 30

// weightBytes returns the size of the constants of m.
func weightBytes(m *onnx.Model) (n int64) {
	for _, v := range m.Graph.Initializers() {
		n += v.Const.Size()
	}
	return n
}

// recovering returns the steps to take, or why there are none although some were
// asked for.
func (o *Options) recovering() (names []string, why string) {
	names, err := o.steps()
	if err != nil || len(names) == 0 && !o.judges() || !o.static() {
		return nil, ""
	}
	n := int64(max(o.Batch, o.Calibration.BatchSize(), 1))
	switch held := o.Calibration.Len() / n / heldEvery * n; {
	case o.Synthetic:
		return nil, "generated data says nothing about what is lost on real data"
	case held < leastHeld:
		return nil, fmt.Sprintf("%d held-out samples decide nothing; give %d calibration samples or more", held, leastHeld*heldEvery*n)
	}
	return names, ""
}

// recover makes s.choices, from what was measured. What is slower in int8 is
// known before: nothing is fitted to nodes that stay in float32.
func (s *static) recover(ctx context.Context, m *onnx.Model, names []string) (err error) {
	r := &recovery{s: s, base: m.Clone(), report: &Recovery{}, now: s.choices}
	if r.held, err = newHeldOut(ctx, s.o, r.base, partOf(s.o), s.o.heldOut()); err != nil {
		return err
	}
	defer r.held.Close()
	r.report.Samples, r.report.Measure = r.held.Samples, "outputs"
	if r.held.Distribution() {
		r.report.Measure = "log-probabilities"
	}
	first, out, err := r.quantized(ctx, r.now)
	if err != nil || len(out.log.Fired) == 0 {
		return err
	}
	if r.score, err = r.held.Score(ctx, first); err != nil {
		return err
	}
	r.past = []moment{{r.now, r.score}}
	for _, step := range recoverySteps {
		if !slices.Contains(names, step.name) {
			continue
		}
		s.o.progress("recovering accuracy: " + step.name)
		k := &stepper{r: r, start: r.now, before: r.score, best: score{DB: -trial.Most}}
		var no *notTried
		if err := step.run(ctx, r, k); errors.As(err, &no) {
			k.refuse(no.why)
		} else if err != nil {
			return fmt.Errorf("recovery step %s: %w", step.name, err)
		}
		r.report.Steps = append(r.report.Steps, k.done(step.name))
		r.past = append(r.past, moment{r.now, r.score})
	}
	r.confirm()
	r.report.Trials = r.held.Tried
	if s.o.Sensitivity {
		if err := r.sensitivity(ctx); err != nil {
			return fmt.Errorf("ranking layers: %w", err)
		}
	}
	if s.o.budgeted() {
		if err := r.search(ctx); err != nil {
			return fmt.Errorf("searching: %w", err)
		}
	}
	if s.o.Saturates || s.o.PredictISA {
		if err := r.predict(ctx); err != nil {
			return fmt.Errorf("predicting what is lost without VNNI: %w", err)
		}
	}
	if s.o.Verify != nil {
		if err := r.checkNodes(ctx); err != nil {
			return err
		}
	}
	s.choices, s.recovered = r.now, r.report
	if s.o.decides() {
		return nil // the figures are of the ranges as they are
	}
	return r.widen(ctx)
}

// widen measures what was chosen once more, on all runs, when all is decided: a
// range that was seen on more data clips less of what comes later, and where
// nothing was kept the model is the one without recovery.
func (r *recovery) widen(ctx context.Context) error {
	m, err := r.float(r.now)
	if err != nil {
		return err
	}
	facts, err := r.facts(m)
	if err != nil {
		return err
	}
	o := r.s.o
	got, err := calibrate.Measure(ctx, m, r.s.wants(m, facts), func() calibrate.Pass { return calibrate.Over(ctx, o.Calibration, o.Batch) }, r.options())
	if err != nil {
		return err
	}
	r.s.choices = r.now.with(func(c *choices) { c.stats = got.Stats })
	r.s.measured.Samples = got.Samples
	return nil
}

// judges reports whether models are judged on held-out data apart from steps of
// the recovery.
func (o *Options) judges() bool { return o.decides() || o.Verify != nil }

// decides reports whether something about the model is decided or foretold by
// held-out data, so that nothing may be measured on that.
func (o *Options) decides() bool {
	return o.budgeted() || o.Sensitivity || o.Saturates || o.PredictISA
}

func (r *recovery) options() calibrate.Options {
	o := r.s.o
	return calibrate.Options{Open: o.Open, Session: o.Session, Workers: o.Workers, MaxBytes: o.MaxMemory}
}

func (o *Options) heldOut() int64 {
	switch {
	case o.HeldOut > 0:
		return o.HeldOut
	case o.budgeted():
		return math.MaxInt64 // all that memory holds
	}
	return 32
}

func partOf(o *Options) part {
	return part{stateful: o.Calibration.Stateful(), total: o.Calibration.Len()}
}

// try scores what choices give.
func (r *recovery) try(ctx context.Context, c *choices) (score, error) {
	m, _, err := r.quantized(ctx, c)
	if err != nil {
		return score{}, err
	}
	return r.held.Score(ctx, m)
}

// quantized returns the int8 model that choices give.
func (r *recovery) quantized(ctx context.Context, c *choices) (*onnx.Model, *outcome, error) {
	m := r.base.Clone()
	if err := apply(m, slices.Concat(c.edits, c.shifts)); err != nil {
		return nil, nil, err
	}
	s := &static{o: r.s.o, domain: r.s.domain, unfit: r.s.unfit, factor: r.s.factor, left: r.s.left, known: r.s.known, decision: decision{choices: c}}
	s.find()
	out := &outcome{}
	var err error
	out.log, err = rewrite.Run(ctx, m, []rewrite.Pass{once{s.pass(out), new(bool)}}, nil, rewrite.Options{Dims: s.o.Rewrite.Dims})
	return m, out, err
}

// float returns the float model with the edits of c.
func (r *recovery) float(c *choices) (*onnx.Model, error) {
	m := r.base.Clone()
	return m, apply(m, c.edits)
}

// facts infers the types and shapes of m.
func (r *recovery) facts(m *onnx.Model) (*opset.Facts, error) {
	return opset.Infer(m, opset.Options{Dims: r.s.o.Rewrite.Dims})
}

// measure runs m on the runs to fit on.
func (r *recovery) measure(ctx context.Context, m *onnx.Model, wants []calibrate.Want) (map[string]*calibrate.Stats, error) {
	if len(wants) == 0 {
		return nil, nil
	}
	o := r.s.o
	got, err := calibrate.Measure(ctx, m, wants, func() calibrate.Pass { return fitPass(ctx, o) }, r.options())
	if err != nil && o.MaxMemory > 0 && ctx.Err() == nil {
		return nil, &notTried{err.Error()} // channels of one tensor may be more than fits
	}
	if err != nil {
		return nil, err
	}
	return got.Stats, nil
}

// confirm takes back the last steps as long as all that was kept together is not
// surely better than nothing of it: each by itself only had to be likely. A model
// that was unusable is compared from where it became usable.
func (r *recovery) confirm() {
	first := 0
	for i, s := range r.report.Steps {
		if s.Name == "float" && s.Kept {
			first = i + 1
		}
	}
	for i := len(r.past) - 1; i > first; i-- {
		if !r.report.Steps[i-1].Kept {
			continue
		}
		why := worse(r.past[i].score, r.past[first].score, sure)
		if why == "" {
			return
		}
		s := &r.report.Steps[i-1]
		s.Kept, s.Layers = false, nil
		s.Note = strings.TrimPrefix(s.Note+"; ", "; ") + "with what was kept before " + why
		r.now, r.score = r.past[i-1].choices, r.past[i-1].score
	}
}

// fitPass is a pass over the runs that are not held out.
func fitPass(ctx context.Context, o *Options) calibrate.Pass {
	p := partOf(o)
	return trial.Pass(ctx, o.Calibration, o.Batch, func(k, at int64) bool { return !p.held(k, at) })
}

// remeasured returns c with the statistics of some tensors measured anew on its
// float model.
func (r *recovery) remeasured(ctx context.Context, c *choices, tensors []string) (*choices, error) {
	m, err := r.float(c)
	if err != nil {
		return nil, err
	}
	var wants []calibrate.Want
	for _, name := range tensors {
		if old := r.now.stats[name]; old != nil {
			wants = append(wants, calibrate.Want{Tensor: name, Extremes: old.Histogram == nil})
		}
	}
	stats, err := r.measure(ctx, m, wants)
	if err != nil {
		return nil, err
	}
	return c.with(func(c *choices) {
		c.stats = maps.Clone(c.stats)
		maps.Copy(c.stats, stats)
	}), nil
}

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
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
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
	Measure string `json:"measure"`          // of the figures: sqnr or kl
	Trials  int    `json:"trials"`           // models that were compared
	Steps   []Step `json:"steps"`
}

// margin is by how many dB a step must be better: less is noise.
const margin = 0.1

// leastHeld is the least number of held-out samples that say anything.
const leastHeld = 4

// recoveryStep proposes changes; the driver judges them.
type recoveryStep struct {
	name string
	doc  string
	run  func(ctx context.Context, r *recovery, s *stepper) error
}

// recoverySteps are in the order in which they run.
var recoverySteps = []recoveryStep{
	{"method", "one calibration method for all tensors where that is better than one for each", chooseMethod},     // before all that keeps ranges
	{"equalize", "scales moved between consecutive layers, so that channels use the codes alike", equalizeLayers}, // changes weights and ranges
	{"absorb", "high biases moved behind the activation, into the next layer", absorbBiases},                      // after equalize: its ranges
	{"smooth", "scales moved from activations behind a normalization into the weights", smoothActivations},        // changes weights and ranges
	{"weights", "scales of weights by least squared error at the inputs that were seen", fitWeights},              // once weights are final
	{"bias", "the mean error of each channel taken out of its bias", correctBiases},                               // last: corrects what all others left
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

// choices are all that the recovery decides. They are not changed once made.
type choices struct {
	edits  []edit                      // of the float model, in order
	stats  map[string]*calibrate.Stats // of its activations
	method calibrate.Method
	scales map[string][]float32 // of weights, by the first output of their node; nil: from the peaks
	shifts []edit               // of biases, which change what the float model computes
	float  map[string]string    // outputs of nodes that stay in float32, with why
	narrow map[string]bool      // outputs of nodes whose weights are in 7 bits
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
	for n := range m.Graph.Nodes() {
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
		n.SetInput(e.input, m.Graph.NewConst(t))
	}
	return nil
}

// recovery finds the choices for one model.
type recovery struct {
	s      *static
	base   *onnx.Model // the float model as prepared
	held   *heldOut
	now    *choices
	score  score
	report *Recovery
}

func newStatic(o *Options) *static {
	return &static{o: o, factor: 1, choices: &choices{method: o.method}, left: map[float64]map[string]string{}}
}

// decide measures m the first time, and recovers accuracy for what is quantized.
func (s *static) decide(ctx context.Context, m *onnx.Model) (notices []string, err error) {
	names, why := s.o.recovering()
	if s.measured == nil {
		facts, err := opset.Infer(m, opset.Options{Dims: s.o.Rewrite.Dims})
		if err != nil {
			return nil, err
		}
		if s.measured, err = measure(ctx, s.o, m, s.wants(m.Graph, facts)); err != nil {
			return nil, err
		}
		s.choices, s.at = &choices{stats: s.measured.Stats, method: s.o.method}, 0
	}
	if why != "" && (len(s.o.Recover) > 0 || s.o.Saturates || s.o.PredictISA) {
		notices = append(notices, "no accuracy was recovered: "+why)
	}
	if s.at != s.factor {
		if s.o.budgeted() && why != "" {
			return nil, fmt.Errorf("no budget can be kept: %s", why)
		}
		if len(names) > 0 || s.o.judges() && why == "" {
			if err := s.recover(ctx, m, names); err != nil {
				return nil, err
			}
		}
		s.at = s.factor
		s.find()
	}
	return append(notices, s.measured.Notices...), nil
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
	r := &recovery{s: s, base: m.Clone(), report: &Recovery{}, now: &choices{stats: s.measured.Stats, method: s.o.method}}
	if r.held, err = newHeldOut(ctx, s.o, r.base, partOf(s.o), s.o.heldOut()); err != nil {
		return err
	}
	defer r.held.close()
	r.report.Samples, r.report.Measure = r.held.samples, "sqnr"
	if r.held.distribution {
		r.report.Measure = "kl"
	}
	if r.score, err = r.try(ctx, r.now); err != nil {
		return err
	}
	for _, step := range recoverySteps {
		if !slices.Contains(names, step.name) {
			continue
		}
		s.o.progress("recovering accuracy: " + step.name)
		k := &stepper{r: r, start: r.now, before: r.score, best: score{DB: -most, SQNR: -most}}
		var no *notTried
		if err := step.run(ctx, r, k); errors.As(err, &no) {
			k.refuse(no.why)
		} else if err != nil {
			return fmt.Errorf("recovery step %s: %w", step.name, err)
		}
		r.report.Steps = append(r.report.Steps, k.done(step.name))
	}
	r.report.Trials = r.held.runs
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
	return nil
}

// judges reports whether models are judged on held-out data apart from steps of
// the recovery.
func (o *Options) judges() bool {
	return o.budgeted() || o.Sensitivity || o.Saturates || o.PredictISA || o.Verify != nil
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
	return r.held.score(ctx, m)
}

// quantized returns the int8 model that choices give.
func (r *recovery) quantized(ctx context.Context, c *choices) (*onnx.Model, *outcome, error) {
	m := r.base.Clone()
	if err := apply(m, slices.Concat(c.edits, c.shifts)); err != nil {
		return nil, nil, err
	}
	s := &static{o: r.s.o, factor: r.s.factor, left: r.s.left, choices: c}
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
	got, err := calibrate.Measure(ctx, m, wants, func() calibrate.Pass { return fitPass(ctx, o) }, calibrate.Options{
		Open: o.Open, Session: o.Session, Workers: o.Workers, MaxBytes: o.MaxMemory})
	if err != nil && o.MaxMemory > 0 && ctx.Err() == nil {
		return nil, &notTried{err.Error()} // channels of one tensor may be more than fits
	}
	if err != nil {
		return nil, err
	}
	return got.Stats, nil
}

// fitPass is a pass over the runs that are not held out.
func fitPass(ctx context.Context, o *Options) calibrate.Pass {
	p := partOf(o)
	return passOf(ctx, o.Calibration, o.Batch, func(k, at int64) bool { return !p.held(k, at) })
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

// stepper judges what one step proposes, and keeps the best.
type stepper struct {
	r        *recovery
	start    *choices                    // when the step began
	channels map[string]*calibrate.Stats // of the float model then, for the step's own use
	before   score
	best     score // of all that was tried
	kept     bool
	layers   []string
	note     string
}

// propose tries choices and keeps them if they are better by the margin than
// what there is. It reports whether it did.
func (k *stepper) propose(ctx context.Context, c *choices, layers []string, note string) (bool, error) {
	got, err := k.r.try(ctx, c)
	if err != nil {
		return false, err
	}
	if got.DB > k.best.DB {
		k.best = got
	}
	if !better(got, k.r.score) {
		if !k.kept {
			k.note = refusal(got, k.r.score)
		}
		return false, nil
	}
	k.r.now, k.r.score = c, got
	k.kept, k.layers, k.note, k.best = true, layers, note, got
	return true, nil
}

// better reports whether a is better than b by the margin, by both measures: the
// one that decides must rise, the other must not fall.
func better(a, b score) bool { return a.DB >= b.DB+margin && a.SQNR >= b.SQNR }

func refusal(got, now score) string {
	switch {
	case got.DB <= -most:
		return "the model did not run"
	case got.DB >= now.DB+margin:
		return fmt.Sprintf("the signal to noise ratio fell from %.2f to %.2f dB", now.SQNR, got.SQNR)
	}
	return fmt.Sprintf("%+.2f dB on held-out data, less than the margin of %.1f dB", got.DB-now.DB, margin)
}

// done reports the step.
func (k *stepper) done(name string) Step {
	s := Step{Name: name, Kept: k.kept, Before: k.before.DB, After: k.best.DB, Layers: k.layers, Note: k.note}
	if !k.kept {
		s.Layers = nil
	}
	if k.best.DB <= -most { // nothing was tried
		s.After = k.before.DB
	}
	if s.Note == "" {
		s.Note = "there is nothing that it applies to"
	}
	return s
}

// pieces is one proposal per layer, which can be made alone or together.
type pieces struct {
	layers []string
	build  func(ctx context.Context, layers []string) (*choices, error)
}

// mostTrials bounds what one proposal may try after it fails as a whole.
const mostTrials = 4

// proposeParts tries all layers together, and where that fails each half, and so
// on as long as trials are left.
func (k *stepper) proposeParts(ctx context.Context, p pieces, note string) error {
	if len(p.layers) == 0 {
		return nil
	}
	type task struct{ layers []string }
	queue, taken := []task{{p.layers}}, []string(nil)
	for trials := 0; len(queue) > 0 && trials <= mostTrials; trials++ {
		t := queue[0]
		queue = queue[1:]
		try := append(slices.Clip(taken), t.layers...)
		c, err := p.build(ctx, try)
		if err != nil {
			var no *notTried
			if errors.As(err, &no) {
				k.refuse(no.why)
				continue
			}
			return err
		}
		ok, err := k.propose(ctx, c, try, note)
		if err != nil {
			return err
		}
		switch n := len(t.layers); {
		case ok:
			taken = try
		case n > 1:
			queue = append(queue, task{t.layers[:n/2]}, task{t.layers[n/2:]})
		}
	}
	return nil
}

// refuse notes why something was not even tried.
func (k *stepper) refuse(why string) {
	if !k.kept {
		k.note = why
	}
}

// notTried is the error of a proposal that must not be tried.
type notTried struct{ why string }

func (e *notTried) Error() string { return e.why }

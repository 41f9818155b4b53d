package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/measured"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/lapidary-ml/lapidary/prune"
	"github.com/spf13/cobra"
)

// proofFlags are the flags of profile for what follows from the times.
type proofFlags struct {
	roofline string
	advice   bool
	cost     string
}

// rooflineModes are the values of --roofline.
var rooflineModes = []string{"auto", "fresh", "never"}

func (f *proofFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.roofline, "roofline", "auto", "hold the times against this machine's peaks: auto (measured once), fresh (measured again) or never")
	p.Lookup("roofline").NoOptDefVal = "auto"
	p.BoolVar(&f.advice, "advice", true, "say what would make the model faster or smaller, by how much, and by which command")
	p.StringVar(&f.cost, "cost", "", "`PRICE` of the machine per hour, or cpu=PRICE,gpu=PRICE: print the cost of a million inferences")
}

func (f *proofFlags) validate(static bool) error {
	if static && (f.cost != "" || f.roofline == "fresh") {
		return usagef("--cost and --roofline=fresh need the model to run; leave out --static")
	}
	if !slices.Contains(rooflineModes, f.roofline) {
		return usagef("--roofline %q is unknown; want one of %s", f.roofline, strings.Join(rooflineModes, ", "))
	}
	if f.cost == "" {
		return nil
	}
	if _, err := profile.ParsePrices(f.cost, "cpu"); err != nil {
		return usagef("--cost: %w", err)
	}
	return nil
}

// prunePatterns are those of prune, of which advice knows what they are good for.
var prunePatterns = []string{"unstructured", "channels"}

// proof adds to a timed profile what follows from it.
type proof struct {
	a      *app
	f      proofFlags
	pf     profileFlags
	model  string
	ef     engineFlags
	df     *dataFlags
	e      *engine
	p      *profile.Profile
	base   session.Options // how the model was timed
	inputs []map[string]*onnx.Tensor
}

// prove fills in machine, roofline, GPU, cost and advice. Without a timed part
// there is nothing to add.
func (a *app) prove(ctx context.Context, p *profile.Profile, model string, pf profileFlags, ef engineFlags, df *dataFlags) error {
	if p.Timed == nil {
		return nil
	}
	e, err := a.engine(ctx, ef)
	if err != nil {
		return err
	}
	x := &proof{a: a, f: pf.proof, pf: pf, model: model, ef: ef, df: df, e: e, p: p}
	if x.base, err = pf.settings.apply(e.options); err != nil {
		return err
	}
	if x.inputs, _, err = timingInputs(ctx, model, *df, maxTimingSamples); err != nil {
		return err
	}
	p.Machine = profile.NewMachineFacts(e.machine, e.threads.N)
	for _, step := range []func(context.Context) error{x.gpu, x.roofline, x.cost, x.advice} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// roofline holds the times against the peaks of the cache, or measures them.
func (x *proof) roofline(ctx context.Context) error {
	if x.f.roofline == "never" {
		return nil
	}
	var peaks *profile.Peaks
	if x.e.choice.Device == "cpu" && x.e.info.Name == "onnxruntime" && x.p.Timed.Accounting != nil {
		var err error
		if peaks, err = x.peaks(ctx); err != nil {
			return err
		}
	}
	x.p.Roofline = profile.NewRoofline(x.p.Static, x.p.Timed, peaks)
	return nil
}

func (x *proof) peaks(ctx context.Context) (*profile.Peaks, error) {
	file := x.e.measuredBy().File(x.a.env.cacheDir, "peaks")
	var known profile.Peaks
	if ok, err := measured.Read(file, &known); ok && err == nil && known.Valid() && x.f.roofline != "fresh" {
		if !known.Disturbed() {
			return &known, nil
		}
		if busy := profile.BusyNow(ctx); busy == nil || *busy >= *known.Busy {
			return &known, nil // as busy as then: no better time to measure
		}
	}
	s := x.a.spin()
	defer s.finish()
	p, err := profile.MeasurePeaks(ctx, profile.PeakOptions{Open: x.e.open, Session: x.e.options, Machine: x.e.machine, Progress: s.stage})
	s.finish()
	if err != nil {
		return nil, err
	}
	if err := measured.Write(file, p); err != nil {
		x.a.warn("this machine's peaks are not kept: %v", err)
	}
	return p, nil
}

// gpu watches the GPU that the model ran on, or says why there is none.
func (x *proof) gpu(ctx context.Context) error {
	g := x.e.choice.GPU
	if g == nil {
		x.p.GPU = profile.NoGPU(noGPU(x.e))
		return nil
	}
	var err error
	x.p.GPU, err = profile.WatchGPU(ctx, x.model, x.inputs[0], x.p.Timed, profile.GPUOptions{
		Open: x.e.open, Session: x.base, GPU: *g, Driver: x.e.machine.GPUs.Driver})
	return err
}

// noGPU says why a model did not run on a GPU.
func noGPU(e *engine) string {
	switch {
	case len(e.machine.GPUs.Devices) == 0 && e.machine.GPUs.Reason != "":
		return e.machine.GPUs.Reason
	case len(e.machine.GPUs.Devices) == 0:
		return "no GPU was found"
	}
	return fmt.Sprintf("the model ran on %s: %s", e.choice.Device, e.choice.Reason)
}

// cost puts the prices side by side. What was not timed yet is timed: the CPU
// beside the GPU, or the GPU beside the CPU where there is one.
func (x *proof) cost(ctx context.Context) error {
	if x.f.cost == "" {
		return nil
	}
	here := profile.Ran{Timed: x.p.Timed, Batch: x.df.batch, GPU: x.p.GPU}
	ran, other := "cpu", "auto"
	if x.e.choice.Device != "cpu" {
		ran, other = "gpu", "cpu"
	}
	prices, err := profile.ParsePrices(x.f.cost, ran)
	if err != nil {
		return usagef("--cost: %w", err)
	}
	var there profile.Ran
	if prices.CPU > 0 && prices.GPU > 0 || ran == "cpu" && prices.GPU > 0 || ran == "gpu" && prices.CPU > 0 {
		if there, err = x.elsewhere(ctx, other); err != nil {
			return err
		}
	}
	if ran == "gpu" {
		x.p.Cost = profile.NewCost(prices, there, here)
	} else {
		here.GPU = nil
		x.p.Cost = profile.NewCost(prices, here, there)
	}
	return nil
}

// elsewhere times the model on another device; without one it says why.
func (x *proof) elsewhere(ctx context.Context, where string) (profile.Ran, error) {
	ef := x.ef
	ef.device = where
	if where == "auto" {
		c, err := device.Choose("auto", x.e.info.Providers, x.e.machine)
		if err != nil || c.Device == "cpu" {
			reason := noGPU(x.e)
			if err == nil && len(x.e.machine.GPUs.Devices) > 0 {
				reason = c.Reason
			}
			return profile.Ran{Reason: reason}, nil
		}
		ef.device = c.Device
	}
	pf := x.pf
	pf.noNodes = true
	t, err := x.a.timed(ctx, x.model, pf, ef, x.df)
	if ctx.Err() != nil {
		return profile.Ran{}, ctx.Err()
	}
	if err != nil {
		return profile.Ran{Reason: err.Error()}, nil
	}
	out := profile.Ran{Timed: t, Batch: x.df.batch}
	e, err := x.a.engine(ctx, ef)
	if err != nil || e.choice.GPU == nil {
		return out, nil
	}
	base, err := pf.settings.apply(e.options)
	if err != nil {
		return out, err
	}
	out.GPU, err = profile.WatchGPU(ctx, x.model, x.inputs[0], nil, profile.GPUOptions{Open: e.open, Session: base, GPU: *e.choice.GPU, Driver: e.machine.GPUs.Driver})
	return out, err
}

// advice says what to do.
func (x *proof) advice(ctx context.Context) error {
	if !x.f.advice || x.p.Roofline == nil || x.p.Roofline.Skipped != "" {
		return nil
	}
	s := x.a.spin()
	defer s.finish()
	s.stage("trying what fuse and fewer channels gain")
	var err error
	x.p.Advice, err = profile.NewAdvice(ctx, x.p, profile.AdviceOptions{Model: x.model, Data: x.dataText(), Dims: x.df.dims,
		Fuse: x.tryFuse, Narrow: x.tryNarrow, Patterns: prunePatterns, Provider: providerAdvice(x.e, x.model)})
	return err
}

// dataText is --data with what belongs to it, as a shell takes it; "" where the
// inputs are generated.
func (x *proof) dataText() string {
	if x.df.spec == "" || strings.HasPrefix(x.df.spec, "synthetic") {
		return ""
	}
	text := profile.Quoted(x.df.spec)
	for _, f := range []struct{ name, value string }{{"preprocess", x.df.preprocess}, {"label", x.df.label}} {
		if f.value != "" {
			text += " --" + f.name + " " + profile.Quoted(f.value)
		}
	}
	for _, out := range slices.Sorted(maps.Keys(x.df.state)) {
		text += " --state " + profile.Quoted(out+"="+x.df.state[out])
	}
	return text
}

// mostTried is the size of a model up to which it is copied for a trial.
const mostTried = 512 << 20

func (x *proof) tooLargeToTry() error {
	if f := x.p.Static.File; f != nil && f.Bytes+f.ExternalBytes > mostTried {
		return fmt.Errorf("models above %s are not copied to try it", bytesText(mostTried))
	}
	return nil
}

// race times a rewritten copy of the model against it.
func (x *proof) race(ctx context.Context, path string) (*measure.Difference, error) {
	v := &produce.Verify{Open: x.e.open, Session: x.base, Seed: x.df.seed}
	return produce.Race(ctx, v, x.model, path, x.inputs[0], 2*time.Second)
}

// tryNarrow removes that share of the channels from a copy of the model, by the
// size of their weights, and times it against the original.
func (x *proof) tryNarrow(ctx context.Context, share float64) (*profile.Trial, error) {
	if err := x.tooLargeToTry(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lapidary-trial-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "narrow.onnx")
	r, err := prune.Shrink(ctx, path, x.model, prune.ShrinkOptions{StructureOptions: prune.StructureOptions{
		Pattern: prune.Channels, Importance: prune.ByL2, Sparsity: share, Repair: "none"}})
	if err != nil {
		return nil, err
	}
	t := &profile.Trial{Before: r.Input.Nodes, After: r.Output.Nodes, Bytes: float64(r.Output.Bytes) / float64(max(1, r.Input.Bytes))}
	if r.Structure.Before == r.Structure.After {
		return t, nil
	}
	t.Difference, err = x.race(ctx, path)
	return t, err
}

// tryFuse fuses a copy of the model and times it against the original.
func (x *proof) tryFuse(ctx context.Context, dims map[string]int64) (*profile.Trial, error) {
	if err := x.tooLargeToTry(); err != nil {
		return nil, err
	}
	m, err := onnxfile.Open(x.model, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	t := &profile.Trial{Before: countNodes(m)}
	log, err := fuse.Model(ctx, m, fuse.Options{Dims: dims, FoldLarge: fuse.ByRuntime(x.e.open, x.e.options)})
	if err != nil {
		return nil, err
	}
	if t.After = countNodes(m); len(log.Fired) == 0 {
		return t, nil
	}
	dir, err := os.MkdirTemp("", "lapidary-trial-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fused.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{Perm: 0o600}); err != nil {
		return nil, err
	}
	t.Difference, err = x.race(ctx, path)
	return t, err
}

// countNodes counts nodes with those of bodies.
func countNodes(m *onnx.Model) int {
	n := 0
	for _, g := range m.Graphs() {
		n += g.Len()
	}
	return n
}

// providerAdvice says what a GPU would need.
func providerAdvice(e *engine, model string) *profile.Advised {
	item := &profile.Advised{What: "provider", Verdict: "no", Reason: "a GPU is unavailable: " + noGPU(e)}
	if e.choice.Device != "cpu" {
		item.Reason = "the model runs on " + e.choice.Device
		return item
	}
	if len(e.machine.GPUs.Devices) == 0 {
		return item
	}
	c, err := device.Choose("auto", e.info.Providers, e.machine)
	switch {
	case err != nil:
		item.Reason = err.Error()
	case c.Device != "cpu":
		item.Verdict, item.Reason = "unknown", "there is "+c.GPU.Name+"; only running it tells"
		item.Command = fmt.Sprintf("lapidary profile %s --device %s", profile.Quoted(model), c.Device)
	case len(c.Warnings) > 0:
		item.Verdict, item.Reason = "unknown", strings.Join(c.Warnings, "; ")
		item.Command = "lapidary runtime install --from ARCHIVE --sha256 DIGEST"
	default:
		item.Reason = c.Reason
	}
	return item
}

// oversubscribed refuses more threads than can run at once.
func oversubscribed(m device.Machine, threads int, forced bool) error {
	why := m.Oversubscribed(threads)
	if why == "" || forced {
		return nil
	}
	return usagef("--threads %d: %s, and more threads wait for each other; give --threads %d, or --oversubscribe to do it all the same",
		threads, why, m.Threads().N)
}

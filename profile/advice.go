package profile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/measure"
)

// Advice is what would make the model faster or smaller here, and what would
// not. Numbers are predictions until the command was run.
type Advice struct {
	Basis string    `json:"basis"` // what predictions rest on
	Items []Advised `json:"items"` // those that make it faster first, most gain first; then smaller, not known, and no
}

// Advised is one thing that could be done.
type Advised struct {
	What      string     `json:"what" schema:"fuse|fix-dims|static-int8|dynamic-int8|int4|fp16|prune-channels|prune-unstructured|threads|batch|provider"` // what
	Verdict   string     `json:"verdict" schema:"faster|smaller|unknown|no"`                                                                              // what it would do here; smaller: and not faster
	Predicted *Predicted `json:"predicted,omitempty"`                                                                                                     // time of an inference after it over before; absent where nothing predicts it
	SizeRatio *float64   `json:"size_ratio,omitempty"`                                                                                                    // bytes of the model after it over before, predicted; absent where it stays
	Reason    string     `json:"reason"`                                                                                                                  // why
	Command   string     `json:"command,omitempty"`                                                                                                       // to paste; absent for what does not help
}

// Predicted is a ratio that was not measured on the result.
type Predicted struct {
	Ratio float64 `json:"ratio"`                                  // below 1 is faster
	Low   float64 `json:"low"`                                    // if more is gained than expected
	High  float64 `json:"high"`                                   // if less is
	By    string  `json:"by" schema:"roofline|operators|dry-run"` // roofline: what binds nodes; operators: times of single operators; dry-run: the rewritten model was timed, unchecked
}

// The verdicts, best first.
const (
	verdictFaster  = "faster"
	verdictSmaller = "smaller"
	verdictUnknown = "unknown"
	verdictNo      = "no"
)

// worthwhile is the predicted ratio that must be undercut by the pessimistic
// end for something to be called faster.
const worthwhile = 0.97

// AdviceOptions say what advice is for; the zero value leaves out what needs
// more.
type AdviceOptions struct {
	Model string           // path of the model, as it is to stand in commands
	Data  string           // the value of --data and what follows it, quoted for a shell; "" puts a placeholder
	Dims  map[string]int64 // sizes that the user gave
	// Fuse rewrites a copy of the model, its open dimensions fixed to dims where
	// there are any, and times it against the original; nil leaves fuse out.
	Fuse func(ctx context.Context, dims map[string]int64) (*Trial, error)
	// Narrow removes that share of the channels from a copy of the model, and times it; nil leaves it to the roofline.
	Narrow func(ctx context.Context, share float64) (*Trial, error)
	// Patterns of pruning that there are.
	Patterns []string
	// Provider says what a GPU would need; "" where there is nothing to say.
	Provider *Advised
}

// Trial is what rewriting a copy of the model came to.
type Trial struct {
	Before, After int                 // nodes
	Bytes         float64             // size of the copy over that of the original; 0 where it does not matter
	Difference    *measure.Difference // time of the copy over that of the original; nil where nothing changed
}

func (t *Trial) predicted() *Predicted {
	d := t.Difference
	return &Predicted{Ratio: d.Ratio, Low: d.Interval.Low, High: d.Interval.High, By: "dry-run"}
}

// adviser gathers what the facts say.
type adviser struct {
	o     AdviceOptions
	s     *StaticProfile
	t     *TimedProfile
	r     *Roofline
	m     *MachineFacts
	nodes []costed // timed nodes, in order
	wall  float64  // ms
	out   []Advised
}

// NewAdvice draws conclusions from a profile with a roofline; nil where it has
// none. It fails only where the context ends or the trial of fusing does.
func NewAdvice(ctx context.Context, p *Profile, o AdviceOptions) (*Advice, error) {
	if p.Static == nil || p.Timed == nil || p.Roofline == nil || p.Roofline.Skipped != "" || p.Roofline.MeasuredMS <= 0 || p.Machine == nil {
		return nil, nil
	}
	a := &adviser{o: o, s: p.Static, t: p.Timed, r: p.Roofline, m: p.Machine, wall: p.Roofline.MeasuredMS}
	a.nodes = a.costs()
	if err := a.fuse(ctx); err != nil {
		return nil, err
	}
	a.staticInt8()
	a.dynamicInt8()
	a.int4()
	a.half()
	if err := a.prune(ctx); err != nil {
		return nil, err
	}
	a.threads()
	a.batch()
	if o.Provider != nil {
		a.out = append(a.out, *o.Provider)
	}
	slices.SortStableFunc(a.out, byWorth)
	return &Advice{Items: a.out,
		Basis: "predicted from the times of this model's nodes, and of single operators on this machine; what fuse and fewer channels gain, from rewritten copies that were timed but not checked"}, ctx.Err()
}

func byWorth(a, b Advised) int {
	rank := []string{verdictFaster, verdictSmaller, verdictUnknown, verdictNo}
	if c := cmp.Compare(slices.Index(rank, a.Verdict), slices.Index(rank, b.Verdict)); c != 0 {
		return c
	}
	ratio := func(x Advised) float64 {
		if x.Predicted == nil {
			return 1
		}
		return x.Predicted.Ratio
	}
	return cmp.Compare(ratio(a), ratio(b))
}

func (a *adviser) add(x Advised) {
	if p := x.Predicted; p != nil && p.By != "dry-run" && a.r.Peaks.Disturbed() {
		x.doubt()
	}
	if x.Verdict == verdictNo {
		x.Command = ""
	}
	a.out = append(a.out, x)
}

// doubt takes back what cannot be told from a machine that was too busy when it
// was measured: that something is not faster, since small operators look slower
// then than they are, and that it is faster by little.
func (x *Advised) doubt() {
	const clear = 0.9
	switch x.Verdict {
	case verdictFaster:
		if x.Predicted.High > clear {
			x.Verdict, x.Reason = verdictUnknown, "too little to be told from a busy machine; "+x.Reason
		}
	case verdictSmaller:
		x.Reason = "whether it is faster cannot be told from a busy machine"
	case verdictNo:
		x.Verdict, x.Reason = verdictUnknown, "cannot be told from a busy machine; as far as it can, "+x.Reason
	}
}

// gain turns milliseconds saved into a prediction: a third more may come true,
// or half of it, and what a rewrite disturbs around it may cost 3 % again.
func (a *adviser) gain(saved float64, by string) *Predicted {
	at := func(share float64) float64 { return max(0.02, 1-share*saved/a.wall) }
	if saved < 0 {
		return &Predicted{Ratio: at(1), Low: at(0.5), High: at(1.3) + 0.03, By: by}
	}
	return &Predicted{Ratio: at(1), Low: at(1.3), High: at(0.5) + 0.03, By: by}
}

// fuse tries fusing, and once more with open dimensions fixed.
func (a *adviser) fuse(ctx context.Context) error {
	if a.o.Fuse == nil {
		return nil
	}
	for _, x := range []struct {
		what string
		dims map[string]int64
	}{{"fuse", nil}, {"fix-dims", seenDims(a.s, a.t)}} {
		fixed := x.what == "fix-dims"
		if fixed && len(x.dims) == 0 {
			continue
		}
		f, err := a.o.Fuse(ctx, x.dims)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		item := Advised{What: x.what, Verdict: verdictNo}
		suffix := "fused"
		if fixed {
			suffix = "fixed"
		}
		command := fmt.Sprintf("lapidary fuse %s -o %s", Quoted(a.o.Model), Quoted(a.output(suffix)))
		if a.o.Data != "" {
			command += " --data " + a.o.Data
		}
		command += dimFlags(x.dims)
		switch {
		case err != nil:
			item.Verdict, item.Reason = verdictUnknown, fmt.Sprintf("not tried: %v", err)
		case f.Difference == nil:
			item.Reason = fmt.Sprintf("nothing to simplify in its %d nodes", f.Before)
		default:
			d := f.Difference
			item.Predicted = f.predicted()
			item.Reason = fmt.Sprintf("%d nodes become %d", f.Before, f.After)
			if fixed {
				item.Reason += ", for inputs of this size only"
			}
			switch {
			case d.Interval.High < worthwhile:
				item.Verdict = verdictFaster
			case d.Interval.Low < worthwhile:
				item.Verdict = verdictUnknown
				item.Reason += "; what that gains is within the noise of this machine"
			default:
				item.Reason += "; the engine does the same when it loads the model"
			}
		}
		item.Command = command
		a.add(item)
	}
	return nil
}

// prune says what zeros and fewer channels would do.
func (a *adviser) prune(ctx context.Context) error {
	a.add(Advised{What: "prune-unstructured", Verdict: verdictNo,
		Reason: "zeros among the weights, in a pattern or not, leave the file its size, and no kernel of this engine on a CPU skips them; they help compression, and sparse hardware"})
	switch {
	case !slices.Contains(a.o.Patterns, "channels"):
		return nil
	case a.o.Narrow == nil:
		a.add(a.narrowByRoof())
		return nil
	}
	t, err := a.o.Narrow(ctx, narrowed)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	item := Advised{What: "prune-channels", Verdict: verdictNo}
	switch {
	case err != nil:
		item.Verdict, item.Reason = verdictUnknown, fmt.Sprintf("not tried: %v", err)
	case t.Difference == nil:
		item.Reason = "it has no channels that could be removed alone"
	default:
		item.Predicted, item.SizeRatio = t.predicted(), &t.Bytes
		item.judge(a.pruneCommand(), a.pruneCommand(), "as tried; "+onlyValidate, fmt.Sprintf("%.2f× the time of a copy without them; %s", t.Difference.Ratio, onlyValidate))
	}
	a.add(item)
	return nil
}

// narrowed is the share of channels whose removal is predicted.
const narrowed = 0.3

const onlyValidate = "what it costs in accuracy, only validate tells"

func (a *adviser) pruneCommand() string {
	return fmt.Sprintf("lapidary prune %s -o %s --pattern channels --sparsity %v %s", Quoted(a.o.Model), Quoted(a.output("pruned")), narrowed, a.dataFlag())
}

// narrowByRoof predicts what fewer channels save where no copy can be tried.
func (a *adviser) narrowByRoof() Advised {
	var saved, weights float64
	for _, n := range a.nodes {
		if n.weights && n.convolves() && n.roof.Bound != boundOverhead {
			// Fewer channels save their own products and those that read them, where neither is the model's input or output.
			saved += narrowed * n.roof.MS
			weights += n.roof.MS
		}
	}
	item := Advised{What: "prune-channels", Verdict: verdictNo, Predicted: a.gain(saved, "roofline"), Reason: "few convolutions cost time that channels less would save"}
	if item.Predicted.High < worthwhile {
		item.Verdict, item.Command = verdictFaster, a.pruneCommand()
		item.Reason = fmt.Sprintf("%s of the time is in convolutions that arithmetic or memory binds; %s", percent(weights/a.wall), onlyValidate)
	}
	return item
}

// threads compares what was used with what is recommended.
func (a *adviser) threads() {
	used, want := a.t.Threads, a.m.Threads
	item := Advised{What: "threads", Verdict: verdictNo, Reason: fmt.Sprintf("%d, as recommended: %s", used, a.m.Reason)}
	switch {
	case used == want || used == 0:
	case used > want:
		item.Verdict, item.Command = verdictFaster, a.profileCommand(a.m.Flag)
		item.Reason = fmt.Sprintf("%d threads wait for each other: %s", used, a.m.Reason)
	default:
		var saved float64
		for _, n := range a.r.Nodes {
			if n.Bound == boundCompute {
				saved += n.MS * (1 - float64(used)/float64(want))
			}
		}
		item.Predicted = a.gain(saved, "roofline")
		item.Reason = fmt.Sprintf("%d threads are used, %d can run at once", used, want)
		if item.Predicted.High < worthwhile {
			item.Verdict, item.Command = verdictFaster, a.profileCommand(a.m.Flag)
		} else {
			item.Reason += ", but little of the time is arithmetic that they could share"
		}
	}
	a.add(item)
}

const advisedBatch = 8

// batch predicts the time of an inference where several run at once: overhead is
// paid once, and weights are read once.
func (a *adviser) batch() {
	item := Advised{What: "batch", Verdict: verdictNo}
	dim := batchDim(a.s)
	if dim == "" {
		item.Reason = "the first dimension of the inputs is fixed in the model"
		a.add(item)
		return
	}
	current := int64(1)
	for _, d := range a.s.Dims {
		if d.Name == dim {
			current = max(1, d.Value)
		}
	}
	if current > 1 {
		item.Reason = fmt.Sprintf("%s is %d already; try others", dim, current)
		a.add(item)
		return
	}
	saved := a.r.Outside * (1 - 1/float64(advisedBatch))
	for i, n := range a.r.Nodes {
		once := min(n.MS, a.r.Peaks.OverheadUS/1e3*max(1, a.t.Nodes[i].Calls))
		if n.Bound == boundMemory && n.Bytes > 0 {
			once += (n.MS - once) * min(1, float64(a.t.Nodes[i].ParamBytes)/float64(n.Bytes))
		}
		saved += once * (1 - 1/float64(advisedBatch))
	}
	item.Predicted = a.gain(saved, "roofline")
	if item.Predicted.High < worthwhile {
		item.Verdict = verdictFaster
		item.Reason = fmt.Sprintf("%d inferences in one run share its overhead and the reading of weights: time of each of them, not of the run", advisedBatch)
		dims := seenDims(a.s, a.t)
		if dims == nil {
			dims = map[string]int64{}
		}
		dims[dim] = advisedBatch
		item.Command = a.profileCommand(strings.TrimSpace(dimFlags(dims)))
	} else {
		item.Reason = "the time is in arithmetic, which grows with the batch"
	}
	a.add(item)
}

// batchDim is the symbol that all inputs have as their first dimension, "" where
// there is none.
func batchDim(s *StaticProfile) string {
	dim := ""
	for _, in := range s.Inputs {
		_, rest, ok := strings.Cut(strings.TrimSuffix(in.Type, "]"), "[")
		if !ok || rest == "" {
			continue
		}
		first, _, _ := strings.Cut(rest, ",")
		known := slices.ContainsFunc(s.Dims, func(d Dim) bool { return d.Name == first })
		if !known || dim != "" && dim != first {
			return ""
		}
		dim = first
	}
	return dim
}

func (a *adviser) profileCommand(flags string) string {
	return fmt.Sprintf("lapidary profile %s %s", Quoted(a.o.Model), flags)
}

// output is a name beside nothing: in the current folder, after the model's.
func (a *adviser) output(suffix string) string {
	base := strings.TrimSuffix(filepath.Base(a.o.Model), filepath.Ext(a.o.Model))
	return base + "." + suffix + ".onnx"
}

// dataFlag is --data as the user gave it, or a placeholder, and the sizes that
// go with it.
func (a *adviser) dataFlag() string {
	return "--data " + orText(a.o.Data, DataPlaceholder) + dimFlags(a.o.Dims)
}

// givenData is --data where the user gave it: what needs none is checked by it.
func (a *adviser) givenData() string {
	if a.o.Data == "" {
		return ""
	}
	return " " + a.dataFlag()
}

// DataPlaceholder stands in commands for data that the user has to name.
const DataPlaceholder = "CALIBRATION.npz"

func dimFlags(dims map[string]int64) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(dims)) {
		fmt.Fprintf(&b, " --dim %s", Quoted(fmt.Sprintf("%s=%d", name, dims[name])))
	}
	return b.String()
}

// seenDims returns the sizes of the model's symbolic dimensions in the inputs
// that were run; nil where these came in several shapes.
func seenDims(s *StaticProfile, t *TimedProfile) map[string]int64 {
	if len(t.InputShapes) != 1 {
		return nil
	}
	out := map[string]int64{}
	for _, in := range s.Inputs {
		_, rest, ok := strings.Cut(" "+t.InputShapes[0], " "+in.Name+":")
		if !ok {
			continue
		}
		seen, _, _ := strings.Cut(rest, " ")
		sizes := parseSeen(seen).dims
		_, rest, _ = strings.Cut(strings.TrimSuffix(in.Type, "]"), "[")
		for i, name := range strings.Split(rest, ",") {
			if i < len(sizes) && slices.ContainsFunc(s.Dims, func(d Dim) bool { return d.Name == name }) {
				out[name] = sizes[i]
			}
		}
	}
	return out
}

// Quoted writes a word so that a shell takes it as one.
func Quoted(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-=,:+@%", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 && !strings.HasPrefix(s, "-") {
		return s
	}
	if strings.HasPrefix(s, "-") {
		s = "./" + s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

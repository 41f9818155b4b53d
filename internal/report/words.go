package report

import (
	"fmt"
	"math"
	"strings"
)

// headline says in one or two sentences what the verdict means for the candidate.
func (r *Report) headline() string {
	failed, open := r.undone()
	n := len(r.Gates)
	candidate, baseline := modelName(&r.Candidate, "the candidate"), modelName(&r.Baseline, "the baseline")
	switch {
	case n == 0:
		return "No requirement was stated, so nothing was decided."
	case r.Verdict == Pass && n == 1:
		return fmt.Sprintf("%s may replace %s: it meets the only requirement.", candidate, baseline)
	case r.Verdict == Pass:
		return fmt.Sprintf("%s may replace %s: it meets all %s requirements.", candidate, baseline, FormatCount(n))
	case r.Verdict == Fail && len(open) > 0:
		return fmt.Sprintf("%s must not replace %s: it does not meet %s. For %s more the evidence is too weak to decide: %s.",
			candidate, baseline, someOf(failed, n), FormatCount(len(open)), nameList(open))
	case r.Verdict == Fail:
		return fmt.Sprintf("%s must not replace %s: it does not meet %s.", candidate, baseline, someOf(failed, n))
	}
	return fmt.Sprintf("%s may not replace %s yet: the evidence is too weak to decide %s.", candidate, baseline, someOf(open, n))
}

// undone returns the names of the gates that failed and of those that are not decided.
func (r *Report) undone() (failed, open []string) {
	for _, g := range r.Gates {
		switch g.Verdict {
		case Pass:
		case Inconclusive:
			open = append(open, g.Name)
		default:
			failed = append(failed, g.Name)
		}
	}
	return failed, open
}

// reasons says of each gate that did not pass why, those that failed first.
func (r *Report) reasons() []string {
	var out []string
	for _, g := range r.urgentGates(len(r.Gates)) {
		if g.Verdict != Pass {
			out = append(out, clean(g.Name)+": "+clean(g.Reason)+".")
		}
	}
	return out
}

// modelName returns a model's name for a sentence.
func modelName(m *Model, none string) string {
	if name := strings.TrimSpace(clean(m.Name)); name != "" {
		return cut(name, 80)
	}
	return none
}

func someOf(names []string, n int) string {
	if n == 1 {
		return "the only requirement, " + nameList(names)
	}
	return fmt.Sprintf("%s of %s requirements: %s", FormatCount(len(names)), FormatCount(n), nameList(names))
}

// nameList lists at most four names.
func nameList(names []string) string {
	var out []string
	for i, name := range names {
		if i == 4 {
			out = append(out, "…")
			break
		}
		out = append(out, cut(clean(name), 60))
	}
	return strings.Join(out, ", ")
}

// requirement returns a gate's condition for a reader, such as "accuracy.drop ≤ 1.00 pt".
func (g *Gate) requirement() string {
	if g.CEL != "" {
		return cut(clean(g.CEL), 120)
	}
	op := map[string]string{"<=": "≤", ">=": "≥"}[g.Operator]
	if op == "" {
		op = clean(g.Operator)
	}
	return clean(g.Metric) + " " + op + " " + FormatLimit(g.Unit, g.Threshold)
}

// observation returns what a gate saw for a reader: the estimate and its interval.
func (g *Gate) observation() string {
	switch {
	case g.CEL == "" || g.Observed == nil:
	case *g.Observed == 1:
		return "holds"
	default:
		return "does not hold"
	}
	return estimate(g.Unit, g.Observed, g.CI95)
}

func estimate(unit string, v *float64, ci *Interval) string {
	switch {
	case v == nil:
		return "–"
	case ci == nil:
		return FormatValue(unit, *v)
	}
	return FormatValue(unit, *v) + " " + FormatInterval(unit, *ci)
}

func value(unit string, v *float64) string { return estimate(unit, v, nil) }

// A row compares one quantity of the two models, ready for a table.
type row struct {
	Name, Baseline, Candidate, Change string
}

// rows returns the comparison table that every human form of the report shows.
func (r *Report) rows() []row {
	rows := []row{
		ratioRow("size", UnitBytes, Num(float64(r.Baseline.TotalBytes())), Num(float64(r.Candidate.TotalBytes()))),
		{"parameters", FormatCount(r.Baseline.Parameters), FormatCount(r.Candidate.Parameters), ratioOf(float64(r.Baseline.Parameters), float64(r.Candidate.Parameters))},
	}
	if a := r.Accuracy; a != nil {
		unit, diff := a.units()
		if a.Metric != "" {
			rows = append(rows, row{clean(a.Metric), value(unit, a.Baseline), value(unit, a.Candidate), signed(diff, a.Delta, a.CI95)})
		}
		rows = append(rows, a.measures()...)
		if a.ECE != nil {
			rows = append(rows, row{"calibration error", value(UnitFraction, a.ECE.Baseline), value(UnitFraction, a.ECE.Candidate), signed(UnitDifference, a.ECE.Delta, a.ECE.CI95)})
		}
	}
	if l := r.Latency; l != nil {
		rows = append(rows, row{"latency, median", value(UnitMS, l.BaselineMS), value(UnitMS, l.CandidateMS), estimate(UnitRatio, l.Ratio, l.CI95)})
		for _, q := range []struct {
			name string
			q    *Quantile
		}{{"latency, 90th percentile", l.P90}, {"latency, 95th percentile", l.P95}, {"latency, 99th percentile", l.P99}} {
			if q.q != nil {
				rows = append(rows, ratioRow(q.name, UnitMS, &q.q.BaselineMS, &q.q.CandidateMS))
			}
		}
		if l.ColdStart != nil {
			rows = append(rows, l.ColdStart.row())
		}
		for i := range l.Throughput {
			rows = append(rows, l.Throughput[i].row())
		}
		if m := l.Memory; m != nil {
			rows = append(rows, ratioRow("peak memory", UnitBytes, Num(float64(m.BaselinePeakBytes)), Num(float64(m.CandidatePeakBytes))))
		}
		if e := l.Energy; e != nil && e.BaselineMJ != nil && e.CandidateMJ != nil {
			rows = append(rows, e.row())
		}
	}
	return rows
}

// A ratioLine is one quantity as candidate / baseline.
type ratioLine struct {
	name  string
	ratio float64
	ci    *Interval
}

// ratios returns what the candidate takes as a share of what the baseline takes, for everything of which less is better.
func (r *Report) ratios() []ratioLine {
	var out []ratioLine
	add := func(name string, b, c float64) {
		if b > 0 && c > 0 {
			out = append(out, ratioLine{name, c / b, nil})
		}
	}
	add("size", float64(r.Baseline.TotalBytes()), float64(r.Candidate.TotalBytes()))
	add("parameters", float64(r.Baseline.Parameters), float64(r.Candidate.Parameters))
	l := r.Latency
	if l == nil {
		return out
	}
	if l.Ratio != nil && *l.Ratio > 0 {
		out = append(out, ratioLine{"run time, median", *l.Ratio, l.CI95})
	}
	for _, q := range []struct {
		name string
		q    *Quantile
	}{{"run time, 90th percentile", l.P90}, {"run time, 95th percentile", l.P95}, {"run time, 99th percentile", l.P99}} {
		if q.q != nil {
			add(q.name, q.q.BaselineMS, q.q.CandidateMS)
		}
	}
	if c := l.ColdStart; c != nil && c.BaselineMS != nil && c.CandidateMS != nil {
		add("cold start", *c.BaselineMS, *c.CandidateMS)
	}
	if m := l.Memory; m != nil {
		add("peak memory", float64(m.BaselinePeakBytes), float64(m.CandidatePeakBytes))
	}
	if e := l.Energy; e != nil && e.BaselineMJ != nil && e.CandidateMJ != nil {
		add("energy per inference", *e.BaselineMJ, *e.CandidateMJ)
	}
	return out
}

func ratioRow(name, unit string, b, c *float64) row {
	out := row{name, value(unit, b), value(unit, c), "–"}
	if b != nil && c != nil {
		out.Change = ratioOf(*b, *c)
	}
	return out
}

func ratioOf(b, c float64) string {
	if b <= 0 {
		return "–"
	}
	return FormatValue(UnitRatio, c/b)
}

// signed is estimate with an explicit plus.
func signed(unit string, v *float64, ci *Interval) string {
	s := estimate(unit, v, ci)
	if v != nil && *v > 0 {
		s = "+" + s
	}
	return s
}

// units returns the units of the metric itself and of a difference of it.
func (a *Accuracy) units() (metric, difference string) {
	if a.IsShare() {
		return UnitFraction, UnitDifference
	}
	return UnitNone, UnitNone
}

// facts returns the figures that compare the outputs themselves, as pairs of name and value.
func (a *Accuracy) facts() [][2]string {
	var out [][2]string
	add := func(name, unit string, v *float64, ci *Interval) {
		if v != nil {
			out = append(out, [2]string{name, estimate(unit, v, ci)})
		}
	}
	out = append(out, [2]string{"samples compared", FormatCount(a.N)})
	out = append(out, a.evidence()...)
	add("p value of no difference", UnitNone, a.PValue, nil)
	add("agreement of predictions", UnitFraction, a.Agreement, a.AgreementCI95)
	if f := a.Flips; f != nil {
		out = append(out, [2]string{"predictions that changed", FormatCount(f.Changed)})
		for _, c := range []struct {
			name string
			n    *int
		}{{"right to wrong", f.RightToWrong}, {"wrong to right", f.WrongToRight}, {"wrong to another wrong", f.WrongToOther}} {
			if c.n != nil {
				out = append(out, [2]string{c.name, FormatCount(*c.n)})
			}
		}
	}
	add("KL divergence, mean", UnitNats, a.KL, nil)
	add("KL divergence, 95th percentile", UnitNats, a.KLP95, nil)
	add("signal to quantization noise", UnitDecibel, a.SQNR, nil)
	if a.Identical {
		out = append(out, [2]string{"outputs", "bitwise identical"})
	}
	return out
}

// facts returns how the latency was measured and how quiet the machine was.
func (l *Latency) facts() [][2]string {
	out := [][2]string{{"interleaved pairs", FormatCount(l.Pairs)}, {"process restarts", FormatCount(l.Processes)}}
	count := func(name string, n int) {
		if n > 0 {
			out = append(out, [2]string{name, FormatCount(n)})
		}
	}
	count("samples per inference", l.Batch)
	count("inferences per element", l.Iterations)
	count("warm-up inferences", l.Warmup)
	add := func(name, unit string, v *float64) {
		if v != nil {
			out = append(out, [2]string{name, value(unit, v)})
		}
	}
	add("smallest change that would have been found", UnitFraction, l.MinEffect)
	if n := l.Noise; n != nil {
		add("autocorrelation at lag 1", UnitNone, n.Lag1)
		add("p value of no trend (Mann-Kendall)", UnitNone, n.TrendP)
		add("time stolen by the hypervisor", UnitFraction, n.Steal)
		if n.Throttled != nil {
			out = append(out, [2]string{"periods throttled", FormatCount(*n.Throttled)})
		}
		if n.ContextSwitches != nil {
			out = append(out, [2]string{"involuntary context switches", FormatCount(*n.ContextSwitches)})
		}
		add("time in which a task waited for a processor", UnitFraction, n.CPUPressure)
		if n.GPULimited != nil {
			out = append(out, [2]string{"readings with lowered clocks of the GPU", FormatValue(UnitFraction, *n.GPULimited) + ": " + clean(strings.Join(n.GPULimits, ", "))})
		}
	}
	out = append(out, l.tails()...)
	out = append(out, l.ColdStart.facts()...)
	out = append(out, l.Energy.facts()...)
	return append(out, l.SelfTest.facts()...)
}

// facts returns what the measurement ran on.
func (e *Environment) facts() [][2]string {
	var out [][2]string
	add := func(name, v string) {
		if v = strings.TrimSpace(clean(v)); v != "" {
			out = append(out, [2]string{name, v})
		}
	}
	add("tool", e.Tool)
	add("runtime", strings.TrimSpace(e.Runtime.Name+" "+e.Runtime.Version))
	add("execution provider", e.Runtime.Provider)
	add("runtime library, SHA-256", e.Runtime.SHA256)
	add("device", e.Device)
	if e.FallbackNodes != nil {
		add("nodes that fell back to the CPU", FormatCount(*e.FallbackNodes))
	}
	add("system", strings.TrimSpace(e.OS+" "+e.Kernel))
	add("processor", e.CPU)
	if e.Cores > 0 {
		add("processors usable", FormatCount(e.Cores))
	}
	add("instruction sets", strings.Join(e.ISA, ", "))
	if e.Threads > 0 {
		add("threads per session", FormatCount(e.Threads))
	}
	add("frequency governor", e.Governor)
	if c := e.Container; c != nil {
		var limits []string
		if c.CPUQuota != nil {
			limits = append(limits, dropZeros(significant(*c.CPUQuota, 3))+" CPUs")
		}
		if c.CPUSet != "" {
			limits = append(limits, "cpuset "+c.CPUSet)
		}
		if c.MemoryBytes > 0 {
			limits = append(limits, formatBytes(float64(c.MemoryBytes))+" of memory")
		}
		add("container limits", strings.Join(limits, ", "))
	}
	add("graphics processor", strings.Join(e.GPU, ", "))
	add("graphics driver", e.Driver)
	return out
}

// facts describes the data.
func (d *Data) facts() [][2]string {
	var out [][2]string
	add := func(name, v string) {
		if v != "" {
			out = append(out, [2]string{name, clean(v)})
		}
	}
	add("name", d.Name)
	add("origin", map[string]string{OriginFiles: "the user's own files", OriginSynthetic: "generated inputs"}[d.Origin])
	add("SHA-256 of the rows", d.Digest)
	add("samples", FormatCount(d.Samples))
	add("labelled", map[bool]string{true: "yes", false: "no"}[d.Labelled])
	if d.Classes > 0 {
		add("classes", FormatCount(d.Classes))
	}
	add("preprocessing", d.Preprocess)
	add("SHA-256 of the preprocessing", d.PreprocessDigest)
	if d.CalibrationOverlap != nil {
		add("rows shared with the calibration data", FormatCount(*d.CalibrationOverlap))
	}
	return out
}

// commands returns the lines with which a reader checks the evidence beside the report, with the same file names as Write and
// the signing step use. POSIX shell quoting keeps a hostile file name one argument.
func (r *Report) commands() []string {
	name := plain(r.Candidate.Name)
	if strings.HasPrefix(name, "-") {
		name = "./" + name
	}
	candidate := shellQuote(name)
	lines := []string{
		"lapidary verify evidence.sigstore.json --key lapidary.pub --model " + candidate,
		"cosign verify-blob-attestation --key lapidary.pub --bundle evidence.sigstore.json --type " + PredicateType + " --insecure-ignore-tlog " + candidate,
	}
	if r.Candidate.Bytes >= cosignLimit {
		lines[1] = fmt.Sprintf("COSIGN_MAX_ATTACHMENT_SIZE=%dGB ", int(math.Ceil(float64(r.Candidate.Bytes)/1e9))) + lines[1]
	}
	return lines
}

// cosignLimit is the size in bytes from which cosign asks for an explicit limit.
const cosignLimit = 128_000_000

func shellQuote(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/+=:@%,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

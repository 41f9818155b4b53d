package gate

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// Shorthand is a gate that a single value completes: a flag of that name, or a key of the gates section.
type Shorthand struct {
	Name     string // flag and key, also the name of the gate
	Metric   string
	Operator string
	Usage    string // one line for people, with the form of the value
}

// Shorthands returns all shorthands, in the order in which their gates are reported.
func Shorthands() []Shorthand {
	return []Shorthand{
		{"max-drop", "accuracy.drop", "<=", "largest accepted loss of accuracy: 0.5pt, 0.5% or 0.005"},
		{"max-slice-drop", "accuracy.worst_slice_drop", "<=", "largest accepted loss of accuracy within any slice: 2pt"},
		{"min-gain", "accuracy.gain", ">=", "smallest demanded gain of accuracy: 0.5pt"},
		{"min-accuracy-ratio", "accuracy.ratio", ">=", "smallest accepted share of the baseline's accuracy metric: 0.99 or 99%"},
		{"min-agreement", "accuracy.agreement", ">=", "smallest accepted share of unchanged predictions: 0.99 or 99%"},
		{"max-kl", "accuracy.kl", "<=", "largest accepted mean divergence of the class distributions, in nats"},
		{"min-sqnr", "accuracy.sqnr_db", ">=", "smallest accepted signal to noise ratio of the outputs, in dB"},
		{"min-cosine", "accuracy.cosine", ">=", "smallest accepted mean cosine of both models' embeddings: 0.995"},
		{"max-latency-ratio", "latency.ratio", "<=", "largest accepted run time of the candidate / that of the baseline: 1.0"},
		{"max-latency-delta", "latency.p50.delta_ms", "<=", "largest accepted median run time of the candidate − that of the baseline: 2ms, or -1ms to demand as much less"},
		{"min-speedup", "latency.speedup", ">=", "smallest accepted run time of the baseline / that of the candidate: 1.2"},
		{"max-cold-start-ratio", "latency.cold_start_ratio", "<=", "largest accepted time to the first result of the candidate / that of the baseline: 1.1"},
		{"min-throughput-ratio", "latency.throughput_ratio", ">=", "smallest accepted samples per second of the candidate / those of the baseline, under every load of --throughput: 1.0"},
		{"max-energy-ratio", "latency.energy_ratio", "<=", "largest accepted energy per inference of the candidate / that of the baseline: 1.0"},
		{"max-memory-ratio", "latency.memory_ratio", "<=", "largest accepted peak memory of the candidate / that of the baseline: 1.0"},
		{"max-memory-delta", "latency.memory_difference", "<=", "largest accepted peak memory of the candidate − that of the baseline: 16MiB, or -4MiB to demand as much less"},
		{"max-bytes-ratio", "bytes_ratio", "<=", "largest accepted size of the candidate / that of the baseline: 0.5"},
		{"min-explanation-rho", "explanation.spearman", ">=", "smallest accepted rank correlation of the attribution maps: 0.9, a heuristic; --min-explanation-margin is relative to what was measured"},
		{"min-explanation-margin", "explanation.spearman_margin", ">=", "smallest accepted rank correlation above what a change of no consequence leaves, as measured: 0 or -0.05"},
		{"min-explanation-topk", "explanation.topk_jaccard", ">=", "smallest accepted overlap of the most important features: 0.6"},
		{"min-explanation-ssim", "explanation.ssim", ">=", "smallest accepted structural similarity of the attribution maps of images: 0.8"},
		{"min-cross-faithfulness", "explanation.cross_faithfulness", ">=", "smallest accepted worth of the baseline's explanations for the candidate, relative to its own: 0.95"},
	}
}

// Parse returns the gate of a shorthand with the given value, such as ("max-drop", "0.5pt").
func Parse(name, value string) (Gate, error) {
	for _, s := range Shorthands() {
		if s.Name == name {
			t, err := ParseThreshold(s.Metric, value)
			if err != nil {
				return Gate{}, fmt.Errorf("%s: %v", name, err)
			}
			return Gate{s.Name, s.Metric, s.Operator, t}, nil
		}
	}
	return Gate{}, fmt.Errorf("there is no gate %q; the gates are %s", name, shorthandNames())
}

func shorthandNames() string {
	var names []string
	for _, s := range Shorthands() {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

// suffixes lists, per unit, what may follow the number and what it multiplies it by.
// A percent sign means a hundredth, also for a difference: 0.5% and 0.5pt are the same loss, half a percentage point.
func suffixes(unit string) map[string]float64 {
	switch unit {
	case report.UnitDifference:
		return map[string]float64{"pt": 0.01, "pp": 0.01, "%": 0.01}
	case report.UnitFraction:
		return map[string]float64{"%": 0.01}
	case report.UnitRatio:
		return map[string]float64{"%": 0.01, "x": 1, "×": 1}
	case report.UnitDecibel:
		return map[string]float64{"dB": 1, "db": 1}
	case report.UnitNats:
		return map[string]float64{"nats": 1}
	case report.UnitMS:
		return map[string]float64{"ms": 1, "µs": 1e-3, "us": 1e-3, "s": 1e3}
	case report.UnitBytes:
		return map[string]float64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 1e3, "MB": 1e6, "GB": 1e9}
	}
	return nil
}

// ParseThreshold reads a limit for the metric: a decimal number, with an optional unit that the metric can have.
func ParseThreshold(metric, value string) (float64, error) {
	m, ok := lookup(metric)
	if !ok {
		return 0, fmt.Errorf("there is no metric %q; the metrics are %s", metric, metricNames())
	}
	text := strings.TrimSpace(value)
	end := strings.LastIndexAny(text, "0123456789.") + 1
	number, suffix := text[:end], strings.TrimSpace(text[end:])
	factor := 1.0
	if suffix != "" {
		if factor, ok = suffixes(m.Unit)[suffix]; !ok {
			return 0, fmt.Errorf("%q has the unit %q, want %s", value, suffix, unitHelp(m.Unit))
		}
	}
	if strings.Trim(number, "+-0123456789.eE") != "" {
		return 0, fmt.Errorf("%q is not a number, want %s", value, unitHelp(m.Unit))
	}
	if factor == 0.01 && !strings.ContainsAny(number, "eE") {
		number, factor = number+"e-2", 1 // in decimal, so that 0.7pt is exactly 0.007
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number, want %s", value, unitHelp(m.Unit))
	}
	v *= factor
	return v, inRange(m, value, v)
}

func unitHelp(unit string) string {
	s := suffixes(unit)
	if len(s) == 0 {
		return "a plain number"
	}
	return "a number, plain or followed by " + strings.Join(sortedKeys(s), ", ")
}

// inRange refuses a limit that no report, or every report, would meet.
func inRange(m Metric, text string, v float64) error {
	lo, hi := math.Inf(-1), math.Inf(1)
	switch {
	case m.Signed:
	case m.Unit == report.UnitFraction:
		lo, hi = 0, 1
	case m.Unit == report.UnitRatio, m.Unit == report.UnitMS, m.Unit == report.UnitBytes, m.Unit == report.UnitNats:
		lo = 0
	case m.Name == "explanation.spearman", m.Name == "explanation.cosine", m.Name == "explanation.ssim", m.Name == "explanation.spearman_margin", m.Name == "accuracy.cosine":
		lo, hi = -1, 1
	}
	if v < lo || v > hi || math.IsInf(v, 0) {
		if math.IsInf(hi, 1) {
			return fmt.Errorf("%q is out of range, want at least %v", text, lo)
		}
		return fmt.Errorf("%q is out of range, want %v to %v", text, lo, hi)
	}
	return nil
}

// FromFlags returns the policy of the shorthands that were given, by name; an empty value means that the flag was not given.
func FromFlags(values map[string]string) (Policy, error) {
	for _, name := range sortedKeys(values) {
		if !isShorthand(name) {
			return Policy{}, fmt.Errorf("there is no gate %q; the gates are %s", name, shorthandNames())
		}
	}
	p := Policy{Source: "flags"}
	for _, s := range Shorthands() {
		if values[s.Name] == "" {
			continue
		}
		g, err := Parse(s.Name, values[s.Name])
		if err != nil {
			return Policy{}, err
		}
		p.Gates = append(p.Gates, g)
	}
	return p, nil
}

func isShorthand(name string) bool {
	return slices.ContainsFunc(Shorthands(), func(s Shorthand) bool { return s.Name == name })
}

// FromConfig returns the policy of a gates section. Each key is either a shorthand with its value,
//
//	max-drop: 0.5pt
//
// or a name of the user's choice for a requirement on any metric,
//
//	tail: {metric: latency.p99.candidate_ms, operator: "<=", threshold: 20ms}
//
// Shorthands come first in their own order, then the others by name. An unknown key is an error, so that a misspelt gate is never
// silently not asked.
//
// A requirement can also be stated as what is to be shown, see [testOf]:
//
//	better: {test: superiority, of: latency, margin: 10%, relative: true}
func FromConfig(source string, section map[string]any) (Policy, error) {
	p := Policy{Source: source}
	for _, s := range Shorthands() {
		value, ok := section[s.Name]
		if !ok {
			continue
		}
		text, err := scalar(value)
		if err != nil {
			return Policy{}, fmt.Errorf("%s: gates.%s: %v", source, s.Name, err)
		}
		g, err := Parse(s.Name, text)
		if err != nil {
			return Policy{}, fmt.Errorf("%s: gates.%v", source, err)
		}
		p.Gates = append(p.Gates, g)
	}
	for _, name := range sortedKeys(section) {
		if isShorthand(name) {
			continue
		}
		g, err := fromMap(name, section[name])
		if err != nil {
			return Policy{}, fmt.Errorf("%s: gates.%s: %v", source, name, err)
		}
		p.Gates = append(p.Gates, g)
	}
	return p, p.Check()
}

// fromMap reads the long form of a gate.
func fromMap(name string, value any) (Gate, error) {
	fields, ok := value.(map[string]any)
	if !ok {
		return Gate{}, fmt.Errorf("there is no such gate; want one of %s, or a map of metric, operator and threshold", shorthandNames())
	}
	if _, ok := fields["test"]; ok {
		return testOf(name, fields)
	}
	g := Gate{Name: name}
	for _, key := range sortedKeys(fields) {
		if key != "metric" && key != "operator" && key != "threshold" {
			return Gate{}, fmt.Errorf("unknown key %q, want metric, operator and threshold", key)
		}
		text, err := scalar(fields[key])
		if err != nil {
			return Gate{}, fmt.Errorf("%s: %v", key, err)
		}
		switch key {
		case "metric":
			g.Metric = text
		case "operator":
			g.Operator = text
		case "threshold": // sorted last: the metric, which gives the unit, is known
			if g.Threshold, err = ParseThreshold(g.Metric, text); err != nil {
				return Gate{}, fmt.Errorf("threshold: %v", err)
			}
		}
	}
	for _, key := range []string{"metric", "operator", "threshold"} {
		if _, ok := fields[key]; !ok {
			return Gate{}, fmt.Errorf("%s is missing", key)
		}
	}
	return g, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// scalar returns a string or number of a configuration file as text.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case uint64:
		return strconv.FormatUint(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", fmt.Errorf("want a number or a text, have %T", v)
}

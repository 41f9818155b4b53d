package gate

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/report"
)

// quantity is what a requirement in the words of a trial may be about, with the metrics that decide it. All of them are read so that a
// larger value of difference and ratio is worse.
type quantity struct {
	name       string
	difference string // metric of candidate − baseline, in the worse direction
	gain       string // metric of the same in the better direction, where there is one
	ratio      string // metric of candidate / baseline
	better     string // "higher" where a larger ratio is better
}

var quantities = []quantity{
	{name: "accuracy", difference: "accuracy.drop", gain: "accuracy.gain", ratio: "accuracy.ratio", better: report.BetterHigher},
	{name: "latency", difference: "latency.p50.delta_ms", ratio: "latency.ratio"},
	{name: "memory", difference: "latency.memory_difference", ratio: "latency.memory_ratio"},
	{name: "bytes", difference: "bytes_difference", ratio: "bytes_ratio"},
	{name: "parameters", difference: "parameters_difference", ratio: "parameters_ratio"},
	{name: "ece", difference: "accuracy.ece.delta"},
}

func quantityNames() string {
	var names []string
	for _, q := range quantities {
		names = append(names, q.name)
	}
	return strings.Join(names, ", ")
}

// testOf reads a requirement as a trial states it:
//
//	{test: non-inferiority, of: accuracy, margin: 0.5pt}
//	{test: superiority, of: latency, margin: 10%, relative: true}
//
// Non-inferiority shows that the candidate is worse by no more than the margin; superiority, that it is better by more than the margin, which
// is 0 where none is given. Both are shown by the whole 95 % interval, or by the value of an exact quantity. A relative margin is a share of
// the baseline. (S. Wellek, Testing Statistical Hypotheses of Equivalence and Noninferiority, 2010.)
func testOf(name string, fields map[string]any) (Gate, error) {
	given := map[string]string{"margin": "0", "relative": "false"}
	for _, key := range sortedKeys(fields) {
		if key != "test" && key != "of" && key != "margin" && key != "relative" {
			return Gate{}, fmt.Errorf("unknown key %q, want test, of, margin and relative", key)
		}
		if b, ok := fields[key].(bool); ok && key == "relative" {
			given[key] = fmt.Sprint(b)
			continue
		}
		text, err := scalar(fields[key])
		if err != nil {
			return Gate{}, fmt.Errorf("%s: %v", key, err)
		}
		given[key] = text
	}
	return hypothesis(name, given["test"], given["of"], given["margin"], given["relative"] == "true")
}

// hypothesis returns the gate that shows what is to be shown.
func hypothesis(name, test, of, margin string, relative bool) (Gate, error) {
	superior := test == "superiority"
	if !superior && test != "non-inferiority" {
		return Gate{}, fmt.Errorf("test is %q, want non-inferiority or superiority", test)
	}
	i := -1
	for k := range quantities {
		if quantities[k].name == of {
			i = k
		}
	}
	if i < 0 {
		return Gate{}, fmt.Errorf("of is %q, want one of %s", of, quantityNames())
	}
	q := quantities[i]
	if relative {
		return relativeTest(name, q, superior, margin)
	}
	return absoluteTest(name, q, superior, margin)
}

// absoluteTest compares the difference with a margin in the quantity's own unit.
func absoluteTest(name string, q quantity, superior bool, margin string) (Gate, error) {
	m, err := ParseThreshold(q.difference, margin)
	if err == nil && m < 0 {
		err = fmt.Errorf("%q is negative, want how much is too much", margin)
	}
	if err != nil && strings.HasSuffix(margin, "%") {
		err = fmt.Errorf("%v; for a share of the baseline add relative: true", err)
	}
	switch {
	case err != nil:
		return Gate{}, fmt.Errorf("margin: %v", err)
	case !superior:
		return Gate{name, q.difference, "<=", m}, nil
	case q.gain != "":
		return Gate{name, q.gain, ">", m}, nil
	}
	return Gate{name, q.difference, "<", 0 - m}, nil
}

// relativeTest compares the ratio with 1 and a margin as a share.
func relativeTest(name string, q quantity, superior bool, margin string) (Gate, error) {
	if _, ok := lookup(q.ratio); !ok {
		return Gate{}, fmt.Errorf("%s is compared as a difference only; leave out relative", q.name)
	}
	m, err := ParseThreshold("latency.ratio", margin) // any ratio: a number or a percentage
	if err == nil && m >= 1 {
		err = fmt.Errorf("%q is all of the baseline or more, want a share below 1", margin)
	}
	if err != nil {
		return Gate{}, fmt.Errorf("margin: %v", err)
	}
	up, down := decimal(1+m), decimal(1-m)
	switch {
	case q.better == report.BetterHigher && superior:
		return Gate{name, q.ratio, ">", up}, nil
	case q.better == report.BetterHigher:
		return Gate{name, q.ratio, ">=", down}, nil
	case superior:
		return Gate{name, q.ratio, "<", down}, nil
	}
	return Gate{name, q.ratio, "<=", up}, nil
}

// decimal rounds away what binary arithmetic adds to a sum of two decimals, so that 1 + 5 % is the limit 1.05.
func decimal(v float64) float64 { return math.Round(v*1e12) / 1e12 }

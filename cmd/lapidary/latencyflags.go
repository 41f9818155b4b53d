package main

import (
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
)

// latencyFlags are the flags of validate for what is timed beside single inferences.
type latencyFlags struct {
	throughput string
	selfTest   int
	selfBudget time.Duration
}

func (f *latencyFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.throughput, "throughput", "", "compare samples per second too, each in half of --latency-budget: `LOADS` as in 8x1,1x2, which are batch x instances, or auto")
	p.Lookup("throughput").NoOptDefVal = "auto"
	p.IntVar(&f.selfTest, "self-test", 0, "time the baseline against a byte copy of itself `N` times, and report false alarms and the smallest change that is found")
	p.Lookup("self-test").NoOptDefVal = "20"
	p.DurationVar(&f.selfBudget, "self-test-budget", 3*time.Second, "time for each comparison of --self-test")
}

// alone turns a command line without a candidate into the self-test of the baseline: latency only, and the question whether this
// machine can tell at all that a model is not slower than itself.
func (f *latencyFlags) alone(model string, vf *validateFlags, p gate.Policy) ([]string, gate.Policy, error) {
	if f.selfTest == 0 {
		return nil, p, usagef("no candidate to hold against %s; name one, or ask for --self-test", model)
	}
	if vf.noLatency {
		return nil, p, usagef("--no-latency leaves nothing of --self-test")
	}
	vf.noAccuracy, vf.noExplain = true, true
	if len(p.Gates) == 0 {
		p = gate.Policy{Source: "default", Gates: []gate.Gate{
			{Name: "max-latency-ratio", Metric: "latency.ratio", Operator: "<=", Threshold: gate.DefaultMaxLatencyRatio},
		}}
	}
	return []string{model, model}, p, nil
}

// apply adds to o what the flags ask for, and the throughput that a gate needs.
func (f *latencyFlags) apply(o *validate.Options, p gate.Policy) error {
	switch {
	case f.selfTest < 0 || f.selfBudget <= 0:
		return usagef("--self-test and --self-test-budget must be positive")
	case o.Latency.Off && (f.selfTest > 0 || f.throughput != ""):
		return usagef("--no-latency leaves nothing of --self-test and --throughput")
	}
	o.Latency.SelfTest, o.Latency.SelfTestBudget = f.selfTest, f.selfBudget
	loads := f.throughput
	if loads == "" && slices.ContainsFunc(p.Gates, func(g gate.Gate) bool { return g.Metric == "latency.throughput_ratio" }) {
		loads = "auto"
	}
	if loads == "" || o.Latency.Off {
		return nil
	}
	list, err := validate.ParseLoads(loads, o.Session.Threads)
	if err != nil {
		return usagef("--throughput: %w", err)
	}
	o.Latency.Throughput = list
	return nil
}

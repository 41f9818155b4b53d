package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/spf13/cobra"
)

// guardFlags say how a result is held against the original in the engine.
type guardFlags struct {
	noMeasure bool
	measure   time.Duration
	optimized string
}

func (f *guardFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.BoolVar(&f.noMeasure, "no-measure", false, "do not time original and result against each other")
	p.DurationVar(&f.measure, "measure", 0, "time of runs for precise latencies, of the result and of what each rule gained (20s if none is given)")
	p.Lookup("measure").NoOptDefVal = "20s"
	p.StringVar(&f.optimized, "save-optimized", "", "also write the engine's own optimized graph, for a quicker start on this very device only")
}

// guard returns what a result must not lose in the engine e; nil where it is not
// run at all, or where e is not what the result is for.
func (f *guardFlags) guard(a *app, e *engine, target string) (*produce.Guard, error) {
	switch {
	case f.noMeasure && f.measure != 0:
		return nil, usagef("--measure and --no-measure exclude each other")
	case f.measure < 0:
		return nil, usagef("--measure %v: give a positive time", f.measure)
	case e == nil && f.measure > 0:
		return nil, usagef("--measure runs the result; leave out --no-verify")
	case e == nil:
		return nil, nil
	}
	device, _, _ := strings.Cut(e.options.Device, ":")
	if (target == "tensorrt" || target == "openvino") && autoTargets[device] != target {
		a.note("what the result loses on %s cannot be seen on %s: only its values are compared", target, e.options.Device)
		return nil, nil
	}
	return &produce.Guard{NoMeasure: f.noMeasure, Full: f.measure}, nil
}

// saving returns the second file to write, nil for none; dst is the first.
func (f *guardFlags) saving(e *engine, dst string) (*produce.SaveOptimized, error) {
	switch {
	case f.optimized == "":
		return nil, nil
	case e == nil:
		return nil, usagef("--save-optimized runs the result; leave out --no-verify")
	case f.optimized == dst:
		return nil, usagef("--save-optimized %s is the output too; name another file", dst)
	}
	mark, err := json.Marshal(struct {
		Portable bool     `json:"portable"`
		Use      string   `json:"use"`
		Engine   string   `json:"engine"`
		Version  string   `json:"version"`
		Device   string   `json:"device"`
		Provider string   `json:"provider,omitempty"`
		CPU      string   `json:"cpu"`
		Arch     string   `json:"arch"`
		ISA      []string `json:"isa"`
	}{false, "load with graph optimizations disabled, in this engine on this device only", e.info.Name, e.info.Version,
		e.choice.Device, e.choice.Provider, e.machine.CPU.Model, runtime.GOOS + "/" + runtime.GOARCH, e.machine.CPU.ISA})
	return &produce.SaveOptimized{Path: f.optimized, Mark: string(mark)}, err
}

// printGuarded prints what the engine makes of original and result.
func printGuarded(w io.Writer, r *produce.Result) {
	g := r.Guarded
	if g == nil {
		return
	}
	if o := g.Operators; o != nil {
		fmt.Fprintf(w, "  %-12s %14d → %-14d %s\n", "in engine", o.Before.Nodes, o.After.Nodes, fusedText(o))
	}
	if g.Latency != nil {
		fmt.Fprintf(w, "  %-12s %s\n", "latency", latencyText(g.Latency))
	}
	if len(g.Gains) > 0 {
		fmt.Fprintf(w, "  what each rule gained: time with it against time without it, the others at work\n")
	}
	for _, x := range g.Gains {
		text := x.Note
		if x.Latency != nil {
			text = latencyText(x.Latency)
		}
		count := ""
		if x.Firings > 0 {
			count = fmt.Sprintf("%d ×", x.Firings)
		}
		fmt.Fprintf(w, "    %-22s %8s %s\n", x.Rule, count, text)
	}
	for _, n := range g.Notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
	if g.Refused != "" {
		fmt.Fprintf(w, "  refused: %s\n", g.Refused)
	}
}

// latencyText writes a ratio with its interval.
func latencyText(l *produce.Latency) string {
	return fmt.Sprintf("%.3f× [%.3f, %.3f], %s, %d pairs in %s", l.Ratio, l.CI95[0], l.CI95[1], l.Claim, l.Pairs, plural(l.Processes, "process", "processes"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// fusedText lists the operators that the engine fused in different numbers.
func fusedText(o *produce.Operators) string {
	all := maps.Clone(o.Before.Fused)
	maps.Copy(all, o.After.Fused)
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(all)) {
		if a, b := o.Before.Fused[op], o.After.Fused[op]; a != b {
			parts = append(parts, fmt.Sprintf("%s %d → %d", strings.TrimPrefix(op, "com.microsoft."), a, b))
		}
	}
	return strings.Join(parts, ", ")
}

// printOptimized prints what is known of the engine's own graph.
func printOptimized(w io.Writer, o *produce.Optimized) {
	if o == nil || o.Refused != "" {
		return
	}
	fmt.Fprintf(w, "  %s: the engine's own graph, %d nodes, %s, for this device only", o.Path, o.Nodes, bytesText(o.Bytes))
	if t := o.CreateMS; t != nil {
		fmt.Fprintf(w, "; session creation %.1f → %.1f ms", t[0], t[1])
	}
	fmt.Fprintln(w)
}

// unsaved is the error of a second file that could not be written.
func unsaved(o *produce.Optimized) error {
	if o == nil || o.Refused == "" {
		return nil
	}
	return fmt.Errorf("--save-optimized %s: the engine's own graph is of no use and was not written, only the result was: %s", o.Path, o.Refused)
}

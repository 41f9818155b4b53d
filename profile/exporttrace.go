package profile

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Span is one execution of one node in a profiled run. Times are in
// microseconds from the start of the run.
type Span struct {
	Name, Op, Provider string
	Original           string // the model's node, where the engine's name is that of one
	Thread             string
	Start, Duration    float64
	Inputs, Outputs    []string
	OutputBytes        int64
}

// maxSpans bounds the timeline of one run: bodies of loops may run very often.
const maxSpans = 100_000

// timeline returns the spans of the run whose wall time is the median, walls
// being those of the trace's runs and nodes what is known of them.
func timeline(trace *Trace, walls []float64, nodes []NodeTime) []Span {
	if len(trace.Runs) == 0 || len(walls) != len(trace.Runs) {
		return nil
	}
	order := make([]int, len(walls))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(walls[a], walls[b]) })
	run := trace.Runs[order[len(order)/2]]
	originals := map[string]string{}
	for _, n := range nodes {
		originals[n.Name] = n.Original
	}
	var out []Span
	for i := range trace.Nodes {
		n := &trace.Nodes[i]
		if n.Start < run.Start || n.Start > run.Start+run.Duration {
			continue
		}
		if len(out) == maxSpans {
			break
		}
		out = append(out, Span{
			Name: n.Name, Op: n.Op, Provider: n.Provider, Original: originals[n.Name], Thread: n.thread, Start: n.Start - run.Start, Duration: n.Duration,
			Inputs: n.Inputs, Outputs: n.Outputs, OutputBytes: n.OutputBytes,
		})
	}
	return out
}

// traceEvent is one event of the Chrome trace format, which Perfetto reads.
type traceEvent struct {
	Name     string         `json:"name"`
	Category string         `json:"cat,omitempty"`
	Phase    string         `json:"ph"`
	Start    float64        `json:"ts"`
	Duration *float64       `json:"dur,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	Args     map[string]any `json:"args,omitempty"`
}

// order puts names before what they name.
func (e *traceEvent) order() int {
	if e.Phase == "M" {
		return 0
	}
	return 1
}

// The processes of the trace.
const (
	traceNodes = iota + 1
	traceStart
	traceLoad
)

// TraceJSON returns a trace for ui.perfetto.dev and chrome://tracing: one
// profiled run node by node with the memory alive, the way to the first result
// of each session, and the runs of each session in a row. Events are in the
// order of their start.
func (p *Profile) TraceJSON() ([]byte, error) {
	if p.Timed == nil {
		return nil, errors.New("a trace shows runs, and the model was not run")
	}
	t := &tracer{}
	t.nodes(p)
	t.sessions(p.Timed)
	slices.SortStableFunc(t.events, func(a, b traceEvent) int {
		return first(cmp.Compare(a.order(), b.order()), cmp.Compare(a.Start, b.Start))
	})
	b, err := json.Marshal(map[string]any{"displayTimeUnit": "ms", "traceEvents": t.events})
	if err != nil {
		return nil, fmt.Errorf("encoding the trace: %v", err)
	}
	return append(b, '\n'), nil
}

type tracer struct{ events []traceEvent }

func (t *tracer) name(process, thread int, what, name string) {
	t.events = append(t.events, traceEvent{Name: what, Phase: "M", Process: process, Thread: thread, Args: map[string]any{"name": clean(name)}})
}

func (t *tracer) span(process, thread int, name, category string, start, duration float64, args map[string]any) {
	t.events = append(t.events, traceEvent{
		Name: clean(name), Category: category, Phase: "X", Start: start, Duration: &duration, Process: process, Thread: thread, Args: args,
	})
}

// nodes adds the timeline of one run.
func (t *tracer) nodes(p *Profile) {
	if len(p.Timed.Timeline) == 0 {
		return
	}
	t.name(traceNodes, 0, "process_name", "one run, under the profiler")
	live := map[string]int64{}
	if p.Static != nil {
		var l labeller
		for _, n := range p.Static.Nodes {
			live[l.label(n.Name, n.Op, n.Path)] = n.LiveBytes
		}
	}
	threads := map[string]int{}
	for _, s := range p.Timed.Timeline {
		thread, seen := threads[s.Thread]
		if !seen {
			thread = len(threads) + 1
			threads[s.Thread] = thread
			t.name(traceNodes, thread, "thread_name", "thread "+s.Thread)
		}
		args := map[string]any{"operator": s.Op, "provider": s.Provider}
		if s.Original != "" {
			args["node"] = s.Original
		}
		if len(s.Inputs)+len(s.Outputs) > 0 {
			args["inputs"], args["outputs"] = s.Inputs, s.Outputs
		}
		t.span(traceNodes, thread, s.Name, s.Op, s.Start, s.Duration, args)
		if n := live[s.Original]; n > 0 {
			t.events = append(t.events, traceEvent{Name: "activations alive", Phase: "C", Start: s.Start, Process: traceNodes, Args: map[string]any{"bytes": n}})
		}
	}
}

// sessions adds the start and the runs of each session, one thread each.
func (t *tracer) sessions(p *TimedProfile) {
	t.name(traceStart, 0, "process_name", "the way to the first result")
	t.name(traceLoad, 0, "process_name", "timed runs, without the profiler")
	for i, s := range p.Sessions {
		thread := i + 1
		for _, process := range []int{traceStart, traceLoad} {
			t.name(process, thread, "thread_name", fmt.Sprintf("session %d", thread))
		}
		at := 0.0
		for _, part := range []struct {
			name string
			ms   *float64
		}{{"start the process and the engine", s.StartMS}, {"read the file", s.ReadMS}, {"create the session", s.CreateMS}} {
			if part.ms != nil && s.StartMS != nil {
				t.span(traceStart, thread, part.name, "open", at, 1e3**part.ms, nil)
				at += 1e3 * *part.ms
			}
		}
		if at == 0 {
			at = 1e3 * s.OpenMS
			t.span(traceStart, thread, "open", "open", 0, at, nil)
		}
		t.span(traceStart, thread, "first run", "run", at, 1e3*s.FirstRunMS, nil)
		if i >= len(p.Series) {
			continue
		}
		at = 0
		for k, seconds := range p.Series[i][:min(len(p.Series[i]), maxSpans/len(p.Sessions))] {
			t.span(traceLoad, thread, "run", "run", at, 1e6*seconds, map[string]any{"number": k + 1})
			at += 1e6 * seconds
		}
	}
}

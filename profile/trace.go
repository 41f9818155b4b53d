package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Trace is what an engine recorded while it ran a model: ONNX Runtime's Chrome
// trace events. Times are microseconds from the start of the recording.
type Trace struct {
	Runs      []TraceRun
	Nodes     []TraceNode // in the order of their start
	Skipped   int         // events that could not be read
	Truncated bool        // the recording ends in the middle of an event
}

// TraceRun is one inference.
type TraceRun struct{ Start, Duration float64 }

// TraceNode is one execution of one node.
type TraceNode struct {
	Name, Op, Provider string
	Index              int // the engine's number of the node; -1 where it is not said
	Start, Duration    float64
	Self               float64 // Duration without that of nodes within
	Around             int     // place in Nodes of the node in whose body it ran; -1 for nodes of the main graph
	Inputs, Outputs    []string
	Parameters         int64 // bytes of constants read
	Activations        int64 // bytes of other inputs
	OutputBytes        int64
	thread             string
}

// event is a trace event as encoded; every field may be missing or of a strange type.
type event struct {
	Category json.RawMessage            `json:"cat"`
	Name     json.RawMessage            `json:"name"`
	Thread   json.RawMessage            `json:"tid"`
	Start    json.RawMessage            `json:"ts"`
	Duration json.RawMessage            `json:"dur"`
	Args     map[string]json.RawMessage `json:"args"`
}

// ParseTrace reads Chrome trace events, as an array or as the object that
// holds one. It takes what it can: a recording that ends early, as that of a
// process that died, gives the events before its end. It fails where there is
// no event at all.
func ParseTrace(b []byte) (*Trace, error) {
	t := &Trace{}
	at := bytes.IndexByte(b, '[')
	if at < 0 {
		return nil, fmt.Errorf("the engine's trace has no list of events")
	}
	found := 0
	for b = b[at+1:]; ; {
		start := bytes.IndexAny(b, "{]")
		if start < 0 || b[start] == ']' {
			t.Truncated = start < 0
			break
		}
		b = b[start:]
		n := objectLength(b)
		var e event
		if n > 0 && json.Unmarshal(b[:n], &e) == nil {
			found++
			t.add(&e)
			b = b[n:]
			continue
		}
		// ONNX Runtime writes one event a line: a broken one ends there.
		line := bytes.IndexByte(b, '\n')
		if line < 0 {
			t.Truncated = true
			break
		}
		t.Skipped++
		b = b[line+1:]
	}
	if found == 0 {
		return nil, fmt.Errorf("the engine's trace has no event that can be read")
	}
	t.order()
	return t, nil
}

// maxDepth is deeper than objects nest in trace events.
const maxDepth = 64

// objectLength returns the length of the JSON object at the start of b, 0 if it
// does not end, breaks a line within a string, or nests too deeply.
func objectLength(b []byte) int {
	depth, text, escaped := 0, false, false
	for i, c := range b {
		switch {
		case text && c == '\n' || depth > maxDepth:
			return 0
		case escaped:
			escaped = false
		case text:
			escaped = c == '\\'
			text = c != '"'
		case c == '"':
			text = true
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// kernelTime ends the names of events that are the execution of a node.
const kernelTime = "_kernel_time"

func (t *Trace) add(e *event) {
	start, ok1 := number(e.Start)
	duration, ok2 := number(e.Duration)
	if !ok1 || !ok2 || duration < 0 {
		return
	}
	name := text(e.Name)
	switch {
	case text(e.Category) == "Session" && name == "model_run":
		t.Runs = append(t.Runs, TraceRun{start, duration})
	case text(e.Category) == "Node" && strings.HasSuffix(name, kernelTime):
		n := TraceNode{
			Name: strings.TrimSuffix(name, kernelTime), Op: text(e.Args["op_name"]), Provider: text(e.Args["provider"]), Index: -1,
			Start: start, Duration: duration, Self: duration, Around: -1, thread: string(e.Thread),
			Inputs: shapes(e.Args["input_type_shape"]), Outputs: shapes(e.Args["output_type_shape"]),
			Parameters: size(e.Args["parameter_size"]), Activations: size(e.Args["activation_size"]), OutputBytes: size(e.Args["output_size"]),
		}
		if i, ok := number(e.Args["node_index"]); ok && i >= 0 && i < math.MaxInt32 {
			n.Index = int(i)
		}
		t.Nodes = append(t.Nodes, n)
	}
}

// order sorts by start and takes from each node's time that of nodes within it:
// the bodies of If, Loop and Scan run inside of their node, on its thread.
func (t *Trace) order() {
	slices.SortStableFunc(t.Runs, func(a, b TraceRun) int { return compare(a.Start, b.Start) })
	slices.SortStableFunc(t.Nodes, func(a, b TraceNode) int {
		return first(compare(a.Start, b.Start), compare(b.Duration, a.Duration))
	})
	open := map[string][]int{} // by thread, the nodes around, outermost first
	for i := range t.Nodes {
		n := &t.Nodes[i]
		stack := open[n.thread]
		for len(stack) > 0 {
			outer := t.Nodes[stack[len(stack)-1]]
			// Times are cut to whole microseconds: a body may seem to end one late.
			if n.Start < outer.Start+outer.Duration && n.Start+n.Duration <= outer.Start+outer.Duration+1 {
				break
			}
			stack = stack[:len(stack)-1]
		}
		if len(stack) > 0 {
			n.Around = stack[len(stack)-1]
			outer := &t.Nodes[n.Around]
			outer.Self = max(0, outer.Self-n.Duration)
		}
		open[n.thread] = append(stack, i)
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// text returns a JSON string's content, "" for anything else.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// number returns a JSON number, or a string that holds one.
func number(raw json.RawMessage) (float64, bool) {
	s := strings.TrimSpace(string(raw))
	if strings.HasPrefix(s, `"`) {
		s = strings.TrimSpace(text(raw))
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.Abs(v) > 1e15 {
		return 0, false
	}
	return v, true
}

// size returns a count of bytes, 0 where there is none.
func size(raw json.RawMessage) int64 {
	v, ok := number(raw)
	if !ok || v < 0 {
		return 0
	}
	return int64(v)
}

// shapes reads a list of one-member objects such as {"float":[1,3]} as types in
// the ONNX text form.
func shapes(raw json.RawMessage) []string {
	var list []map[string][]int64
	if len(raw) == 0 || json.Unmarshal(raw, &list) != nil {
		return nil
	}
	out := make([]string, 0, len(list))
	for _, m := range list {
		for d, dims := range m {
			parts := make([]string, len(dims))
			for i, n := range dims {
				parts[i] = strconv.FormatInt(n, 10)
			}
			out = append(out, d+"["+strings.Join(parts, ",")+"]")
			break
		}
	}
	return out
}

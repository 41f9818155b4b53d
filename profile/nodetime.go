package profile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// NodeTime is the time of one node as the engine ran it.
type NodeTime struct {
	Name        string   `json:"name"`                                     // as the engine calls it
	Op          string   `json:"op"`                                       // as the engine ran it
	Provider    string   `json:"provider,omitempty"`                       // execution provider
	Original    string   `json:"original,omitempty"`                       // the model's node that it stands for in the first place, with the path around it; absent for nodes that the engine added
	OriginalOp  string   `json:"original_op,omitempty"`                    // operator of that node, where the engine runs another
	Covers      []string `json:"covers,omitempty"`                         // all nodes of the model that it stands for, where they are several
	Rows        []int    `json:"rows,omitempty"`                           // places of the nodes that it stands for in the static profile
	Serves      string   `json:"serves,omitempty"`                         // for a node that the engine added, to change a layout for one: the model's node that it was added for
	Inside      string   `json:"inside,omitempty"`                         // the node in whose body it ran
	MS          float64  `json:"ms"`                                       // per inference, bodies not included, without the profiler's part
	ProfiledMS  float64  `json:"profiled_ms"`                              // the same as the profiler has it
	Share       float64  `json:"share" schema:"fraction"`                  // of the time of all nodes
	Calls       float64  `json:"calls"`                                    // executions per inference
	Inputs      []string `json:"inputs,omitempty"`                         // types seen, in the ONNX text form
	Outputs     []string `json:"outputs,omitempty"`                        // types seen, in the ONNX text form
	Launch      bool     `json:"launch,omitempty"`                         // the node ran on another device: this is the time to launch it, not to compute it
	ParamBytes  int64    `json:"parameter_bytes,omitempty" schema:"count"` // of constants read
	OutputBytes int64    `json:"output_bytes,omitempty" schema:"count"`    // written
}

// GroupTime is the time of the nodes that have an operator or a provider in common.
type GroupTime struct {
	Name  string  `json:"name"`                    // of the operator or provider
	Nodes int     `json:"nodes" schema:"count"`    // distinct nodes
	MS    float64 `json:"ms"`                      // per inference, without the profiler's part
	Share float64 `json:"share" schema:"fraction"` // of the time of all nodes
}

// attribute averages the nodes of a trace over the middle half of the recorded
// runs, tells which nodes of the model they are, and reconciles their times with
// the wall time. Runs of the trace before those recorded are warm-up.
func (t *TimedProfile) attribute(trace *Trace, r recording) error {
	if len(trace.Nodes) == 0 {
		return errors.New("the engine's trace has no times of nodes")
	}
	walls := r.profiled
	if len(trace.Runs) > len(walls) {
		trace.Runs = trace.Runs[len(trace.Runs)-len(walls):]
	} else {
		walls = walls[len(walls)-len(trace.Runs):]
	}
	chosen := middleHalf(walls)
	if len(chosen) == 0 {
		return errors.New("the engine's trace does not say where runs begin")
	}
	runs := make([]TraceRun, len(chosen))
	for i, k := range chosen {
		runs[i] = trace.Runs[k]
	}
	nodes := averageNodes(trace, runs, r)
	if len(nodes) == 0 {
		return errors.New("the engine's trace has no times of nodes within the timed runs")
	}
	t.Accounting = reconcile(nodes, len(runs), middleMean(walls), r.wall(), r.overhead)
	t.Matching = r.matching(nodes)
	for i := range nodes {
		t.Nodes = append(t.Nodes, nodes[i].NodeTime)
	}
	slices.SortStableFunc(t.Nodes, func(a, b NodeTime) int { return cmp.Compare(b.MS, a.MS) })
	t.Operators = groupTimes(t.Nodes, t.Accounting.NodesMS, func(n *NodeTime) string { return n.Op })
	t.Providers = groupTimes(t.Nodes, t.Accounting.NodesMS, func(n *NodeTime) string { return n.Provider })
	t.Timeline = timeline(trace, walls, t.Nodes)
	t.doubt()
	return nil
}

// doubt warns of what makes the times of nodes say less.
func (t *TimedProfile) doubt() {
	launch := 0
	for i := range t.Nodes {
		if t.Nodes[i].Launch {
			launch++
		}
	}
	if launch > 0 {
		t.warn(measure.Warning{Code: "launch-times", Severity: measure.Warn,
			Message: fmt.Sprintf("%d nodes run on another device: their times are those of launching them, and do not say which is slow", launch)})
	}
	a := t.Accounting
	if a.Overhead > 1.5 {
		t.warn(measure.Warning{Code: "profiler-overhead", Severity: measure.Note,
			Message: fmt.Sprintf("the engine's profiler slows the model down %.1f times: times of short nodes are rough", a.Overhead)})
	}
	if off := a.ReconciledMS/a.WallMS - 1; a.WallMS > 0 && (off > unreconciled || off < -unreconciled) {
		t.warn(measure.Warning{Code: "unreconciled", Severity: measure.Warn,
			Message: fmt.Sprintf("times of nodes and what lies between them add up to %s, a run takes %s: the profiler changes what it measures", duration(a.ReconciledMS), duration(a.WallMS))})
	}
}

// unreconciled is how far the sum of the parts may be from the wall time.
const unreconciled = 0.05

// middleHalf returns the indices, ascending, of the values between the first
// and the third quartile: a run that was interrupted would otherwise put its
// stall on the node that it happened to hit.
func middleHalf(v []float64) []int {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v[a], v[b]) })
	order = order[len(order)/4 : len(order)-len(order)/4]
	slices.Sort(order)
	return order
}

// nodeKey tells nodes apart that the engine gives one name.
type nodeKey struct {
	name, op, provider string
	index, around      int
	node               *onnx.Node // of the engine's graph, nil where that is not known
}

// ranNode is a node that ran, with the engine's node that it is.
type ranNode struct {
	NodeTime
	node   *onnx.Node
	around int // place of the node in whose body it ran; -1 in the main graph
}

// averageNodes returns the nodes that ran, averaged over runs, in the order of
// their first execution.
func averageNodes(trace *Trace, runs []TraceRun, r recording) []ranNode {
	var out []ranNode
	at, of := map[nodeKey]int{}, map[int]int{} // places in out, by key and by place in trace.Nodes
	placed := trace.placed(r.graph, runs)
	each := 1 / float64(len(runs))
	for i := range trace.Nodes {
		e := &trace.Nodes[i]
		if runAt(runs, e.Start) < 0 {
			continue
		}
		around := -1
		if j, ok := of[e.Around]; ok {
			around = j
		}
		k := nodeKey{e.Name, e.Op, e.Provider, e.Index, around, placed[i]}
		j, seen := at[k]
		if !seen {
			j = len(out)
			at[k] = j
			n := ranNode{NodeTime{Name: e.Name, Op: e.Op, Provider: e.Provider, Launch: onDevice(e.Provider)}, placed[i], around}
			r.identify(&n)
			if around >= 0 {
				n.Inside = out[around].label()
			}
			out = append(out, n)
		}
		of[i] = j
		n := &out[j]
		n.ProfiledMS += e.Self / 1e3 * each
		n.Calls += each
		n.Inputs, n.Outputs = e.Inputs, e.Outputs
		n.ParamBytes, n.OutputBytes = min(e.Parameters, maxCount), min(e.OutputBytes, maxCount)
	}
	return out
}

// label names the node as the model does, or as the engine does.
func (n *NodeTime) label() string {
	switch {
	case n.Original != "":
		return n.Original
	case n.Inside != "":
		return n.Inside + "/" + n.Name
	}
	return n.Name
}

// runAt returns during which of the runs, which ascend, a time is; -1 for none.
func runAt(runs []TraceRun, at float64) int {
	i, found := slices.BinarySearchFunc(runs, at, func(r TraceRun, at float64) int { return cmp.Compare(r.Start, at) })
	if found {
		return i
	}
	if i > 0 && at <= runs[i-1].Start+runs[i-1].Duration {
		return i - 1
	}
	return -1
}

// onDevice reports whether a provider of ONNX Runtime computes elsewhere, so
// that the host sees the launch only.
func onDevice(provider string) bool {
	for _, p := range []string{"CUDA", "Tensorrt", "TensorRT", "NvTensorRTRTX", "ROCM", "MIGraphX", "Dml", "WebGpu"} {
		if strings.HasPrefix(provider, p) {
			return true
		}
	}
	return false
}

// groupTimes adds up nodes by key, most time first.
func groupTimes(nodes []NodeTime, total float64, key func(*NodeTime) string) []GroupTime {
	at, out := map[string]int{}, []GroupTime{}
	for i := range nodes {
		k := key(&nodes[i])
		j, seen := at[k]
		if !seen {
			j = len(out)
			at[k] = j
			out = append(out, GroupTime{Name: k})
		}
		out[j].Nodes++
		out[j].MS += nodes[i].MS
	}
	for i := range out {
		if total > 0 {
			out[i].Share = min(1, out[i].MS/total)
		}
	}
	slices.SortStableFunc(out, func(a, b GroupTime) int { return cmp.Compare(b.MS, a.MS) })
	return out
}

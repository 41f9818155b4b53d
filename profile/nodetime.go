package profile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/measure"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// NodeTime is the time of one node as the engine ran it.
type NodeTime struct {
	Name        string   `json:"name"`                                     // as the engine calls it
	Op          string   `json:"op"`                                       // as the engine ran it
	Provider    string   `json:"provider,omitempty"`                       // execution provider
	Original    string   `json:"original,omitempty"`                       // the model's node of that name, with the path around it; absent for nodes that the engine made, by fusing for one
	OriginalOp  string   `json:"original_op,omitempty"`                    // operator of that node, where the engine runs another
	MS          float64  `json:"ms"`                                       // per inference, bodies not included, measured under the profiler
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
	MS    float64 `json:"ms"`                      // per inference
	Share float64 `json:"share" schema:"fraction"` // of the time of all nodes
}

// Accounting compares the times of nodes with the wall time of runs. All times
// are per inference.
type Accounting struct {
	Runs                 int     `json:"runs" schema:"count"`      // profiled runs that the averages are over: the middle half by wall time
	NodesMS              float64 `json:"nodes_ms"`                 // sum of the nodes' times
	ProfiledMS           float64 `json:"profiled_ms"`              // wall time under the profiler, median
	WallMS               float64 `json:"wall_ms"`                  // wall time without the profiler, median
	Overhead             float64 `json:"overhead"`                 // profiled over wall: the factor by which profiling slows the model down
	UnattributedProfiled float64 `json:"unattributed_profiled_ms"` // of the profiled wall time, what is outside of nodes
	Unattributed         float64 `json:"unattributed_ms"`          // of the wall time, what the nodes' times leave; negative where profiling slows the nodes themselves
}

// profile opens a session in which the engine records, and adds what it found to t.
func (r *runner) profile(ctx context.Context, t *TimedProfile) error {
	dir, err := os.MkdirTemp(r.o.TempDir, "lapidary-trace-")
	if err != nil {
		return fmt.Errorf("no folder for the engine's trace: %v", err)
	}
	defer os.RemoveAll(dir)
	o := r.o.Session
	o.Profile = filepath.Join(dir, "trace")
	s, err := r.open(ctx, r.path, o)
	if err != nil {
		return fmt.Errorf("opening the model with the engine's profiler: %v", err)
	}
	defer s.Close()
	p, ok := s.(session.Profiler)
	if !ok {
		return errors.New("the engine has no profiler")
	}
	names := originals(r.path)
	walls, err := r.record(ctx, s, t, names)
	if err != nil {
		return err
	}
	b, err := p.EndProfile()
	if err != nil {
		return fmt.Errorf("ending the engine's profile: %v", err)
	}
	trace, err := ParseTrace(b)
	if err != nil {
		return err
	}
	if trace.Truncated || trace.Skipped > 0 {
		t.warn(measure.Warning{Code: "trace-damaged", Severity: measure.Warn,
			Message: fmt.Sprintf("the engine's trace is damaged: %d events could not be read", trace.Skipped)})
	}
	return t.attribute(trace, walls, names, 1e3*measure.Median(r.seconds))
}

// record warms the session up and makes the runs to average over, one after the
// other so that each is one run in the trace. It returns their times in ms.
func (r *runner) record(ctx context.Context, s session.Session, t *TimedProfile, names map[string]original) ([]float64, error) {
	perRun := time.Duration(measure.Median(r.seconds) * float64(time.Second))
	n := r.o.ProfiledRuns
	if perRun > 0 {
		n = min(n, int(r.o.Budget/time.Duration(r.o.Processes+1)/(2*perRun)))
	}
	if len(names) > 0 { // a trace of a million events is as much as one wants to hold
		n = min(n, 1_000_000/len(names))
	}
	n = max(n, 4)
	var walls []float64
	run := func(sample int) error {
		res, err := s.Run(ctx, r.samples[sample])
		if err == nil {
			walls = append(walls, ms(res.Elapsed))
		}
		return err
	}
	for range 3 {
		for _, sample := range r.byShape {
			if err := run(sample); err != nil {
				return nil, err
			}
		}
	}
	walls = walls[:0]
	for i := range n {
		if err := run(i % len(r.samples)); err != nil {
			return nil, err
		}
		r.o.Progress(min(r.done+int64(i), r.total), r.total)
	}
	return walls, nil
}

// attribute averages the nodes of a trace over the middle half of the runs,
// whose times in ms are walls; wall is the time of a run without the profiler.
// Runs before those of walls are warm-up.
func (t *TimedProfile) attribute(trace *Trace, walls []float64, names map[string]original, wall float64) error {
	if len(trace.Nodes) == 0 {
		return errors.New("the engine's trace has no times of nodes")
	}
	if len(trace.Runs) > len(walls) {
		trace.Runs = trace.Runs[len(trace.Runs)-len(walls):]
	} else {
		walls = walls[len(walls)-len(trace.Runs):]
	}
	chosen := middleHalf(walls)
	if len(chosen) == 0 {
		return errors.New("the engine's trace does not say where runs begin")
	}
	t.Nodes = averageNodes(trace, chosen, names)
	t.Timeline = timeline(trace, walls, t.Nodes)
	if len(t.Nodes) == 0 {
		return errors.New("the engine's trace has no times of nodes within the timed runs")
	}
	a := &Accounting{Runs: len(chosen), ProfiledMS: measure.Median(walls), WallMS: wall}
	for _, n := range t.Nodes {
		a.NodesMS += n.MS
	}
	launch := 0
	for i := range t.Nodes {
		if a.NodesMS > 0 {
			t.Nodes[i].Share = min(1, t.Nodes[i].MS/a.NodesMS)
		}
		if t.Nodes[i].Launch {
			launch++
		}
	}
	if wall > 0 {
		a.Overhead = a.ProfiledMS / wall
	}
	a.UnattributedProfiled, a.Unattributed = a.ProfiledMS-a.NodesMS, wall-a.NodesMS
	t.Accounting = a
	t.Operators = groupTimes(t.Nodes, a.NodesMS, func(n *NodeTime) string { return n.Op })
	t.Providers = groupTimes(t.Nodes, a.NodesMS, func(n *NodeTime) string { return n.Provider })
	if launch > 0 {
		t.warn(measure.Warning{Code: "launch-times", Severity: measure.Warn,
			Message: fmt.Sprintf("%d nodes run on another device: their times are those of launching them, and do not say which is slow", launch)})
	}
	if a.Overhead > 1.5 {
		t.warn(measure.Warning{Code: "profiler-overhead", Severity: measure.Note,
			Message: fmt.Sprintf("the engine's profiler slows the model down %.1f times: shares of short nodes are too large", a.Overhead)})
	}
	return nil
}

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
	index              int
}

// averageNodes returns the nodes of the chosen runs, most time first.
func averageNodes(trace *Trace, chosen []int, names map[string]original) []NodeTime {
	byKey, order := map[nodeKey]*NodeTime{}, []nodeKey{}
	runs := make([]TraceRun, len(chosen))
	for i, k := range chosen {
		runs[i] = trace.Runs[k]
	}
	for i := range trace.Nodes {
		e := &trace.Nodes[i]
		if !within(runs, e) {
			continue
		}
		k := nodeKey{e.Name, e.Op, e.Provider, e.Index}
		n := byKey[k]
		if n == nil {
			n = &NodeTime{Name: e.Name, Op: e.Op, Provider: e.Provider, Launch: onDevice(e.Provider)}
			if o, ok := names[e.Name]; ok {
				n.Original = o.path
				if o.op != e.Op {
					n.OriginalOp = o.op
				}
			}
			byKey[k] = n
			order = append(order, k)
		}
		n.MS += e.Self / 1e3 / float64(len(runs))
		n.Calls += 1 / float64(len(runs))
		n.Inputs, n.Outputs = e.Inputs, e.Outputs
		n.ParamBytes, n.OutputBytes = min(e.Parameters, maxCount), min(e.OutputBytes, maxCount)
	}
	out := make([]NodeTime, 0, len(order))
	for _, k := range order {
		out = append(out, *byKey[k])
	}
	slices.SortStableFunc(out, func(a, b NodeTime) int { return cmp.Compare(b.MS, a.MS) })
	return out
}

// within reports whether a node began during one of the runs, which ascend.
func within(runs []TraceRun, e *TraceNode) bool {
	i, found := slices.BinarySearchFunc(runs, e.Start, func(r TraceRun, at float64) int { return cmp.Compare(r.Start, at) })
	if found {
		return true
	}
	return i > 0 && e.Start <= runs[i-1].Start+runs[i-1].Duration
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

// original is a node of the model file.
type original struct{ path, op string }

// originals returns the nodes of the model at path by the names under which an
// engine runs them: their own, or the operator and the place in the file where
// they have none, as ONNX Runtime says it. A name that two nodes have is left out.
func originals(path string) map[string]original {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: true})
	if err != nil {
		return nil // the engine could read it: its own names will do
	}
	defer m.Close()
	out, twice := map[string]original{}, map[string]bool{}
	var visit func(g *onnx.Graph, around string, depth int)
	visit = func(g *onnx.Graph, around string, depth int) {
		i := 0
		for n := range g.Nodes() {
			label := n.Name
			if label == "" {
				label = n.Op + "_" + strconv.Itoa(i)
			}
			if _, seen := out[label]; seen {
				twice[label] = true
			}
			full := label
			if around != "" {
				full = around + "/" + label
			}
			out[label] = original{path: full, op: opText(n)}
			for k, sub := range n.Subgraphs() {
				if depth < maxNesting {
					inner := bodyName(label, n, k)
					if around != "" {
						inner = around + "/" + inner
					}
					visit(sub, inner, depth+1)
				}
			}
			i++
		}
	}
	if m.Graph != nil {
		visit(m.Graph, "", 0)
	}
	for name := range twice {
		delete(out, name)
	}
	return out
}

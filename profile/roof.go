package profile

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Roofline says how far a model is from what the machine could do.
//
// The roof of a node is the longer of two times: its arithmetic at the peak
// rate of its type, and its traffic at the highest bandwidth of its footprint.
// What a node must at least take is the longest of these and the overhead of a
// node; which one that is binds it.
type Roofline struct {
	Skipped    string     `json:"skipped,omitempty"`                       // why there is none; the rest is then absent
	Peaks      *Peaks     `json:"peaks,omitempty"`                         // of this machine
	RoofMS     float64    `json:"roof_ms,omitempty"`                       // sum of the nodes' roofs
	MeasuredMS float64    `json:"measured_ms,omitempty"`                   // median of a run without the profiler
	Attained   float64    `json:"attained,omitempty"`                      // roof over measured: 1 is the roof
	Outside    float64    `json:"outside_ms,omitempty"`                    // of the measured time, what is not within nodes
	Known      float64    `json:"known_share,omitempty" schema:"fraction"` // of the time of all nodes, that of nodes whose arithmetic and traffic are known
	Bounds     []Bound    `json:"bounds,omitempty"`                        // by what binds, most time first
	Nodes      []NodeRoof `json:"nodes,omitempty"`                         // in the order of the timed nodes
}

// Bound is the nodes that one thing binds.
type Bound struct {
	Bound  string  `json:"bound" schema:"compute|memory|overhead|unknown"` // what binds
	Nodes  int     `json:"nodes" schema:"count"`                           // how many
	MS     float64 `json:"ms"`                                             // their time
	RoofMS float64 `json:"roof_ms"`                                        // the sum of their roofs
	Share  float64 `json:"share" schema:"fraction"`                        // of the time of all nodes
}

// NodeRoof is one timed node against its roof, per inference.
type NodeRoof struct {
	Name      string  `json:"name"`                                           // the model's node, or as the engine calls its own
	Op        string  `json:"op"`                                             // as the engine ran it
	Bound     string  `json:"bound" schema:"compute|memory|overhead|unknown"` // what binds it; unknown where its work is not known
	MS        float64 `json:"ms"`                                             // time, where the profiler slows nodes down in the proportion that they add up to the run
	ComputeMS float64 `json:"compute_ms"`                                     // arithmetic at the peak rate
	MemoryMS  float64 `json:"memory_ms"`                                      // traffic at the highest bandwidth
	FloorMS   float64 `json:"floor_ms"`                                       // the longest of the two and the overhead
	Attained  float64 `json:"attained"`                                       // the longer of the two over the time; above 1 where data stayed in a nearer cache
	MACs      int64   `json:"macs" schema:"count"`                            // multiply-accumulates
	FLOPs     int64   `json:"flops" schema:"count"`                           // arithmetic
	Bytes     int64   `json:"bytes" schema:"count"`                           // traffic
	Type      string  `json:"type" schema:"float32|int8"`                     // whose peak rate counts
}

// The bounds.
const (
	boundCompute  = "compute"
	boundMemory   = "memory"
	boundOverhead = "overhead"
	boundUnknown  = "unknown"
)

// NewRoofline holds the timed nodes of a model against a machine's peaks. It
// says why where that cannot be done.
func NewRoofline(s *StaticProfile, t *TimedProfile, p *Peaks) *Roofline {
	switch {
	case t == nil || t.Accounting == nil || len(t.Nodes) == 0:
		return &Roofline{Skipped: "there are no times of nodes"}
	case slices.ContainsFunc(t.Nodes, func(n NodeTime) bool { return n.Launch }):
		return &Roofline{Skipped: "nodes run on another device, and their times are those of launching them"}
	case !p.Valid():
		return &Roofline{Skipped: "this machine's peaks are not known"}
	}
	r := &Roofline{Peaks: p, MeasuredMS: t.Accounting.WallMS}
	if r.MeasuredMS <= 0 {
		r.MeasuredMS = t.Latency.MeanMS
	}
	scale := 1.0 // what the profiler adds to the nodes is not theirs
	if t.Accounting.NodesMS > r.MeasuredMS && r.MeasuredMS > 0 {
		scale = r.MeasuredMS / t.Accounting.NodesMS
	}
	var known float64
	for i := range t.Nodes {
		n := nodeRoof(&t.Nodes[i], s, p, scale)
		r.Nodes = append(r.Nodes, n)
		r.RoofMS += max(n.ComputeMS, n.MemoryMS)
		if n.Bound != boundUnknown {
			known += n.MS
		}
	}
	r.Outside = max(0, r.MeasuredMS-t.Accounting.NodesMS)
	if r.MeasuredMS > 0 {
		r.Attained = r.RoofMS / r.MeasuredMS
	}
	if a := t.Accounting.NodesMS; a > 0 {
		r.Known = min(1, known/(a*scale))
	}
	r.Bounds = r.bounds()
	return r
}

func (r *Roofline) bounds() []Bound {
	var out []Bound
	var total float64
	for _, name := range []string{boundCompute, boundMemory, boundOverhead, boundUnknown} {
		b := Bound{Bound: name}
		for _, n := range r.Nodes {
			if n.Bound == name {
				b.Nodes++
				b.MS += n.MS
				b.RoofMS += max(n.ComputeMS, n.MemoryMS)
			}
		}
		if total += b.MS; b.Nodes > 0 {
			out = append(out, b)
		}
	}
	for i := range out {
		if total > 0 {
			out[i].Share = min(1, out[i].MS/total)
		}
	}
	slices.SortStableFunc(out, func(a, b Bound) int { return cmp.Compare(b.MS, a.MS) })
	return out
}

// nodeRoof holds one node against the peaks.
func nodeRoof(n *NodeTime, s *StaticProfile, p *Peaks, scale float64) NodeRoof {
	r := NodeRoof{Name: orText(n.Original, n.Name), Op: n.Op, Bound: boundUnknown, MS: n.MS * scale, Type: variantFloat}
	if computesInt8(n.Op) {
		r.Type = variantInt8
	}
	w, ok := workOf(n, s)
	if !ok {
		return r
	}
	r.MACs, r.FLOPs, r.Bytes = w.MACs, w.FLOPs, plus(w.BytesRead, w.BytesWritten)
	peak := p.Float32.All
	if r.Type == variantInt8 && p.Int8 != nil {
		peak = p.Int8.All
	}
	calls := max(1, n.Calls)
	r.ComputeMS = float64(r.FLOPs) / (peak * 1e6)
	r.MemoryMS = 1e3 * float64(r.Bytes) / p.bandwidth(int64(float64(r.Bytes)/calls))
	overhead := p.OverheadUS * calls / 1e3
	r.FloorMS = max(r.ComputeMS, r.MemoryMS, overhead)
	switch r.FloorMS {
	case overhead:
		r.Bound = boundOverhead
	case r.ComputeMS:
		r.Bound = boundCompute
	default:
		r.Bound = boundMemory
	}
	if r.MS > 0 {
		r.Attained = max(r.ComputeMS, r.MemoryMS) / r.MS
	}
	return r
}

// computesInt8 reports whether an operator as run multiplies 8-bit codes.
func computesInt8(op string) bool {
	op = op[strings.LastIndexByte(op, '.')+1:]
	for _, part := range []string{"QLinear", "Integer", "DynamicQuantize", "QGemm", "QAttention"} {
		if strings.Contains(op, part) {
			return true
		}
	}
	return false
}

// leading is the node of the file that a timed node stands for in the first
// place, and all are the nodes that it stands for; nil where it stands for none.
func (n *NodeTime) leading(s *StaticProfile) (lead *Node, all []*Node) {
	for _, row := range n.Rows {
		if s == nil || row < 0 || row >= len(s.Nodes) {
			continue
		}
		f := &s.Nodes[row]
		if all = append(all, f); lead == nil || n.Original == f.Label {
			lead = f
		}
	}
	return lead, all
}

// workOf is the work of a timed node per inference. The file's node knows more
// than the types that the engine saw, and those know the sizes that ran.
func workOf(n *NodeTime, s *StaticProfile) (Work, bool) {
	f, all := n.leading(s)
	w, seen := workOfTypes(n, f)
	var x Work
	for _, part := range all {
		if part.Unknown != "" {
			return w, seen
		}
		x.add(part.Work, max(1, part.Runs))
	}
	if f == nil {
		return w, seen
	}
	switch {
	case !seen || len(f.Outputs) == 0:
		return x, true
	case x.MACs > 0 && w.MACs > 0 && w.MACs <= 2*x.MACs && x.MACs <= 2*w.MACs:
		w.MACs, w.FLOPs = x.MACs, x.FLOPs
	case x.MACs > 0 && w.MACs == 0: // other sizes may have run
		scale := float64(parseSeen(n.Outputs[0]).elements()) / float64(max(1, parseSeen(f.Outputs[0]).elements()))
		w.MACs, w.FLOPs = int64(float64(x.MACs)*scale), int64(float64(x.FLOPs)*scale)
	}
	return w, true
}

// inputsSeen are the types of a node's inputs. An engine that keeps weights in a
// form of its own does not list them: then the file's node does.
func inputsSeen(n *NodeTime, f *Node) []tensorSeen {
	types := n.Inputs
	if f != nil && len(n.Inputs) > 0 && len(n.Inputs) < len(f.Inputs) {
		types = append([]string{n.Inputs[0]}, f.Inputs[1:]...)
	}
	out := make([]tensorSeen, len(types))
	for i, s := range types {
		out[i] = parseSeen(s)
	}
	return out
}

// workOfTypes is the work of a timed node by the types of its inputs and
// outputs; f, which may be nil, is the file's node.
func workOfTypes(n *NodeTime, f *Node) (Work, bool) {
	var w Work
	in := inputsSeen(n, f)
	var out []tensorSeen
	for _, t := range in {
		w.BytesRead = plus(w.BytesRead, t.bytes())
	}
	for _, s := range n.Outputs {
		t := parseSeen(s)
		out, w.BytesWritten = append(out, t), plus(w.BytesWritten, t.bytes())
	}
	if len(out) == 0 || out[0].elements() == 0 {
		return w, false
	}
	w.MACs = macsSeen(n.Op, in, out)
	w.FLOPs = plus(out[0].elements(), times(2, w.MACs))
	calls := int64(max(1, n.Calls+0.5))
	var sum Work
	sum.add(w, calls)
	return sum, true
}

// macsSeen counts the multiply-accumulates of products and convolutions; 0 for
// anything else.
func macsSeen(op string, in, out []tensorSeen) int64 {
	op = op[strings.LastIndexByte(op, '.')+1:]
	weight := 1
	if strings.HasPrefix(op, "QLinear") || strings.HasPrefix(op, "QGemm") {
		weight = 3
	}
	if len(in) <= weight {
		return 0
	}
	a, b, y := in[0], in[weight], out[0].elements()
	switch {
	case strings.Contains(op, "Conv") && !strings.Contains(op, "Transpose") && len(b.dims) > 0 && b.dims[0] > 0:
		return times(y, b.elements()/b.dims[0])
	case strings.Contains(op, "MatMul") || strings.Contains(op, "Gemm"):
		if len(a.dims) > 0 {
			return times(y, a.dims[len(a.dims)-1])
		}
	case (op == "LSTM" || op == "GRU" || op == "RNN") && len(in) > 2 && len(a.dims) == 3:
		return times(a.dims[0]*a.dims[1], plus(b.elements(), in[2].elements()))
	}
	return 0
}

// tensorSeen is a type such as float[1,3,8,8] that the engine saw.
type tensorSeen struct {
	elem string
	dims []int64
}

func parseSeen(s string) tensorSeen {
	elem, rest, ok := strings.Cut(strings.TrimSuffix(s, "]"), "[")
	t := tensorSeen{elem: elem}
	if !ok || rest == "" {
		return t
	}
	for part := range strings.SplitSeq(rest, ",") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 0 {
			return tensorSeen{}
		}
		t.dims = append(t.dims, n)
	}
	return t
}

func (t tensorSeen) elements() int64 {
	if t.elem == "" {
		return 0
	}
	for _, d := range t.dims {
		if d == 0 {
			return 0
		}
	}
	n := int64(1)
	for _, d := range t.dims {
		n = times(n, d)
	}
	return n
}

func (t tensorSeen) bytes() int64 {
	size := int64(4)
	switch t.elem {
	case "double", "int64", "uint64":
		size = 8
	case "float16", "bfloat16", "int16", "uint16":
		size = 2
	case "int8", "uint8", "bool":
		size = 1
	}
	return times(size, t.elements())
}

package profile

// Accounting compares the times of nodes with the wall time of runs. All times
// are per inference, means over the middle half of the runs by wall time.
//
// Recording an execution of a node costs the profiler about the same whatever
// the node does, partly within the time that it gives the node, partly between
// nodes. Both parts are measured on a model of nodes that do next to nothing,
// and taken off.
type Accounting struct {
	Runs                 int     `json:"runs" schema:"count"`      // profiled runs that the averages are over
	WallMS               float64 `json:"wall_ms"`                  // wall time without the profiler
	ProfiledMS           float64 `json:"profiled_ms"`              // wall time under the profiler
	Overhead             float64 `json:"overhead"`                 // profiled over wall: the factor by which profiling slows the model down
	Executions           float64 `json:"executions"`               // of nodes, per inference
	EventUS              float64 `json:"event_us"`                 // what recording one of them costs
	WithinUS             float64 `json:"within_us"`                // of it, what lies within the node's own time
	ProfiledNodesMS      float64 `json:"profiled_nodes_ms"`        // sum of the nodes' times as the profiler has them
	UnattributedProfiled float64 `json:"unattributed_profiled_ms"` // of the profiled wall time, what is outside of nodes
	NodesMS              float64 `json:"nodes_ms"`                 // sum of the nodes' times without the profiler's part
	Unattributed         float64 `json:"unattributed_ms"`          // what is outside of nodes, without the profiler's part
	ReconciledMS         float64 `json:"reconciled_ms"`            // nodes and unattributed together, to be compared with wall_ms
	Below                int     `json:"below" schema:"count"`     // nodes that took no longer than the profiler's own part, and so 0
}

// reconcile takes the profiler's part off the times of nodes and of what lies
// between them, in the main graph and in the bodies of nodes. wall is the time of a run without the profiler, profiled that of
// one with it, in ms.
func reconcile(nodes []ranNode, runs int, profiled, wall float64, o overhead) *Accounting {
	a := &Accounting{Runs: runs, ProfiledMS: profiled, WallMS: wall, EventUS: o.event, WithinUS: o.within}
	between := (o.event - o.within) / 1e3
	inside, top := make([]float64, len(nodes)), 0.0 // executions in the bodies of each node, and in the main graph
	for i := range nodes {
		if at := nodes[i].around; at >= 0 {
			inside[at] += nodes[i].Calls
		} else {
			top += nodes[i].Calls
		}
	}
	for i := range nodes {
		n := &nodes[i]
		n.MS = max(0, n.ProfiledMS-n.Calls*o.within/1e3-inside[i]*between)
		if n.MS == 0 {
			a.Below++
		}
		a.Executions += n.Calls
		a.ProfiledNodesMS += n.ProfiledMS
		a.NodesMS += n.MS
	}
	for i := range nodes {
		if a.NodesMS > 0 {
			nodes[i].Share = min(1, nodes[i].MS/a.NodesMS)
		}
	}
	if wall > 0 {
		a.Overhead = profiled / wall
	}
	a.UnattributedProfiled = max(0, profiled-a.ProfiledNodesMS)
	a.Unattributed = max(0, a.UnattributedProfiled-top*between)
	a.ReconciledMS = a.NodesMS + a.Unattributed
	return a
}

package profile

// Accounting compares the times of nodes with the wall time of runs. All times
// are per inference, means over the middle half of the runs by wall time.
//
// Recording an execution of a node costs the profiler about the same whatever
// the node does, partly within the time that it gives the node, partly between
// nodes. How it divides is measured on a model of nodes that do next to nothing;
// how much it is, there and by the two wall times. Both parts are taken off.
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

// executions are how often things were recorded per inference.
type executions struct {
	top    float64   // nodes of the main graph
	inside []float64 // by node, nodes in its bodies
	bodies []float64 // by node, runs of its bodies, which are recorded too
	all    float64
}

func countExecutions(nodes []ranNode) executions {
	e := executions{inside: make([]float64, len(nodes)), bodies: make([]float64, len(nodes))}
	for i := range nodes {
		calls := nodes[i].Calls
		e.all += calls
		at := nodes[i].around
		if at < 0 {
			e.top += calls
			continue
		}
		e.inside[at] += calls
		if calls > e.bodies[at] {
			e.all += calls - e.bodies[at]
			e.bodies[at] = calls
		}
	}
	return e
}

// Recording a node of the model may cost between these multiples of recording one
// of the idle model; what goes beyond is taken for noise. The part within nodes
// may be larger by mostWithin, for those that took less than the mean part.
const (
	leastOverhead = 0.5
	mostOverhead  = 3
	mostWithin    = 1.5
)

// reconcile takes the profiler's part off the times of nodes and of what lies
// between them, in the main graph and in the bodies of nodes. wall is the time of
// a run without the profiler, profiled that of one with it, in ms; o is what the
// idle model shows.
func reconcile(nodes []ranNode, runs int, profiled, wall float64, o overhead) *Accounting {
	e := countExecutions(nodes)
	a := &Accounting{Runs: runs, ProfiledMS: profiled, WallMS: wall}
	for i := range nodes {
		a.Executions += nodes[i].Calls
		a.ProfiledNodesMS += nodes[i].ProfiledMS
	}
	a.UnattributedProfiled = max(0, profiled-a.ProfiledNodesMS)
	if wall > 0 {
		a.Overhead = profiled / wall
	}
	within := 0.0
	if o.event > 0 && e.all > 0 {
		a.EventUS = min(max(leastOverhead*o.event, 1e3*(profiled-wall)/e.all), mostOverhead*o.event)
		within = a.EventUS * o.within / o.event
	}
	between := (a.EventUS - within) / 1e3
	a.Unattributed = max(0, a.UnattributedProfiled-e.top*between)
	a.fit(nodes, e, within, between)
	if a.ReconciledMS > wall { // what is outside of nodes is no more than they leave
		a.Unattributed = min(a.Unattributed, max(0, wall-a.NodesMS))
		a.ReconciledMS = a.NodesMS + a.Unattributed
	}
	for i := range nodes {
		if a.NodesMS > 0 {
			nodes[i].Share = min(1, nodes[i].MS/a.NodesMS)
		}
	}
	return a
}

// fit computes the times of nodes without the profiler's part: within µs of each
// execution, or as much more as makes the sum fit the wall time.
func (a *Accounting) fit(nodes []ranNode, e executions, within, between float64) {
	if a.net(nodes, e, within, between) <= a.WallMS {
		return
	}
	lo, hi := within, mostWithin*within
	for range 20 {
		mid := (lo + hi) / 2
		if a.net(nodes, e, mid, between) > a.WallMS {
			lo = mid
		} else {
			hi = mid
		}
	}
}

// net computes the times of nodes without the profiler's part, within µs of each
// execution and between ms outside of it, and returns what adds up.
func (a *Accounting) net(nodes []ranNode, e executions, within, between float64) float64 {
	a.WithinUS, a.NodesMS, a.Below = within, 0, 0
	for i := range nodes {
		n := &nodes[i]
		n.MS = max(0, n.ProfiledMS-n.Calls*within/1e3-e.inside[i]*between-e.bodies[i]*a.EventUS/1e3)
		if n.MS == 0 {
			a.Below++
		}
		a.NodesMS += n.MS
	}
	a.ReconciledMS = a.NodesMS + a.Unattributed
	return a.ReconciledMS
}

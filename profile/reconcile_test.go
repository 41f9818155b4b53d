package profile

import (
	"math"
	"testing"
)

// ran is a node of ms under the profiler, calls times per inference, in the body of around.
func ran(ms, calls float64, around int) ranNode {
	return ranNode{NodeTime: NodeTime{ProfiledMS: ms, Calls: calls}, around: around}
}

// TestReconcile takes a known overhead off: 10 µs an execution, 4 of them within
// the node. Runs take 1 ms, of it 0.05 ms outside of nodes.
func TestReconcile(t *testing.T) {
	const within, between, event = 0.004, 0.006, 0.010
	nodes := []ranNode{
		ran(0.7+within, 1, -1),
		// An If of 0.1 ms whose body runs two nodes, one of them three times.
		ran(0.1+within+event+4*between, 1, -1),
		ran(0.1+within, 1, 1), ran(0.05+3*within, 3, 1),
	}
	nodes[3].Calls = 3
	wall := 1.0
	// The body ran as often as its most frequent node.
	nodes[1].ProfiledMS += 2 * event
	profiled := wall + 6*event + 3*event
	a := reconcile(nodes, 10, profiled, wall, overhead{event: 10, within: 4})
	for i, want := range []float64{0.7, 0.1, 0.1, 0.05} {
		if math.Abs(nodes[i].MS-want) > 1e-9 {
			t.Errorf("node %d: %v ms, want %v", i, nodes[i].MS, want)
		}
	}
	if math.Abs(a.ReconciledMS-wall) > 1e-9 || math.Abs(a.Unattributed-0.05) > 1e-9 || math.Abs(a.EventUS-10) > 1e-9 || a.Executions != 6 || a.Below != 0 {
		t.Errorf("%+v", a)
	}
}

// TestReconcileShort keeps the sum where nodes took less than the mean part of
// the profiler, and tells where it cannot.
func TestReconcileShort(t *testing.T) {
	nodes := []ranNode{ran(0.9, 1, -1), ran(0.001, 1, -1), ran(0.009, 1, -1)}
	a := reconcile(nodes, 10, 0.94, 0.91, overhead{event: 10, within: 5})
	if a.Below != 1 || math.Abs(a.ReconciledMS-0.91) > 1e-4 {
		t.Errorf("%+v", a)
	}
	// Runs that are three times as fast without the profiler, for no reason that
	// recording three nodes could be.
	nodes = []ranNode{ran(0.9, 1, -1), ran(0.1, 1, -1), ran(0.1, 1, -1)}
	a = reconcile(nodes, 10, 1.2, 0.4, overhead{event: 10, within: 4})
	if a.ReconciledMS < 1 || a.EventUS != mostOverhead*10 {
		t.Errorf("%+v", a)
	}
	p := &TimedProfile{Accounting: a}
	if p.doubt(); len(p.Warnings) != 2 || p.Warnings[1].Code != "unreconciled" {
		t.Errorf("%+v", p.Warnings)
	}
}

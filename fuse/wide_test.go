package fuse

import "testing"

// TestWideSum: no formula is looked for in a sum of thousands, nor through one.
func TestWideSum(t *testing.T) {
	m := wideModel(3000)
	sum := m.Graph.Last()
	if !sum.Is("Sum") || len(sum.Inputs()) < 1000 {
		t.Fatalf("the last node is %v with %d inputs", sum, len(sum.Inputs()))
	}
	if region := upstream(sum, mostUpstream); len(region) != 0 {
		t.Errorf("%d nodes are read before a wide sum", len(region))
	}
	s := &sketch{m: m, v: sum.Output(0)}
	s.node("Exp", s.v)
	if region := upstream(s.v.Producer(), mostUpstream); len(region) != 1 {
		t.Errorf("%d nodes are read before a reader of a wide sum", len(region))
	}
}

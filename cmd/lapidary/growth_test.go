package main

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/nets"
)

// TestDiffLinear: the comparison of models of twice as many nodes, also of bodies in bodies, allocates about twice as much.
func TestDiffLinear(t *testing.T) {
	for _, net := range []string{"deep", "fan", "branches"} {
		var got []growth.Allocated
		for _, nodes := range []int{1000, 2000} {
			a, err := nets.Build(net, nets.Options{Nodes: nodes})
			if err != nil {
				t.Fatal(err)
			}
			b, err := nets.Build(net, nets.Options{Nodes: nodes + 50})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, growth.Allocations(func() {
				d, err := compareModels("a", a, "b", b)
				if err != nil || d.Equal || d.Matched.Same == 0 {
					t.Errorf("%s: %+v, %v", net, d, err)
				}
			}))
		}
		if !got[0].Linear(got[1]) {
			t.Errorf("%s: %+v for 1000 nodes, %+v for 2000", net, got[0], got[1])
		}
	}
}

package nets_test

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func size(m *onnx.Model) (nodes int, bytes int64) {
	for _, g := range m.Graphs() {
		nodes += g.Len()
		for _, v := range g.Initializers() {
			bytes += v.Const.Size()
		}
	}
	return nodes, bytes
}

// TestSizes: networks of any size have the one asked for, and weights that are
// made when they are read.
func TestSizes(t *testing.T) {
	for _, name := range []string{"chain", "deep", "fan", "branches"} {
		for _, want := range []int{100, 1000} {
			m, err := nets.Build(name, nets.Options{Nodes: want})
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := size(m); n < want || n > want+100 {
				t.Errorf("%s of %d nodes has %d", name, want, n)
			}
		}
	}
	for _, want := range []int64{10e6, 40e6, 4e9} {
		m, err := nets.Build("layers", nets.Options{Bytes: want})
		if err != nil {
			t.Fatal(err)
		}
		if _, n := size(m); n > want || n < want-(5<<20) {
			t.Errorf("layers of %d bytes have %d", want, n)
		}
	}
	for _, o := range []nets.Options{{Nodes: -1}, {Bytes: 5}} {
		if _, err := nets.Build("chain", o); err == nil {
			t.Errorf("chain was built with %+v", o)
		}
	}
	if _, err := nets.Build("bert", nets.Options{Nodes: 100}); err == nil {
		t.Error("bert was built with another number of nodes")
	}
}

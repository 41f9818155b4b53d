package quantize

import (
	"context"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestNodeChecks: nodes that are quantized as they should be have the error that
// rounding explains; each fault that is put in is found, and named is the node.
func TestNodeChecks(t *testing.T) {
	ctx := context.Background()
	r, q := recovered(t, "../testdata/digits-cnn.onnx", "../testdata/digits-calib.npz")
	checks, err := r.nodeChecks(ctx, r.now, q)
	if err != nil {
		t.Fatal(err)
	}
	if len(checks) != 14 {
		t.Errorf("%d nodes are checked, there are 14", len(checks))
	}
	for _, c := range checks {
		if c.Fault != "" || c.Noise > 2*c.Expected || c.Noise < c.Expected/10 {
			t.Errorf("%+v", c)
		}
	}
	const layer = "/res1/b/conv/Conv_output_0" // [24, 24, 3, 3]
	for name, fault := range map[string]func(t *testing.T, n *onnx.Node){
		"scales of the wrong axis": func(t *testing.T, n *onnx.Node) {
			n.Input(1).Producer().SetAttr(onnx.IntAttr("axis", 1))
		},
		"weights transposed": func(t *testing.T, n *onnx.Node) {
			change(t, n.Input(1).Producer(), 0, func(b []byte) {
				for o := range 24 {
					for c := range o {
						for k := range 9 {
							i, j := (o*24+c)*9+k, (c*24+o)*9+k
							b[i], b[j] = b[j], b[i]
						}
					}
				}
			})
		},
		"zero point of the activation off by one": func(t *testing.T, n *onnx.Node) {
			change(t, n.Input(0).Producer(), 2, func(b []byte) { b[0]++ })
		},
		"zero points of the weights off by one": func(t *testing.T, n *onnx.Node) {
			change(t, n.Input(1).Producer(), 2, func(b []byte) {
				for i := range b {
					b[i]++
				}
			})
		},
		"codes of the weights with other signs": func(t *testing.T, n *onnx.Node) {
			change(t, n.Input(1).Producer(), 0, func(b []byte) {
				for i := range b {
					b[i] ^= 0x80
				}
			})
		},
		"filters in another order": func(t *testing.T, n *onnx.Node) {
			change(t, n.Input(1).Producer(), 0, func(b []byte) { slices.Reverse(b) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken := q.Clone()
			for n := range broken.Graph.Nodes() {
				if outputName(n) == layer {
					fault(t, n)
				}
			}
			checks, err := r.nodeChecks(ctx, r.now, broken)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range checks {
				if node := c.Output == layer; node != (c.Fault != "") {
					t.Errorf("%+v", c)
				}
			}
		})
	}
}

// recovered returns a recovery that has decided nothing, and its int8 model.
func recovered(t *testing.T, src, data string) (*recovery, *onnx.Model) {
	t.Helper()
	ctx := context.Background()
	m, err := onnxfile.Open(src, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	var ports []dataset.Port
	for _, v := range m.Graph.Inputs() {
		ports = append(ports, dataset.Port{Name: v.Name(), Type: v.Type})
	}
	set, err := dataset.Open(data, dataset.Options{Inputs: ports, Limit: 64})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	// In 7 bits: a processor without VNNI saturates in 8, which is another test's business.
	o := &Options{Open: ort.Opener(zootest.Library(t)), Calibration: set, ReduceRange: true}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	s := newStatic(o)
	if _, err := s.prepare(ctx, m); err != nil {
		t.Fatal(err)
	}
	r := &recovery{s: s, base: m.Clone(), now: s.choices, report: &Recovery{}}
	if r.held, err = newHeldOut(ctx, o, r.base, partOf(o), 16); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.held.Close)
	q, _, err := r.quantized(ctx, r.now)
	if err != nil {
		t.Fatal(err)
	}
	return r, q
}

// change gives input i of n a new constant with its bytes changed.
func change(t *testing.T, n *onnx.Node, i int, f func(b []byte)) {
	t.Helper()
	c := *n.Input(i).Constant()
	b, err := c.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b = slices.Clone(b)
	f(b)
	c.Data, c.External = onnx.Raw(b), nil
	n.SetInput(i, n.Graph().NewConst(&c))
}

package quantize

import (
	"context"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// tangle is a random graph of products and of what may follow them.
func tangle(r *rand.Rand, nodes int) *onnx.Model {
	m := onnx.NewModel(17)
	g := m.Graph
	w := g.AddInitializer(onnx.FromFloats("w", []int64{4, 4}, make([]float32, 16)))
	values := []*onnx.Value{g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2, 4)))}
	for i := range nodes {
		pick := func() *onnx.Value { return values[len(values)-1-r.IntN(min(len(values), 6))] }
		var n *onnx.Node
		switch out := "v" + strconv.Itoa(i); r.IntN(6) {
		case 0, 1:
			n = onnx.NewNode("MatMul", []*onnx.Value{pick(), w}, out)
		case 2:
			n = onnx.NewNode("Add", []*onnx.Value{pick(), pick()}, out)
		case 3:
			n = onnx.NewNode("Exp", []*onnx.Value{pick()}, out)
		case 4:
			n = onnx.NewNode("Sigmoid", []*onnx.Value{pick()}, out)
		default:
			n = onnx.NewNode("Relu", []*onnx.Value{pick()}, out)
		}
		g.Append(n)
		values = append(values, n.Output(0))
	}
	for _, v := range values[1:] {
		if v.Dead() {
			g.AddOutput(v)
		}
	}
	return m
}

// planFor plans m as if all its values were measured.
func planFor(t *testing.T, m *onnx.Model) *plan {
	s := &static{o: &Options{}, decision: decision{choices: &choices{stats: map[string]*calibrate.Stats{}}}, ranges: map[string]calibrate.Range{}}
	s.o.CodeOptions.fill()
	for v := range m.Graph.Values() {
		s.ranges[v.Name()], s.choices.stats[v.Name()] = calibrate.Range{Min: -1, Max: 1}, &calibrate.Stats{Runs: 1}
	}
	pass := &planning{s: s}
	if _, err := rewrite.Run(context.Background(), m, []rewrite.Pass{pass}, nil, rewrite.Options{}); err != nil {
		t.Fatal(err)
	}
	return pass.plan
}

// costsOf invents times.
func costsOf(r *rand.Rand, p *plan) *costs {
	c := &costs{nodes: map[*onnx.Node]OpTime{}, quantize: map[*onnx.Value]float64{}, restore: map[*onnx.Value]float64{}}
	for n := range p.nodes() {
		if p.chosen[n] && r.IntN(5) > 0 {
			c.nodes[n] = OpTime{Float: float64(r.IntN(20)), Int8: float64(r.IntN(20))}
		}
		for _, v := range []*onnx.Value{n.Input(0), n.Output(0)} {
			c.quantize[v], c.restore[v] = float64(r.IntN(4)), float64(r.IntN(4))
		}
	}
	return c
}

// whole is what a model takes as its plan is, node by node and value by value.
func whole(p *plan, c *costs) float64 {
	x := &chooser{k: newCascade(p), c: c, factor: 1}
	var all []*onnx.Node
	for n := range p.nodes() {
		all = append(all, n)
	}
	return x.cost(all)
}

// TestCascade: taking nodes out one by one leaves what looking at all followers again and again would leave,
// and putting them back changes nothing.
func TestCascade(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := planFor(t, tangle(r, 60))
		for n := range p.nodes() {
			if p.chosen[n] && place(n) != anchor && newCascade(p).stray(n) != "" {
				t.Fatalf("seed %d: %v is chosen and does not stand between quantized nodes", seed, n)
			}
		}
		k := newCascade(p)
		for n := range p.nodes() {
			if !p.chosen[n] || r.IntN(3) > 0 {
				continue
			}
			before := maps.Clone(p.chosen)
			gone := k.remove([]*onnx.Node{n}, map[*onnx.Node]string{})
			fresh := newCascade(p)
			for m := range p.nodes() {
				if p.chosen[m] && place(m) != anchor && fresh.stray(m) != "" {
					t.Fatalf("seed %d: %v stays though %v went", seed, m, n)
				}
				if out := m.Output(0); *k.of(out) != *fresh.of(out) {
					t.Fatalf("seed %d: the readings of %q are %+v, want %+v", seed, out.Name(), *k.of(out), *fresh.of(out))
				}
			}
			if r.IntN(2) > 0 {
				k.restore(gone)
				if diff := cmp.Diff(len(before), len(p.chosen)); diff != "" || !maps.Equal(before, p.chosen) {
					t.Fatalf("seed %d: after putting %d back the plan is another one", seed, len(gone))
				}
			}
		}
	}
}

// TestImproveIsSettled: nothing that could be left out is left that would save time, and the model never takes
// longer than before.
func TestImproveIsSettled(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		p := planFor(t, tangle(r, 80))
		c := costsOf(r, p)
		before := whole(p, c)
		p.improve(c, 1)
		after := whole(p, c)
		if after > before+1e-9 {
			t.Errorf("seed %d: %v before, %v after", seed, before, after)
		}
		lists := p.together()
		for n := range p.nodes() {
			if p.chosen[n] && place(n) == anchor {
				lists = append(lists, []*onnx.Node{n})
			}
		}
		for _, list := range lists {
			k := newCascade(p)
			gone := k.remove(append([]*onnx.Node(nil), list...), map[*onnx.Node]string{})
			without := whole(p, c)
			k.restore(gone)
			if without < after-1e-9 {
				t.Errorf("seed %d: leaving out %d more saves %v", seed, len(gone), after-without)
			}
		}
	}
}

// TestPlanLinear: choosing what to quantize, and what pays, for twice the nodes takes twice the allocations.
func TestPlanLinear(t *testing.T) {
	var got []growth.Allocated
	for _, nodes := range []int{1000, 2000} {
		r := rand.New(rand.NewPCG(1, 3))
		m := tangle(r, nodes)
		got = append(got, growth.Allocations(func() {
			p := planFor(t, m)
			p.improve(costsOf(r, p), 1)
			p.settle()
		}))
	}
	if !got[0].Linear(got[1]) {
		t.Errorf("%+v for 1000 nodes, %+v for 2000", got[0], got[1])
	}
}

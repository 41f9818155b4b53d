package prune

import (
	"maps"
	"slices"
	"sort"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Structure says what removal by structure did.
type Structure struct {
	Pattern string            `json:"pattern"`
	Before  Totals            `json:"before"`
	After   Totals            `json:"after"`
	Groups  []StructureGroup  `json:"groups"`
	Layers  []StructureLayer  `json:"layers"`
	Reach   StructureCoverage `json:"coverage"`
	Repairs []UnitRepair      `json:"repairs,omitempty"`
}

// Totals are the work and the weights of a model.
type Totals struct {
	MACs       int64 `json:"macs"`
	Parameters int64 `json:"parameters"`
}

// StructureGroup is units that are alike and were ranked against each other.
type StructureGroup struct {
	Name       string  `json:"name"` // the node that makes them
	Op         string  `json:"op"`
	Kind       string  `json:"kind"` // channels, heads or neurons
	Units      int     `json:"units"`
	Removed    int     `json:"removed"`
	Importance float64 `json:"importance_removed"`   // share of the group's
	Statistics string  `json:"statistics,omitempty"` // a node that takes mean or variance over them: what is left changes with what goes
}

// StructureLayer is one node that multiplies by weights.
type StructureLayer struct {
	Node   string   `json:"node"`
	Op     string   `json:"op"`
	Weight string   `json:"weight"`
	Before []int64  `json:"shape_before"`
	After  []int64  `json:"shape_after"`
	MACs   [2]int64 `json:"macs"` // before, after
	Params [2]int64 `json:"parameters"`
}

// StructureCoverage says how much of the work pruning can reach.
type StructureCoverage struct {
	MACs   float64        `json:"macs"` // share of the MACs of nodes with a dimension that can lose positions
	Pinned []PinnedLayers `json:"pinned,omitempty"`
}

// PinnedLayers are nodes of which no dimension can lose anything, for one reason.
type PinnedLayers struct {
	Reason string   `json:"reason"`
	MACs   float64  `json:"macs"` // share of the model's
	Nodes  []string `json:"nodes"`
}

// costs infers the work of a model. Sizes that stay open count as 1.
func costs(m *onnx.Model, sizes map[string]int64) (*opset.Facts, error) {
	known := maps.Clone(sizes)
	if known == nil {
		known = map[string]int64{}
	}
	for _, v := range m.Graph.Inputs() {
		for _, d := range v.Shape() {
			if _, given := known[d.Param]; !given && !d.Known() && d.Param != "" {
				known[d.Param] = 1
			}
		}
	}
	return opset.Infer(m, opset.Options{Dims: known, ReadOnly: true})
}

// totals counts the MACs of all nodes and the elements of all floating-point
// constants of at least one axis.
func totals(m *onnx.Model, f *opset.Facts) Totals {
	var t Totals
	seen := map[*onnx.Value]bool{}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			t.MACs += f.Cost(n).MACs
			for _, v := range n.Inputs() {
				if c := v.Constant(); c != nil && c.DType.IsFloat() && !seen[v] {
					seen[v] = true
					k, _ := c.Elements()
					t.Parameters += k
				}
			}
		}
	}
	return t
}

// layers lists the nodes that multiply by constant weights.
func layers(d *dims, cost *opset.Facts) []StructureLayer {
	var out []StructureLayer
	for n := range d.nodes() {
		if !computes(n) {
			continue
		}
		for i, v := range n.Inputs() {
			if t := v.Constant(); t != nil && len(t.Shape) > 1 && (i > 0 || n.Is("MatMul")) {
				k, _ := t.Elements()
				out = append(out, StructureLayer{Node: nodeName(n), Op: n.Op, Weight: v.Name(), Before: slices.Clone(t.Shape),
					MACs: [2]int64{cost.Cost(n).MACs, 0}, Params: [2]int64{k, 0}})
				break
			}
		}
	}
	return out
}

// describe reports the plan before it is carried out.
func (pl *plan) describe(cost *opset.Facts, o *StructureOptions) *Structure {
	s := &Structure{Pattern: string(o.Pattern), Before: totals(pl.d.model, cost), Layers: layers(pl.d, cost), Reach: pl.coverage(cost)}
	s.After = s.Before
	for _, g := range pl.groups {
		out := StructureGroup{Name: g.name, Op: g.op, Kind: g.kind(), Units: len(g.units)}
		if g.norm != nil {
			out.Statistics = nodeName(g.norm)
		}
		total := 0.0
		for k, u := range g.units {
			total += g.scores[k]
			if pl.removed[u.root] {
				out.Removed++
				out.Importance += g.scores[k]
			}
		}
		if total > 0 {
			out.Importance /= total
		}
		s.Groups = append(s.Groups, out)
	}
	return s
}

// after fills in what became of the model.
func (s *Structure) after(m *onnx.Model, sizes map[string]int64) error {
	f, err := costs(m, sizes)
	if err != nil {
		return err
	}
	s.After = totals(m, f)
	byName := map[string]*onnx.Value{}
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			byName[v.Name()] = v
		}
	}
	nodes := map[string]*onnx.Node{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			nodes[nodeName(n)] = n
		}
	}
	for i := range s.Layers {
		l := &s.Layers[i]
		if v := byName[l.Weight]; v != nil {
			l.After = slices.Clone(v.Const.Shape)
			l.Params[1], _ = v.Const.Elements()
		}
		if n := nodes[l.Node]; n != nil {
			l.MACs[1] = f.Cost(n).MACs
		}
	}
	return nil
}

// coverage tells which share of the MACs is in nodes with a dimension that can
// lose positions, and what holds the others.
func (pl *plan) coverage(cost *opset.Facts) StructureCoverage {
	reachable := map[*onnx.Value]bool{}
	for _, g := range pl.all {
		for _, i := range g.axes {
			reachable[pl.d.axes[i].Value] = true
		}
	}
	var total, can int64
	held := map[string]*PinnedLayers{}
	macs := map[string]int64{}
	for n := range pl.d.nodes() {
		c := cost.Cost(n).MACs
		if c == 0 {
			continue
		}
		total += c
		values := append(slices.Clone(n.Inputs()), n.Outputs()...)
		if slices.ContainsFunc(values, func(v *onnx.Value) bool { return v != nil && reachable[v] }) {
			can += c
			continue
		}
		why := pl.d.reason(n)
		if held[why] == nil {
			held[why] = &PinnedLayers{Reason: why}
		}
		held[why].Nodes = append(held[why].Nodes, nodeName(n))
		macs[why] += c
	}
	out := StructureCoverage{MACs: 1}
	if total > 0 {
		out.MACs = float64(can) / float64(total)
	}
	for why, h := range held {
		h.MACs = float64(macs[why]) / float64(total)
		out.Pinned = append(out.Pinned, *h)
	}
	sort.Slice(out.Pinned, func(a, b int) bool {
		x, y := out.Pinned[a], out.Pinned[b]
		return x.MACs > y.MACs || x.MACs == y.MACs && x.Reason < y.Reason
	})
	return out
}

// reason says what holds the weights of a node, or else its output.
func (d *dims) reason(n *onnx.Node) string {
	best := "nothing that it works on can lose positions"
	for _, v := range append(slices.Clone(n.Outputs()), n.Inputs()...) {
		for i := range d.facts.Shape(v) {
			at, ok := d.index[opset.Axis{Value: v, Axis: i}]
			if !ok || d.axes[at].size < 2 {
				continue
			}
			p, held := d.pinned[d.find(int32(d.axes[at].base))]
			if !held {
				continue
			}
			why := d.pins[p].why
			if v.Constant() != nil {
				return why
			}
			best = why
		}
	}
	return best
}

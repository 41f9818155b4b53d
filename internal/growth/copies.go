package growth

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Wiring says how copies of a graph are put together.
type Wiring int

const (
	// Beside gives every copy the same inputs: these have as many readers as there are copies.
	Beside Wiring = iota
	// Chained gives a copy, where the types allow it, the outputs of the one before as inputs.
	Chained
)

// Copies returns a model whose main graph is count copies of m's. Constants are copied too, so that there are count
// times as many. Inputs are there once; in a chain only the outputs of the last copy are outputs, and those that no later copy reads.
func Copies(m *onnx.Model, count int, wiring Wiring) (*onnx.Model, error) {
	out := m.Clone()
	src := m.Clone().Graph
	g := onnx.NewGraph(src.Name)
	out.SetGraph(g)
	inputs := map[*onnx.Value]*onnx.Value{}
	for _, v := range src.Inputs() {
		w := g.AddInput(v.Name(), v.Type)
		if v.Const != nil {
			g.SetDefault(w, v.Const)
		}
		inputs[v] = w
	}
	var last []*onnx.Value // outputs of the copy before
	var open []*onnx.Value // outputs that nothing reads
	for i := range count {
		known := maps.Clone(inputs)
		if wiring == Chained {
			chain(src, known, last)
		}
		c := copier{g: g, index: i, known: known}
		outs, err := c.copy(src)
		if err != nil {
			return nil, err
		}
		last = outs
		open = append(open, outs...)
	}
	for _, v := range open {
		if wiring == Beside || v.Dead() {
			if !v.IsOutput() && !v.IsInput() {
				g.AddOutput(v)
			}
		}
	}
	if len(g.Outputs()) == 0 {
		return nil, fmt.Errorf("growth: copies of graph %q have no outputs", src.Name)
	}
	if _, err := out.Sort(); err != nil {
		return nil, err
	}
	return out, out.Check()
}

// chain puts outputs of the copy before in the place of inputs of the same type.
func chain(src *onnx.Graph, known map[*onnx.Value]*onnx.Value, last []*onnx.Value) {
	free := slices.Clone(last)
	for _, in := range src.Inputs() {
		if in.Const != nil || in.Type == nil {
			continue
		}
		for k, v := range free {
			if v != nil && v.Type != nil && v.Type.String() == in.Type.String() {
				known[in], free[k] = v, nil
				break
			}
		}
	}
}

// copier makes one copy.
type copier struct {
	g     *onnx.Graph
	index int
	known map[*onnx.Value]*onnx.Value // of src → of g
}

func (c *copier) name(s string) string { return fmt.Sprintf("%s__%d", s, c.index) }

// copy appends the constants and nodes of src, and returns what its outputs are.
func (c *copier) copy(src *onnx.Graph) ([]*onnx.Value, error) {
	for _, v := range src.Initializers() {
		if v.IsInput() {
			continue
		}
		c.known[v] = c.g.AddInitializer(v.Const.Renamed(c.name(v.Name())))
	}
	for _, v := range src.SparseInitializers() {
		if v.IsInput() {
			continue
		}
		s := *v.Sparse
		s.Values = s.Values.Renamed(c.name(v.Name()))
		c.known[v] = c.g.AddSparse(&s)
	}
	for n := range src.Nodes() {
		c.node(n)
	}
	var outs []*onnx.Value
	for _, v := range src.Outputs() {
		w := c.known[v]
		if w == nil {
			return nil, fmt.Errorf("growth: output %q of graph %q is computed by nothing", v.Name(), src.Name)
		}
		if w.Type == nil {
			w.Type = v.Type
		}
		outs = append(outs, w)
	}
	return outs, nil
}

// node appends a copy of n with its subgraphs.
func (c *copier) node(n *onnx.Node) {
	in := make([]*onnx.Value, len(n.Inputs()))
	for i, v := range n.Inputs() {
		if v != nil {
			in[i] = c.known[v]
		}
	}
	names := make([]string, len(n.Outputs()))
	for i, v := range n.Outputs() {
		if v != nil {
			names[i] = c.name(v.Name())
		}
	}
	k := onnx.CloneNodeInto(n, in, names, c.known)
	if k.Name != "" {
		k.Name = c.name(k.Name)
	}
	c.g.Append(k)
	for i, v := range n.Outputs() {
		if v != nil {
			c.known[v] = k.Output(i)
			k.Output(i).Type = v.Type
		}
	}
}

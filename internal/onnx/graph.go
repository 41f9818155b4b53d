package onnx

import "iter"

// Graph is a main graph, a function body, or a subgraph held by an attribute.
type Graph struct {
	Name    string
	Doc     string
	Meta    []Entry
	Quant   [][]byte // encoded quantization_annotation messages, passed through
	Unknown []byte   // fields this package does not know, as encoded

	inputs  []*Value // nil where one was removed since the last look at all of them
	removed int      // how many are nil
	hole    int      // where the last of these is
	outputs []*Value
	places  []int    // of each output among the listings of its value
	inits   []*Value // values with a constant, in file order
	sparse  []*Value // values with a sparse constant
	orphans []*Value // value_info for names that nothing in the graph defines
	first   *Node
	last    *Node
	count   int

	model *Model
	owner *Node // the node whose attribute holds this graph; nil for main graphs and function bodies

	function *Function // whose body this is
}

// NewGraph returns an empty graph, not yet part of a model.
func NewGraph(name string) *Graph { return &Graph{Name: name} }

// SetGraph makes g the main graph of m.
func (m *Model) SetGraph(g *Graph) {
	m.Graph = g
	g.adopt(m, nil)
	m.names = nil
}

// AddFunction adds f to the model's local functions.
func (m *Model) AddFunction(f *Function) {
	if m.functions == nil {
		m.functions = &functionIndex{}
	}
	m.Functions = append(m.Functions, f)
	if f.Body != nil {
		f.Body.function = f
		f.Body.adopt(m, nil)
	}
	m.names = nil
}

// adopt records where g and the subgraphs below it belong, and reserves the
// names of their values.
func (g *Graph) adopt(m *Model, owner *Node) {
	type item struct {
		g     *Graph
		owner *Node
	}
	for work := []item{{g, owner}}; len(work) > 0; {
		it := work[len(work)-1]
		work = work[:len(work)-1]
		it.g.model, it.g.owner = m, it.owner
		it.g.reserveAll()
		for n := it.g.first; n != nil; n = n.next {
			for _, a := range n.Attrs {
				for _, sub := range a.Subgraphs() {
					work = append(work, item{sub, n})
				}
			}
		}
	}
}

// Model returns the model that g belongs to, or nil.
func (g *Graph) Model() *Model { return g.model }

// Owner returns the node whose attribute holds g; nil for main graphs and function bodies.
func (g *Graph) Owner() *Node { return g.owner }

// Parent returns the graph around g; nil for main graphs and function bodies.
func (g *Graph) Parent() *Graph {
	if g.owner == nil {
		return nil
	}
	return g.owner.graph
}

// Encloses reports whether h is g or lies within g.
func (g *Graph) Encloses(h *Graph) bool {
	for ; h != nil; h = h.Parent() {
		if h == g {
			return true
		}
	}
	return false
}

// Inputs returns the graph's inputs. The caller must not modify the slice.
func (g *Graph) Inputs() []*Value {
	if g.removed > 0 {
		kept := make([]*Value, 0, len(g.inputs)-g.removed)
		for _, v := range g.inputs {
			if v != nil {
				kept = append(kept, v)
			}
		}
		g.inputs, g.removed, g.hole = kept, 0, 0
	}
	return g.inputs
}

// Outputs returns the graph's outputs. The caller must not modify the slice.
func (g *Graph) Outputs() []*Value { return g.outputs }

// Initializers returns the values with a constant tensor, in order, including
// those that are also inputs. The caller must not modify the slice.
func (g *Graph) Initializers() []*Value { return g.inits }

// SparseInitializers returns the values with a sparse constant.
func (g *Graph) SparseInitializers() []*Value { return g.sparse }

// Orphans returns value_info entries for names that the graph does not define.
func (g *Graph) Orphans() []*Value { return g.orphans }

// Len returns the number of nodes, subgraphs not counted.
func (g *Graph) Len() int { return g.count }

// First returns the first node in execution order, or nil.
func (g *Graph) First() *Node { return g.first }

// Last returns the last node in execution order, or nil.
func (g *Graph) Last() *Node { return g.last }

// Nodes iterates in execution order. The node being visited may be removed,
// and nodes may be inserted, during the iteration.
func (g *Graph) Nodes() iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		for n := g.first; n != nil; {
			next := n.next
			if !yield(n) {
				return
			}
			if n.graph == g {
				next = n.next
			}
			n = next
		}
	}
}

// Values iterates over inputs, constants and node outputs, each once.
func (g *Graph) Values() iter.Seq[*Value] {
	return func(yield func(*Value) bool) {
		for _, v := range g.Inputs() {
			if !yield(v) {
				return
			}
		}
		for _, list := range [][]*Value{g.inits, g.sparse} {
			for _, v := range list {
				if !v.input && !yield(v) {
					return
				}
			}
		}
		for n := g.first; n != nil; n = n.next {
			for _, v := range n.outputs {
				if v != nil && !yield(v) {
					return
				}
			}
		}
	}
}

// AddInput appends an input of the given type.
func (g *Graph) AddInput(name string, t *Type) *Value {
	v := &Value{name: name, Type: t, graph: g, input: true}
	g.inputs = append(g.Inputs(), v)
	g.reserve(name)
	return v
}

// AddOutput makes v, a value of g or of an enclosing graph, the next output.
func (g *Graph) AddOutput(v *Value) {
	g.touch()
	v.list(g, len(g.outputs))
	g.outputs = append(g.outputs, v)
}

// AddInitializer adds t as a constant of g under t's name, which must be unused in g.
func (g *Graph) AddInitializer(t *Tensor) *Value { return g.addConst(t) }

// SetDefault makes t the default of input v of g.
func (g *Graph) SetDefault(v *Value, t *Tensor) {
	v.Const = t
	g.inits = append(g.inits, v)
}

// AddDangling returns a value of g that nothing defines. Only a reader of
// broken files needs one; [Model.Check] reports it where it is read.
func (g *Graph) AddDangling(name string) *Value { return &Value{name: name, graph: g} }

// NewConst adds t as a constant of g under a fresh name based on t's name.
func (g *Graph) NewConst(t *Tensor) *Value {
	if g.model != nil {
		t = t.Renamed(g.model.Fresh(t.Name))
	}
	return g.addConst(t)
}

// Unattached returns a constant of content t that is not in a graph yet.
func Unattached(t *Tensor) *Value { return &Value{name: t.Name, Type: t.Type(), Const: t} }

// Attach adds a constant made by [Unattached], whose name must be unused.
func (g *Graph) Attach(v *Value) {
	g.touch()
	v.graph = g
	g.inits = append(g.inits, v)
	g.reserve(v.name)
}

func (g *Graph) addConst(t *Tensor) *Value {
	g.touch()
	v := &Value{name: t.Name, Type: t.Type(), Const: t, graph: g}
	g.inits = append(g.inits, v)
	g.reserve(t.Name)
	return v
}

// AddSparse adds s as a sparse constant of g; its name is that of s.Values.
func (g *Graph) AddSparse(s *SparseTensor) *Value {
	v := &Value{name: s.Values.Name, Type: TensorType(s.Values.DType, ShapeOf(s.Dims...)), Sparse: s, graph: g}
	g.sparse = append(g.sparse, v)
	g.reserve(v.name)
	return v
}

// AddOrphan records value_info for a name that the graph does not define.
func (g *Graph) AddOrphan(name string, t *Type) *Value {
	v := &Value{name: name, Type: t, graph: g}
	g.orphans = append(g.orphans, v)
	return v
}

// reserveAll reserves the names of g's own values.
func (g *Graph) reserveAll() {
	if g.model == nil || g.model.names == nil {
		return
	}
	for v := range g.Values() {
		g.reserve(v.name)
	}
	for _, v := range g.orphans {
		g.reserve(v.name)
	}
}

func (g *Graph) reserve(name string) {
	if g.model != nil && g.model.names != nil {
		g.model.names[name] = struct{}{}
	}
}

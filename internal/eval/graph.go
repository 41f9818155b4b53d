package eval

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Graph runs the main graph of m, with the bodies of If, Loop and Scan and the
// local functions, and returns its outputs by name. inputs are by name too;
// those that have a default may be left out. The error is an
// [*UnsupportedError] where a node that runs is beyond this package.
func Graph(ctx context.Context, m *onnx.Model, inputs map[string]*onnx.Tensor, o Options) (map[string]*onnx.Tensor, error) {
	r := newRun(o)
	r.ctx = ctx
	s := &scope{r: r, m: m, values: map[*onnx.Value]*array{}}
	if err := s.bindInputs(m.Graph, inputs); err != nil {
		return nil, err
	}
	results, err := s.run(m.Graph)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*onnx.Tensor, len(results))
	for i, v := range m.Graph.Outputs() {
		if results[i] == nil {
			return nil, fmt.Errorf("output %q has no value", v.Name())
		}
		if out[v.Name()], err = results[i].tensor(v.Name()); err != nil {
			return nil, fmt.Errorf("output %q: %w", v.Name(), err)
		}
	}
	return out, nil
}

// scope is the values of one run of one graph.
type scope struct {
	r      *run
	m      *onnx.Model
	parent *scope // of the graph around this one; nil for main graphs and function bodies
	depth  int
	values map[*onnx.Value]*array // nil: a function's parameter that the caller omits
	attrs  map[string]*onnx.Attr  // of the function call whose body this is
	live   int64                  // bytes of values
}

// bindInputs gives the graph's inputs their values and checks their types.
func (s *scope) bindInputs(g *onnx.Graph, inputs map[string]*onnx.Tensor) error {
	used := 0
	for _, v := range g.Inputs() {
		t := inputs[v.Name()]
		if t == nil {
			if v.Const == nil {
				return fmt.Errorf("input %q is missing", v.Name())
			}
			continue
		}
		used++
		if want := v.DType(); want != onnx.Undefined && want != t.DType {
			return fmt.Errorf("input %q: want %v elements, have %v", v.Name(), want, t.DType)
		}
		a, err := fromTensor(t, s.r.wide)
		if err != nil {
			return fmt.Errorf("input %q: %w", v.Name(), err)
		}
		if err := s.set(v, a); err != nil {
			return err
		}
	}
	if used < len(inputs) {
		for name := range inputs {
			if !hasInput(g, name) {
				return fmt.Errorf("the model has no input %q", name)
			}
		}
	}
	return nil
}

func hasInput(g *onnx.Graph, name string) bool {
	for _, v := range g.Inputs() {
		if v.Name() == name {
			return true
		}
	}
	return false
}

// set gives v a value and charges the evaluation with its memory.
func (s *scope) set(v *onnx.Value, a *array) error {
	s.values[v] = a
	if a == nil {
		return nil
	}
	s.live += a.bytes()
	s.r.live += a.bytes()
	if s.r.live > s.r.maxBytes {
		return fmt.Errorf("value %q: the evaluation needs more than the limit of %d bytes", v.Name(), s.r.maxBytes)
	}
	return nil
}

// close releases what the scope holds.
func (s *scope) close() { s.r.live -= s.live }

// inner returns a scope for a body inside s.
func (s *scope) inner() (*scope, error) {
	if s.depth >= maxDepth {
		return nil, fmt.Errorf("bodies and functions are nested more than %d deep", maxDepth)
	}
	return &scope{r: s.r, m: s.m, parent: s, depth: s.depth + 1, values: map[*onnx.Value]*array{}, attrs: s.attrs}, nil
}

// get returns the value of v in s or around it.
func (s *scope) get(v *onnx.Value) (*array, error) {
	if v == nil {
		return nil, nil
	}
	for t := s; t != nil; t = t.parent {
		if a, ok := t.values[v]; ok {
			return a, nil
		}
	}
	if v.Const == nil && v.Sparse == nil {
		return nil, fmt.Errorf("value %q is read before it is computed", v.Name())
	}
	a, err := s.constant(v)
	if err != nil {
		return nil, fmt.Errorf("constant %q: %w", v.Name(), err)
	}
	home := s
	for home.parent != nil {
		home = home.parent
	}
	return a, home.set(v, a)
}

func (s *scope) constant(v *onnx.Value) (*array, error) {
	if v.Const != nil {
		return fromTensor(v.Const, s.r.wide)
	}
	return fromSparse(v.Sparse, s.r)
}

// run computes the nodes of g in order and returns the values of its outputs.
func (s *scope) run(g *onnx.Graph) ([]*array, error) {
	for n := g.First(); n != nil; n = n.Next() {
		if err := s.node(n); err != nil {
			return nil, err
		}
	}
	out := make([]*array, len(g.Outputs()))
	for i, v := range g.Outputs() {
		var err error
		if out[i], err = s.get(v); err != nil {
			return nil, fmt.Errorf("graph %q: output %d: %w", g.Name, i, err)
		}
	}
	return out, nil
}

func (s *scope) node(n *onnx.Node) error {
	if err := s.r.ctx.Err(); err != nil {
		return err
	}
	if s.r.steps--; s.r.steps < 0 {
		return fmt.Errorf("%v: the evaluation takes more nodes than its limit", n)
	}
	c := &call{n: n, version: n.OpsetVersion(n.Domain), r: s.r, scope: s, in: make([]*array, len(n.Inputs()))}
	for i, v := range n.Inputs() {
		var err error
		if c.in[i], err = s.get(v); err != nil {
			return fmt.Errorf("%v: input %d: %w", n, i, err)
		}
	}
	out, err := c.run()
	if err != nil {
		return err
	}
	for i, v := range n.Outputs() {
		if v == nil {
			continue
		}
		if i >= len(out) {
			return fmt.Errorf("%v: the operator has no output %d", n, i)
		}
		if err := s.set(v, out[i]); err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
	}
	return nil
}

// body runs a graph inside the node's scope, its inputs bound to args.
func (c *call) body(g *onnx.Graph, args []*array) []*array {
	s, err := c.scope.inner()
	c.check(err)
	return c.bound(s, g, args)
}

// bound runs g in s with its inputs bound to args; missing ones are omitted.
func (c *call) bound(s *scope, g *onnx.Graph, args []*array) []*array {
	defer s.close()
	if len(args) > len(g.Inputs()) {
		c.fail("graph %q has %d inputs, %d are given", g.Name, len(g.Inputs()), len(args))
	}
	for i, v := range g.Inputs() {
		var a *array
		if i < len(args) {
			a = args[i]
		}
		c.check(s.set(v, a))
	}
	out, err := s.run(g)
	c.check(err)
	return out
}

func (c *call) check(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// graphAttr returns the graph attribute called name.
func (c *call) graphAttr(name string) *onnx.Graph {
	a := c.typed(name, onnx.AttrGraph)
	if a == nil || a.G == nil {
		c.fail("attribute %q is missing", name)
	}
	if c.scope == nil {
		c.unsupported("its body needs the graph around it")
	}
	return a.G
}

// function calls a local function.
func (c *call) function(f *onnx.Function) []*array {
	if f.Body == nil {
		c.fail("function %q has no body", f.Name)
	}
	s, err := c.scope.inner()
	c.check(err)
	s.parent = nil
	s.attrs = map[string]*onnx.Attr{}
	for _, a := range f.AttrDefaults {
		s.attrs[a.Name] = a
	}
	for _, a := range c.n.Attrs {
		if v := c.attr(a.Name); v != nil {
			s.attrs[a.Name] = v
		}
	}
	return c.bound(s, f.Body, c.in)
}

// fromSparse fills in the zeros of a sparse tensor.
func fromSparse(t *onnx.SparseTensor, r *run) (*array, error) {
	n, ok := onnx.ElementCount(t.Dims)
	size := elemBytes(t.Values.DType, r.wide)
	if !ok || n > r.maxBytes/size {
		return nil, fmt.Errorf("a tensor of shape %v is above the limit of %d bytes", t.Dims, r.maxBytes)
	}
	values, err := fromTensor(t.Values, r.wide)
	if err != nil {
		return nil, err
	}
	at, err := t.Indices.Ints()
	if err != nil {
		return nil, err
	}
	out := &array{dt: values.dt, shape: t.Dims}
	switch {
	case values.wide != nil:
		out.wide = make([]float64, n)
	case values.dt == onnx.String:
		out.str = make([][]byte, n)
	default:
		out.raw = make([]byte, n*int64(width(values.dt)))
	}
	linear, err := linearIndices(at, values.len(), t.Dims)
	if err != nil {
		return nil, err
	}
	for k, i := range linear {
		copyElems(out, i, values, k, 1)
	}
	return out, nil
}

// linearIndices returns the positions that the indices of a sparse tensor of n
// values name, given as [n] or [n, rank].
func linearIndices(at []int64, n int, dims []int64) ([]int, error) {
	total := int64(product(dims))
	st := strides(dims)
	if len(at) == n {
		st = []int{1}
		dims = []int64{total}
	}
	if len(at) != n*len(st) {
		return nil, fmt.Errorf("%d indices for %d values of rank %d", len(at), n, len(st))
	}
	out := make([]int, n)
	for k := range out {
		for d, s := range st {
			i := at[k*len(st)+d]
			if i < 0 || i >= dims[d] {
				return nil, fmt.Errorf("index %d is not within size %d", i, dims[d])
			}
			out[k] += int(i) * s
		}
	}
	return out, nil
}

package opset

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Options direct [Infer]. The zero value trusts the file's own type information
// where inference has nothing better, and writes what it finds into the model.
type Options struct {
	// Dims gives symbols of the model a size ≥ 0.
	Dims map[string]int64
	// InputShapes replaces the declared shapes of graph inputs, by name.
	InputShapes map[string]onnx.Shape
	// IgnoreValueInfo uses the declared types of graph inputs only: those of
	// intermediate values and outputs are compared, never believed.
	IgnoreValueInfo bool
	// ReadOnly leaves the model as it is; what was found is in the Facts only.
	ReadOnly bool
}

// Limits on nesting and on the number of node visits per node of the model.
const (
	maxNesting    = 32
	visitsPerNode = 16
	visitsAtLeast = 1 << 16
)

type funcKey struct{ domain, name, overload string }

// scope is where a node stands: the opset imports in force, the attributes of
// the function call around it, and the nesting.
type scope struct {
	opsets []onnx.Opset
	attrs  func(name string) *onnx.Attr // of the function call; nil outside functions
	calls  []*onnx.Function             // the functions being inlined, outermost first
	depth  int
	inFunc bool
}

func (s *scope) version(domain string) int64 {
	for _, o := range s.opsets {
		if onnx.NormalDomain(o.Domain) == onnx.NormalDomain(domain) {
			return o.Version
		}
	}
	return 0
}

// Infer computes the types, shapes and small integer values of every value of
// m, in subgraph bodies and local functions too, in time linear in the number
// of nodes. It fails only on options that do not fit the model; a model that is
// broken or not understood gives fewer facts.
func Infer(m *onnx.Model, o Options) (*Facts, error) {
	if m == nil || m.Graph == nil {
		return nil, fmt.Errorf("inferring shapes: the model has no graph")
	}
	f := &Facts{model: m, o: o, sym: newSymbols(o.Dims), facts: map[*onnx.Value]fact{}, bodies: map[*onnx.Value]fact{},
		funcs: map[funcKey]*onnx.Function{}, missed: map[string]bool{}}
	nodes := 0
	for _, g := range m.Graphs() {
		nodes += g.Len()
	}
	f.limit = visitsAtLeast + visitsPerNode*nodes
	f.work = f.limit
	for _, fn := range m.Functions {
		f.funcs[funcKey{onnx.NormalDomain(fn.Domain), fn.Name, fn.Overload}] = fn
	}
	for v := range m.Graph.Values() {
		f.sym.learn(v.Type)
	}
	if err := f.checkOptions(); err != nil {
		return nil, err
	}
	s := &scope{opsets: m.Opsets}
	f.inputs(m.Graph)
	f.graph(m.Graph, s)
	for v, x := range f.bodies {
		f.facts[v] = x
	}
	f.finish(m.Graph, 0)
	return f, nil
}

func (f *Facts) checkOptions() error {
	for name, n := range f.o.Dims {
		if n < 0 {
			return fmt.Errorf("dimension %q: size %d is negative", name, n)
		}
		if !f.sym.plain[name] && !f.hasSymbol(name) {
			return fmt.Errorf("dimension %q: the model has no dimension of that name", name)
		}
	}
	for name, s := range f.o.InputShapes {
		i := slices.IndexFunc(f.model.Graph.Inputs(), func(v *onnx.Value) bool { return v.Name() == name })
		if i < 0 {
			return fmt.Errorf("input shape of %q: the model has no input of that name", name)
		}
		declared := f.model.Graph.Inputs()[i].Type
		if declared != nil && !declared.IsTensor() {
			return fmt.Errorf("input shape of %q: the input is %v, not a tensor", name, declared)
		}
		if have := f.model.Graph.Inputs()[i].Shape(); have.Contradicts(s) {
			return fmt.Errorf("input shape of %q: %v does not fit the declared shape %v", name, s, have)
		}
		f.sym.learn(onnx.TensorType(onnx.Undefined, s))
	}
	return nil
}

// hasSymbol reports whether a type of the main graph names a symbol that is no
// plain identifier.
func (f *Facts) hasSymbol(name string) bool {
	for v := range f.model.Graph.Values() {
		for t := v.Type; t != nil; t = t.Of {
			if slices.ContainsFunc(t.Shape, func(d onnx.Dim) bool { return !d.Known() && d.Param == name }) {
				return true
			}
		}
	}
	return false
}

// inputs records the declared types of g's inputs; every unnamed dimension of
// one gets a fresh symbol.
func (f *Facts) inputs(g *onnx.Graph) {
	for _, v := range g.Inputs() {
		t := v.Type
		if s, ok := f.o.InputShapes[v.Name()]; ok {
			elem := onnx.Undefined
			if t != nil {
				elem = t.Elem
			}
			t = onnx.TensorType(elem, s)
		}
		if v.Constant() != nil && t == nil {
			t = v.Const.Type()
		}
		f.facts[v] = fact{typ: f.named(f.resolve(t), 1)}
	}
}

// resolve returns t with its dimensions in canonical form and fixed symbols as
// numbers. Absurd dimensions become unknown.
func (f *Facts) resolve(t *onnx.Type) *onnx.Type {
	if t == nil {
		return nil
	}
	c := *t
	c.Of = f.resolve(t.Of)
	if len(t.Shape) > maxRank {
		c.Shape = nil
	} else if t.Shape != nil {
		c.Shape = make(onnx.Shape, len(t.Shape))
		for i, d := range t.Shape {
			c.Shape[i] = f.sym.dim(f.sym.expr(d))
		}
	}
	return &c
}

// named returns the tensor type t with fresh symbols for its unknown dimensions.
func (f *Facts) named(t *onnx.Type, least int64) *onnx.Type {
	if !t.IsTensor() || !slices.ContainsFunc(t.Shape, isUnknown) {
		return t
	}
	s := slices.Clone(t.Shape)
	for i, d := range s {
		if isUnknown(d) {
			s[i] = f.sym.dim(f.sym.unknown(least))
		}
	}
	return t.WithShape(s)
}

func isUnknown(d onnx.Dim) bool { return !d.Known() && d.Param == "" }

// start returns what is known of a value before any node is looked at: the type
// of a constant, or what is declared.
func (f *Facts) start(v *onnx.Value) fact {
	switch {
	case v.Const != nil && !v.IsInput():
		return fact{typ: v.Const.Type()}
	case v.Sparse != nil:
		return fact{typ: f.resolve(v.Type)}
	case f.o.IgnoreValueInfo && !v.IsInput():
		return fact{}
	}
	return fact{typ: f.resolve(v.Type)}
}

// graph infers the nodes of g in their order.
func (f *Facts) graph(g *onnx.Graph, s *scope) {
	for n := g.First(); n != nil; n = n.Next() {
		if f.work--; f.work < 0 {
			f.Incomplete = true
			return
		}
		f.node(n, s)
	}
}

// node infers the outputs of n.
func (f *Facts) node(n *onnx.Node, s *scope) {
	c := &call{f: f, s: s, n: n, out: make([]fact, len(n.Outputs()))}
	if fn := f.funcs[funcKey{onnx.NormalDomain(n.Domain), n.Op, n.Overload}]; fn != nil {
		c.function(fn)
	} else if op := Lookup(n.Domain, n.Op, s.version(n.Domain)); op == nil {
		f.miss(n)
	} else if c.op = op; op.infer != nil && len(c.out) > 0 && c.complete() {
		op.infer(c)
	}
	for i, v := range n.Outputs() {
		if v != nil {
			f.settle(v, c.out[i], s)
		}
	}
}

// miss notes an operator without a row.
func (f *Facts) miss(n *onnx.Node) {
	name := n.Op
	if d := onnx.NormalDomain(n.Domain); d != "" {
		name = d + "." + name
	}
	if !f.missed[name] {
		f.missed[name] = true
		f.Unsupported = append(f.Unsupported, name)
	}
}

// settle records what was inferred for v, joined with what the file declares.
func (f *Facts) settle(v *onnx.Value, x fact, s *scope) {
	if x.typ.IsTensor() && len(x.typ.Shape) > maxRank {
		x.typ = x.typ.WithShape(nil)
	}
	x = f.sound(x)
	declared := f.resolve(v.Type)
	if s.inFunc {
		declared = nil
	}
	if !f.o.IgnoreValueInfo {
		x.typ = f.refine(x.typ, declared)
	}
	x.typ = f.named(x.typ, 0)
	f.facts[v] = x
}

// sound drops content that does not fit the shape.
func (f *Facts) sound(x fact) fact {
	if x.ints == nil && x.real == nil {
		return x
	}
	n, ok := int64(0), false
	if x.typ.IsTensor() {
		if dims, static := x.typ.Shape.Static(); static {
			n, ok = onnx.ElementCount(dims)
		}
	}
	if !ok || x.ints != nil && int64(len(x.ints)) != n {
		x.ints = nil
	}
	if !ok || x.real != nil && int64(len(x.real)) != n {
		x.real = nil
	}
	return x
}

// refine returns t completed by what is declared, t where they contradict.
func (f *Facts) refine(t, declared *onnx.Type) *onnx.Type {
	switch {
	case t == nil || t.Kind == onnx.KindUnknown:
		return declared
	case declared == nil || declared.Kind == onnx.KindUnknown || t.Contradicts(declared):
		return t
	}
	switch t.Kind {
	case onnx.KindTensor, onnx.KindSparseTensor:
		c := *t
		if c.Elem == onnx.Undefined {
			c.Elem = declared.Elem
		}
		if c.Shape == nil {
			c.Shape = declared.Shape
		} else if declared.Shape != nil {
			c.Shape = slices.Clone(c.Shape)
			for i, d := range c.Shape {
				if e := f.sym.expr(d); e == nil || e.fresh() > 0 {
					if !isUnknown(declared.Shape[i]) {
						c.Shape[i] = declared.Shape[i]
					}
				}
			}
		}
		return &c
	case onnx.KindSequence, onnx.KindOptional, onnx.KindMap:
		c := *t
		c.Of = f.refine(t.Of, declared.Of)
		return &c
	}
	return t
}

// finish compares what was found with the declared types of g's values, notes
// contradictions, and unless the model is read-only declares what is more precise.
func (f *Facts) finish(g *onnx.Graph, depth int) {
	for v := range g.Values() {
		x, ok := f.facts[v]
		if !ok || x.typ == nil {
			continue
		}
		if v.Type.Contradicts(x.typ) {
			f.Contradictions = append(f.Contradictions, Contradiction{Value: v, Declared: v.Type, Inferred: f.plain(x.typ)})
			continue
		}
		if t := f.better(v.Type, f.plain(x.typ)); t != nil && !f.o.ReadOnly {
			v.Type = t
		}
	}
	if depth > maxNesting {
		return
	}
	for n := range g.Nodes() {
		for _, sub := range n.Subgraphs() {
			f.finish(sub, depth+1)
		}
	}
}

// plain returns t without fresh symbols, which mean nothing outside these Facts.
func (f *Facts) plain(t *onnx.Type) *onnx.Type { return f.strip(t, 0) }

// strip returns t with every dimension unknown that has a fresh symbol numbered above mark.
func (f *Facts) strip(t *onnx.Type, mark int) *onnx.Type {
	if t == nil {
		return nil
	}
	c := *t
	c.Of = f.strip(t.Of, mark)
	if t.Shape != nil {
		c.Shape = slices.Clone(t.Shape)
		for i, d := range c.Shape {
			if e := f.sym.expr(d); e != nil && e.fresh() > mark {
				c.Shape[i] = onnx.Symbol("")
			}
		}
	}
	return &c
}

// better returns declared completed by t, nil where t adds nothing.
func (f *Facts) better(declared, t *onnx.Type) *onnx.Type {
	if declared == nil || declared.Kind == onnx.KindUnknown {
		return t
	}
	c, changed := *declared, false
	if c.Elem == onnx.Undefined && t.Elem != onnx.Undefined {
		c.Elem, changed = t.Elem, true
	}
	if c.Shape == nil && t.Shape != nil && (c.Kind == onnx.KindTensor || c.Kind == onnx.KindSparseTensor) {
		c.Shape, changed = t.Shape, true
	} else if len(c.Shape) == len(t.Shape) && c.Shape != nil {
		dims := slices.Clone(c.Shape)
		for i, d := range dims {
			if !d.Known() && (t.Shape[i].Known() || d.Param == "" && t.Shape[i].Param != "") {
				dims[i], changed = t.Shape[i], true
				dims[i].Denotation = d.Denotation
			}
		}
		c.Shape = dims
	}
	if c.Of != nil && t.Of != nil {
		if of := f.better(c.Of, t.Of); of != nil {
			c.Of, changed = of, true
		}
	}
	if !changed {
		return nil
	}
	return &c
}

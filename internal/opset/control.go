package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// controlRows are the operators that run subgraphs.
func controlRows() []row {
	return []row{
		{"If", "1 11 13 16 19 21 23 24 25", "cond", "outputs+", "else_branch:graph! then_branch:graph!", Subgraphs, inferIf, nil},
		{"Loop", "1 11 13 16 19 21 23 24 25", "M? cond? v_initial+|11:M? cond? v_initial*", "v_final_and_scan_outputs+", "body:graph!", Subgraphs, inferLoop, nil},
		{"Scan", "8 9 11 16 19 21 23 24 25", "sequence_lens? initial_state_and_scan_inputs+|9:initial_state_and_scan_inputs+",
			"final_state_and_scan_outputs+", "body:graph! directions:ints@..8 num_scan_inputs:int! scan_input_axes:ints@9 " +
				"scan_input_directions:ints@9 scan_output_axes:ints@9 scan_output_directions:ints@9", Subgraphs, inferScan, nil},
		{"SequenceMap", "17", "input_sequence additional_inputs*", "out_sequence+", "body:graph!", Subgraphs, inferSequenceMap, nil},
	}
}

// body returns the graph that an attribute holds, nil if it holds none or is
// nested too deeply.
func (c *call) body(name string) *onnx.Graph {
	a := c.attr(name)
	if a == nil || a.Type != onnx.AttrGraph || c.s.depth >= maxNesting {
		return nil
	}
	return a.G
}

// run infers a subgraph whose inputs have the given facts; of their declared
// types only the element types count, since exporters often declare the shapes
// of the first iteration. It returns the facts of its outputs.
func (c *call) run(g *onnx.Graph, in []fact) []fact {
	s := *c.s
	s.depth++
	for i, v := range g.Inputs() {
		x := fact{}
		if i < len(in) {
			x = in[i]
		}
		if !c.f.o.IgnoreValueInfo && !s.inFunc {
			x.typ = c.f.refine(x.typ, withoutShape(c.f.resolve(v.Type)))
		}
		x.typ = c.f.named(x.typ, 0)
		c.f.facts[v] = c.f.sound(x)
	}
	c.f.graph(g, &s)
	out := make([]fact, len(g.Outputs()))
	for i, v := range g.Outputs() {
		out[i] = fact{typ: c.f.Type(v), ints: c.f.ints(v), real: c.f.floats(v)}
	}
	return out
}

// leave returns a type as seen outside a body: sizes that only the body knows,
// those with fresh symbols made after mark, become unknown.
func (c *call) leave(t *onnx.Type, mark int) *onnx.Type { return c.f.strip(t, mark) }

// inferIf runs the branch that a known condition takes, else both, and keeps
// what they have in common.
func inferIf(c *call) {
	then, other := c.body("then_branch"), c.body("else_branch")
	if then == nil || other == nil {
		return
	}
	mark := c.f.sym.fresh
	a, b := c.run(then, nil), c.run(other, nil)
	cond, known := c.number(0)
	for i := range c.out {
		switch {
		case known && cond != 0 && i < len(a):
			c.out[i] = a[i]
		case known && cond == 0 && i < len(b):
			c.out[i] = b[i]
		case !known && i < len(a) && i < len(b):
			c.out[i] = c.f.join(a[i], b[i], mark)
		}
	}
}

// join returns what two facts have in common; sizes that differ, or that have
// fresh symbols made after mark, become unknown.
func (f *Facts) join(a, b fact, mark int) fact {
	out := fact{typ: f.joinTypes(f.strip(a.typ, mark), f.strip(b.typ, mark))}
	if a.ints != nil && len(a.ints) == len(b.ints) {
		out.ints = make([]*expr, len(a.ints))
		for i, e := range a.ints {
			if e.same(b.ints[i]) && e.fresh() <= mark {
				out.ints[i] = e
			}
		}
	}
	if a.real != nil && slices.Equal(a.real, b.real) {
		out.real = a.real
	}
	return f.sound(out)
}

// joinTypes returns the most precise type that holds for values of both types.
func (f *Facts) joinTypes(a, b *onnx.Type) *onnx.Type {
	if a == nil || b == nil || a.Kind != b.Kind {
		return nil
	}
	c := *a
	switch a.Kind {
	case onnx.KindTensor, onnx.KindSparseTensor:
		if a.Elem != b.Elem {
			c.Elem = onnx.Undefined
		}
		if a.Shape == nil || b.Shape == nil || len(a.Shape) != len(b.Shape) {
			c.Shape = nil
			break
		}
		c.Shape = slices.Clone(a.Shape)
		for i, d := range c.Shape {
			if !d.Same(b.Shape[i]) {
				c.Shape[i] = onnx.Symbol("")
			}
		}
	case onnx.KindSequence, onnx.KindOptional:
		if c.Of = f.joinTypes(a.Of, b.Of); c.Of == nil {
			return nil
		}
	case onnx.KindMap:
		if c.Of = f.joinTypes(a.Of, b.Of); c.Of == nil || a.Key != b.Key {
			return nil
		}
	}
	return &c
}

// carried infers a body until the types of its loop-carried values hold before
// and after an iteration, widening those that change. rest are the facts of the
// inputs behind or before them; at is the first carried input, from the first
// carried output. It returns the facts of all outputs, nil where no types hold.
func (c *call) carried(g *onnx.Graph, in []fact, at, from, n, mark int) []fact {
	deep := c.s.depth >= 2
	for i := range n {
		x := &in[at+i]
		x.ints, x.real = nil, nil
		if deep {
			x.typ = withoutShape(x.typ)
		}
	}
	var out []fact
	for round := range 4 {
		out = c.run(g, slices.Clone(in))
		stable := true
		for i := range n {
			if from+i >= len(out) {
				break
			}
			x := &in[at+i]
			before := x.typ
			wide := c.f.joinTypes(before, c.leave(out[from+i].typ, mark))
			if round >= 1 && !covers(before, wide) {
				wide = withoutShape(wide)
			}
			if !covers(before, wide) {
				x.typ, stable = wide, false
			}
		}
		if stable && c.f.work >= 0 {
			return out
		}
	}
	c.f.forget(g, 0)
	return nil
}

// forget drops what was found about the values of g and of the graphs below.
func (f *Facts) forget(g *onnx.Graph, depth int) {
	for v := range g.Values() {
		delete(f.facts, v)
	}
	for n := range g.Nodes() {
		for _, sub := range n.Subgraphs() {
			if depth < maxNesting {
				f.forget(sub, depth+1)
			}
		}
	}
}

// covers reports whether t, which holds of a value before an iteration, still
// says no more than wide, what holds before and after.
func covers(t, wide *onnx.Type) bool {
	if t == nil {
		return true
	}
	if wide == nil || t.Kind != wide.Kind || t.Elem != wide.Elem || (t.Shape == nil) != (wide.Shape == nil) {
		return false
	}
	for i, d := range t.Shape {
		if !isUnknown(d) && !d.Same(wide.Shape[i]) {
			return false
		}
	}
	return t.Of == nil || covers(t.Of, wide.Of)
}

// withoutShape returns t with unknown rank, at every depth.
func withoutShape(t *onnx.Type) *onnx.Type {
	if t == nil {
		return nil
	}
	u := *t
	u.Shape, u.Of = nil, withoutShape(t.Of)
	return &u
}

// inferLoop: body inputs are the iteration number, the condition, and the
// carried values; outputs the condition, the carried values, and the scan
// outputs, which are stacked along a new first axis.
func inferLoop(c *call) {
	g := c.body("body")
	if g == nil {
		return
	}
	mark := c.f.sym.fresh
	n := max(0, len(c.n.Inputs())-2)
	in := []fact{{typ: scalarInput(g, 0, onnx.Int64)}, {typ: scalarInput(g, 1, onnx.Bool)}}
	for i := range n {
		in = append(in, fact{typ: c.typ(i + 2)})
	}
	out := c.carried(g, in, 2, 1, n, mark)
	for i := range c.out {
		switch {
		case i < n && 1+i < len(out):
			c.setType(i, c.f.joinTypes(in[2+i].typ, c.leave(out[1+i].typ, mark)))
		case i >= n && 1+i < len(out):
			c.setType(i, c.stacked(out[1+i].typ, c.tripCount(g), 0, mark))
		}
	}
}

// scalarInput returns the type of a body's iteration number or condition: a
// scalar, or one element of rank 1 where the body declares it so, as runtimes accept.
func scalarInput(g *onnx.Graph, i int, elem onnx.DType) *onnx.Type {
	if i < len(g.Inputs()) && len(g.Inputs()[i].Shape()) == 1 {
		return onnx.TensorType(elem, onnx.ShapeOf(1))
	}
	return onnx.TensorType(elem, onnx.Shape{})
}

// tripCount returns the number of iterations where the condition cannot end the
// loop: the body hands on a condition that is always true, and none is given or it is true.
func (c *call) tripCount(g *onnx.Graph) *expr {
	m := c.ints(0)
	if len(m) != 1 || len(g.Outputs()) == 0 {
		return nil
	}
	if start, ok := c.number(1); c.has(1) && (!ok || start == 0) {
		return nil
	}
	again := g.Outputs()[0]
	if e := c.f.ints(again); len(e) != 1 || !e[0].is(1) {
		if len(g.Inputs()) < 2 || !passedOn(again, g.Inputs()[1]) {
			return nil
		}
	}
	return maximum(m[0], constant(0))
}

// passedOn reports whether v is src, directly or through Identity.
func passedOn(v, src *onnx.Value) bool {
	for range maxNesting {
		if v == src {
			return true
		}
		if v == nil || !v.Producer().Is("Identity") {
			return false
		}
		v = v.Producer().Input(0)
	}
	return false
}

// stacked returns the type of values of type t stacked count times along axis.
func (c *call) stacked(t *onnx.Type, count *expr, axis int64, mark int) *onnx.Type {
	if !t.IsTensor() {
		return nil
	}
	t = c.leave(t, mark)
	if t.Shape == nil {
		return t
	}
	at, ok := axisOf(axis, len(t.Shape)+1)
	if !ok {
		return t.WithShape(nil)
	}
	return t.WithShape(slices.Insert(slices.Clone(t.Shape), at, c.asDim(count)))
}

// inferScan: body inputs are the states and one element of each scan input;
// outputs the states and one element of each scan output.
func inferScan(c *call) {
	g := c.body("body")
	first, batch := 0, 0
	if c.ver() < 9 {
		first, batch = 1, 1
	}
	k := int(min(c.int("num_scan_inputs"), int64(len(c.n.Inputs()))))
	n := len(c.n.Inputs()) - first - k
	if g == nil || k < 1 || n < 0 {
		return
	}
	mark := c.f.sym.fresh
	var in []fact
	for i := range n {
		t := c.typ(first + i)
		if batch > 0 {
			t = dropAxis(t, 0)
		}
		in = append(in, fact{typ: t})
	}
	var count *expr
	axes := c.intList("scan_input_axes")
	for i := range k {
		t := c.typ(first + n + i)
		at := int64(0)
		if i < len(axes) && batch == 0 {
			at = axes[i]
		}
		if batch > 0 {
			t = dropAxis(t, 0)
		}
		if t.IsTensor() && t.Shape != nil {
			if a, ok := axisOf(at, len(t.Shape)); ok && (count == nil || !isConst(count)) {
				if e := c.ex(t.Shape[a]); e != nil {
					count = e
				}
			}
		}
		in = append(in, fact{typ: dropAxis(t, at)})
	}
	out := c.carried(g, in, 0, 0, n, mark)
	c.scanOutputs(in, out, n, count, mark)
}

// scanOutputs sets the outputs of Scan: n states, then stacked elements.
func (c *call) scanOutputs(in, out []fact, n int, count *expr, mark int) {
	axes := c.intList("scan_output_axes")
	for i := range c.out {
		if i >= len(out) {
			return
		}
		var t *onnx.Type
		if i < n {
			t = c.f.joinTypes(in[i].typ, c.leave(out[i].typ, mark))
		} else {
			at := int64(0)
			if i-n < len(axes) {
				at = axes[i-n]
			}
			t = c.stacked(out[i].typ, count, at, mark)
		}
		if c.ver() < 9 && t.IsTensor() && t.Shape != nil {
			t = t.WithShape(slices.Insert(slices.Clone(t.Shape), 0, c.dim(1, 0)))
		}
		c.setType(i, t)
	}
}

// dropAxis returns t without one axis; of unknown rank where that is not possible.
func dropAxis(t *onnx.Type, axis int64) *onnx.Type {
	if !t.IsTensor() || t.Shape == nil {
		return t
	}
	a, ok := axisOf(axis, len(t.Shape))
	if !ok {
		return t.WithShape(nil)
	}
	return t.WithShape(slices.Delete(slices.Clone(t.Shape), a, a+1))
}

// inferSequenceMap: the body sees one element of every sequence input, and each
// of its outputs becomes a sequence.
func inferSequenceMap(c *call) {
	g := c.body("body")
	if g == nil {
		return
	}
	mark := c.f.sym.fresh
	in := make([]fact, len(c.n.Inputs()))
	for i := range in {
		t := c.typ(i)
		if t != nil && t.Kind == onnx.KindSequence {
			t = t.Of
		} else if i == 0 {
			t = nil
		}
		in[i] = fact{typ: t}
	}
	for i, x := range c.run(g, in) {
		if x.typ != nil {
			c.setType(i, &onnx.Type{Kind: onnx.KindSequence, Of: c.leave(x.typ, mark)})
		}
	}
}

// function infers a call of a local function by inferring its body with the
// types and attributes of this call. Recursive functions stay unknown.
func (c *call) function(fn *onnx.Function) {
	if fn.Body == nil || len(c.s.calls) >= maxNesting || slices.Contains(c.s.calls, fn) {
		return
	}
	s := &scope{opsets: fn.Opsets, calls: append(slices.Clone(c.s.calls), fn), depth: c.s.depth, inFunc: true}
	if len(s.opsets) == 0 {
		s.opsets = c.s.opsets
	}
	s.attrs = func(name string) *onnx.Attr {
		if a := c.attr(name); a != nil {
			return a
		}
		for _, d := range fn.AttrDefaults {
			if d.Name == name {
				return d
			}
		}
		return nil
	}
	for i, v := range fn.Body.Inputs() {
		x := fact{}
		if in := c.n.Input(i); in != nil {
			x = fact{typ: c.typ(i), ints: c.ints(i), real: c.floats(i)}
		}
		c.f.facts[v] = x
	}
	c.f.graph(fn.Body, s)
	for i, v := range fn.Body.Outputs() {
		if i < len(c.out) {
			c.out[i] = fact{typ: c.f.Type(v), ints: c.f.ints(v), real: c.f.floats(v)}
		}
	}
	c.f.retire(fn.Body, map[[2]onnx.Dim]onnx.Dim{}, 0)
}

// retire moves the facts of a function body's values to those that hold in
// every call. Sizes that differ between this call and those before get a fresh
// symbol for each pair: values of which both sizes are equal in every call stay
// known to be of one size.
func (f *Facts) retire(g *onnx.Graph, pairs map[[2]onnx.Dim]onnx.Dim, depth int) {
	for v := range g.Values() {
		x, ok := f.facts[v]
		if !ok {
			continue
		}
		if old, seen := f.bodies[v]; seen {
			both := f.join(old, x, f.sym.fresh)
			both.typ = f.paired(both.typ, old.typ, x.typ, pairs)
			x = both
		}
		f.bodies[v] = x
		delete(f.facts, v)
	}
	if depth > maxNesting {
		return
	}
	for n := range g.Nodes() {
		for _, sub := range n.Subgraphs() {
			f.retire(sub, pairs, depth+1)
		}
	}
}

// paired names the sizes of t, the join of the tensor types a and b, that differ
// between these: equal pairs get equal symbols.
func (f *Facts) paired(t, a, b *onnx.Type, pairs map[[2]onnx.Dim]onnx.Dim) *onnx.Type {
	if !t.IsTensor() || t.Shape == nil {
		return t
	}
	s := slices.Clone(t.Shape)
	for i, d := range s {
		pair := [2]onnx.Dim{a.Shape[i], b.Shape[i]}
		pair[0].Denotation, pair[1].Denotation = "", ""
		if !isUnknown(d) || isUnknown(pair[0]) || isUnknown(pair[1]) {
			continue
		}
		if _, ok := pairs[pair]; !ok {
			least := int64(0)
			if f.Positive(pair[0]) && f.Positive(pair[1]) {
				least = 1
			}
			pairs[pair] = f.sym.dim(f.sym.unknown(least))
		}
		s[i] = pairs[pair]
	}
	return t.WithShape(s)
}

package grad

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// differentiation is the state of one [Build].
type differentiation struct {
	*builder
	seed     *onnx.Value
	active   map[*onnx.Value]bool          // values through which the output depends on what is asked for
	grads    map[*onnx.Value][]*onnx.Value // gradients of a value, one per reader so far
	straight []string
	cuts     []string
}

// call is one node whose rule runs.
type call struct {
	*differentiation
	n     *onnx.Node
	row   *opset.Op // nil where the operator has no row
	dys   []*onnx.Value
	given map[int]bool
}

// run adds the gradient nodes, from of backwards to wrt.
func (d *differentiation) run(of *onnx.Value, wrt []*onnx.Value) error {
	var nodes []*onnx.Node
	for n := range d.g.Nodes() {
		nodes = append(nodes, n)
	}
	if err := d.activate(nodes, of, wrt); err != nil {
		return err
	}
	d.seed = d.g.AddInput(d.m.Fresh("seed"), d.declared(of))
	d.facts.Set(d.seed, d.facts.Type(of))
	d.grads[of] = []*onnx.Value{d.seed}
	for _, n := range slices.Backward(nodes) {
		if slices.ContainsFunc(n.Outputs(), func(v *onnx.Value) bool { return len(d.grads[v]) > 0 }) &&
			slices.ContainsFunc(reads(n), d.isActive) {
			if err := d.apply(n); err != nil {
				return err
			}
		}
	}
	slices.Reverse(d.straight)
	for _, v := range wrt {
		if len(d.grads[v]) == 0 {
			return fmt.Errorf("no gradient reached %q", v.Name())
		}
	}
	return nil
}

// reads returns what n and the bodies that it holds read.
func reads(n *onnx.Node) []*onnx.Value { return append(n.Captures(), n.Inputs()...) }

func (d *differentiation) isActive(v *onnx.Value) bool { return v != nil && d.active[v] }

// activate marks the values on the paths from wrt to of.
func (d *differentiation) activate(nodes []*onnx.Node, of *onnx.Value, wrt []*onnx.Value) error {
	depends, ends := map[*onnx.Value]bool{}, map[*onnx.Node]bool{}
	for _, v := range wrt {
		depends[v] = true
	}
	for _, n := range nodes {
		if !slices.ContainsFunc(reads(n), func(v *onnx.Value) bool { return v != nil && depends[v] }) {
			continue
		}
		carries := d.carries(n, depends)
		for i, v := range n.Outputs() {
			switch {
			case v == nil:
			case d.facts.DType(v).IsFloat(), carries && i == 0:
				depends[v] = true
			case d.facts.DType(v) == onnx.Undefined:
				return fmt.Errorf("%v: the element type of %q is not known", n, v.Name())
			case !carries:
				ends[n] = true
			}
		}
	}
	reaches := map[*onnx.Value]bool{of: true}
	for _, n := range slices.Backward(nodes) {
		if slices.ContainsFunc(n.Outputs(), func(v *onnx.Value) bool { return v != nil && reaches[v] }) {
			for _, v := range reads(n) {
				if v != nil {
					reaches[v] = true
				}
			}
		}
	}
	d.active = map[*onnx.Value]bool{}
	for v := range depends {
		d.active[v] = reaches[v]
	}
	d.note(nodes, ends, reaches)
	for _, v := range wrt {
		if !reaches[v] {
			return fmt.Errorf("it does not depend on %q", v.Name())
		}
	}
	if !depends[of] {
		return fmt.Errorf("it depends on %q only through integers, which have no slope: see %s", wrt[0].Name(), d.cuts[0])
	}
	return nil
}

// carries reports whether the integers that n makes are taken for real numbers: those of a quantization, and what is moved
// or multiplied of them.
func (d *differentiation) carries(n *onnx.Node, depends map[*onnx.Value]bool) bool {
	r := ruleOf(n)
	switch {
	case r == nil || r.integers == none:
		return false
	case r.integers == makes:
		return true
	}
	return slices.ContainsFunc(n.Inputs(), func(v *onnx.Value) bool { return v != nil && depends[v] && !d.facts.DType(v).IsFloat() })
}

// note records the nodes at which paths end; what only asks for the shape or size of a value is no path.
func (d *differentiation) note(nodes []*onnx.Node, ends map[*onnx.Node]bool, reaches map[*onnx.Value]bool) {
	for _, n := range nodes {
		if !ends[n] || n.Is("Shape") || n.Is("Size") {
			continue
		}
		if slices.ContainsFunc(n.Outputs(), func(v *onnx.Value) bool { return v != nil && reaches[v] && !d.facts.DType(v).IsFloat() }) {
			d.cuts = append(d.cuts, n.String())
		}
	}
}

// apply runs the rule of n.
func (d *differentiation) apply(n *onnx.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(failure)
			if !ok {
				f = failure{fmt.Errorf("internal error: %v", p)}
			}
			err = fmt.Errorf("%v: %w", n, f.err)
		}
	}()
	if len(n.Subgraphs()) > 0 {
		return fmt.Errorf("%v: there is no gradient through the bodies of control flow; \"lapidary fuse\" removes those whose condition is known", n)
	}
	r := ruleOf(n)
	if r == nil {
		return fmt.Errorf("%v: no gradient is known for this operator", n)
	}
	c := &call{differentiation: d, n: n, given: map[int]bool{}, row: opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))}
	for _, v := range n.Outputs() {
		c.dys = append(c.dys, d.total(v))
	}
	if r.straight {
		d.straight = append(d.straight, n.String())
	}
	r.do(c)
	for i, v := range n.Inputs() {
		if d.isActive(v) && !c.given[i] {
			return fmt.Errorf("%v: no gradient is known for its input %d, %q, which depends on what is asked for", n, i, v.Name())
		}
	}
	return nil
}

// total returns the sum of the gradients of v, nil where there is none.
func (d *differentiation) total(v *onnx.Value) *onnx.Value {
	parts := d.grads[v]
	if v == nil || len(parts) == 0 {
		return nil
	}
	if len(parts) > 1 {
		d.grads[v] = []*onnx.Value{d.op("Sum", parts...)}
	}
	return d.grads[v][0]
}

// x returns input i, which the node must have.
func (c *call) x(i int) *onnx.Value {
	v := c.n.Input(i)
	if v == nil {
		c.fail("input %d is missing", i)
	}
	return v
}

// y returns output 0.
func (c *call) y() *onnx.Value { return c.n.Output(0) }

// dy returns the gradient of output 0, the only output that may have one.
func (c *call) dy() *onnx.Value {
	for i, g := range c.dys {
		if i > 0 && g != nil {
			c.fail("no gradient is known for its output %d, %q", i, c.n.Output(i).Name())
		}
	}
	if c.dys[0] == nil {
		c.fail("its first output has no gradient")
	}
	return c.dys[0]
}

// again applies the node's operator to other inputs, and returns outputs with names like those given.
func (c *call) again(in []*onnx.Value, outputs ...string) []*onnx.Value {
	names := make([]string, len(outputs))
	for i, o := range outputs {
		names[i] = c.m.Fresh(o)
	}
	n := onnx.CloneNodeInto(c.n, in, names, nil)
	n.Name = ""
	n.TrimInputs()
	return c.added(n)
}

// wants reports whether a gradient is asked for of input i.
func (c *call) wants(i int) bool { return c.isActive(c.n.Input(i)) }

// give adds g to the gradient of input i, which has its shape.
func (c *call) give(i int, g *onnx.Value) {
	v := c.n.Input(i)
	if !c.isActive(v) {
		return
	}
	if c.facts.Shape(g).Contradicts(c.facts.Shape(v)) {
		c.fail("the gradient of its input %d has shape %v, the input %v", i, c.facts.Shape(g), c.facts.Shape(v))
	}
	if !c.sameShape(g, v) {
		c.facts.Set(g, onnx.TensorType(c.elem(g), c.facts.Shape(v)))
	}
	c.given[i] = true
	c.grads[v] = append(c.grads[v], g)
}

// giveSum adds g, in the shape that input i was broadcast to, to the gradient of input i.
func (c *call) giveSum(i int, g *onnx.Value) {
	if c.wants(i) {
		c.give(i, c.sumTo(g, c.x(i)))
	}
}

// hold says that input i has no gradient although it may depend on what is asked for: only its type is read, or the rule is a
// surrogate that takes it for constant.
func (c *call) hold(i int) { c.given[i] = true }

// int returns an integer attribute or its default.
func (c *call) int(name string, def int64) int64 {
	if c.row != nil && c.row.Attr(name) != nil && c.row.Attr(name).Default != nil {
		return c.row.Int(c.n, name)
	}
	return c.n.Int(name, def)
}

// float returns a float attribute or the operator's default.
func (c *call) float(name string, def float64) float64 {
	if a := c.n.Attr(name); a != nil {
		return float64(a.F)
	}
	return def
}

// constInts returns the elements of input i, which must be known; nil where it is omitted.
func (c *call) constInts(i int) []int64 {
	v := c.n.Input(i)
	if v == nil {
		return nil
	}
	list, ok := c.facts.Ints(v)
	out := make([]int64, len(list))
	for k, e := range list {
		ok = ok && e.Known
		out[k] = e.Value
	}
	if !ok {
		c.fail("its input %d, %q, is not constant", i, v.Name())
	}
	return out
}

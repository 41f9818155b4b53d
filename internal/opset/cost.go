package opset

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Cost is the work of one node for one run. Counts that depend on a size that
// is not known as a number are 0 and Unknown is set.
type Cost struct {
	MACs       int64 // multiply-accumulates of matrix products and convolutions
	FLOPs      int64 // 2 per MAC plus one per elementwise arithmetic step
	BytesRead  int64 // packed size of all inputs, constants included
	BytesWrite int64 // packed size of all outputs
	Params     int64 // elements of the constants read
	Unknown    bool  // the operator or a size is not known
}

// costing is one node as the cost functions see it. Counts are expressions:
// numbers unless formulas are asked for.
type costing struct {
	*call
	cost     formula
	symbolic bool
	unknown  bool
}

// formula is a [Cost] of expressions; nil ones are 0.
type formula struct{ MACs, FLOPs, BytesRead, BytesWrite *expr }

// Cost returns the work of n, without that of its subgraph bodies. Constants
// that several nodes read count as parameters of each.
func (f *Facts) Cost(n *onnx.Node) Cost {
	c := f.costing(n, false)
	out := Cost{MACs: number(c.cost.MACs), FLOPs: number(c.cost.FLOPs), BytesRead: number(c.cost.BytesRead), BytesWrite: number(c.cost.BytesWrite), Unknown: c.unknown}
	for _, v := range n.Inputs() {
		if t := v.Constant(); t != nil {
			elements, _ := t.Elements()
			var ok bool
			if out.Params, ok = addInt(out.Params, elements); !ok {
				out.Params, out.Unknown = 0, true
			}
		}
	}
	return out
}

// number returns e where it is a number, else 0.
func number(e *expr) int64 {
	n, _ := e.known()
	return n
}

func (f *Facts) costing(n *onnx.Node, symbolic bool) *costing {
	s := &scope{opsets: f.opsetsOf(n)}
	c := &costing{call: &call{f: f, s: s, n: n, out: make([]fact, len(n.Outputs()))}, symbolic: symbolic}
	if c.op = Lookup(n.Domain, n.Op, s.version(n.Domain)); c.op == nil {
		c.unknown = true
	} else if c.op.cost != nil {
		c.op.cost(c)
	}
	c.traffic()
	c.cost.FLOPs = c.plus(orZero(c.cost.FLOPs), c.times(constant(2), orZero(c.cost.MACs)))
	return c
}

func orZero(e *expr) *expr {
	if e == nil {
		return constant(0)
	}
	return e
}

// traffic counts bytes.
func (c *costing) traffic() {
	c.cost.BytesRead, c.cost.BytesWrite = constant(0), constant(0)
	for _, v := range c.n.Inputs() {
		if v != nil {
			c.cost.BytesRead = c.plus(c.cost.BytesRead, c.bytes(v))
		}
	}
	for _, v := range c.n.Outputs() {
		if v != nil && !(v.Dead() && v.Index() > 0) {
			c.cost.BytesWrite = c.plus(c.cost.BytesWrite, c.bytes(v))
		}
	}
}

// missing notes that a count is not known, and returns 0 for it.
func (c *costing) missing() *expr {
	c.unknown = true
	return constant(0)
}

// bytes returns the packed size of v. Strings, and what is no tensor, count 0.
func (c *costing) bytes(v *onnx.Value) *expr {
	t := c.f.Type(v)
	if t == nil {
		return c.missing()
	}
	if t.Kind != onnx.KindTensor || t.Elem == onnx.String {
		return constant(0)
	}
	elements := c.count(t.Shape)
	if n, ok := elements.known(); ok {
		size, ok := t.Elem.ByteSize(n)
		if !ok {
			return c.missing()
		}
		return constant(size)
	}
	bits := int64(t.Elem.Bits())
	if bits == 0 {
		return c.missing()
	}
	if bits%8 == 0 {
		return c.times(elements, constant(bits/8))
	}
	if e := floorDiv(add(mul(elements, constant(bits)), constant(7)), constant(8)); e != nil {
		return e
	}
	return c.missing()
}

// count returns the number of elements of s.
func (c *costing) count(s onnx.Shape) *expr {
	dims, ok := s.Static()
	if ok {
		n, ok := onnx.ElementCount(dims)
		if !ok {
			return c.missing()
		}
		return constant(n)
	}
	if !c.symbolic || s == nil {
		return c.missing()
	}
	return c.times(c.exprs(s)...)
}

// outCount returns the number of elements of output i, 0 where it is omitted.
func (c *costing) outCount(i int) *expr {
	v := c.n.Output(i)
	if v == nil {
		return constant(0)
	}
	return c.count(c.f.Shape(v))
}

// inCount returns the number of elements of input i, 0 where it is omitted.
func (c *costing) inCount(i int) *expr {
	if !c.has(i) {
		return constant(0)
	}
	return c.count(c.shape(i))
}

// sizeAt returns dimension d of input i.
func (c *costing) sizeAt(i, d int) *expr { return c.count(onnx.Shape{c.dim(i, d)}) }

// times multiplies counts; an overflow makes the cost unknown.
func (c *costing) times(xs ...*expr) *expr {
	p := constant(1)
	for _, x := range xs {
		if p = mul(p, x); p == nil {
			return c.missing()
		}
	}
	return p
}

// plus adds counts; an overflow makes the cost unknown.
func (c *costing) plus(a, b *expr) *expr {
	if s := add(a, b); s != nil {
		return s
	}
	return c.missing()
}

// perOutput returns a cost function of k FLOPs per element of the first output.
func perOutput(k int64) func(*costing) {
	return func(c *costing) { c.cost.FLOPs = c.times(constant(k), c.outCount(0)) }
}

// perInput returns a cost function of k FLOPs per element of the first input.
func perInput(k int64) func(*costing) {
	return func(c *costing) { c.cost.FLOPs = c.times(constant(k), c.inCount(0)) }
}

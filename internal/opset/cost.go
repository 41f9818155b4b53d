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

// costing is one node as the cost functions see it.
type costing struct {
	*call
	cost    Cost
	unknown bool
}

// Cost returns the work of n, without that of its subgraph bodies. Constants
// that several nodes read count as parameters of each.
func (f *Facts) Cost(n *onnx.Node) Cost {
	s := &scope{opsets: f.opsetsOf(n)}
	c := &costing{call: &call{f: f, s: s, n: n, out: make([]fact, len(n.Outputs()))}}
	if c.op = Lookup(n.Domain, n.Op, s.version(n.Domain)); c.op == nil {
		c.unknown = true
	} else if c.op.cost != nil {
		c.op.cost(c)
	}
	c.traffic()
	c.cost.FLOPs = c.plus(c.cost.FLOPs, c.times(2, c.cost.MACs))
	c.cost.Unknown = c.unknown
	return c.cost
}

// traffic counts bytes and parameters.
func (c *costing) traffic() {
	for _, v := range c.n.Inputs() {
		if v == nil {
			continue
		}
		c.cost.BytesRead = c.plus(c.cost.BytesRead, c.bytes(v))
		if t := v.Constant(); t != nil {
			n, _ := t.Elements()
			c.cost.Params = c.plus(c.cost.Params, n)
		}
	}
	for _, v := range c.n.Outputs() {
		if v != nil && !(v.Dead() && v.Index() > 0) {
			c.cost.BytesWrite = c.plus(c.cost.BytesWrite, c.bytes(v))
		}
	}
}

// bytes returns the packed size of v. Strings, and what is no tensor, count 0.
func (c *costing) bytes(v *onnx.Value) int64 {
	t := c.f.Type(v)
	if t == nil {
		c.unknown = true
		return 0
	}
	if t.Kind != onnx.KindTensor || t.Elem == onnx.String {
		return 0
	}
	n, ok := t.Elem.ByteSize(c.count(t.Shape))
	if !ok {
		c.unknown = true
	}
	return n
}

// count returns the number of elements of s.
func (c *costing) count(s onnx.Shape) int64 {
	dims, ok := s.Static()
	if !ok {
		c.unknown = true
		return 0
	}
	n, ok := onnx.ElementCount(dims)
	if !ok {
		c.unknown = true
	}
	return n
}

// outCount returns the number of elements of output i, 0 where it is omitted.
func (c *costing) outCount(i int) int64 {
	v := c.n.Output(i)
	if v == nil {
		return 0
	}
	return c.count(c.f.Shape(v))
}

// inCount returns the number of elements of input i, 0 where it is omitted.
func (c *costing) inCount(i int) int64 {
	if !c.has(i) {
		return 0
	}
	return c.count(c.shape(i))
}

// sizeAt returns dimension d of input i as a number.
func (c *costing) sizeAt(i, d int) int64 {
	x := c.dim(i, d)
	if !x.Known() {
		c.unknown = true
		return 0
	}
	return x.Value
}

// times multiplies counts; an overflow makes the cost unknown.
func (c *costing) times(xs ...int64) int64 {
	p := int64(1)
	for _, x := range xs {
		var ok bool
		if p, ok = mulInt(p, x); !ok {
			c.unknown = true
			return 0
		}
	}
	return p
}

// plus adds counts; an overflow makes the cost unknown.
func (c *costing) plus(a, b int64) int64 {
	s, ok := addInt(a, b)
	if !ok {
		c.unknown = true
		return 0
	}
	return s
}

// perOutput returns a cost function of k FLOPs per element of the first output.
func perOutput(k int64) func(*costing) {
	return func(c *costing) { c.cost.FLOPs = c.times(k, c.outCount(0)) }
}

// perInput returns a cost function of k FLOPs per element of the first input.
func perInput(k int64) func(*costing) {
	return func(c *costing) { c.cost.FLOPs = c.times(k, c.inCount(0)) }
}

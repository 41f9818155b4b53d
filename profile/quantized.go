package profile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// quantized knows which nodes compute on integers, and which pairs of
// QuantizeLinear and DequantizeLinear only say so.
//
// A node computes on integers where its operator does, such as QLinearConv, or
// where all floating-point values that it reads come out of DequantizeLinear, and
// what it computes goes into QuantizeLinear, possibly through Relu or Clip; a
// matrix product need not, since engines have integer products with a float result.
type quantized struct {
	facts    *opset.Facts
	inner    map[*onnx.Node]bool          // nodes between pairs, which compute on integers
	absorbed map[*onnx.Node]bool          // nodes that cost nothing, since one of those takes them in
	stored   map[*onnx.Value]*onnx.Value  // values that are never computed → the integers that stand for them
	written  map[*onnx.Node][]*onnx.Value // what a node between pairs writes instead of its outputs
}

// integerForm are the operators that engines have an integer form of, or that
// only move elements.
var integerForm = map[string]bool{
	"Conv": true, "MatMul": true, "Gemm": true, "Add": true, "Mul": true, "AveragePool": true, "GlobalAveragePool": true,
	"Concat": true, "LeakyRelu": true, "Sigmoid": true, "Softmax": true, "ReduceMean": true, "Where": true, "Split": true,
	"MaxPool": true, "Reshape": true, "Transpose": true, "Squeeze": true, "Unsqueeze": true, "Flatten": true, "Identity": true,
	"Slice": true, "Gather": true, "Resize": true, "DepthToSpace": true, "SpaceToDepth": true, "Expand": true, "Pad": true,
}

// findQuantized looks for pairs in all graphs of m.
func findQuantized(m *onnx.Model, facts *opset.Facts) *quantized {
	q := &quantized{facts: facts, inner: map[*onnx.Node]bool{}, absorbed: map[*onnx.Node]bool{}, stored: map[*onnx.Value]*onnx.Value{}, written: map[*onnx.Node][]*onnx.Value{}}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if integerForm[n.Op] && onnx.NormalDomain(n.Domain) == "" && q.reads(n) {
				q.take(n)
			}
		}
	}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if isDequantize(n) && n.Output(0) != nil && q.onlyInside(n.Output(0)) {
				q.absorbed[n] = true
				q.stored[n.Output(0)] = n.Input(0)
			}
		}
	}
	return q
}

func isQuantize(n *onnx.Node) bool {
	return n != nil && n.Op == "QuantizeLinear" && standardOrContrib(n)
}

func isDequantize(n *onnx.Node) bool {
	return n != nil && n.Op == "DequantizeLinear" && standardOrContrib(n) && n.Input(0) != nil
}

func standardOrContrib(n *onnx.Node) bool {
	d := onnx.NormalDomain(n.Domain)
	return d == "" || d == "com.microsoft"
}

// reads reports whether n reads floating-point values, all of them dequantized
// from at most 16 bits but for a bias.
func (q *quantized) reads(n *onnx.Node) bool {
	some := false
	for i, v := range n.Inputs() {
		if v == nil || !q.facts.DType(v).IsFloat() {
			continue
		}
		if n.Op == "Resize" && i > 0 { // scales
			continue
		}
		p := v.Producer()
		if !isDequantize(p) {
			return false
		}
		if bits := q.facts.DType(p.Input(0)).Bits(); bits > 16 && !(i == 2 && bits == 32) {
			return false
		}
		some = true
	}
	return some
}

// take makes n a node between pairs if what it computes is quantized.
func (q *quantized) take(n *onnx.Node) {
	var between []*onnx.Node
	var outs []*onnx.Value
	stored := map[*onnx.Value]*onnx.Value{}
	for _, v := range n.Outputs() {
		if v == nil || v.Dead() {
			continue
		}
		floats := []*onnx.Value{v}
		for u := q.only(v); u != nil && (u.Is("Relu") || u.Is("Clip")); u = q.only(v) {
			v = u.Output(0)
			between, floats = append(between, u), append(floats, v)
		}
		into, ok := q.quantizers(v)
		if !ok && n.Op == "MatMul" {
			q.inner[n] = true
			return
		}
		if !ok {
			return
		}
		for _, f := range floats {
			stored[f] = into[0].Output(0)
		}
		for _, u := range into {
			outs = append(outs, u.Output(0))
		}
		between = append(between, into...)
	}
	if len(outs) == 0 {
		return
	}
	q.inner[n], q.written[n] = true, outs
	maps.Copy(q.stored, stored)
	for _, u := range between {
		q.absorbed[u] = true
	}
}

// only returns the one reader of v, nil where there are more or v is an output.
func (q *quantized) only(v *onnx.Value) *onnx.Node {
	if u := v.Uses(); len(u) == 1 && !v.IsOutput() && u[0].Node.Output(0) != nil && u[0].Node.Graph() == v.Producer().Graph() {
		return u[0].Node
	}
	return nil
}

// quantizers returns the readers of v, where all of them quantize it.
func (q *quantized) quantizers(v *onnx.Value) ([]*onnx.Node, bool) {
	if v.IsOutput() || len(v.Uses()) == 0 {
		return nil, false
	}
	var out []*onnx.Node
	for _, u := range v.Uses() {
		if !isQuantize(u.Node) || u.Index != 0 || u.Node.Output(0) == nil {
			return nil, false
		}
		out = append(out, u.Node)
	}
	return out, true
}

// onlyInside reports whether all readers of v compute on integers.
func (q *quantized) onlyInside(v *onnx.Value) bool {
	return !v.IsOutput() && len(v.Uses()) > 0 && !slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return !q.inner[u.Node] })
}

// work returns what n, of cost c, does: nothing where another takes it in, and
// integers instead of floats to read and write between pairs.
func (q *quantized) work(n *onnx.Node, c opset.Cost) Work {
	w := Work{MACs: c.MACs, FLOPs: c.FLOPs, BytesRead: c.BytesRead, BytesWritten: c.BytesWrite}
	switch {
	case q.absorbed[n]:
		return Work{}
	case !q.inner[n]:
		return w
	}
	for _, v := range n.Inputs() {
		if v != nil && isDequantize(v.Producer()) && q.facts.DType(v).IsFloat() {
			w.BytesRead = w.BytesRead - q.bytes(v) + q.bytes(v.Producer().Input(0))
		}
	}
	if outs := q.written[n]; outs != nil {
		w.BytesWritten = 0
		for _, v := range outs {
			w.BytesWritten = plus(w.BytesWritten, q.bytes(v))
		}
	}
	w.BytesRead = max(0, w.BytesRead)
	return w
}

// through returns which values are another in disguise, and take no memory of
// their own: what integers stand for and, with views, changes of form.
func (q *quantized) through(views bool) func(*onnx.Value) *onnx.Value {
	return func(v *onnx.Value) *onnx.Value {
		if w := q.stored[v]; w != nil && w != v {
			return w
		}
		if p := v.Producer(); views && v.Index() == 0 && (p.Is("Reshape") || p.Is("Flatten") || p.Is("Squeeze") || p.Is("Unsqueeze") || p.Is("Identity")) {
			return p.Input(0)
		}
		return nil
	}
}

// bytes returns the packed size of v, 0 where it is not known.
func (q *quantized) bytes(v *onnx.Value) int64 {
	t := q.facts.Type(v)
	n, ok := elementsOf(t)
	if !ok {
		return 0
	}
	size, _ := t.Elem.ByteSize(n)
	return size
}

// multiplicands gives the inputs that operators on integers multiply.
var multiplicands = map[string][2]int{
	"MatMulInteger": {0, 1}, "ConvInteger": {0, 1}, "QLinearMatMul": {0, 3}, "QLinearConv": {0, 3},
	"com.microsoft.QLinearConv": {0, 3}, "com.microsoft.QGemm": {0, 3}, "com.microsoft.DynamicQuantizeMatMul": {1, 1},
	"com.microsoft.MatMulIntegerToFloat": {0, 1}, "com.microsoft.MatMulInteger16": {0, 1}, "com.microsoft.QAttention": {0, 1},
	"com.microsoft.DynamicQuantizeLSTM": {1, 2},
}

// arithmetic returns the element type in which n computes: that of what it
// multiplies, the wider of two integers; "" where it is not known.
func (q *quantized) arithmetic(n *onnx.Node) string {
	slots, integer := multiplicands[opText(n)]
	a, b := n.Input(slots[0]), n.Input(slots[1])
	if !integer {
		if a, b = n.Input(0), n.Input(1); !q.inner[n] {
			return q.float(n)
		}
		a, b = dequantized(a), dequantized(b)
	}
	bits := max(q.facts.DType(a).Bits(), q.facts.DType(b).Bits())
	if bits == 0 {
		return ""
	}
	return fmt.Sprintf("int%d", bits)
}

// float returns the type of the first input of n that has one.
func (q *quantized) float(n *onnx.Node) string {
	for _, v := range n.Inputs() {
		if d := q.facts.DType(v); d != onnx.Undefined {
			return d.String()
		}
	}
	return ""
}

// dequantized returns the integers that v is dequantized from, else nil.
func dequantized(v *onnx.Value) *onnx.Value {
	if v == nil || !isDequantize(v.Producer()) {
		return nil
	}
	return v.Producer().Input(0)
}

// isScale reports whether input i of n is a scale or zero point, not data.
func isScale(n *onnx.Node, i int) bool {
	op := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	if op == nil || !slices.ContainsFunc(op.Inputs, func(s opset.Slot) bool { return strings.Contains(strings.ToLower(s.Name), "zero_point") }) {
		return false
	}
	s := op.Input(i)
	if s == nil {
		return false
	}
	name := strings.ToLower(s.Name)
	return strings.Contains(name, "zero_point") || strings.Contains(name, "scale")
}

// note says how many nodes are counted as computing on integers.
func (q *quantized) note(n *notes) {
	if len(q.inner) > 0 {
		n.add("%d nodes between DequantizeLinear and QuantizeLinear are counted as computing on integers, and %d of those pairs' nodes as free", len(q.inner), len(q.absorbed))
	}
}

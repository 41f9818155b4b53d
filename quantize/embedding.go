package quantize

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// leastTable is the size in bytes from which a table of embeddings is worth coding.
const leastTable = 16 << 10

// refuseTable says why the table that n gathers rows of stays in float32; "" if it need not.
func (p *dynamicPass) refuseTable(n *onnx.Node, e *rewrite.Env) string {
	v := n.Input(0)
	t := v.Constant()
	switch {
	case t == nil || t.DType != onnx.Float || len(t.Shape) != 2 || n.Int("axis", 0) != 0:
		return "it gathers no rows of a float32 table"
	case p.o.excluded(n, v) != "":
		return p.o.excluded(n, v)
	case t.Size() < leastTable:
		return fmt.Sprintf("its table has %d bytes only", t.Size())
	}
	for _, u := range v.Uses() {
		if !u.Node.Is("Gather") || u.Index != 0 || u.Node.Int("axis", 0) != 0 {
			return fmt.Sprintf("%v reads its table too", u.Node)
		}
	}
	if v.IsOutput() {
		return "its table is an output"
	}
	if !e.Allow(dynamicName, n) {
		return "left out"
	}
	return ""
}

// table replaces n by a Gather of codes, which are one byte a number, and of the
// scale of each row.
func (p *dynamicPass) table(n *onnx.Node, e *rewrite.Env) error {
	site, g, out := e.At(dynamicName, n), n.Graph(), n.Output(0)
	before := g.Len()
	axis := 0
	if p.o.PerTensor {
		axis = -1
	}
	w, err := p.coded(n.Input(0), g, axis, false)
	if err != nil {
		return err
	}
	add := p.adder(n)
	y := add("Cast", []*onnx.Value{add("Gather", []*onnx.Value{w.codes, n.Input(1)})}, onnx.IntAttr("to", int64(onnx.Float)))
	if w.zero != nil {
		y = add("Sub", []*onnx.Value{y, add("Cast", []*onnx.Value{w.zero}, onnx.IntAttr("to", int64(onnx.Float)))})
	}
	scale := w.scale
	if axis == 0 {
		scale = add("Gather", []*onnx.Value{w.scale, n.Input(1)})
	}
	y = add("Mul", []*onnx.Value{y, scale})
	y.Type = out.Type
	if err := g.Replace(out, y); err != nil {
		return err
	}
	l := Layer{Node: n.String(), Op: n.Op, Output: y.Name(), Type: "int8", Weight: &w.params}
	g.SweepFrom(n)
	p.r.layers = append(p.r.layers, l)
	return e.Fired(dynamicName, site, 1, g.Len()-before+1, "")
}

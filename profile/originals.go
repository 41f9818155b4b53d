package profile

import (
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// originals are the nodes of a model file, listed as [Static] lists them, for
// what an engine makes of them to be traced back to.
type originals struct {
	model *onnx.Model
	rows  []Node
	nodes []*onnx.Node       // by row
	first map[*onnx.Node]int // the first row of each node
}

// openOriginals reads the nodes of the model at path, with the sizes of sample.
// It returns nil where the file cannot be read: the names of an engine that
// could read it will do then.
func openOriginals(path string, sample map[string]*onnx.Tensor) *originals {
	m, err := onnxfile.Open(path, onnxfile.Options{NoExternalData: true})
	if err != nil {
		return nil
	}
	o := newOriginals(m, sample)
	if o == nil {
		m.Close()
	}
	return o
}

// newOriginals lists the nodes of m, nil where it has none.
func newOriginals(m *onnx.Model, sample map[string]*onnx.Tensor) *originals {
	if m.Graph == nil {
		return nil
	}
	shapes := map[string]onnx.Shape{}
	for _, v := range m.Graph.Inputs() {
		if t := sample[v.Name()]; t != nil && v.Type.IsTensor() && !v.Shape().Contradicts(onnx.ShapeOf(t.Shape...)) {
			shapes[v.Name()] = onnx.ShapeOf(t.Shape...)
		}
	}
	facts, err := opset.Infer(m, opset.Options{InputShapes: shapes, ReadOnly: true})
	if err != nil {
		return nil
	}
	w := newWalk(m, facts, newWeights(m, facts))
	w.graph(m.Graph, place{runs: 1})
	return &originals{model: m, rows: w.rows, nodes: w.nodes, first: w.firstRow}
}

func (o *originals) close() {
	if o != nil {
		o.model.Close()
	}
}

// size returns the number of nodes.
func (o *originals) size() int {
	if o == nil {
		return 0
	}
	return len(o.rows)
}

// graphs returns the graphs that hold the nodes.
func (o *originals) graphs() []*onnx.Graph {
	if o == nil {
		return nil
	}
	return o.model.Graphs()
}

// named returns the rows by the names under which an engine runs nodes: their
// own, or the operator and the place in the graph where they have none, as ONNX
// Runtime says it. A name that two nodes have is left out.
func (o *originals) named() map[string]int {
	out, twice := map[string]int{}, map[string]bool{}
	if o == nil {
		return out
	}
	for n, row := range o.first {
		name := n.Name
		if name == "" {
			name = strings.TrimPrefix(o.rows[row].Label, o.rows[row].Path+"/")
		}
		if _, seen := out[name]; seen {
			twice[name] = true
		}
		out[name] = row
	}
	for name := range twice {
		delete(out, name)
	}
	return out
}

// leading returns which of rows a node that runs as op stands for in the first
// place: one of that operator, else the one with the most arithmetic, else the last.
func (o *originals) leading(rows []int, op string) int {
	best := rows[len(rows)-1]
	rank := func(r int) (bool, int64) { return plainOp(o.rows[r].Op) == plainOp(op), o.rows[r].Work.FLOPs }
	for _, r := range rows {
		same, flops := rank(r)
		was, most := rank(best)
		if same && !was || same == was && flops > most {
			best = r
		}
	}
	return best
}

// plainOp returns the operator that an engine's operator is a form of: without
// domain, and without what marks a fused, quantized or rearranged one.
func plainOp(op string) string {
	op = op[strings.LastIndexByte(op, '.')+1:]
	for _, p := range []string{"Fused", "QLinear", "Nhwc", "DynamicQuantize", "Q"} {
		if rest, ok := strings.CutPrefix(op, p); ok && rest != "" && rest[0] >= 'A' && rest[0] <= 'Z' {
			op = rest
		}
	}
	for _, s := range []string{"NBits", "IntegerToFloat", "Integer"} {
		if rest, ok := strings.CutSuffix(op, s); ok && rest != "" {
			op = rest
		}
	}
	return op
}

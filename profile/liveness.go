package profile

import (
	"cmp"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Activations is the memory of inputs and computed values, were each kept
// exactly as long as it is needed.
type Activations struct {
	PeakBytes   int64  `json:"peak_bytes" schema:"count"`   // most bytes alive at once, each value in memory of its own
	ReusedBytes int64  `json:"reused_bytes" schema:"count"` // the same where changes of form keep their input's memory and elementwise results take that of an input that ends there
	TotalBytes  int64  `json:"total_bytes" schema:"count"`  // all values together, of bodies and functions once: what it takes without reuse
	Node        int    `json:"node"`                        // row of the node during which PeakBytes are alive; -1 for a model without nodes
	NodeName    string `json:"node_name"`                   // its name, with the path around it
	Live        []Held `json:"live"`                        // the largest values of the main graph alive then, at most 8
	Inside      int64  `json:"inside" schema:"count"`       // bytes alive then within bodies of that node
	Unknown     int64  `json:"unknown" schema:"count"`      // values of unknown size, which count as 0
}

// Held is a value that is alive.
type Held struct {
	Name  string `json:"name"`                 // of the value
	Type  string `json:"type"`                 // in the ONNX text form
	Bytes int64  `json:"bytes" schema:"count"` // packed size
}

// activations returns the memory of a model with main graph g, and notes in the
// rows of w what is alive while each node runs. What integers stand for takes no
// memory of its own.
func activations(w *walk, g *onnx.Graph) Activations {
	reused := w.facts.Liveness(w.weights.constant)
	reused.Through, reused.InPlace = w.quantized.through(true), true
	least := reused.Peak(g, true, true)
	l := w.facts.Liveness(w.weights.constant)
	l.Through = w.quantized.through(false)
	l.Visit = func(n *onnx.Node, bytes int64) {
		if row, ok := w.firstRow[n]; ok {
			w.rows[row].LiveBytes = max(w.rows[row].LiveBytes, bytes)
		}
	}
	p := l.Peak(g, true, true)
	a := Activations{PeakBytes: min(p.Bytes, maxCount), ReusedBytes: min(least.Bytes, p.Bytes, maxCount), Node: -1, Inside: p.Inside, Live: []Held{}, Unknown: l.Unknown}
	a.TotalBytes = w.total(g, l.Through)
	if p.Node == nil {
		return a
	}
	if row, ok := w.firstRow[p.Node]; ok {
		a.Node, a.NodeName = row, w.rows[row].Label
	}
	spans := l.AliveAt(g, p.At)
	slices.SortStableFunc(spans, func(a, b opset.Span) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, s := range spans[:min(len(spans), 8)] {
		a.Live = append(a.Live, Held{Name: s.Value.Name(), Type: typeText(w.facts.Type(s.Value)), Bytes: s.Bytes})
	}
	return a
}

// total returns the bytes of the inputs of g and of all that nodes compute,
// each body and function once.
func (w *walk) total(g *onnx.Graph, through func(*onnx.Value) *onnx.Value) int64 {
	var sum int64
	add := func(v *onnx.Value) {
		if v != nil && !w.weights.constant(v) && through(v) == nil && !(v.Dead() && v.Index() > 0) {
			sum = plus(sum, w.quantized.bytes(v))
		}
	}
	for _, v := range g.Inputs() {
		add(v)
	}
	for _, h := range w.weights.model.Graphs() {
		for n := range h.Nodes() {
			for _, v := range n.Outputs() {
				add(v)
			}
		}
	}
	return sum
}

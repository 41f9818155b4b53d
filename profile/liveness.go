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
	PeakBytes int64  `json:"peak_bytes" schema:"count"` // most bytes alive at once
	Node      int    `json:"node"`                      // row of the node during which that is so; -1 for a model without nodes
	NodeName  string `json:"node_name"`                 // its name, with the path around it
	Live      []Held `json:"live"`                      // the largest values of the main graph alive then, at most 8
	Inside    int64  `json:"inside" schema:"count"`     // bytes alive then within bodies of that node
	Unknown   int64  `json:"unknown" schema:"count"`    // values of unknown size, which count as 0
}

// Held is a value that is alive.
type Held struct {
	Name  string `json:"name"`                 // of the value
	Type  string `json:"type"`                 // in the ONNX text form
	Bytes int64  `json:"bytes" schema:"count"` // packed size
}

// activations returns the memory of a model with main graph g, and notes in the
// rows of w what is alive while each node runs.
func activations(w *walk, g *onnx.Graph) Activations {
	l := w.facts.Liveness(w.weights.constant)
	l.Visit = func(n *onnx.Node, bytes int64) {
		if row, ok := w.firstRow[n]; ok {
			w.rows[row].LiveBytes = max(w.rows[row].LiveBytes, bytes)
		}
	}
	p := l.Peak(g, true, true)
	a := Activations{PeakBytes: min(p.Bytes, maxCount), Node: -1, Inside: p.Inside, Live: []Held{}, Unknown: l.Unknown}
	if p.Node == nil {
		return a
	}
	if row, ok := w.firstRow[p.Node]; ok {
		a.Node, a.NodeName = row, w.labelOf(row)
	}
	spans := l.AliveAt(g, p.At)
	slices.SortStableFunc(spans, func(a, b opset.Span) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, s := range spans[:min(len(spans), 8)] {
		a.Live = append(a.Live, Held{Name: s.Value.Name(), Type: typeText(w.facts.Type(s.Value)), Bytes: s.Bytes})
	}
	return a
}

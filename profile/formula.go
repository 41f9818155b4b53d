package profile

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Formulas are the work of one inference as a function of the dimensions that
// the model leaves open and nobody gave. The name of a dimension stands for its
// size; one with operator characters stands in braces.
type Formulas struct {
	MACs         string `json:"macs"`                    // as in [Work]
	FLOPs        string `json:"flops"`                   // as in [Work]
	BytesRead    string `json:"bytes_read,omitempty"`    // as in [Work]; absent where integers stand for reals
	BytesWritten string `json:"bytes_written,omitempty"` // as in [Work]; absent where integers stand for reals
}

// formulas returns the work of the nodes of w, whose main graph is that of m,
// over the dimensions that are assumed; nil where there is none, or no short formula.
func (s *StaticProfile) formulas(m *onnx.Model, w *walk, given map[string]int64) *Formulas {
	open := func(d Dim) bool { return d.Assumed }
	if !slices.ContainsFunc(s.Dims, open) || slices.ContainsFunc(w.nodes, repeats) || s.Coverage.Counted < s.Coverage.Nodes {
		return nil
	}
	facts := symbolic(m, given)
	if facts == nil {
		return nil
	}
	var sum opset.Formula
	for i, n := range w.nodes {
		if w.rows[i].Runs > 0 && !w.free(n) && !w.quantized.absorbed[n] {
			sum.Add(facts.Formula(n), w.rows[i].Runs)
		}
	}
	f := &Formulas{}
	var ok bool
	if f.MACs, f.FLOPs, f.BytesRead, f.BytesWritten, ok = sum.Texts(); !ok {
		return nil
	}
	if len(w.quantized.inner) > 0 {
		f.BytesRead, f.BytesWritten = "", ""
	}
	return f
}

// repeats reports whether how often the bodies of n run can depend on a dimension.
func repeats(n *onnx.Node) bool {
	return n.Is("Loop") || n.Is("Scan") || n.Is("SequenceMap") || n.Is("If")
}

// symbolic infers the types of m with the given sizes only; every other open
// dimension of an input is a symbol.
func symbolic(m *onnx.Model, given map[string]int64) *opset.Facts {
	o := opset.Options{Dims: map[string]int64{}, InputShapes: map[string]onnx.Shape{}, ReadOnly: true}
	for _, v := range m.Graph.Inputs() {
		shape, changed := slices.Clone(v.Shape()), false
		for i, d := range shape {
			if d.Known() {
				continue
			}
			if d.Param == "" {
				name := fmt.Sprintf("%s[%d]", v.Name(), i)
				if shape[i], changed = onnx.Symbol(name), true; given[name] > 0 {
					shape[i] = onnx.Fixed(given[name])
				}
			} else if n, ok := given[d.Param]; ok {
				o.Dims[d.Param] = n
			}
		}
		if changed {
			o.InputShapes[v.Name()] = shape
		}
	}
	facts, err := opset.Infer(m, o)
	if err != nil {
		return nil
	}
	return facts
}

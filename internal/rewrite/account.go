package rewrite

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// account describes a firing of a rule that took nodes away and added others.
func account(rule string, took, gave []*onnx.Node, facts *opset.Facts) Firing {
	return Firing{Rule: rule, Gone: len(took), New: len(gave), Took: nodeNames(took), Gave: nodeNames(gave),
		Before: work(took, facts), After: work(gave, facts)}
}

func nodeNames(list []*onnx.Node) []string {
	var out []string
	for _, n := range list {
		out = append(out, n.String())
	}
	return out
}

// work sums what nodes cost; nil where a size or an operator is not known.
func work(list []*onnx.Node, facts *opset.Facts) *Work {
	w := &Work{}
	for _, n := range list {
		c := facts.Cost(n)
		if c.Unknown || len(n.Subgraphs()) > 0 {
			return nil
		}
		w.FLOPs += c.FLOPs
		w.Bytes += c.BytesRead + c.BytesWrite
	}
	return w
}

package bisect

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// changed returns the nodes of a that b does not have, and of b that a does not
// have, in text form and in order.
func changed(a, b *onnx.Model) (before, after []string) {
	left, right := nodeTexts(a), nodeTexts(b)
	return missing(left, right), missing(right, left)
}

func nodeTexts(m *onnx.Model) []string {
	var out []string
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			out = append(out, onnxtext.FormatNode(n))
		}
	}
	return out
}

// missing returns the texts of list that other has fewer of.
func missing(list, other []string) []string {
	count := map[string]int{}
	for _, t := range other {
		count[t]++
	}
	out := []string{}
	for _, t := range list {
		if count[t]--; count[t] < 0 {
			out = append(out, t)
		}
	}
	return out
}

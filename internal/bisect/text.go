package bisect

import (
	"crypto/sha256"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// changed returns the nodes of a that b does not have, and of b that a does not
// have, in text form and in order; then the constants that have other content
// under the same name.
func changed(a, b *onnx.Model) (before, after []string) {
	left, right := nodeTexts(a), nodeTexts(b)
	before, after = missing(left, right), missing(right, left)
	other := map[string]*onnx.Tensor{}
	for _, v := range b.Graph.Initializers() {
		other[v.Name()] = v.Const
	}
	for _, v := range a.Graph.Initializers() {
		// Tensors that nobody changed are shared between the models.
		if t := other[v.Name()]; t != nil && t != v.Const {
			if x, y := constantText(v.Const), constantText(t); x != y {
				before, after = append(before, x), append(after, y)
			}
		}
	}
	return before, after
}

// constantText describes a constant by type and digest.
func constantText(t *onnx.Tensor) string {
	b, err := t.Bytes()
	if err != nil {
		return fmt.Sprintf("constant %v: %v", t, err)
	}
	return fmt.Sprintf("constant %v { sha256 %.8x }", t, sha256.Sum256(b))
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

package onnxtext_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// nested is an If whose branches hold others, depth of them, around op.
func nested(t *testing.T, depth int, op string) *onnx.Node {
	body := fmt.Sprintf("{ o = %s (x) }", op)
	text := fmt.Sprintf("graph0 () => (o) %s", body)
	for i := 1; i < depth; i++ {
		text = fmt.Sprintf("graph%d () => (o) { o = If <then_branch: graph = %s, else_branch: graph = other%d () => (q) { q = Neg (x) }> (c) }", i, text, i)
	}
	m, err := onnxtext.Parse("nested", []byte("<ir_version: 8, opset_import: [\"\" : 17]>\nmain (bool c, float[2] x) => (float[2] y) { y = If <then_branch: graph = "+
		text+", else_branch: graph = last () => (q) { q = Neg (x) }> (c) }"))
	if err != nil {
		t.Fatal(err)
	}
	return m.Graph.First()
}

// TestHeads: bodies are told apart by their content, at any depth, and are not written out.
func TestHeads(t *testing.T) {
	var h onnxtext.Heads
	a, b, c := h.Format(nested(t, 6, "Relu")), h.Format(nested(t, 6, "Relu")), h.Format(nested(t, 6, "Abs"))
	if a != b {
		t.Errorf("equal nodes:\n%s\n%s", a, b)
	}
	if a == c {
		t.Errorf("nodes that differ in a body: both are\n%s", a)
	}
	if strings.Contains(a, "Relu") || !strings.Contains(a, "then_branch") {
		t.Errorf("the node is %s", a)
	}
	if n := onnx.NewNode("Relu", nil, "y"); h.Format(n) != onnxtext.FormatNode(n) {
		t.Errorf("without bodies it is %q, and FormatNode gives %q", h.Format(n), onnxtext.FormatNode(n))
	}
}

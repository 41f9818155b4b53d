package upgrade

import (
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestSoftmaxUpgrade checks that Softmax over several dimensions keeps that meaning.
func TestSoftmaxUpgrade(t *testing.T) {
	for _, c := range []struct {
		axis  int64
		nodes int
	}{{1, 4}, {2, 1}, {-1, 1}} {
		m := onnx.NewModel(11)
		x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2, 3, 4)))
		n := onnx.NewNode("Softmax", []*onnx.Value{x}, "y")
		n.Attrs = []*onnx.Attr{onnx.IntAttr("axis", c.axis)}
		m.Graph.Append(n)
		m.Graph.AddOutput(n.Output(0))
		if _, err := To(m, 13); err != nil {
			t.Fatal(err)
		}
		if m.Graph.Len() != c.nodes || n.Int("axis", 0) != -1 || m.Graph.Outputs()[0].Name() != "y" {
			t.Errorf("axis %d: %d nodes, axis %d, output %q", c.axis, m.Graph.Len(), n.Int("axis", 0), m.Graph.Outputs()[0].Name())
		}
	}
}

func TestUpgradeRefuses(t *testing.T) {
	m := onnx.NewModel(8)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	n := onnx.NewNode("Scan", []*onnx.Value{x}, "y")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	if _, err := To(m, 13); err == nil {
		t.Error("a Scan of opset 8 was taken for one of opset 13")
	}
}

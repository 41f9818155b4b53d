package upgrade

import (
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
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

// TestTable: every form that an operator took from opset 7 on is in the table,
// and nothing else is.
func TestTable(t *testing.T) {
	without := map[string]int64{
		"Scan":     9, // it lost an input
		"Upsample": 7, // it scaled by other attributes before
	}
	known := map[string]map[int64]bool{}
	for v, list := range unchanged {
		for _, op := range list {
			if known[op] == nil {
				known[op] = map[int64]bool{}
			}
			known[op][v] = true
		}
	}
	for op, forms := range changes {
		if known[op] == nil {
			known[op] = map[int64]bool{}
		}
		for v := range forms {
			if known[op][v] {
				t.Errorf("%s-%d both changes and does not", op, v)
			}
			known[op][v] = true
		}
	}
	for _, row := range opset.All() {
		if onnx.NormalDomain(row.Domain) != "" {
			continue
		}
		for _, v := range row.Versions[1:] {
			if v > earliest && v <= Latest && !known[row.Name][v] && without[row.Name] != v {
				t.Errorf("%s-%d is not in the table", row.Name, v)
			}
			delete(known[row.Name], v)
		}
		if len(known[row.Name]) > 0 {
			t.Errorf("%s has no form of opsets %v", row.Name, known[row.Name])
		}
		delete(known, row.Name)
	}
	if len(known) > 0 {
		t.Errorf("there are no operators %v", known)
	}
}

// TestSpread: before opset 7 the second operand of an addition may be spread
// along any axes, after it only from the right.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		axis  int64
		shape []int64
	}{{1, []int64{3, 1}}, {-1, []int64{4}}, {0, []int64{2, 1, 1}}} {
		m := onnx.NewModel(6)
		x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2, 3, 4)))
		size := c.shape[0]
		b := m.Graph.AddInitializer(onnx.FromFloats("b", []int64{size}, make([]float32, size)))
		n := onnx.NewNode("Add", []*onnx.Value{x, b}, "y")
		n.Attrs = []*onnx.Attr{onnx.IntAttr("broadcast", 1), onnx.IntAttr("axis", c.axis)}
		m.Graph.Append(n)
		m.Graph.AddOutput(n.Output(0))
		if _, err := To(m, 13); err != nil {
			t.Fatal(err)
		}
		if got := n.Input(1).Const.Shape; !slices.Equal(got, c.shape) || len(n.Attrs) > 0 {
			t.Errorf("axis %d: the bias has shape %v, want %v", c.axis, got, c.shape)
		}
	}
}

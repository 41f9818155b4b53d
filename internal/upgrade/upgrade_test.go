package upgrade

import (
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
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

// TestFunctionRefuses: what the caller of a function gives is not known in it.
func TestFunctionRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"axis": {`<ir_version: 8, opset_import: ["" : 12, "local" : 1]>
main (float[2,3] x) => (float[2,3] y) {
  y = local.f <axis = 1> (x)
}
<domain: "local", opset_import: ["" : 12]>
f <axis> (x) => (y) {
  y = Softmax <axis: int = @axis> (x)
}`, `function "f": node producing "y" (Softmax) cannot be raised from opset 12 to 18: its axis is given by the caller`},
		"some give axes": {`<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
main (float[2,3] x) => (float[1,3] y, float[1,1] z) {
  y = local.f <axes = [0]> (x)
  z = local.f (x)
}
<domain: "local", opset_import: ["" : 17]>
f <axes> (x) => (y) {
  y = ReduceMax <axes: ints = @axes> (x)
}`, "its axes is given by some callers of the function only"},
		"types": {`<ir_version: 8, opset_import: ["" : 10, "local" : 1]>
main (float[2] x, double[2] v) => (float[2] y, double[2] z) {
  y = local.f (x)
  z = local.f (v)
}
<domain: "local", opset_import: ["" : 10]>
f (x) => (y) {
  y = Clip <min = 0.0> (x)
}`, `the element type of "x" is not known`},
	} {
		m, err := onnxtext.Parse(name, []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := To(m, 18); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

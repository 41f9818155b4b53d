package onnxfile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestLargeGraph decodes a graph larger than those that exporters write: 150,000
// nodes with three inputs, two attributes, and a type of four dimensions each.
func TestLargeGraph(t *testing.T) {
	m := onnx.NewModel(17)
	typ := onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 3, 224, 224))
	x := m.Graph.AddInput("x", typ)
	v := x
	for i := range 150_000 {
		n := onnx.NewNode("Op", []*onnx.Value{v, x, v}, fmt.Sprintf("/layer/%d/output", i))
		n.Name, n.Domain, n.Attrs = fmt.Sprintf("/layer/%d", i), "custom", []*onnx.Attr{onnx.IntAttr("a", 1), onnx.IntsAttr("b", 1, 2)}
		m.Graph.Append(n)
		v = n.Output(0)
		v.Type = typ
	}
	m.Graph.AddOutput(v)
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
}

// TestCounts refuses what takes far more memory than its bytes.
func TestCounts(t *testing.T) {
	field := func(num protowire.Number, v []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
	}
	model := func(graph []byte) []byte { return field(7, graph) }
	many := func(n int, part []byte) []byte { return []byte(strings.Repeat(string(part), n)) }
	named := func(n int, num protowire.Number) (out []byte) {
		for i := range n {
			out = append(out, field(num, []byte(fmt.Sprint(i)))...)
		}
		return out
	}
	tests := []struct {
		name  string
		model []byte
		says  string
	}{
		{"nodes", model(many(maxItems+1, field(1, nil))), "more than"},
		{"initializers", model(many(maxItems+1, field(5, nil))), "more than"},
		{"inputs that nothing defines", model(field(1, named(maxItems+1, 1))), "more than"},
		{"outputs", model(field(1, named(maxItems+1, 2))), "more than"},
		{"attributes", model(field(1, many(maxParts/8+1, field(5, nil)))), "more than"},
		{"functions", append(model(nil), many(maxItems+1, field(25, nil))...), "more than"},
		{"dimensions", model(field(5, many(maxRank+1, []byte{8, 1}))), "dimensions"},
		{"a name", model(field(1, field(2, many(maxName+1, []byte{'y'})))), "a name of"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Decode(tt.model); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

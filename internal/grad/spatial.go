package grad

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// FeatureMaps returns the names of the feature maps between the inputs of m and one of its outputs ("" for the first with
// floating-point elements), in order of execution: values [N, C, H, W] of more than one pixel that convolutions made, and what
// was done to them without moving pixels. The last is what Grad-CAM looks at.
func FeatureMaps(m *onnx.Model, of string) ([]string, error) {
	d, err := begin(m)
	if err != nil {
		return nil, err
	}
	out, wrt, err := d.ends(Options{Of: of})
	if err != nil {
		return nil, fmt.Errorf("looking for feature maps: %w", err)
	}
	var nodes []*onnx.Node
	for n := range d.g.Nodes() {
		nodes = append(nodes, n)
	}
	if err := d.activate(nodes, out, wrt); err != nil {
		return nil, fmt.Errorf("looking for feature maps: %w", err)
	}
	maps := map[*onnx.Value]bool{}
	var names []string
	for _, n := range nodes {
		v := n.Output(0)
		if v == nil || !d.active[v] || !d.isMap(v) || !filters(n) && !(keepsPixels(n) && slices.ContainsFunc(n.Inputs(), func(x *onnx.Value) bool { return maps[x] })) {
			continue
		}
		maps[v] = true
		if d.facts.DType(v).IsFloat() && v != out {
			names = append(names, v.Name())
		}
	}
	return names, nil
}

// isMap reports whether v has the shape of a feature map.
func (d *differentiation) isMap(v *onnx.Value) bool {
	s := d.facts.Shape(v)
	one := func(d onnx.Dim) bool { return d.Known() && d.Value == 1 }
	return len(s) == 4 && !(one(s[2]) && one(s[3]))
}

// filters reports whether n makes a feature map by sliding windows over another one.
func filters(n *onnx.Node) bool {
	return slices.Contains([]string{"Conv", "ConvTranspose", "MaxPool", "AveragePool", "ConvInteger", "com.microsoft.FusedConv"}, nameOf(n))
}

// keepsPixels reports whether n gives a feature map for a feature map, pixel by pixel.
func keepsPixels(n *onnx.Node) bool {
	switch n.Op {
	case "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN", "Concat", "QuantizeLinear", "DequantizeLinear", "Cast",
		"Identity", "Dropout", "Split", "Slice":
		return true
	}
	op := opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain))
	return op != nil && op.Elementwise()
}

package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// read names, per operator, the attributes whose value its changes look at, but
// for lists that only become an input (see [upgrader.listed]). In a function an
// attribute may be the caller's, so that its value is not known.
var read = map[string][]string{
	"AveragePool":        strings.Fields("ceil_mode count_include_pad"),
	"BatchNormalization": strings.Fields("is_test spatial"),
	"Clip":               strings.Fields("min max"),
	"DFT":                strings.Fields("axis"),
	"Dropout":            strings.Fields("is_test"),
	"GridSample":         strings.Fields("mode"),
	"GroupNormalization": strings.Fields("num_groups"),
	"Hardmax":            strings.Fields("axis"),
	"LogSoftmax":         strings.Fields("axis"),
	"Pad":                strings.Fields("pads value"),
	"Resize":             strings.Fields("coordinate_transformation_mode mode"),
	"RoiAlign":           strings.Fields("coordinate_transformation_mode"),
	"Slice":              strings.Fields("starts ends axes"),
	"Softmax":            strings.Fields("axis"),
	"TopK":               strings.Fields("k"),
	"Upsample":           strings.Fields("mode scales"),
}

// literal declines where the caller of a function gives what a change must know.
func literal(n *onnx.Node) error {
	names := read[n.Op]
	if _, spread := changes[n.Op][7]; spread {
		names = append(slices.Clone(names), "broadcast", "axis")
	}
	for _, name := range names {
		if a := n.Attr(name); a != nil && a.Ref != "" {
			return fmt.Errorf("its %s is given by the caller of the function", name)
		}
	}
	return nil
}

// listed takes the attribute called name, a list of integers, off n and returns
// the constant that holds it, nil where n has none. What the caller of a function
// gives stays the caller's.
func (u *upgrader) listed(n *onnx.Node, name string) (*onnx.Value, error) {
	a := n.Attr(name)
	if a == nil {
		return nil, nil
	}
	n.DeleteAttr(name)
	switch {
	case a.Ref == "" && len(a.Ints) == 0:
		return nil, nil
	case a.Ref == "":
		return u.ints(n, name, a.Ints...), nil
	case !u.given(n.Graph().Function(), a.Ref):
		return nil, fmt.Errorf("its %s is given by some callers of the function only", name)
	}
	return u.constantNode(n, outputName(n)+"_"+name, &onnx.Attr{Name: "value_ints", Type: onnx.AttrInts, Ref: a.Ref}), nil
}

// given reports whether attribute name of fn has a value in every call.
func (u *upgrader) given(fn *onnx.Function, name string) bool {
	if fn == nil {
		return false
	}
	if slices.ContainsFunc(fn.AttrDefaults, func(a *onnx.Attr) bool { return a.Name == name }) {
		return true
	}
	for _, g := range u.m.Graphs() {
		for n := range g.Nodes() {
			if u.m.FindFunction(n) != fn {
				continue
			}
			a := n.Attr(name)
			if a == nil || a.Ref != "" && !u.given(g.Function(), a.Ref) {
				return false
			}
		}
	}
	return true
}

package upgrade

import (
	"errors"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

func upgradeBatchNorm(_ *upgrader, n *onnx.Node) error {
	if n.Int("spatial", 1) != 1 {
		return errors.New("it normalizes each position by itself (spatial = 0)")
	}
	for _, v := range n.Outputs()[1:] {
		if v != nil && !v.Dead() {
			return errors.New("it is in training form")
		}
	}
	n.DeleteAttr("spatial")
	return nil
}

// upgradeClip turns the bounds from attributes into inputs (opset 11).
func upgradeClip(u *upgrader, n *onnx.Node) error {
	for i, name := range []string{"min", "max"} {
		a := n.Attr(name)
		if a == nil {
			continue
		}
		v, err := u.real(n, name, float64(a.F))
		if err != nil {
			return err
		}
		n.SetInput(1+i, v)
		n.DeleteAttr(name)
	}
	return nil
}

// upgradeDropoutMask declines a mask that is used: from opset 10 on it is of
// type Bool.
func upgradeDropoutMask(_ *upgrader, n *onnx.Node) error {
	if mask := n.Output(1); mask != nil && !mask.Dead() {
		return errors.New("its mask is used, whose type has changed")
	}
	return dropMask(n)
}

// upgradeDropout drops the ratio, which has no effect outside training (opset 12).
func upgradeDropout(_ *upgrader, n *onnx.Node) error {
	n.DeleteAttr("ratio")
	return dropMask(n)
}

func dropMask(n *onnx.Node) error {
	if n.Output(1) != nil && n.Output(1).Dead() {
		return n.DropOutput(1)
	}
	return nil
}

// axesToInput moves axes from an attribute to input 1 (opset 13).
func axesToInput(u *upgrader, n *onnx.Node) error {
	return u.listToInput(n, "axes")
}

// axesAlwaysToInput does so for Unsqueeze, which must have them: none of them is
// an input of no elements.
func axesAlwaysToInput(u *upgrader, n *onnx.Node) error {
	if a := n.Attr("axes"); a != nil && a.Ref == "" && len(a.Ints) == 0 {
		n.DeleteAttr("axes")
		n.SetInput(1, u.ints(n, "axes"))
		return nil
	}
	return axesToInput(u, n)
}

// listToInput moves a list from an attribute to input 1.
func (u *upgrader) listToInput(n *onnx.Node, name string) error {
	v, err := u.listed(n, name)
	if err == nil && v != nil {
		n.SetInput(1, v)
	}
	return err
}

// flattenAround keeps the meaning that Softmax, LogSoftmax and Hardmax had
// before opset 13: over all dimensions from axis on, flattened together.
func flattenAround(u *upgrader, n *onnx.Node) error {
	axis := n.Int("axis", 1)
	shape := u.facts.Shape(n.Input(0))
	if shape != nil && (axis == -1 || int(axis) == len(shape)-1) {
		n.SetAttr(onnx.IntAttr("axis", -1))
		return nil
	}
	if axis < 0 && shape == nil {
		return errors.New("the rank of its input is not known")
	}
	if axis < 0 {
		axis += int64(len(shape))
	}
	g, in, out := n.Graph(), n.Input(0), n.Output(0)
	name := out.Name()
	size := onnx.NewNode("Shape", []*onnx.Value{in}, g.Model().Fresh(name+"_shape"))
	flat := onnx.NewNode("Flatten", []*onnx.Value{in}, g.Model().Fresh(name+"_flat"))
	flat.Attrs = []*onnx.Attr{onnx.IntAttr("axis", axis)}
	back := onnx.NewNode("Reshape", nil, g.Model().Fresh(name+"_unflattened"))
	g.InsertBefore(size, n)
	g.InsertBefore(flat, n)
	g.InsertAfter(back, n)
	if err := g.Replace(out, back.Output(0)); err != nil {
		return err
	}
	back.Output(0).Type, out.Type = out.Type, nil
	n.SetInput(0, flat.Output(0))
	n.SetAttr(onnx.IntAttr("axis", -1))
	back.SetInput(0, out)
	back.SetInput(1, size.Output(0))
	return nil
}

// upgradePad turns pads and value from attributes into inputs (opset 11).
func upgradePad(u *upgrader, n *onnx.Node) error {
	v, err := u.real(n, "value", float64(n.Float("value", 0)))
	if err != nil {
		return err
	}
	n.SetInput(1, u.ints(n, "pads", n.Ints("pads", nil)...))
	n.SetInput(2, v)
	n.DeleteAttr("pads")
	n.DeleteAttr("value")
	return nil
}

// upgradeSlice turns starts, ends and axes from attributes into inputs (opset 10).
func upgradeSlice(u *upgrader, n *onnx.Node) error {
	n.SetInput(1, u.ints(n, "starts", n.Ints("starts", nil)...))
	n.SetInput(2, u.ints(n, "ends", n.Ints("ends", nil)...))
	if axes := n.Ints("axes", nil); axes != nil {
		n.SetInput(3, u.ints(n, "axes", axes...))
	}
	for _, name := range []string{"starts", "ends", "axes"} {
		n.DeleteAttr(name)
	}
	return nil
}

// upgradeSplit turns the sizes from an attribute into an input (opset 13).
func upgradeSplit(u *upgrader, n *onnx.Node) error {
	return u.listToInput(n, "split")
}

// upgradeTopK turns k from an attribute into an input (opset 10).
func upgradeTopK(u *upgrader, n *onnx.Node) error {
	n.SetInput(1, u.ints(n, "k", n.Int("k", 0)))
	n.DeleteAttr("k")
	return nil
}

// upgradeUpsampleScales turns the scales from an attribute into an input (opset 9).
func upgradeUpsampleScales(u *upgrader, n *onnx.Node) error {
	a := n.Attr("scales")
	if a == nil {
		return errors.New("it has no scales")
	}
	for _, s := range a.Floats {
		if math.IsNaN(float64(s)) || s < 1 {
			return errors.New("its scales are below 1")
		}
	}
	n.SetInput(1, u.constant(n, onnx.FromFloats(outputName(n)+"_scales", []int64{int64(len(a.Floats))}, a.Floats)))
	n.DeleteAttr("scales")
	return nil
}

// upgradeUpsample makes a Resize of it, which has the same meaning at opset 10;
// the name Upsample ends there.
func upgradeUpsample(_ *upgrader, n *onnx.Node) error {
	n.Op = "Resize"
	return nil
}

// upgradeResize gives Resize the inputs and coordinates of opset 11.
func upgradeResize(_ *upgrader, n *onnx.Node) error { return resizeInputs(n) }

// resizeInputs puts scales where Resize has them from opset 11 on, with the
// coordinates of opset 10.
func resizeInputs(n *onnx.Node) error {
	if n.Input(1) == nil {
		return errors.New("it has no scales")
	}
	n.SetInput(2, n.Input(1))
	n.SetInput(1, nil)
	n.SetAttr(onnx.StringAttr("coordinate_transformation_mode", "asymmetric"))
	if mode := n.Str("mode", "nearest"); mode == "nearest" {
		n.SetAttr(onnx.StringAttr("nearest_mode", "floor"))
	} else {
		n.SetAttr(onnx.StringAttr("mode", "linear"))
	}
	return nil
}

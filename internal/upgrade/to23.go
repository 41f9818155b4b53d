package upgrade

import (
	"errors"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// upgradeTraining declines the form of BatchNormalization that updates its
// statistics: before opset 14 that was said by its outputs.
func upgradeTraining(_ *upgrader, n *onnx.Node) error {
	for i, v := range n.Outputs() {
		if i > 0 && v != nil && !v.Dead() {
			return errors.New("it is in training form")
		}
	}
	for i := len(n.Outputs()) - 1; i > 0; i-- {
		if err := n.DropOutput(i); err != nil {
			return err
		}
	}
	return nil
}

// upgradeAveragePool declines where rounding up the size and counting the
// padding meet, which opset 19 defines otherwise than engines had it before.
func upgradeAveragePool(_ *upgrader, n *onnx.Node) error {
	if n.Int("ceil_mode", 0) != 0 && n.Int("count_include_pad", 0) != 0 {
		return errors.New("it rounds its size up and counts the padding (ceil_mode and count_include_pad)")
	}
	return nil
}

// upgradeDFT turns the axis from an attribute into an input (opset 20).
func upgradeDFT(u *upgrader, n *onnx.Node) error {
	n.SetInput(2, u.constant(n, onnx.FromInts(outputName(n)+"_axis", []int64{}, []int64{n.Int("axis", 1)})))
	n.DeleteAttr("axis")
	return nil
}

// upgradeGridSample renames the modes (opset 20).
func upgradeGridSample(_ *upgrader, n *onnx.Node) error {
	switch n.Str("mode", "bilinear") {
	case "bilinear":
		n.SetAttr(onnx.StringAttr("mode", "linear"))
	case "bicubic":
		n.SetAttr(onnx.StringAttr("mode", "cubic"))
	}
	return nil
}

// upgradeGroupNorm repeats scale and bias, one per group before opset 21, for
// every channel of a group.
func upgradeGroupNorm(u *upgrader, n *onnx.Node) error {
	groups := n.Int("num_groups", 0)
	shape := u.facts.Shape(n.Input(0))
	if groups < 1 || len(shape) < 2 || !shape[1].Known() || shape[1].Value%groups != 0 {
		return errors.New("the number of its channels is not known")
	}
	per := shape[1].Value / groups
	for i := 1; i <= 2; i++ {
		t := n.Input(i).Constant()
		if t == nil {
			return errors.New("its scale or bias is not constant")
		}
		v, err := t.Float64s()
		if err != nil {
			return err
		}
		var out []float64
		for _, x := range v {
			for range per {
				out = append(out, x)
			}
		}
		wide, err := onnx.FromFloat64s(t.Name, t.DType, []int64{int64(len(out))}, out)
		if err != nil {
			return err
		}
		n.SetInput(i, u.constant(n, wide))
	}
	return nil
}

// upgradeResizeModes declines a coordinate mode that opset 13 dropped.
func upgradeResizeModes(_ *upgrader, n *onnx.Node) error {
	if n.Str("coordinate_transformation_mode", "") == "tf_half_pixel_for_nn" {
		return errors.New("its coordinate mode tf_half_pixel_for_nn is gone")
	}
	return nil
}

// upgradeRoiAlign writes out the coordinate mode whose default changed (opset 16).
func upgradeRoiAlign(_ *upgrader, n *onnx.Node) error {
	if n.Attr("coordinate_transformation_mode") == nil {
		n.SetAttr(onnx.StringAttr("coordinate_transformation_mode", "output_half_pixel"))
	}
	return nil
}

// upgradeScatter gives Scatter the name that it has from opset 11 on.
func upgradeScatter(_ *upgrader, n *onnx.Node) error {
	n.Op = "ScatterElements"
	return nil
}

// upgradeSplitOutputs says how many parts there are where no sizes are given (opset 18).
func upgradeSplitOutputs(_ *upgrader, n *onnx.Node) error {
	if n.Input(1) == nil {
		n.SetAttr(onnx.IntAttr("num_outputs", int64(len(n.Outputs()))))
	}
	return nil
}

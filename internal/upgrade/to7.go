package upgrade

import (
	"errors"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// upgradeBroadcast writes out how the second operand is spread: before opset 7
// it is spread only on request (broadcast), along the axes from axis on; from 7
// on always, from the right.
func upgradeBroadcast(u *upgrader, n *onnx.Node) error {
	a, b := u.facts.Shape(n.Input(0)), u.facts.Shape(n.Input(1))
	axis := n.Attr("axis")
	spread := n.Int("broadcast", 0) != 0
	n.DeleteAttr("broadcast")
	n.DeleteAttr("axis")
	n.DeleteAttr("consumed_inputs")
	if !spread || axis == nil {
		return nil
	}
	if a == nil || b == nil {
		return errors.New("the ranks of its inputs are not known")
	}
	at := axis.I
	if at < 0 {
		at += int64(len(a))
	}
	behind := int64(len(a)) - at - int64(len(b))
	if at < 0 || behind < 0 {
		return errors.New("its second input does not fit along its axis")
	}
	if behind == 0 {
		return nil
	}
	return u.trail(n, 1, int(behind))
}

// trail gives input i of n more axes of size 1 at the end.
func (u *upgrader) trail(n *onnx.Node, i, more int) error {
	v := n.Input(i)
	if t := v.Constant(); t != nil {
		wide := *t
		wide.Shape = append(slices.Clone(t.Shape), slices.Repeat([]int64{1}, more)...)
		n.SetInput(i, u.constant(n, &wide))
		return nil
	}
	rank := len(u.facts.Shape(v))
	axes := make([]int64, more)
	for k := range axes {
		axes[k] = int64(rank + k)
	}
	g := n.Graph()
	un := onnx.NewNode("Unsqueeze", []*onnx.Value{v}, g.Model().Fresh(v.Name()+"_spread"))
	if u.to >= 13 {
		un.SetInput(1, u.ints(n, "spread", axes...))
	} else {
		un.Attrs = []*onnx.Attr{onnx.IntsAttr("axes", axes...)}
	}
	g.InsertBefore(un, n)
	n.SetInput(i, un.Output(0))
	return nil
}

// upgradePRelu spreads a slope per channel, which stands along axis 1 before
// opset 7, from the right.
func upgradePRelu(u *upgrader, n *onnx.Node) error {
	a, b := u.facts.Shape(n.Input(0)), u.facts.Shape(n.Input(1))
	switch {
	case a == nil || b == nil:
		return errors.New("the ranks of its inputs are not known")
	case len(b) != 1 || len(a) <= 2 || b[0].Known() && b[0].Value == 1:
		return nil
	}
	return u.trail(n, 1, len(a)-2)
}

// upgradeTest drops the mode of operators that know it by other means from
// opset 7 on, and declines training.
func upgradeTest(_ *upgrader, n *onnx.Node) error {
	if n.Int("is_test", 0) == 0 {
		return errors.New("it is in training form (is_test is 0)")
	}
	n.DeleteAttr("is_test")
	n.DeleteAttr("consumed_inputs")
	return nil
}

// upgradeGemm drops the request to spread the bias, which is spread from the
// right before opset 7 too.
func upgradeGemm(_ *upgrader, n *onnx.Node) error {
	n.DeleteAttr("broadcast")
	return nil
}

package prune

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// maskLayer is a weight with what its readers multiply it with.
type maskLayer struct {
	candidate
	view   maskView
	inputs []maskInput
	blind  string // why what the readers read is not measured; "" where it is
}

// maskInput is what a reader of a weight reads beside it.
type maskInput struct {
	tensor  string
	patches *calibrate.Patches // nil: along the last axis
}

// key tells inputs apart.
func (i maskInput) key() string {
	if i.patches == nil {
		return i.tensor
	}
	return fmt.Sprintf("%s\n%+v", i.tensor, *i.patches)
}

// layerOf shows a candidate as matrices, or says why it cannot be.
func layerOf(m *onnx.Model, c candidate) (*maskLayer, string) {
	l := &maskLayer{candidate: c}
	t := c.value.Constant()
	for i, u := range c.value.Uses() {
		v, ok := viewOf(u, t.Shape)
		switch {
		case !ok:
			return nil, fmt.Sprintf("how %v reads %q of shape %v is not known", u.Node, c.value.Name(), t.Shape)
		case i > 0 && v != l.view:
			return nil, fmt.Sprintf("%v and %v sum over different axes of %q", c.value.Uses()[0].Node, u.Node, c.value.Name())
		}
		l.view = v
		in, blind := inputOf(m, u, t.Shape)
		if blind != "" {
			l.blind = blind
		}
		l.inputs = append(l.inputs, in)
	}
	return l, ""
}

// inputOf returns what u reads beside its weight of a shape, or why that is not measured.
func inputOf(m *onnx.Model, u onnx.Use, shape []int64) (maskInput, string) {
	n := u.Node
	x := n.Input(1 - min(u.Index, 1))
	name := strings.TrimPrefix(opName(n), "com.microsoft.")
	switch {
	case n.Graph() != m.Graph:
		return maskInput{}, "what it reads is inside of a subgraph and cannot be measured"
	case x == nil:
		return maskInput{}, "it reads nothing"
	case x.Const != nil || x.Constant() != nil:
		return maskInput{}, "what it reads is constant"
	case u.Index == 2:
		return maskInput{}, fmt.Sprintf("what it reads is the state inside of %s", name)
	}
	in := maskInput{tensor: x.Name()}
	switch name {
	case "Conv", "FusedConv":
		in.patches = convPatches(n, shape)
		return in, ""
	case "ConvTranspose":
		ones := make([]int64, len(shape)-2)
		for i := range ones {
			ones[i] = 1
		}
		in.patches = &calibrate.Patches{Kernel: ones, Groups: int(n.Int("group", 1))}
		return in, ""
	case "LSTM", "GRU", "RNN":
		return in, ""
	}
	if len(shape) > 2 {
		return maskInput{}, fmt.Sprintf("its weights of shape %v are a batch of matrices", shape)
	}
	flag, last := "transA", true
	if u.Index == 0 {
		flag, last = "transB", false
	}
	if last == (n.Int(flag, 0) != 0) { // the axis that is summed is not the last one
		in.patches = &calibrate.Patches{Kernel: []int64{1}}
	}
	return in, ""
}

// convPatches describes how a convolution with weights of a shape reads its input.
func convPatches(n *onnx.Node, shape []int64) *calibrate.Patches {
	p := &calibrate.Patches{Kernel: shape[2:], Strides: n.Ints("strides", nil), Dilations: n.Ints("dilations", nil),
		Groups: int(n.Int("group", 1))}
	if auto := n.Str("auto_pad", "NOTSET"); auto == "NOTSET" {
		p.Pads = n.Ints("pads", nil)
	} else if auto != "VALID" {
		p.AutoPad = auto
	}
	return p
}

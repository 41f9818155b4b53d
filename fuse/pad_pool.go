package fuse

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// padAveragePool: AveragePool adds zeros around its input itself and, where
// count_include_pad is set, takes them for elements as Pad's were.
var padAveragePool = rewrite.Rule{
	Name: "pad-averagepool", Doc: "folds Pad by zeros into the AveragePool after it, which then counts its padding",
	Pattern: "AveragePool(pad=Pad(x, ...))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		pad, err := padOf(m, m.Node("pad"))
		if err != nil {
			return err
		}
		switch {
		case m.Opset() < 7:
			return rewrite.Decline("AveragePool of opset %d does not count padding", m.Opset())
		case pad.value != 0:
			return rewrite.Decline("Pad adds %v", pad.value)
		case m.Root.Int("ceil_mode", 0) != 0:
			return rewrite.Decline("ceil_mode is set, which counts padding in other ways")
		case padded(m.Root) && m.Root.Int("count_include_pad", 0) == 0:
			return rewrite.Decline("AveragePool has padding of its own that it does not count")
		}
		return foldIntoPool(m, p, pad, onnx.IntAttr("count_include_pad", 1))
	},
}

// padMaxPool: MaxPool's own padding is never the largest element.
var padMaxPool = rewrite.Rule{
	Name: "pad-maxpool", Doc: "folds Pad by the lowest number into the MaxPool after it; by zero, where its input is not negative",
	Pattern: "MaxPool(pad=Pad(x, ...))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		pad, err := padOf(m, m.Node("pad"))
		if err != nil {
			return err
		}
		d := m.Facts.DType(m.Value("x"))
		lowest := pad.value <= lowestOf(d)
		switch {
		case !isReal(d):
			return rewrite.Decline("the element type is %v", d)
		case !lowest && pad.value > 0:
			return rewrite.Decline("Pad adds %v, which may be the largest element", pad.value)
		case !lowest && !neverNegative(m.Value("x"), 8):
			return rewrite.Decline("Pad adds %v, and the input may be below that", pad.value)
		case m.Root.Output(1) != nil && !m.Root.Output(1).Dead():
			return rewrite.Decline("the indices are read")
		case m.Root.Int("ceil_mode", 0) != 0 || !all64(m.Root.Ints("dilations", nil), 1):
			return rewrite.Decline("a window may be padding only")
		}
		return foldIntoPool(m, p, pad)
	},
}

// lowestOf returns the least finite number of a float type.
func lowestOf(d onnx.DType) float64 {
	switch d {
	case onnx.Float16:
		return -65504
	case onnx.BFloat16:
		return -0x1.fep127
	case onnx.Double:
		return -math.MaxFloat64
	}
	return -math.MaxFloat32
}

// foldIntoPool gives the pooling at the root the padding of the Pad before it.
func foldIntoPool(m *rewrite.Match, p *rewrite.Patch, pad padding, more ...*onnx.Attr) error {
	pads, err := pad.intoWindow(m.Root)
	if err != nil {
		return err
	}
	kernel := m.Root.Ints("kernel_shape", nil)
	for i, amount := range pads {
		if i%(len(pads)/2) >= len(kernel) || amount >= kernel[i%(len(pads)/2)] {
			return rewrite.Decline("padding by %v would not be smaller than the kernel %v, which engines refuse", pads, kernel)
		}
	}
	more = append(more, onnx.IntsAttr("pads", pads...))
	if m.Root.Attr("auto_pad") != nil {
		more = append(more, onnx.StringAttr("auto_pad", "NOTSET"))
	}
	p.Swap(m.Root.Output(0), p.Add(m.Root.Op, []*onnx.Value{m.Value("x")}, withAttrs(m.Root, more...)...))
	return nil
}

// neverNegative reports whether no element of v can be below zero, looking at the
// operators that make it, depth of them at most. NaN counts as not below.
func neverNegative(v *onnx.Value, depth int) bool {
	n := v.Producer()
	if n == nil || depth == 0 || onnx.NormalDomain(n.Domain) != "" || v.Index() != 0 {
		return false
	}
	switch n.Op {
	case "Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Abs", "Exp", "Sqrt", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ThresholdedRelu":
		return n.Op != "ThresholdedRelu" || n.Float("alpha", 1) >= 0
	case "Clip":
		return clipsBelow(n)
	case "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout":
		return neverNegative(n.Input(0), depth-1)
	case "Concat", "Add", "Mul":
		for _, in := range n.Inputs() {
			if in == nil || !neverNegative(in, depth-1) {
				return false
			}
		}
		return len(n.Inputs()) > 0
	}
	return false
}

// clipsBelow reports whether Clip lets nothing below zero through.
func clipsBelow(n *onnx.Node) bool {
	if n.OpsetVersion("") < 11 {
		return n.Attr("min") != nil && n.Float("min", -1) >= 0
	}
	if n.Input(1) == nil || n.Input(1).Constant() == nil {
		return false
	}
	v, err := n.Input(1).Constant().Float64s()
	return err == nil && len(v) == 1 && v[0] >= 0
}

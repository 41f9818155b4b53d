package quantize

import (
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// halfOps are the operators that keep their accuracy in float16. Others are
// float32 islands: norms, whose sums of squares overflow, exponentials and
// powers, running sums, trigonometry of positions, selection by score, and
// operators whose definition asks for float32.
var halfOps = map[string]bool{
	"Conv": true, "ConvTranspose": true, "MatMul": true, "Gemm": true, "Add": true, "Sub": true, "Mul": true, "Div": true, "Neg": true,
	"Abs": true, "Relu": true, "LeakyRelu": true, "PRelu": true, "Sigmoid": true, "Tanh": true, "HardSigmoid": true, "HardSwish": true,
	"Elu": true, "Selu": true, "Gelu": true, "Mish": true, "Erf": true, "Sqrt": true, "Clip": true, "Min": true, "Max": true, "Where": true,
	"Concat": true, "Split": true, "Slice": true, "Gather": true, "GatherElements": true, "GatherND": true, "Reshape": true,
	"Transpose": true, "Squeeze": true, "Unsqueeze": true, "Flatten": true, "Expand": true, "Tile": true, "Pad": true, "Identity": true,
	"Dropout": true, "MaxPool": true, "AveragePool": true, "GlobalAveragePool": true, "GlobalMaxPool": true, "BatchNormalization": true,
	"Softmax": true, "LogSoftmax": true, "ReduceMean": true, "ReduceSum": true, "ReduceMax": true, "ReduceMin": true, "ConstantOfShape": true,
	"Resize": true, "Upsample": true, "DepthToSpace": true, "SpaceToDepth": true, "LSTM": true, "GRU": true, "RNN": true, "Softplus": true,
	"Softsign": true, "Sum": true, "ScatterElements": true, "ScatterND": true,
}

// pinned reports whether input i of n is float32 by the operator's definition.
func pinned(n *onnx.Node, i int) bool {
	switch n.Op {
	case "Resize":
		return i > 0
	case "Upsample":
		return i == 1
	}
	return false
}

// small is the most elements of a constant each of which must survive.
const small = 16

// minHalf is the least normal float16.
const minHalf = 0x1p-14

// unfit says why constant t of n must stay float32; "" if it may be float16. A
// small constant such as an epsilon must not vanish, and no weight overflow; bounds
// of Clip and the large negative numbers of masks may saturate.
func unfit(t *onnx.Tensor, n *onnx.Node) string {
	b, err := t.Bytes()
	if err != nil {
		return err.Error()
	}
	few := len(b)/4 <= small
	for i := range len(b) / 4 {
		x := floatAt(b, i)
		a := math.Abs(float64(x))
		switch {
		case few && a > 0 && a < minHalf:
			return fmt.Sprintf("its constant %q of %v would vanish", t.Name, x)
		case a > maxHalf && !math.IsInf(a, 0) && n.Op != "Clip" && !(x < 0 && mask(n)):
			return fmt.Sprintf("its constant %q has an element %v, beyond the range of float16", t.Name, x)
		}
	}
	return ""
}

// mask reports whether n is of a kind that applies masks.
func mask(n *onnx.Node) bool {
	switch n.Op {
	case "Add", "Sub", "Mul", "Where", "ConstantOfShape", "Expand":
		return true
	}
	return false
}

// masks reports whether t has finite elements below the range of float16.
func masks(t *onnx.Tensor) bool {
	b, err := t.Bytes()
	for i := range len(b) / 4 {
		if x := floatAt(b, i); x < -maxHalf && finite32(x) {
			return true
		}
	}
	return err != nil
}

// longest is how many elements are summed in float16.
const longest = 1024

// wideReduction says why n sums too much for float16; "" if it does not.
func wideReduction(n *onnx.Node, facts *opset.Facts) string {
	switch n.Op {
	case "ReduceMean", "ReduceSum", "Softmax", "LogSoftmax":
	default:
		return ""
	}
	dims := facts.Shape(n.Input(0))
	axes := n.Ints("axes", nil)
	if n.Op == "Softmax" || n.Op == "LogSoftmax" {
		axes = []int64{n.Int("axis", -1)}
	} else if v, ok := facts.Ints(n.Input(1)); ok {
		for _, x := range v {
			if x.Known {
				axes = append(axes, x.Value)
			}
		}
	}
	count := int64(1)
	for i, d := range dims {
		reduced := len(axes) == 0
		for _, a := range axes {
			reduced = reduced || a == int64(i) || a+int64(len(dims)) == int64(i)
		}
		if reduced && !d.Known() {
			return "it sums over a dimension of unknown size"
		}
		if reduced {
			count *= d.Value
		}
	}
	if dims == nil || count > longest {
		return fmt.Sprintf("it sums over more than %d elements", longest)
	}
	return ""
}

// islands returns nodes that stay in float32 for what is around them, with the
// reason: what normalizes by a sum of squares, from the square to the division,
// and what leads to a sine or cosine, whose arguments grow with the position.
func islands(m *onnx.Model) map[*onnx.Node]string {
	out := map[*onnx.Node]string{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			squares(n, out)
			if n.Is("Sin") || n.Is("Cos") {
				angles(n, out, 0)
			}
		}
	}
	return out
}

// squares marks the readers of a square up to the division by its root.
func squares(n *onnx.Node, out map[*onnx.Node]string) {
	square := n.Is("Mul") && n.Input(0) == n.Input(1)
	if !square && !n.Is("Pow") && out[n] != normReason || n.Output(0) == nil {
		return
	}
	for _, u := range n.Output(0).Uses() {
		switch u.Node.Op {
		case "ReduceMean", "ReduceSum":
			out[u.Node] = normReason
			if square {
				out[n] = normReason
			}
		case "Add", "Sqrt", "Reciprocal", "Div":
			if out[n] == normReason && !(n.Is("Div") || n.Is("Reciprocal")) {
				out[u.Node] = normReason
			}
		}
	}
}

const normReason = "it is part of a normalization by a sum of squares"

// angles marks what computes the argument of n.
func angles(n *onnx.Node, out map[*onnx.Node]string, depth int) {
	if depth > 16 {
		return
	}
	for _, v := range n.Inputs() {
		if v == nil || v.Producer() == nil {
			continue
		}
		switch k := v.Producer(); k.Op {
		case "Mul", "Add", "MatMul", "Einsum", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Concat", "Expand", "Gather", "Slice", "Cast":
			out[k] = "it computes the argument of a sine or cosine"
			angles(k, out, depth+1)
		}
	}
}

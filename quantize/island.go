package quantize

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// halfRole says what a node contributes where floats have 16 bits.
type halfRole int

const (
	none     halfRole = iota // stays in float32
	moves                    // moves data: pays beside others only
	computes                 // computes
)

// halfOps are the operators that keep their accuracy in 16 bits.
var halfOps = map[string]halfRole{
	"Conv": computes, "ConvTranspose": computes, "MatMul": computes, "Gemm": computes, "LSTM": computes, "GRU": computes, "RNN": computes,
	"Add": computes, "Sub": computes, "Mul": computes, "Div": computes, "Neg": computes, "Abs": computes, "Sum": computes, "Sqrt": computes, "Erf": computes,
	"Relu": computes, "LeakyRelu": computes, "PRelu": computes, "Sigmoid": computes, "Tanh": computes, "HardSigmoid": computes, "HardSwish": computes,
	"Elu": computes, "Selu": computes, "Gelu": computes, "Mish": computes, "Softplus": computes, "Softsign": computes, "Clip": computes, "Min": computes,
	"Max": computes, "Softmax": computes, "LogSoftmax": computes, "ReduceMean": computes, "ReduceSum": computes, "ReduceMax": computes, "ReduceMin": computes,
	"MaxPool": computes, "AveragePool": computes, "GlobalAveragePool": computes, "GlobalMaxPool": computes, "BatchNormalization": computes,
	"Resize": computes, "Upsample": computes, "Gather": computes, "GatherElements": computes, "GatherND": computes,
	"Where": moves, "Concat": moves, "Split": moves, "Slice": moves, "Reshape": moves, "Transpose": moves, "Squeeze": moves,
	"Unsqueeze": moves, "Flatten": moves, "Expand": moves, "Tile": moves, "Pad": moves, "Identity": moves, "Dropout": moves,
	"DepthToSpace": moves, "SpaceToDepth": moves, "ScatterElements": moves, "ScatterND": moves, "ConstantOfShape": moves, "Cast": moves, "Trilu": moves,
}

// wideOps are operators that stay in float32, with the reason. Those that are in
// neither list do so because nothing is known of them.
var wideOps = reasonsOf(map[string][]string{
	"it normalizes by a sum of squares, which overflows": {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
		"LpNormalization", "MeanVarianceNormalization", "LRN", "ReduceL2", "ReduceSumSquare", "LpPool", "GlobalLpPool", "SimplifiedLayerNormalization",
		"SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization", "GroupNorm", "SkipGroupNorm"},
	"exponentials and powers leave the range":           {"Exp", "Pow", "ReduceLogSumExp", "ReduceLogSum", "ReduceProd", "Log", "Reciprocal"},
	"running sums lose what is small beside them":       {"CumSum", "ReduceL1"},
	"its numbers count or place something":              {"Range", "RoiAlign", "MaxRoiPool", "GridSample", "AffineGrid", "OneHot"},
	"it selects by score, and rounded scores are equal": {"NonMaxSuppression", "TopK", "ArgMax", "ArgMin", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"},
	"arguments of periodic functions need their bits":   {"Sin", "Cos", "Tan"},
	"it is a loss": {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"},
	randomReason:   {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"},
	"it is made of integers and their float32 scales": {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
		"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "QGemm", "QAttention",
		"QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearConcat", "QLinearAveragePool", "QLinearGlobalAveragePool"},
	"sequences hold float32": {"SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceErase", "SplitToSequence", "ConcatFromSequence", "SequenceEmpty", "SequenceMap"},
})

const randomReason = "it draws random numbers, others in each type"

func reasonsOf(lists map[string][]string) map[string]string {
	out := map[string]string{}
	for why, ops := range lists {
		for _, op := range ops {
			out[op] = why
		}
	}
	return out
}

// halfPart returns what n contributes.
func halfPart(n *onnx.Node) halfRole {
	if onnx.NormalDomain(n.Domain) != "" {
		return none
	}
	return halfOps[n.Op]
}

// wideOp says why n stays in float32 whatever its numbers are; "" if it need not.
func wideOp(n *onnx.Node, t *halfType) string {
	if t.dtype == onnx.BFloat16 && n.Is("BatchNormalization") {
		return "it normalizes, for which bfloat16 has too few bits"
	}
	if why := wideOps[n.Op]; why != "" {
		return why
	}
	switch {
	case opset.Varies(n): // a Dropout that is training
		return randomReason
	case n.Graph().Model().FindFunction(n) != nil:
		return "it calls a local function, which has no types of its own; lapidary fuse writes the body in its place"
	case halfPart(n) == none:
		return "the operator is computed in float32"
	}
	return ""
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

// islands returns nodes that stay in float32 for what is around them, with the reason.
func islands(m *onnx.Model) map[*onnx.Node]string {
	out := map[*onnx.Node]string{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			squares(n, out)
			integers(n, out)
			switch {
			case n.Is("Sin"), n.Is("Cos"):
				behind(n.Inputs(), out, "it computes the argument of a sine or cosine", angleOps)
			case n.Is("NonMaxSuppression"), n.Is("RoiAlign"), n.Is("MaxRoiPool"):
				behind(n.Inputs(), out, "it computes the corners of boxes", boxOps)
			case n.Is("Cast") && onnx.DType(n.Int("to", 0)).IsInt(), n.Is("Range"):
				behind(n.Inputs(), out, "an integer is made of it", boxOps)
			case n.Is("Resize"), n.Is("Upsample"):
				behind(n.Inputs()[min(1, len(n.Inputs())):], out, "it computes the scale of a resize", boxOps)
			}
		}
	}
	return out
}

// angleOps and boxOps are the operators through which numbers keep their meaning
// as an angle, or as a place or count.
var (
	angleOps = opsOf("Mul", "Add", "MatMul", "Einsum", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Concat", "Expand", "Gather", "Slice", "Cast")
	boxOps   = opsOf("Mul", "Add", "Sub", "Div", "Neg", "Min", "Max", "Clip", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Concat", "Expand",
		"Gather", "Slice", "Split", "Cast", "Identity", "Exp", "Floor", "Ceil", "Round", "Sqrt", "Where")
)

func opsOf(names ...string) map[string]bool {
	out := map[string]bool{}
	for _, s := range names {
		out[s] = true
	}
	return out
}

// behind marks what computes values, back through ops. What is marked already is
// not entered again.
func behind(values []*onnx.Value, out map[*onnx.Node]string, why string, ops map[string]bool) {
	for work := values; len(work) > 0; {
		v := work[len(work)-1]
		work = work[:len(work)-1]
		if v == nil || v.Producer() == nil {
			continue
		}
		k := v.Producer()
		if onnx.NormalDomain(k.Domain) != "" || !ops[k.Op] || out[k] != "" {
			continue
		}
		out[k] = why
		work = append(work[:len(work):len(work)], k.Inputs()...)
	}
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

// integers marks what stands around integers: readers of DequantizeLinear and what
// QuantizeLinear reads, which runtimes merge with them, and the way from an integer
// product to real numbers.
func integers(n *onnx.Node, out map[*onnx.Node]string) {
	const why = "it is part of an integer block, whose scales are float32"
	switch {
	case n.Is("DequantizeLinear"):
		readers(n, out, why)
	case n.Is("QuantizeLinear"), n.Is("DynamicQuantizeLinear"):
		if k := n.Input(0).Producer(); k != nil && n.Is("QuantizeLinear") && out[k] == "" {
			out[k] = why
		}
	case n.Is("MatMulInteger"), n.Is("ConvInteger"), n.Is("Cast") && out[n] == why:
		readers(n, out, why)
	}
}

// readers marks what reads n's outputs.
func readers(n *onnx.Node, out map[*onnx.Node]string, why string) {
	for _, v := range n.Outputs() {
		if v == nil {
			continue
		}
		for _, u := range v.Uses() {
			if out[u.Node] == "" {
				out[u.Node] = why
			}
		}
	}
}

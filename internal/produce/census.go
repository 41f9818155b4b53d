package produce

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Census counts the operators of a graph that an engine has optimized.
type Census struct {
	Nodes int            // all nodes, subgraphs included
	Cost  int            // the same, each node with its weight
	Ops   map[string]int // by operator, with its domain unless that is the standard one
}

// Count takes the census of m, subgraphs and local functions included.
func Count(m *onnx.Model) *Census {
	c := &Census{Ops: map[string]int{}}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			op := opKey(n)
			c.Ops[op]++
			c.Nodes++
			c.Cost += costOf(op)
		}
	}
	return c
}

func opKey(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}

const (
	contrib = "com.microsoft."
	nchwc   = "com.microsoft.nchwc."
)

// costs are the nodes that weigh other than usual, which is 2. A constant costs
// nothing when the model runs, and a view of a tensor little. What only copies a
// whole tensor into another layout or to another device does no work of the
// model's own, and weighs more than the small operator that it may have replaced.
var costs = map[string]int{
	"Constant":              0,
	"Identity":              1,
	"Reshape":               1,
	"Squeeze":               1,
	"Unsqueeze":             1,
	"Flatten":               1,
	nchwc + "ReorderInput":  4,
	nchwc + "ReorderOutput": 4,
	"MemcpyToHost":          4,
	"MemcpyFromHost":        4,
}

func costOf(op string) int {
	if w, ok := costs[op]; ok {
		return w
	}
	return 2
}

// part is a set of operators any of which can be one part of a fused operator.
type part []string

var (
	activations    = part{"Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Add"}
	normalizations = part{"ReduceMean", "LayerNormalization", contrib + "SkipLayerNormalization"}
	rootMeans      = part{"ReduceMean", "SimplifiedLayerNormalization", "RMSNormalization", contrib + "SkipSimplifiedLayerNormalization"}
	quantized      = part{"DequantizeLinear"}
	attention      = []part{{"Softmax"}, {"MatMul", contrib + "FusedMatMul"}}
)

// fused are the operators that ONNX Runtime makes of others, or computes in a
// layout of its own, with the parts that lie about where it could not make one.
// It is a loss to have fewer of one and more of each of its parts; fewer of
// one alone means that what it was made of is no longer there.
var fused = map[string][]part{
	nchwc + "Conv":              {{"Conv", contrib + "FusedConv"}},
	nchwc + "MaxPool":           {{"MaxPool"}},
	nchwc + "AveragePool":       {{"AveragePool"}},
	nchwc + "GlobalMaxPool":     {{"GlobalMaxPool"}},
	nchwc + "GlobalAveragePool": {{"GlobalAveragePool"}},
	nchwc + "Upsample":          {{"Upsample", "Resize"}},

	contrib + "FusedConv":     {{"Conv"}, activations},
	contrib + "NhwcFusedConv": {{"Conv", contrib + "FusedConv"}},
	contrib + "NhwcMaxPool":   {{"MaxPool"}},
	contrib + "FusedGemm":     {{"Gemm"}, activations},
	contrib + "FusedMatMul":   {{"MatMul"}, {"Transpose", "Mul", "Div"}},

	"Gelu":                    {{"Erf", "Tanh"}},
	contrib + "Gelu":          {{"Erf"}},
	contrib + "FastGelu":      {{"Tanh"}},
	contrib + "BiasGelu":      {{"Gelu", contrib + "Gelu", contrib + "FastGelu", "Erf"}, {"Add"}},
	contrib + "QuickGelu":     {{"Sigmoid"}, {"Mul"}},
	contrib + "BiasSplitGelu": {{"Gelu", contrib + "Gelu", "Erf"}, {"Split", "Slice"}},
	contrib + "BiasSoftmax":   {{"Softmax"}, {"Add"}},

	"LayerNormalization":                         {{"ReduceMean"}},
	"SimplifiedLayerNormalization":               {{"ReduceMean"}},
	"RMSNormalization":                           {{"ReduceMean"}},
	contrib + "SkipLayerNormalization":           {normalizations[:2], {"Add"}},
	contrib + "SkipSimplifiedLayerNormalization": {rootMeans[:3], {"Add"}},
	contrib + "EmbedLayerNormalization":          {normalizations, {"Gather"}},
	contrib + "GroupNorm":                        {{"InstanceNormalization", "GroupNormalization", "ReduceMean"}},
	contrib + "SkipGroupNorm":                    {{contrib + "GroupNorm", "InstanceNormalization"}, {"Add"}},

	"Attention":                            attention,
	contrib + "Attention":                  attention,
	contrib + "MultiHeadAttention":         attention,
	contrib + "GroupQueryAttention":        attention,
	contrib + "PackedAttention":            attention,
	contrib + "DecoderMaskedSelfAttention": attention,
	contrib + "QAttention":                 attention,
	"RotaryEmbedding":                      {{"Mul"}, {"Concat", "Neg"}},
	contrib + "RotaryEmbedding":            {{"Mul"}, {"Concat", "Neg"}},

	"QLinearConv":                     {{"Conv", contrib + "FusedConv", nchwc + "Conv"}, quantized},
	"QLinearMatMul":                   {{"MatMul", contrib + "FusedMatMul", "Gemm"}, quantized},
	contrib + "QGemm":                 {{"Gemm", "MatMul", contrib + "FusedGemm"}, quantized},
	contrib + "MatMulNBits":           {{"MatMul", "Gemm"}, quantized},
	contrib + "DynamicQuantizeMatMul": {{"MatMulInteger", contrib + "MatMulIntegerToFloat", "MatMul"}},
	contrib + "MatMulIntegerToFloat":  {{"MatMulInteger"}},
	contrib + "DynamicQuantizeLSTM":   {{"LSTM"}},
}

// partsOf returns what op is made of; false where op is nothing fused. ONNX
// Runtime's other quantized operators stand for an operator between
// DequantizeLinear and QuantizeLinear.
func partsOf(op string) ([]part, bool) {
	if p, ok := fused[op]; ok {
		return p, true
	}
	if name, ok := strings.CutPrefix(op, contrib+"QLinear"); ok {
		return []part{{name}, quantized}, true
	}
	return nil, false
}

// Fused returns the counts of the operators that the engine made of others.
func (c *Census) Fused() map[string]int {
	out := map[string]int{}
	for op, n := range c.Ops {
		if _, ok := partsOf(op); ok {
			out[op] = n
		}
	}
	return out
}

// Lost says what the engine makes less of the result than of the original, ""
// where it loses nothing: fused operators whose parts now lie about apart, or
// more nodes in total, by weight.
func Lost(before, after *Census) string {
	var lost []string
	for _, op := range slices.Sorted(maps.Keys(before.Ops)) {
		parts, ok := partsOf(op)
		if !ok {
			continue
		}
		n := before.Ops[op] - after.Ops[op]
		for _, p := range parts {
			n = min(n, more(before, after, p))
		}
		if n > 0 {
			lost = append(lost, fmt.Sprintf("%d of %d %s", n, before.Ops[op], op))
		}
	}
	if len(lost) > 0 {
		return "the engine no longer fuses " + strings.Join(lost, ", ")
	}
	if after.Cost > before.Cost {
		return fmt.Sprintf("the engine is left with %d nodes instead of %d (by weight %d instead of %d)", after.Nodes, before.Nodes, after.Cost, before.Cost)
	}
	return ""
}

// more returns how many more operators of p there are.
func more(before, after *Census, p part) int {
	n := 0
	for _, op := range p {
		n += after.Ops[op] - before.Ops[op]
	}
	return max(0, n)
}

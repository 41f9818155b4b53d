package nets

import "github.com/lapidary-ml/lapidary/internal/onnx"

// Style is how an exporter writes a network down.
type Style string

// The styles.
const (
	// TorchScript is torch.onnx.export before its rewrite: Constant nodes, sizes
	// read by Shape, Gather, Unsqueeze and Concat, every module spelled out in
	// primitive operators below the opset that has it as one.
	TorchScript Style = "torchscript"
	// Dynamo is torch.onnx.export of an exported program: constants as
	// initializers, transposed weights folded, functions inlined, SDPA decomposed
	// with the square root of the scale on both sides, rsqrt as Reciprocal(Sqrt).
	Dynamo Style = "dynamo"
	// DynamoFunctions is Dynamo before inlining: a layer is a call of a local function.
	DynamoFunctions Style = "dynamo-functions"
	// Keras is tf2onnx of a TensorFlow graph: NHWC with a Transpose on either side
	// of each convolution, MatMul and BiasAdd, norms from moments.
	Keras Style = "keras"
	// JAX is a converted jaxpr: dot_general as Einsum, norms as arithmetic, erf GELU.
	JAX Style = "jax"
)

// Styles lists all styles.
var Styles = []Style{TorchScript, Dynamo, DynamoFunctions, Keras, JAX}

// producer names the exporter as its models do.
func (s Style) producer() (name, version string) {
	switch s {
	case TorchScript:
		return "pytorch", "2.1.0"
	case Keras:
		return "tf2onnx", "1.16.1"
	case JAX:
		return "jax2onnx", "0.10.0"
	}
	return "pytorch", "2.9.0"
}

// opset is the version that the exporter writes unless told otherwise.
func (s Style) opset() int64 {
	switch s {
	case TorchScript:
		return 14
	case Keras:
		return 13
	case JAX:
		return 17
	}
	return 18
}

// nhwc reports whether the style keeps channels last between convolutions.
func (s Style) nhwc() bool { return s == Keras || s == JAX }

// traced reports whether the style comes from an exported PyTorch program.
func (s Style) traced() bool { return s == Dynamo || s == DynamoFunctions }

// irVersion returns the IR version that came with a standard opset, so that
// engines which check one against the other accept the model; functions need 8.
func irVersion(opset int64) int64 {
	switch {
	case opset < 15:
		return 7
	case opset < 19:
		return 8
	case opset < 21:
		return 9
	case opset < 23:
		return 10
	}
	return 11
}

// Kind is something that networks are made of and that fusing looks for.
type Kind string

// The kinds. A norm or activation counts however it is spelled.
const (
	Attention  Kind = "attention"  // softmax of scaled scores times values
	QKV        Kind = "qkv"        // three projections that read the same value
	Rotary     Kind = "rotary"     // rotary embeddings, queries and keys apart
	LayerNorm  Kind = "layer-norm" // with scale and bias
	RMSNorm    Kind = "rms-norm"
	GroupNorm  Kind = "group-norm"
	BatchNorm  Kind = "batch-norm"
	Gelu       Kind = "gelu"
	GeluTanh   Kind = "gelu-tanh"
	Swish      Kind = "swish" // also known as SiLU
	HardSwish  Kind = "hard-swish"
	Sigmoid6   Kind = "hard-sigmoid" // min(max(x+3, 0), 6)/6
	DotSoftmax Kind = "softmax"      // outside of attention
)

// Kinds lists all kinds in the order of tables.
var Kinds = []Kind{Attention, QKV, Rotary, LayerNorm, RMSNorm, GroupNorm, BatchNorm, Gelu, GeluTanh, Swish, HardSwish, Sigmoid6, DotSoftmax}

// floatBits are the element types that weights may have.
var floatBits = map[onnx.DType]bool{onnx.Float: true, onnx.Float16: true, onnx.Double: true, onnx.BFloat16: true}

package quantize

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// upgrade raises m's standard opset to at least to, 13 being the highest that
// it knows the way to. Every operator present keeps its meaning; one whose
// meaning cannot be kept is named in the error.
func upgrade(m *onnx.Model, to int64) ([]string, error) {
	from := m.OpsetVersion("")
	if from == 0 || from >= to {
		return nil, nil
	}
	if len(m.Functions) > 0 {
		return nil, fmt.Errorf("the model has opset %d and local functions, which cannot be raised to opset %d; export it at that opset", from, to)
	}
	u := &upgrader{m: m, from: from, to: to}
	if err := u.infer(); err != nil {
		return nil, err
	}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if onnx.NormalDomain(n.Domain) != "" {
				continue
			}
			if err := u.node(n); err != nil {
				return nil, fmt.Errorf("%v cannot be raised from opset %d to %d: %w; export the model at opset %d", n, from, to, err, to)
			}
		}
	}
	m.ImportOpset("", to)
	m.IRVersion = max(m.IRVersion, 7)
	if _, err := m.Sort(); err != nil {
		return nil, err
	}
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("the model raised to opset %d is not valid: %w", to, err)
	}
	return []string{fmt.Sprintf("raised the standard opset from %d to %d", from, to)}, nil
}

// plainConstants makes the weights of models before IR version 4, which list
// them as inputs that no caller can override, constants that are no inputs, as
// later versions have them.
func plainConstants(m *onnx.Model) {
	if m.IRVersion >= 4 {
		return
	}
	m.IRVersion = 4
	for _, v := range slices.Clone(m.Graph.Inputs()) {
		if v.Const != nil {
			// An input with a default is never refused.
			_ = m.Graph.RemoveInput(v)
		}
	}
}

// upgrader rewrites nodes from one opset to another.
type upgrader struct {
	m        *onnx.Model
	from, to int64
	facts    *opset.Facts
}

func (u *upgrader) infer() (err error) {
	u.facts, err = opset.Infer(u.m, opset.Options{})
	return err
}

// unchanged lists operators whose forms between opset 7 and 13 differ in the
// types they take, in attributes whose default is the old behaviour, or in
// negative axes only.
var unchanged = []string{
	"Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Cast", "Ceil",
	"Compress", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "DepthToSpace", "Div", "Elu", "Equal", "Erf",
	"Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool",
	"GlobalMaxPool", "Greater", "HardSigmoid", "Identity", "If", "InstanceNormalization", "IsNaN", "LRN", "LSTM", "LeakyRelu",
	"Less", "Log", "Loop", "LpNormalization", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mod", "Mul", "Neg", "NonMaxSuppression",
	"NonZero", "Not", "OneHot", "Or", "PRelu", "Pow", "RNN", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
	"Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
	"ReduceSumSquare", "Relu", "Reshape", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "Softplus", "Softsign",
	"SpaceToDepth", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "Tile", "Transpose", "Where", "Xor",
}

// node brings n to the new form.
func (u *upgrader) node(n *onnx.Node) error {
	was, is := opset.Lookup("", n.Op, u.from), opset.Lookup("", n.Op, u.to)
	if was != nil && is != nil && was.Since == is.Since {
		return nil
	}
	if u.from < 7 {
		return fmt.Errorf("opsets before 7 broadcast by other rules")
	}
	if f := changes()[n.Op]; f != nil {
		return f(u, n)
	}
	if !slices.Contains(unchanged, n.Op) {
		return fmt.Errorf("there is no rule for the operator")
	}
	return nil
}

// changes gives, per operator, what brings it to its form of opset 13.
func changes() map[string]func(*upgrader, *onnx.Node) error {
	return map[string]func(*upgrader, *onnx.Node) error{
		"BatchNormalization": upgradeBatchNorm,
		"Clip":               upgradeClip,
		"Dropout":            upgradeDropout,
		"Hardmax":            flattenAround,
		"LogSoftmax":         flattenAround,
		"Softmax":            flattenAround,
		"Pad":                upgradePad,
		"ReduceSum":          axesToInput,
		"Squeeze":            axesToInput,
		"Unsqueeze":          axesToInput,
		"Slice":              upgradeSlice,
		"Split":              upgradeSplit,
		"TopK":               upgradeTopK,
		"Upsample":           upgradeUpsample,
		"Resize":             upgradeResize,
	}
}

func (u *upgrader) ints(n *onnx.Node, name string, v ...int64) *onnx.Value {
	return n.Graph().NewConst(onnx.FromInts(outputName(n)+"_"+name, []int64{int64(len(v))}, v))
}

// real returns a scalar constant of the element type that n works in.
func (u *upgrader) real(n *onnx.Node, name string, v float64) (*onnx.Value, error) {
	d := u.facts.DType(n.Input(0))
	if d == onnx.Undefined {
		return nil, fmt.Errorf("the element type of %q is not known", n.Input(0).Name())
	}
	t, err := onnx.FromFloat64s(outputName(n)+"_"+name, d, []int64{}, []float64{v})
	if err != nil {
		return nil, err
	}
	return n.Graph().NewConst(t), nil
}

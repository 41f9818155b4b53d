package prune

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// foldConstants moves what channels of constant value contribute into the biases
// of the layers that read them, where that is exact, so that the channels become
// zero and [dims.dead] finds them: those of a BatchNormalization whose scale is
// zero, as training with a penalty on scales leaves them, and of a layer whose
// weights are. The way from there to the reader must be operators that take each
// channel by itself; the reader a layer in which every output sees the channel
// alike, which padding prevents. It returns how many channels were folded.
func foldConstants(m *onnx.Model) (int, error) {
	folded := 0
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			k, err := foldNode(m, n)
			if err != nil {
				return folded, err
			}
			folded += k
		}
	}
	return folded, nil
}

// foldNode folds the constant channels that n makes.
func foldNode(m *onnx.Model, n *onnx.Node) (int, error) {
	at, values, err := constantChannels(n)
	if err != nil || len(at) == 0 {
		return 0, err
	}
	bias := 2
	if n.Is("Conv") || n.Is("Gemm") {
		if n.Input(2) == nil {
			return 0, nil // zero as it is
		}
	}
	v, zero := n.Output(0), make([]bool, len(at))
	for {
		if allTrue(zero) {
			return len(at), settleBias(m, n, bias, at, nil)
		}
		if v.IsOutput() || len(v.Uses()) != 1 {
			break
		}
		use := v.Uses()[0]
		if use.Index == 0 && channelwise(use.Node) {
			for i, c := range values {
				values[i] = through(use.Node, c)
				zero[i] = values[i] == 0
			}
			v = use.Node.Output(0)
			continue
		}
		ok, err := absorb(m, use, at, values)
		if err != nil {
			return 0, err
		}
		if ok {
			return len(at), settleBias(m, n, bias, at, nil)
		}
		break
	}
	return countTrue(zero), settleBias(m, n, bias, at, zero)
}

// constantChannels returns the channels of n's output whose value does not depend
// on the inputs and is not zero, and these values.
func constantChannels(n *onnx.Node) (at []int, values []float64, err error) {
	switch {
	case n.Is("BatchNormalization"):
		scale, bias := n.Input(1).Constant(), n.Input(2).Constant()
		if scale == nil || bias == nil || n.Int("training_mode", 0) != 0 {
			return nil, nil, nil
		}
		s, err := scale.Float64s()
		if err != nil {
			return nil, nil, err
		}
		b, err := bias.Float64s()
		if err != nil {
			return nil, nil, err
		}
		for k := range s {
			if s[k] == 0 && b[k] != 0 {
				at, values = append(at, k), append(values, b[k])
			}
		}
		return at, values, nil
	case n.Is("Conv"), n.Is("Gemm") && n.Float("beta", 1) == 1:
		return emptyRows(n)
	}
	return nil, nil, nil
}

// emptyRows returns the outputs of a layer whose weights are all zero, with their biases.
func emptyRows(n *onnx.Node) (at []int, values []float64, err error) {
	w := n.Input(1).Constant()
	if w == nil || len(w.Shape) < 2 || !w.DType.IsFloat() || n.Input(2) == nil {
		return nil, nil, nil
	}
	axis := 0
	if n.Is("Gemm") && n.Int("transB", 0) == 0 {
		axis = 1
	}
	outputs := int(w.Shape[axis])
	bias, err := biasOf(n.Input(2), outputs)
	if err != nil || bias == nil {
		return nil, nil, err
	}
	weights, err := w.Float64s()
	if err != nil {
		return nil, nil, err
	}
	inner := 1
	for _, k := range w.Shape[axis+1:] {
		inner *= int(k)
	}
	used := make([]bool, outputs)
	for i, x := range weights {
		if x != 0 {
			used[i/inner%outputs] = true
		}
	}
	for k, b := range bias {
		if !used[k] && b != 0 {
			at, values = append(at, k), append(values, b)
		}
	}
	return at, values, nil
}

// channelwise reports whether n takes a channel of one value to one of one value,
// and zero to zero, by its first input alone.
func channelwise(n *onnx.Node) bool {
	switch {
	case n.Is("Relu"), n.Is("LeakyRelu"), n.Is("Identity"), n.Is("Tanh"), n.Is("Abs"), n.Is("Neg"), n.Is("GlobalAveragePool"), n.Is("GlobalMaxPool"):
		return true
	case n.Is("MaxPool"):
		return len(n.Outputs()) == 1
	case n.Is("AveragePool"):
		return n.Int("count_include_pad", 0) == 0
	}
	return false
}

// through is what n makes of a channel of value c.
func through(n *onnx.Node, c float64) float64 {
	switch n.Op {
	case "Relu":
		return max(c, 0)
	case "LeakyRelu":
		if c < 0 {
			return c * float64(n.Float("alpha", 0.01))
		}
	case "Tanh":
		return math.Tanh(c)
	case "Abs":
		return math.Abs(c)
	case "Neg":
		return -c
	}
	return c
}

// absorb adds what constant channels contribute to a reader to its bias, and
// reports whether that is exact.
func absorb(m *onnx.Model, use onnx.Use, at []int, values []float64) (bool, error) {
	n := use.Node
	if use.Index != 0 || !absorbs(n) {
		return false, nil
	}
	w := n.Input(1).Constant()
	if w == nil || len(w.Shape) < 2 || !w.DType.IsFloat() {
		return false, nil
	}
	in := 1
	if n.Is("Gemm") && n.Int("transB", 0) == 0 {
		in = 0
	}
	outputs := int(w.Shape[1-in])
	bias := make([]float64, outputs)
	if n.Input(2) != nil {
		b, err := biasOf(n.Input(2), outputs)
		if err != nil || b == nil {
			return false, err
		}
		copy(bias, b)
	}
	weights, err := w.Float64s()
	if err != nil {
		return false, err
	}
	inner := 1
	for _, k := range w.Shape[2:] {
		inner *= int(k)
	}
	value := map[int]float64{}
	for i, k := range at {
		value[k] = values[i]
	}
	alpha := float64(n.Float("alpha", 1))
	for i, x := range weights {
		r, c := i/inner/int(w.Shape[1]), i/inner%int(w.Shape[1])
		if in == 0 {
			r, c = c, r
		}
		bias[r] += alpha * x * value[c]
	}
	return true, setBias(m, n, 2, w.DType, bias)
}

// absorbs reports whether every output of n sees all of each channel.
func absorbs(n *onnx.Node) bool {
	switch {
	case n.Is("Conv"):
		pads := n.Ints("pads", nil)
		auto := n.Str("auto_pad", "NOTSET")
		return n.Int("group", 1) == 1 && (auto == "NOTSET" || auto == "VALID") && !slices.ContainsFunc(pads, func(p int64) bool { return p != 0 })
	case n.Is("Gemm"):
		return n.Int("transA", 0) == 0 && n.Float("beta", 1) == 1
	}
	return false
}

// settleBias makes the channels zero: all, or those that which marks.
func settleBias(m *onnx.Model, n *onnx.Node, input int, at []int, which []bool) error {
	if which != nil && countTrue(which) == 0 {
		return nil
	}
	t := n.Input(input).Constant()
	b, err := t.Float64s()
	if err != nil {
		return err
	}
	b = slices.Clone(b)
	for i, k := range at {
		if which == nil || which[i] {
			b[k] = 0
		}
	}
	return setBias(m, n, input, t.DType, b)
}

// setBias gives n a bias of its own.
func setBias(m *onnx.Model, n *onnx.Node, input int, d onnx.DType, b []float64) error {
	hint := n.Output(0).Name() + "_bias"
	if v := n.Input(input); v != nil {
		hint = v.Name()
	}
	t, err := onnx.FromFloat64s(m.Fresh(hint), d, []int64{int64(len(b))}, b)
	if err != nil {
		return err
	}
	n.SetInput(input, n.Graph().NewConst(t))
	return nil
}

func allTrue(b []bool) bool { return !slices.Contains(b, false) }

func countTrue(b []bool) (n int) {
	for _, x := range b {
		if x {
			n++
		}
	}
	return n
}

package profile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Weights is the constants of a model.
type Weights struct {
	Parameters int64     `json:"parameters" schema:"count"`          // elements that count as learned, shared ones once
	Generated  int64     `json:"generated,omitempty" schema:"count"` // parameters among them that the model generates while it runs
	Scales     int64     `json:"scales,omitempty" schema:"count"`    // elements of scales and zero points, which are not parameters
	Bytes      int64     `json:"bytes" schema:"count"`               // packed size of all stored constants
	Types      []TypeSum `json:"types"`                              // stored constants per element type, most bytes first
	Sparsity   *Sparsity `json:"sparsity,omitempty"`                 // absent unless asked for
}

// weights knows the constants of a model.
type weights struct {
	model     *onnx.Model
	facts     *opset.Facts
	generated map[*onnx.Value]int64 // values that stand for weights → elements
	functions map[functionKey]*onnx.Function
	nonzero   map[*onnx.Tensor]float64 // share of elements that are not zero, where zeros are counted
}

type functionKey struct{ domain, name, overload string }

func newWeights(m *onnx.Model, facts *opset.Facts) *weights {
	w := &weights{model: m, facts: facts, generated: generated(m), functions: map[functionKey]*onnx.Function{}, nonzero: map[*onnx.Tensor]float64{}}
	for _, f := range m.Functions {
		k := functionKey{onnx.NormalDomain(f.Domain), f.Name, f.Overload}
		if w.functions[k] == nil && f.Body != nil {
			w.functions[k] = f
		}
	}
	return w
}

// called returns the local function that n calls, nil if it calls none.
func (w *weights) called(n *onnx.Node) *onnx.Function {
	return w.functions[functionKey{onnx.NormalDomain(n.Domain), n.Op, n.Overload}]
}

// isParameter reports whether elements of type d count as parameters.
func isParameter(d onnx.DType) bool {
	return d.IsFloat() || d.IsInt() && d != onnx.Int64 && d != onnx.Uint64 || d == onnx.Complex64 || d == onnx.Complex128
}

// parametersOf returns how many parameters t holds.
func parametersOf(t *onnx.Tensor) int64 {
	if t == nil || !isParameter(t.DType) {
		return 0
	}
	n, _ := t.Elements()
	return min(n, maxCount)
}

// stored returns v's constant, overridable defaults included; nil for others.
func stored(v *onnx.Value) *onnx.Tensor {
	if v == nil {
		return nil
	}
	if v.Const != nil {
		return v.Const
	}
	return v.Constant()
}

// read returns how many parameters a node that reads v reads by it.
func (w *weights) read(v *onnx.Value) int64 {
	switch {
	case v == nil:
		return 0
	case v.Sparse != nil:
		return parametersOf(v.Sparse.Values)
	case w.generated[v] > 0:
		return w.generated[v]
	}
	n, _ := learnedBy(v, stored(v))
	return n
}

// learnedBy returns how many parameters the constant v of content t holds, and
// how many scales and zero points. Numbers of 4 bits that lie in pairs in bytes
// are counted one by one.
func learnedBy(v *onnx.Value, t *onnx.Tensor) (parameters, scales int64) {
	n := parametersOf(t)
	if v == nil || n == 0 {
		return n, 0
	}
	uses := v.Uses()
	if len(uses) > 0 && !slices.ContainsFunc(uses, func(u onnx.Use) bool { return !isScale(u.Node, u.Index) }) {
		return 0, n
	}
	if t.DType == onnx.Uint8 && len(uses) > 0 {
		if bits, ok := packedBits(uses[0]); ok {
			n = times(n, 8) / bits
		}
	}
	return n, 0
}

// packedBits returns the bits of the numbers that a reader of bytes takes them for.
func packedBits(u onnx.Use) (int64, bool) {
	packs := u.Node.Op == "MatMulNBits" && u.Index == 1 || u.Node.Op == "GatherBlockQuantized" && u.Index == 0
	bits := u.Node.Int("bits", 4)
	return bits, packs && u.Node.Domain == "com.microsoft" && bits > 0 && bits < 8
}

// each calls f for every stored constant of the model, once; v is nil where a
// node holds it in an attribute.
func (w *weights) each(f func(name string, v *onnx.Value, t *onnx.Tensor)) {
	for _, g := range w.model.Graphs() {
		for _, v := range g.Initializers() {
			f(v.Name(), v, v.Const)
		}
		for _, v := range g.SparseInitializers() {
			f(v.Name(), v, v.Sparse.Values)
		}
		for n := range g.Nodes() {
			if v := n.Output(0); n.Is("Constant") {
				if t := v.Constant(); t != nil {
					f(v.Name(), v, t)
				}
				continue
			}
			for _, t := range learned(n) {
				f(n.Name, nil, t)
			}
		}
	}
}

// learned returns what an operator of ai.onnx.ml keeps in attributes: the
// thresholds, leaves, coefficients and vectors that were fitted.
func learned(n *onnx.Node) []*onnx.Tensor {
	if n.Domain != "ai.onnx.ml" {
		return nil
	}
	var out []*onnx.Tensor
	for _, a := range n.Attrs {
		switch {
		case a.Type == onnx.AttrFloats && len(a.Floats) > 0:
			out = append(out, &onnx.Tensor{Name: a.Name, DType: onnx.Float, Shape: []int64{int64(len(a.Floats))}})
		case a.Type == onnx.AttrTensor && a.T != nil && a.T.DType.IsFloat():
			out = append(out, a.T)
		}
	}
	return out
}

// count adds up the constants.
func (w *weights) count(sparsity bool) (Weights, error) {
	out := Weights{}
	types, zeros := typeSums{}, &Sparsity{Tensors: []TensorSparsity{}}
	var failed error
	w.each(func(name string, v *onnx.Value, t *onnx.Tensor) {
		n, scales := learnedBy(v, t)
		out.Parameters, out.Scales = plus(out.Parameters, n), plus(out.Scales, scales)
		out.Bytes = plus(out.Bytes, min(t.Size(), maxCount))
		elements, _ := t.Elements()
		types.add(t.DType, elements, t.Size())
		if sparsity && n > 0 && t.Data != nil && failed == nil {
			failed = zeros.add(name, v, t, w.nonzero)
		}
	})
	if failed != nil {
		return out, fmt.Errorf("counting zeros: %w", failed)
	}
	for _, n := range w.generated {
		out.Generated = plus(out.Generated, n)
	}
	out.Parameters = plus(out.Parameters, out.Generated)
	out.Types = types.list()
	if sparsity {
		out.Sparsity = zeros.finish()
	}
	return out, nil
}

// computed returns the values that nodes compute, by element type.
func (w *weights) computed() []TypeSum {
	types := typeSums{}
	for _, g := range w.model.Graphs() {
		for n := range g.Nodes() {
			for _, v := range n.Outputs() {
				if v == nil || w.constant(v) {
					continue
				}
				t := w.facts.Type(v)
				if !t.IsTensor() {
					continue
				}
				n, _ := elementsOf(t)
				bytes, _ := t.Elem.ByteSize(n)
				types.add(t.Elem, n, bytes)
			}
		}
	}
	return types.list()
}

// constant reports whether v is a stored constant or stands for a weight.
func (w *weights) constant(v *onnx.Value) bool {
	return v.Sparse != nil || w.generated[v] > 0 || stored(v) != nil || v.Producer().Is("Constant")
}

// elementsOf returns the number of elements of a tensor type, false where it is not known.
func elementsOf(t *onnx.Type) (int64, bool) {
	if !t.IsTensor() {
		return 0, false
	}
	dims, ok := t.Shape.Static()
	if !ok {
		return 0, false
	}
	return onnx.ElementCount(dims)
}

// typeSums collects tensors by element type.
type typeSums map[onnx.DType]*TypeSum

func (t typeSums) add(d onnx.DType, elements, bytes int64) {
	s := t[d]
	if s == nil {
		s = &TypeSum{Type: d.String()}
		t[d] = s
	}
	s.Tensors++
	s.Elements = plus(s.Elements, min(elements, maxCount))
	s.Bytes = plus(s.Bytes, min(bytes, maxCount))
}

func (t typeSums) list() []TypeSum {
	out := []TypeSum{}
	for _, d := range slices.Sorted(maps.Keys(t)) {
		out = append(out, *t[d])
	}
	slices.SortStableFunc(out, func(a, b TypeSum) int {
		switch {
		case a.Bytes > b.Bytes:
			return -1
		case a.Bytes < b.Bytes:
			return 1
		}
		return 0
	})
	return out
}

// externalBytes returns the bytes that m's tensors take in other files.
func externalBytes(m *onnx.Model) int64 {
	var sum int64
	w := weights{model: m}
	w.each(func(_ string, _ *onnx.Value, t *onnx.Tensor) {
		if t.External != nil {
			sum = plus(sum, min(t.Size(), maxCount))
		}
	})
	return sum
}

// weightSlots are the inputs by which standard operators read weights.
func weightSlots(op string) []int {
	switch op {
	case "Conv", "ConvTranspose", "ConvInteger", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "DeformConv":
		return []int{1, 2}
	case "Gemm":
		return []int{0, 1, 2}
	case "MatMul", "MatMulInteger", "Add", "Sub", "Mul", "Div":
		return []int{0, 1}
	case "BatchNormalization":
		return []int{1, 2, 3, 4}
	case "LSTM", "GRU", "RNN":
		return []int{1, 2, 3}
	case "PRelu", "RMSNormalization":
		return []int{1}
	case "Gather":
		return []int{0}
	}
	return nil
}

// passes reports whether an operator only changes the form of a generated weight.
func passes(op string) bool {
	switch op {
	case "Identity", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Cast":
		return true
	}
	return false
}

// generated finds the values that a model makes by ConstantOfShape from a
// constant shape and reads as weights. Such graphs stand for a network whose
// weights were left out.
func generated(m *onnx.Model) map[*onnx.Value]int64 {
	out := map[*onnx.Value]int64{}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if !n.Is("ConstantOfShape") || n.Output(0) == nil {
				continue
			}
			shape := n.Input(0).Constant()
			if shape == nil {
				continue
			}
			dtype := onnx.Float
			if a := n.Attr("value"); a != nil && a.T != nil {
				dtype = a.T.DType
			}
			if rank, ok := shape.Elements(); !ok || rank == 0 || rank > 16 || !dtype.IsFloat() {
				continue
			}
			dims, err := shape.Ints()
			if err != nil {
				continue
			}
			if count, ok := onnx.ElementCount(dims); ok && count > 0 && readAsWeight(n.Output(0), 4) {
				out[n.Output(0)] = min(count, maxCount)
			}
		}
	}
	return out
}

// readAsWeight reports whether v reaches a weight slot, at most depth changes of form away.
func readAsWeight(v *onnx.Value, depth int) bool {
	for _, u := range v.Uses() {
		if onnx.NormalDomain(u.Node.Domain) != "" {
			continue
		}
		if slices.Contains(weightSlots(u.Node.Op), u.Index) {
			return true
		}
		if y := u.Node.Output(0); passes(u.Node.Op) && u.Index == 0 && y != nil && depth > 0 && readAsWeight(y, depth-1) {
			return true
		}
	}
	return false
}

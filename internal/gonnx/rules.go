package gonnx

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// rule says in which form onnx-go computes an operator as specified.
type rule struct {
	from, to int64                // opset versions in which the operator means what onnx-go computes
	attrs    []string             // attributes that it heeds, or that right looks at
	right    func(s *site) string // why a node at its shapes is not right; "" if it is
}

// rules lists the operators. What is absent either does not exist in onnx-go
// or was found to be wrong (LeakyRelu changes its input in place, Unsqueeze
// misplaces axes that are apart, Min and Max take two operands only).
var rules = map[string]rule{
	"Abs": {6, 99, nil, nil}, "Exp": {6, 99, nil, nil}, "Log": {6, 99, nil, nil}, "Neg": {6, 99, nil, nil},
	"Relu": {6, 99, nil, nil}, "Sigmoid": {6, 99, nil, nil}, "Sqrt": {6, 99, nil, nil}, "Tanh": {6, 99, nil, nil},
	"Identity": {1, 99, nil, nil},
	"Dropout":  {7, 11, []string{"ratio"}, nil}, // from 12 on it may be told to train
	"Constant": {1, 99, []string{"value"}, nil},
	"Add":      {7, 99, nil, (*site).broadcast}, "Sub": {7, 99, nil, (*site).broadcast},
	"Mul": {7, 99, nil, (*site).broadcast}, "Div": {7, 99, nil, (*site).broadcast},
	"MatMul":             {1, 99, nil, (*site).matMul},
	"Gemm":               {7, 99, []string{"alpha", "beta", "transA", "transB"}, (*site).gemm},
	"Conv":               {1, 99, []string{"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}, (*site).conv},
	"MaxPool":            {1, 99, []string{"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"}, (*site).maxPool},
	"GlobalAveragePool":  {1, 99, nil, (*site).image},
	"BatchNormalization": {7, 99, []string{"epsilon", "momentum", "spatial", "training_mode"}, (*site).batchNorm},
	"Softmax":            {1, 99, []string{"axis"}, (*site).softmax},
	"Flatten":            {1, 99, []string{"axis"}, (*site).flatten},
	"Reshape":            {5, 99, []string{"allowzero"}, (*site).reshape},
	"Concat":             {4, 99, []string{"axis"}, (*site).concat},
	"Transpose":          {1, 99, []string{"perm"}, (*site).transpose},
}

func nodeError(n *onnx.Node, why string) error {
	return fmt.Errorf("node %q (%s): %s", n.Name, n.Op, why)
}

// supported checks what does not depend on shapes.
func supported(m *onnx.Model, n *onnx.Node) error {
	r, ok := rules[n.Op]
	if onnx.NormalDomain(n.Domain) != "" || m.FindFunction(n) != nil {
		return nodeError(n, "onnx-go has only operators of the standard domain; use the engine onnxruntime")
	}
	if !ok {
		return nodeError(n, "onnx-go has no such operator, or not as the ONNX specification defines it; use the engine onnxruntime")
	}
	if v := m.OpsetVersion(""); v < r.from || v > r.to {
		return nodeError(n, fmt.Sprintf("onnx-go computes opset %d to %d of it, the model uses opset %d; use the engine onnxruntime", r.from, r.to, v))
	}
	for _, a := range n.Attrs {
		if !slices.Contains(r.attrs, a.Name) {
			return nodeError(n, fmt.Sprintf("onnx-go does not heed attribute %q; use the engine onnxruntime", a.Name))
		}
	}
	for i, v := range n.Outputs() {
		if i == 0 && v == nil || i > 0 && v != nil && !v.Dead() {
			return nodeError(n, "onnx-go computes only the first output; use the engine onnxruntime")
		}
	}
	for i, v := range n.Inputs() {
		if v == nil {
			return nodeError(n, fmt.Sprintf("onnx-go does not know absent inputs (input %d); use the engine onnxruntime", i))
		}
		if slices.Index(n.Inputs(), v) < i {
			return nodeError(n, fmt.Sprintf("onnx-go cannot use a value twice in one node (%q); use the engine onnxruntime", v.Name()))
		}
	}
	return nil
}

// site is a node at known shapes.
type site struct {
	m   *onnx.Model
	n   *onnx.Node
	in  [][]int64
	out []int64
}

// rightAt checks n at the shapes of its values.
func rightAt(m *onnx.Model, f *opset.Facts, n *onnx.Node) error {
	if n.Is("Constant") {
		return nil
	}
	s := &site{m: m, n: n}
	for i, v := range append(slices.Clone(n.Inputs()), n.Output(0)) {
		dims, ok := f.Shape(v).Static()
		if !ok {
			return nodeError(n, fmt.Sprintf("the shape of %q is not known (%v), and onnx-go needs it", v.Name(), f.Type(v)))
		}
		shapeOperand := n.Is("Reshape") && i == 1
		if d := f.DType(v); d != onnx.Float && !shapeOperand {
			return nodeError(n, fmt.Sprintf("%q is of type %v; onnx-go runs models of float tensors", v.Name(), d))
		}
		if slices.Contains(dims, 0) || len(dims) == 0 {
			return nodeError(n, fmt.Sprintf("%q has shape %v; onnx-go takes neither scalars nor empty tensors", v.Name(), dims))
		}
		if i < len(n.Inputs()) {
			s.in = append(s.in, dims)
		} else {
			s.out = dims
		}
	}
	if r := rules[n.Op].right; r != nil {
		if why := r(s); why != "" {
			return nodeError(n, why+"; use the engine onnxruntime")
		}
	}
	return nil
}

// arity checks the number of inputs.
func (s *site) arity(least, most int) string {
	if len(s.in) < least || len(s.in) > most {
		return fmt.Sprintf("onnx-go does not compute it with %d inputs", len(s.in))
	}
	return ""
}

// broadcast: onnx-go guesses the axis of a vector by its size.
func (s *site) broadcast() string {
	if why := s.arity(2, 2); why != "" {
		return why
	}
	a, b := s.in[0], s.in[1]
	if slices.Equal(a, b) {
		return ""
	}
	if len(a) < len(b) {
		a, b = b, a
	}
	last, size := a[len(a)-1], b[len(b)-1]
	others := slices.Contains(a[:len(a)-1], size)
	switch {
	case !slices.Equal(s.out, a): // both operands are stretched
	case len(a) == 2 && len(b) == 2:
		return ""
	case len(b) == 1 && len(a) > 1 && last == size && !others:
		return ""
	case len(a) == 4 && len(b) == 3:
		return ""
	}
	return fmt.Sprintf("onnx-go may broadcast shapes %v and %v along the wrong axis", s.in[0], s.in[1])
}

func (s *site) matMul() string {
	if len(s.in) != 2 || len(s.in[0]) != 2 || len(s.in[1]) != 2 {
		return fmt.Sprintf("onnx-go multiplies matrices only, not shapes %v", s.in)
	}
	return ""
}

// gemm: onnx-go adds into the third operand's own memory.
func (s *site) gemm() string {
	if why := s.arity(3, 3); why != "" {
		return why
	}
	c := s.n.Input(2)
	if c.Const == nil || c.Producer() != nil || len(c.Uses()) != 1 || c.IsOutput() {
		return "onnx-go writes over the third input, which is not a constant of this node alone"
	}
	n := s.out[1]
	if d := s.in[2]; !slices.Equal(d, []int64{n}) && !slices.Equal(d, []int64{1, n}) && !slices.Equal(d, s.out) {
		return fmt.Sprintf("onnx-go does not stretch a third input of shape %v to %v", d, s.out)
	}
	return ""
}

func (s *site) image() string {
	if len(s.in[0]) != 4 {
		return fmt.Sprintf("onnx-go computes it for four dimensions, not for shape %v", s.in[0])
	}
	return ""
}

// window checks what Conv and MaxPool have in common.
func (s *site) window() string {
	if why := s.image(); why != "" {
		return why
	}
	if k := s.n.Ints("kernel_shape", nil); len(k) != 2 {
		return "onnx-go needs the attribute kernel_shape with two sizes"
	}
	if st := s.n.Ints("strides", []int64{1, 1}); len(st) != 2 {
		return fmt.Sprintf("onnx-go does not compute strides %v", st)
	}
	if d := s.n.Ints("dilations", []int64{1, 1}); !slices.Equal(d, []int64{1, 1}) {
		return fmt.Sprintf("onnx-go does not compute dilations %v", d)
	}
	return ""
}

// pads returns the padding as ONNX defines it: top, left, bottom, right.
func (s *site) pads() []int64 {
	switch s.n.Str("auto_pad", "NOTSET") {
	case "NOTSET":
		return s.n.Ints("pads", []int64{0, 0, 0, 0})
	case "VALID":
		return []int64{0, 0, 0, 0}
	}
	k, st := s.n.Ints("kernel_shape", nil), s.n.Ints("strides", []int64{1, 1})
	out := make([]int64, 4)
	for i := range 2 {
		total := max((s.out[2+i]-1)*st[i]+k[i]-s.in[0][2+i], 0)
		out[i], out[2+i] = total/2, total-total/2
		if s.n.Str("auto_pad", "") == "SAME_LOWER" {
			out[i], out[2+i] = out[2+i], out[i]
		}
	}
	return out
}

// conv: onnx-go ignores group, and reads pads in another order.
func (s *site) conv() string {
	if why := s.arity(2, 3); why != "" {
		return why
	}
	if why := s.window(); why != "" {
		return why
	}
	if g := s.n.Int("group", 1); g != 1 {
		return fmt.Sprintf("onnx-go ignores group=%d", g)
	}
	if k := s.n.Ints("kernel_shape", nil); !slices.Equal(k, s.in[1][2:]) {
		return fmt.Sprintf("kernel_shape %v is not that of the weights, %v", k, s.in[1])
	}
	if p := s.pads(); slices.Min(p) != slices.Max(p) {
		return fmt.Sprintf("onnx-go pads all four sides alike, not %v", p)
	}
	return ""
}

// maxPool: what onnx-go takes for padding is not below every element.
func (s *site) maxPool() string {
	if why := s.window(); why != "" {
		return why
	}
	if s.n.Int("ceil_mode", 0) != 0 || s.n.Int("storage_order", 0) != 0 {
		return "onnx-go computes neither ceil_mode nor storage_order"
	}
	if s.n.Attr("dilations") != nil {
		return "onnx-go does not know the attribute dilations"
	}
	if p := s.pads(); slices.Max(p) != 0 {
		return fmt.Sprintf("onnx-go does not pad as specified (%v)", p)
	}
	return ""
}

func (s *site) batchNorm() string {
	if why := s.arity(5, 5); why != "" {
		return why
	}
	if s.n.Int("training_mode", 0) != 0 || s.n.Int("spatial", 1) != 1 {
		return "onnx-go computes neither training_mode nor spatial=0"
	}
	for _, v := range s.n.Inputs()[1:] {
		if v.Const == nil {
			return "onnx-go needs constants for all inputs but the first"
		}
	}
	return s.image()
}

// softmax: onnx-go computes it over all axes from the given one on, as opsets
// before 13 define it, except that it takes a matrix by rows whatever the axis.
func (s *site) softmax() string {
	rank := int64(len(s.in[0]))
	modern := s.m.OpsetVersion("") >= 13
	axis := s.n.Int("axis", 1)
	if modern && s.n.Attr("axis") == nil {
		axis = -1
	}
	asGiven := axis
	if axis < 0 {
		axis += rank
	}
	switch {
	case rank == 2 && axis == 1:
		return ""
	case rank > 2 && asGiven == axis && axis > 0 && (!modern || axis == rank-1):
		return ""
	}
	return fmt.Sprintf("onnx-go does not compute it over axis %d of shape %v", asGiven, s.in[0])
}

func (s *site) flatten() string {
	if a := s.n.Int("axis", 1); a < 0 {
		return fmt.Sprintf("onnx-go does not count axis %d from the end", a)
	}
	return ""
}

func (s *site) reshape() string {
	if why := s.arity(2, 2); why != "" {
		return why
	}
	if s.n.Input(1).Constant() == nil {
		return "onnx-go needs a constant for the shape"
	}
	if s.n.Int("allowzero", 0) != 0 {
		return "onnx-go does not know allowzero"
	}
	return ""
}

func (s *site) concat() string {
	if a := s.n.Int("axis", -1); a < 0 {
		return fmt.Sprintf("onnx-go does not count axis %d from the end", a)
	}
	return ""
}

func (s *site) transpose() string {
	if s.n.Attr("perm") == nil {
		return "onnx-go needs the attribute perm"
	}
	return ""
}

package randgraph

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// maxEdits bounds the changes of one model.
const maxEdits = 8

// Mutate changes the model m as data says, a few edits at most: other attributes and
// constants, one more output, another operator of the same kind, inputs that change
// places, nodes between or beside. The result is near to m, and most often still a
// model that can be run, where a rewrite that looks at too little goes wrong. What
// m says of shapes within its graphs, which may be true no more, is taken out.
func Mutate(m *onnx.Model, data []byte) {
	b := &builder{data: data, m: m}
	for range maxEdits {
		var nodes []*onnx.Node
		for _, g := range m.Graphs() {
			nodes = slices.AppendSeq(nodes, g.Nodes())
		}
		if len(b.data) == 0 || len(nodes) == 0 {
			break
		}
		b.edit(nodes[b.pick(len(nodes))])
	}
	for _, g := range m.Graphs() {
		forget(g)
	}
}

// forget takes out what is said about the values of g, but for the inputs of the model
// and the element types that must be there.
func forget(g *onnx.Graph) {
	for v := range g.Values() {
		switch {
		case v.Type == nil || v.Const != nil || v.IsInput() && g.Parent() == nil:
		case v.Type.IsTensor() && (v.IsInput() || v.IsOutput()):
			v.Type = v.Type.WithShape(nil)
		case !v.IsInput() && !v.IsOutput():
			v.Type = nil
		}
	}
}

func (b *builder) edit(n *onnx.Node) {
	switch b.pick(16) {
	case 0, 1:
		b.changeAttr(n)
	case 2:
		if len(n.Attrs) > 0 {
			n.DeleteAttr(n.Attrs[b.pick(len(n.Attrs))].Name)
		}
	case 3:
		b.addAttr(n)
	case 4, 5, 6:
		b.changeConstant(n)
	case 7:
		b.reshapeConstant(n)
	case 8:
		if v := b.outputOf(n); v != nil && !v.IsOutput() {
			n.Graph().AddOutput(v)
		}
	case 9:
		if k := len(n.Inputs()); k > 1 {
			i, j := b.pick(k), b.pick(k)
			x, y := n.Input(i), n.Input(j)
			n.SetInput(i, y)
			n.SetInput(j, x)
		}
	case 10:
		b.otherInput(n)
	case 11, 12:
		b.sibling(n)
	case 13:
		b.between(n)
	case 14:
		b.beside(n)
	case 15:
		b.inputSize()
	}
}

func (b *builder) outputOf(n *onnx.Node) *onnx.Value {
	if len(n.Outputs()) == 0 {
		return nil
	}
	return n.Output(b.pick(len(n.Outputs())))
}

// small are numbers as attributes of operators and constants of shapes have them.
var small = []int64{0, 1, -1, 2, 3, -2, 4, -3}

func (b *builder) nudge(x int64) int64 {
	switch b.pick(4) {
	case 0:
		return x + 1
	case 1:
		return x - 1
	case 2:
		return -x
	}
	return small[b.pick(len(small))]
}

// factors change floats.
var factors = []float64{0.5, 2, -1, 0, 1.25, 1e-3}

func (b *builder) changeAttr(n *onnx.Node) {
	if len(n.Attrs) == 0 {
		return
	}
	a := *n.Attrs[b.pick(len(n.Attrs))]
	switch a.Type {
	case onnx.AttrInt:
		a.I = b.nudge(a.I)
	case onnx.AttrFloat:
		a.F *= float32(factors[b.pick(len(factors))])
	case onnx.AttrString:
		a.S = []byte(words[b.pick(len(words))])
	case onnx.AttrInts:
		a.Ints = slices.Clone(a.Ints)
		if len(a.Ints) > 0 {
			i, j := b.pick(len(a.Ints)), b.pick(len(a.Ints))
			if b.pick(2) == 0 {
				a.Ints[i] = b.nudge(a.Ints[i])
			} else {
				a.Ints[i], a.Ints[j] = a.Ints[j], a.Ints[i]
			}
		}
	case onnx.AttrTensor:
		if t := b.changed(a.T); t != nil {
			a.T = t
		}
	}
	n.SetAttr(&a)
}

func (b *builder) addAttr(n *onnx.Node) {
	op := opset.Lookup(n.Domain, n.Op, b.m.OpsetVersion(n.Domain))
	if op == nil || len(op.Attrs) == 0 {
		return
	}
	s := op.Attrs[b.pick(len(op.Attrs))]
	a := &onnx.Attr{Name: s.Name, Type: s.Type}
	switch s.Type {
	case onnx.AttrInt:
		a.I = small[b.pick(len(small))]
	case onnx.AttrFloat:
		a.F = float32(b.pick(8)) / 4
	case onnx.AttrString:
		a.S = []byte(words[b.pick(len(words))])
	case onnx.AttrInts:
		for range b.pick(5) {
			a.Ints = append(a.Ints, small[b.pick(len(small))])
		}
	default:
		return
	}
	n.SetAttr(a)
}

// constantOf returns one of the inputs of n that are constant, and which it is.
func (b *builder) constantOf(n *onnx.Node) (int, *onnx.Tensor) {
	var at []int
	for i, v := range n.Inputs() {
		if v.Constant() != nil {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return 0, nil
	}
	i := at[b.pick(len(at))]
	return i, n.Input(i).Constant()
}

func (b *builder) changeConstant(n *onnx.Node) {
	if i, t := b.constantOf(n); t != nil {
		b.setConstant(n, i, b.changed(t))
	}
}

func (b *builder) setConstant(n *onnx.Node, i int, t *onnx.Tensor) {
	if t == nil {
		return
	}
	if g := n.Graph(); !g.InFunction() {
		n.SetInput(i, g.NewConst(t.Renamed(b.m.Fresh("c"))))
		return
	}
	c := onnx.NewNode("Constant", nil, b.m.Fresh("c"))
	c.SetAttr(onnx.TensorAttr("value", t))
	n.Graph().InsertBefore(c, n)
	n.SetInput(i, c.Output(0))
}

// changed returns a tensor of the same type with other content, or nil.
func (b *builder) changed(t *onnx.Tensor) *onnx.Tensor {
	x, err := t.Float64s()
	if err != nil || len(x) == 0 {
		return nil
	}
	x = slices.Clone(x)
	i := b.pick(len(x))
	switch how := b.pick(5); {
	case how == 0: // all the same
		for j := range x {
			x[j] = x[i]
		}
	case how == 1:
		j := b.pick(len(x))
		x[i], x[j] = x[j], x[i]
	case !t.DType.IsFloat():
		x[i] = float64(b.nudge(int64(x[i])))
	case how == 2:
		f := factors[b.pick(len(factors))]
		for j := range x {
			x[j] *= f
		}
	default:
		x[i] = x[i]*factors[b.pick(len(factors))] + float64(b.pick(3))/2
	}
	out, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, x)
	if err != nil {
		return nil
	}
	return out
}

// reshapeConstant gives a constant another shape of as many elements, or fewer.
func (b *builder) reshapeConstant(n *onnx.Node) {
	i, t := b.constantOf(n)
	if t == nil {
		return
	}
	x, err := t.Float64s()
	if err != nil || len(x) == 0 {
		return
	}
	shape := slices.Clone(t.Shape)
	at := b.pick(len(shape) + 1)
	switch b.pick(3) {
	case 0:
		shape = slices.Insert(shape, at, 1)
	case 1:
		if at == len(shape) || shape[at] != 1 {
			return
		}
		shape = slices.Delete(shape, at, at+1)
	case 2: // one of the rows along an axis, to be broadcast
		if at == len(shape) {
			return
		}
		inner := int64(1)
		for _, d := range shape[at+1:] {
			inner *= d
		}
		var kept []float64
		for j, v := range x {
			if int64(j)/inner%shape[at] == 0 {
				kept = append(kept, v)
			}
		}
		x, shape[at] = kept, 1
	}
	if t, err = onnx.FromFloat64s(t.Name, t.DType, shape, x); err == nil {
		b.setConstant(n, i, t)
	}
}

// otherInput lets n read something else that is known before it.
func (b *builder) otherInput(n *onnx.Node) {
	if len(n.Inputs()) == 0 {
		return
	}
	known := slices.Clone(n.Graph().Inputs())
	for p := n.Prev(); p != nil; p = p.Prev() {
		known = append(known, p.Outputs()...)
	}
	known = append(known, nil)
	n.SetInput(b.pick(len(n.Inputs())), known[b.pick(len(known))])
}

// siblings are operators that may stand in each other's place.
var siblings = [][]string{
	{"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu"},
	{"Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Exp", "Sqrt", "Identity", "Erf", "Softplus", "Log", "Reciprocal", "Sign", "Floor", "HardSigmoid", "LeakyRelu", "Elu"},
	{"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum"},
	{"MaxPool", "AveragePool", "LpPool"},
	{"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"},
	{"Softmax", "LogSoftmax", "Hardmax"},
	{"ArgMax", "ArgMin"},
	{"Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"},
	{"And", "Or", "Xor"},
	{"Conv", "ConvTranspose"},
	{"Gather", "GatherElements", "GatherND"},
	{"Squeeze", "Unsqueeze", "Flatten"},
}

func (b *builder) sibling(n *onnx.Node) {
	for _, names := range siblings {
		if n.Domain == "" && slices.Contains(names, n.Op) {
			n.Op = names[b.pick(len(names))]
			return
		}
	}
}

// unary are operators that can stand on any edge of floats.
var unary = []string{"Neg", "Relu", "Identity", "Abs", "Sigmoid", "Transpose", "Softmax", "Exp"}

// onIntegers are those of them that integers with a sign have as well.
var onIntegers = []string{"Neg", "Abs", "Identity"}

// unaryOn returns an operator for v, or "" where it is not known what v holds.
func (b *builder) unaryOn(v *onnx.Value) string {
	facts, err := opset.Infer(b.m, opset.Options{})
	if err != nil {
		return ""
	}
	switch d := facts.DType(v); {
	case d.IsFloat():
		return unary[b.pick(len(unary))]
	case d == onnx.Int64 || d == onnx.Int32:
		return onIntegers[b.pick(len(onIntegers))]
	case d == onnx.Undefined:
		return ""
	}
	return "Identity"
}

// between puts a node onto what n reads.
func (b *builder) between(n *onnx.Node) {
	if len(n.Inputs()) == 0 {
		return
	}
	i := b.pick(len(n.Inputs()))
	x := n.Input(i)
	op := b.unaryOn(x)
	if x == nil || op == "" {
		return
	}
	u := onnx.NewNode(op, []*onnx.Value{x}, b.m.Fresh("between"))
	n.Graph().InsertBefore(u, n)
	n.SetInput(i, u.Output(0))
}

// beside lets one node more read an output of n, as an output of the model where n is in its main graph.
func (b *builder) beside(n *onnx.Node) {
	v := b.outputOf(n)
	op := b.unaryOn(v)
	if v == nil || op == "" {
		return
	}
	u := onnx.NewNode(op, []*onnx.Value{v}, b.m.Fresh("beside"))
	n.Graph().InsertAfter(u, n)
	if n.Graph().Parent() == nil && !n.Graph().InFunction() {
		n.Graph().AddOutput(u.Output(0))
	}
}

// inputSize changes a dimension of an input of the model.
func (b *builder) inputSize() {
	in := b.m.Graph.Inputs()
	if len(in) == 0 {
		return
	}
	v := in[b.pick(len(in))]
	if !v.Type.IsTensor() || len(v.Type.Shape) == 0 || v.Const != nil {
		return
	}
	shape := slices.Clone(v.Type.Shape)
	at := b.pick(len(shape))
	if d := &shape[at]; d.Known() && b.pick(2) == 0 {
		*d = onnx.Symbol("s" + d.String())
	} else if d.Known() {
		*d = onnx.Fixed(max(1, min(16, d.Value+int64(b.pick(5))-2)))
	} else {
		*d = onnx.Fixed(int64(1 + b.pick(4)))
	}
	v.Type = v.Type.WithShape(shape)
}

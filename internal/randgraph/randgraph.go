// Package randgraph makes models out of bytes, to fuzz what reads graphs: real
// operators that read what they should not, under attributes that do not fit. Only
// tests import it.
package randgraph

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// Bounds on one model: fuzzing wants many small ones.
const (
	maxNodes    = 24
	maxElements = 64
	maxDepth    = 3 // of bodies
)

// Model makes a model of data. The same bytes always give the same model, and most
// changes of a byte a small change of it. Its graph may break every rule: names are
// unique, so that it can be encoded, and nothing else is promised.
func Model(data []byte) *onnx.Model {
	b := &builder{data: data, m: onnx.NewModel(0), ops: opset.All()}
	b.m.Opsets = []onnx.Opset{
		{Version: 6 + int64(b.pick(20))}, {Domain: "com.microsoft", Version: 1},
		{Domain: "ai.onnx.ml", Version: 1 + int64(b.pick(4))}, {Domain: "local", Version: 1},
	}
	b.m.IRVersion = 3 + int64(b.pick(8))
	functions := b.pick(3)
	for i := range functions {
		b.function("f" + strconv.Itoa(i))
	}
	b.functions = functions
	b.fill(b.m.Graph, nil, 0)
	return b.m
}

// builder takes decisions byte by byte; where the bytes end, all are 0.
type builder struct {
	data      []byte
	m         *onnx.Model
	ops       []*opset.Op
	names     int
	functions int
}

func (b *builder) byte() int {
	if len(b.data) == 0 {
		return 0
	}
	x := b.data[0]
	b.data = b.data[1:]
	return int(x)
}

// pick returns a number below n.
func (b *builder) pick(n int) int {
	if n > 256 {
		return (b.byte()<<8 | b.byte()) % n
	}
	return b.byte() % n
}

func (b *builder) name(hint string) string {
	b.names++
	return hint + strconv.Itoa(b.names)
}

// dtypes come as often as they stand here.
var dtypes = []onnx.DType{
	onnx.Float, onnx.Float, onnx.Float, onnx.Int64, onnx.Int64, onnx.Float16, onnx.Bool, onnx.Int8, onnx.Uint8, onnx.Int32,
	onnx.Double, onnx.BFloat16, onnx.Int4, onnx.Uint4, onnx.String, onnx.Undefined,
}

// sizes of the dimensions of inputs.
var sizes = []onnx.Dim{
	onnx.Fixed(1), onnx.Fixed(2), onnx.Fixed(3), onnx.Fixed(4), onnx.Fixed(8), onnx.Fixed(0), onnx.Symbol("N"), onnx.Symbol("M"), onnx.Symbol(""),
	onnx.Fixed(1 << 21), onnx.Fixed(1 << 40), onnx.Fixed(1<<63 - 1),
}

func (b *builder) typ() *onnx.Type {
	d := dtypes[b.pick(len(dtypes))]
	rank := b.pick(7)
	if rank == 6 {
		return onnx.TensorType(d, nil)
	}
	s := onnx.Shape{}
	for range rank {
		s = append(s, sizes[b.pick(len(sizes))])
	}
	return onnx.TensorType(d, s)
}

// numbers are what integers are made of.
var numbers = []int64{0, 1, -1, 2, 3, 4, 8, -2, 5, 7, 64, 1 << 31, -1 << 31, 1 << 62, -1 << 63, 1<<63 - 1}

func (b *builder) number() int64 { return numbers[b.pick(len(numbers))] }

// tensor makes a small constant, whose content now and then is too short.
func (b *builder) tensor(name string) *onnx.Tensor {
	d := dtypes[b.pick(len(dtypes))]
	shape := []int64{}
	n := int64(1)
	for range b.pick(5) {
		size := int64(b.pick(5))
		if n*size > maxElements {
			break
		}
		shape, n = append(shape, size), n*size
	}
	switch d {
	case onnx.Int64:
		v := make([]int64, n)
		for i := range v {
			v[i] = b.number()
		}
		return onnx.FromInts(name, shape, v)
	case onnx.Float:
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(b.number()) / 4
		}
		return onnx.FromFloats(name, shape, v)
	case onnx.String:
		return onnx.FromStrings(name, shape, make([]string, n))
	}
	size, _ := d.ByteSize(n)
	if b.pick(16) == 15 {
		size /= 2
	}
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(b.byte())
	}
	return &onnx.Tensor{Name: name, DType: d, Shape: shape, Data: onnx.Raw(raw)}
}

// fill makes the content of g, whose nodes may read outer.
func (b *builder) fill(g *onnx.Graph, outer []*onnx.Value, depth int) {
	values := append([]*onnx.Value{nil}, outer...)
	for range b.pick(5) {
		v := g.AddInput(b.name("x"), b.typ())
		if b.pick(8) == 7 {
			g.SetDefault(v, b.tensor(v.Name()))
		}
		values = append(values, v)
	}
	for range b.pick(6) {
		values = append(values, g.AddInitializer(b.tensor(b.name("w"))))
	}
	var nodes []*onnx.Node
	for range maxNodes {
		if len(b.data) == 0 {
			break
		}
		n := b.node(values, depth)
		g.Append(n)
		nodes = append(nodes, n)
		for _, v := range n.Outputs() {
			if b.pick(8) == 7 {
				v.Type = b.typ()
			}
			values = append(values, v)
		}
	}
	if b.pick(16) == 15 && len(nodes) > 0 { // what is computed only later, perhaps in a cycle
		n := nodes[b.pick(len(nodes))]
		if len(n.Inputs()) > 0 {
			n.SetInput(0, values[b.pick(len(values))])
		}
	}
	for i := range 1 + b.pick(3) {
		v := values[len(values)-1-min(i, len(values)-1)]
		if b.pick(4) == 3 {
			v = values[b.pick(len(values))]
		}
		if v != nil {
			g.AddOutput(v)
		}
	}
}

// node makes one call that reads from values.
func (b *builder) node(values []*onnx.Value, depth int) *onnx.Node {
	op := b.ops[b.pick(len(b.ops))]
	count := max(len(op.Inputs)+b.pick(4)-1, 0)
	in := make([]*onnx.Value, 0, count)
	for range count {
		at := b.byte()
		if at >= 128 { // mostly what was made last, so that there are chains
			at = len(values) - 1 - at%4
		}
		in = append(in, values[((at%len(values))+len(values))%len(values)])
	}
	outs := make([]string, max(len(op.Outputs), 1))
	if b.pick(4) > 0 {
		outs = outs[:1]
	}
	for i := range outs {
		outs[i] = b.name("y")
	}
	n := onnx.NewNode(op.Name, in, outs...)
	n.Name, n.Domain = b.name("n"), op.Domain
	if b.functions > 0 && b.pick(8) == 7 {
		n.Op, n.Domain = "f"+strconv.Itoa(b.pick(b.functions)), "local"
	}
	for i := range op.Attrs {
		b.attr(n, &op.Attrs[i], values, depth)
	}
	return n
}

// words are what attributes of operators say.
var words = []string{
	"", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "constant", "reflect", "edge", "wrap", "nearest", "linear", "cubic", "align_corners", "asymmetric",
	"half_pixel", "tf_crop_and_resize", "floor", "ceil", "round_prefer_floor", "bilinear", "zeros", "border", "sum", "mean", "none", "add", "mul", "max",
	"ij,jk->ik", "bij,bjk", "...ij->...ji", "i->", "i,i,i->ii", "DCR", "CRD", "forward", "reverse", "bidirectional", "tanh", "NCHW", "f0",
}

// attr sets an attribute, most often to what it is where it is left out.
func (b *builder) attr(n *onnx.Node, s *opset.AttrSpec, values []*onnx.Value, depth int) {
	how := b.pick(4)
	if how == 0 && !s.Required {
		return
	}
	a := &onnx.Attr{Name: s.Name, Type: s.Type}
	if how == 1 && s.Default != nil {
		*a = *s.Default
	}
	if how != 1 || s.Default == nil {
		b.content(a, values, depth)
	}
	n.Attrs = append(n.Attrs, a)
}

func (b *builder) content(a *onnx.Attr, values []*onnx.Value, depth int) {
	switch a.Type {
	case onnx.AttrInt:
		a.I = b.number()
	case onnx.AttrFloat:
		a.F = float32(b.number()) / 4
	case onnx.AttrString:
		a.S = []byte(words[b.pick(len(words))])
	case onnx.AttrInts:
		for range b.pick(6) {
			a.Ints = append(a.Ints, b.number())
		}
	case onnx.AttrFloats:
		for range b.pick(6) {
			a.Floats = append(a.Floats, float32(b.number())/4)
		}
	case onnx.AttrStrings:
		for range b.pick(4) {
			a.Strings = append(a.Strings, []byte(words[b.pick(len(words))]))
		}
	case onnx.AttrTensor:
		a.T = b.tensor("")
	case onnx.AttrTypeProto:
		a.TP = b.typ()
	case onnx.AttrGraph:
		a.G = onnx.NewGraph(b.name("g"))
		if depth < maxDepth {
			b.fill(a.G, values[1:], depth+1)
		}
	}
}

// function makes a local function, which may call any other one and itself.
func (b *builder) function(name string) {
	f := &onnx.Function{Name: name, Domain: "local", Opsets: b.m.Opsets, Body: onnx.NewGraph(name)}
	g := f.Body
	var values []*onnx.Value
	for range b.pick(3) {
		values = append(values, g.AddInput(b.name("p"), nil))
	}
	values = append([]*onnx.Value{nil}, values...)
	b.functions = 2
	for range 1 + b.pick(4) {
		n := b.node(values, maxDepth)
		g.Append(n)
		values = append(values, n.Outputs()...)
	}
	g.AddOutput(values[len(values)-1])
	b.m.AddFunction(f)
}

package nets

import (
	"fmt"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// state is what all scopes of one model under construction share.
type state struct {
	m         *onnx.Model
	o         Options
	counts    map[string]int // how often a name was asked for
	truth     map[Kind]int
	weights   uint64 // tensors generated so far
	functions map[string]*onnx.Function
}

// builder adds nodes to a graph inside one module of the network.
type builder struct {
	*state
	g    *onnx.Graph
	path []string // the modules around, outermost first
	body bool     // g is the body of a local function
}

// at returns the builder of a module within b's.
func (b *builder) at(format string, args ...any) *builder {
	c := *b
	c.path = append(b.path[:len(b.path):len(b.path)], fmt.Sprintf(format, args...))
	return &c
}

// saw counts one more of a kind. Function bodies are counted where they are called.
func (b *builder) saw(k Kind) {
	if !b.body {
		b.truth[k]++
	}
}

// op appends a node without attributes and returns its output.
func (b *builder) op(op string, in ...*onnx.Value) *onnx.Value { return b.call(op, nil, in...) }

// call appends a node of one output and returns that.
func (b *builder) call(op string, attrs []*onnx.Attr, in ...*onnx.Value) *onnx.Value {
	return b.node(op, attrs, 1, in...).Output(0)
}

// node appends a node.
func (b *builder) node(op string, attrs []*onnx.Attr, outputs int, in ...*onnx.Value) *onnx.Node {
	name := b.nodeName(op)
	outs := make([]string, outputs)
	for i := range outs {
		outs[i] = b.valueName(name, op, i)
	}
	n := onnx.NewNode(op, in, outs...)
	n.Name, n.Attrs = name, attrs
	b.g.Append(n)
	return n
}

// attrs makes a list of attributes.
func attrs(list ...*onnx.Attr) []*onnx.Attr { return list }

// axis is the attribute of that name.
func axis(i int64) []*onnx.Attr { return attrs(onnx.IntAttr("axis", i)) }

// perm is the attribute of that name.
func perm(p ...int64) []*onnx.Attr { return attrs(onnx.IntsAttr("perm", p...)) }

// unique returns base, with a number behind it from the second time on.
func (b *builder) unique(base string) string {
	k := b.counts[base]
	b.counts[base]++
	if k == 0 {
		return base
	}
	return fmt.Sprintf("%s_%d", base, k)
}

func (b *builder) nodeName(op string) string {
	switch b.o.Style {
	case TorchScript:
		return b.unique("/" + strings.Join(append(b.path[:len(b.path):len(b.path)], op), "/"))
	case Keras:
		return b.unique("StatefulPartitionedCall/" + strings.Join(append(b.path[:len(b.path):len(b.path)], op), "/"))
	case JAX:
		return b.unique("jit_forward/" + strings.Join(append(b.path[:len(b.path):len(b.path)], op), "/"))
	}
	return b.unique("node_" + op)
}

func (b *builder) valueName(node, op string, i int) string {
	switch b.o.Style {
	case TorchScript:
		return fmt.Sprintf("%s_output_%d", node, i)
	case Keras, JAX:
		return fmt.Sprintf("%s:%d", node, i)
	}
	if op == "Split" {
		return b.unique(fmt.Sprintf("split_split_%d", i))
	}
	return b.unique(strings.ToLower(op))
}

// weightName is the name of a parameter of the module.
func (b *builder) weightName(name string) string {
	switch b.o.Style {
	case Keras:
		return "StatefulPartitionedCall/" + strings.Join(append(b.path[:len(b.path):len(b.path)], name), "/") + "/ReadVariableOp:0"
	case JAX:
		return "params/" + strings.Join(append(b.path[:len(b.path):len(b.path)], name), "/")
	}
	return strings.Join(append(b.path[:len(b.path):len(b.path)], name), ".")
}

// weight adds a parameter of the given standard deviation.
func (b *builder) weight(name string, std float64, shape ...int64) *onnx.Value {
	return b.around(name, 0, std*math.Sqrt(3), shape...)
}

// around adds a parameter uniform in mean ± spread.
func (b *builder) around(name string, mean, spread float64, shape ...int64) *onnx.Value {
	return b.generate(b.unique(b.weightName(name)), mean, spread, shape...)
}

// generate adds an initializer of exactly that name.
func (b *builder) generate(name string, mean, spread float64, shape ...int64) *onnx.Value {
	n, ok := onnx.ElementCount(shape)
	if !ok {
		panic(fmt.Sprintf("nets: weight %s has shape %v", name, shape))
	}
	b.weights++
	data := &generated{dtype: b.o.DType, elements: n, seed: mix(b.o.Seed ^ mix(b.weights)), mean: mean, spread: spread}
	return b.m.Graph.AddInitializer(&onnx.Tensor{Name: name, DType: b.o.DType, Shape: shape, Data: data})
}

// constant adds t the way the style does: a Constant node, or an initializer.
func (b *builder) constant(t *onnx.Tensor) *onnx.Value {
	if b.o.Style == TorchScript || b.body {
		return b.call("Constant", attrs(onnx.TensorAttr("value", t)))
	}
	name := "val"
	switch b.o.Style {
	case Keras:
		name = "const_fold_opt__"
	case JAX:
		name = "const"
	}
	return b.m.Graph.AddInitializer(t.Renamed(b.unique(name)))
}

// ints is a constant int64 vector.
func (b *builder) ints(v ...int64) *onnx.Value {
	return b.constant(onnx.FromInts("", []int64{int64(len(v))}, v))
}

// index is a constant int64 scalar.
func (b *builder) index(v int64) *onnx.Value {
	return b.constant(onnx.FromInts("", []int64{}, []int64{v}))
}

// scalar is a constant of the network's element type.
func (b *builder) scalar(v float64) *onnx.Value { return b.typed(b.o.DType, []int64{}, v) }

// typed is a constant of any element type.
func (b *builder) typed(d onnx.DType, shape []int64, v ...float64) *onnx.Value {
	t, err := onnx.FromFloat64s("", d, shape, v)
	if err != nil {
		panic("nets: " + err.Error())
	}
	return b.constant(t)
}

// function calls the local function of that name, which body defines at the first call.
func (b *builder) function(name string, body func(f *builder, in []*onnx.Value) *onnx.Value, args ...*onnx.Value) *onnx.Value {
	const domain = "pkg.onnxscript.torch_lib"
	if b.functions[name] == nil {
		f := &onnx.Function{Name: name, Domain: domain, Opsets: []onnx.Opset{{Version: b.o.Opset}}, Body: onnx.NewGraph(name)}
		fb := &builder{state: b.state, g: f.Body, body: true}
		var in []*onnx.Value
		for i := range args {
			in = append(in, f.Body.AddInput(fmt.Sprintf("arg%d", i), nil))
		}
		f.Body.AddOutput(body(fb, in))
		b.functions[name] = f
		b.m.AddFunction(f)
		b.m.ImportOpset(domain, 1)
	}
	n := b.node(name, nil, 1, args...)
	n.Domain = domain
	return n.Output(0)
}

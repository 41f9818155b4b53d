package grad

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// builder adds nodes at the end of a graph and knows the types of what they produce.
type builder struct {
	m      *onnx.Model
	g      *onnx.Graph
	facts  *opset.Facts
	shapes map[*onnx.Value]*onnx.Value // the shape of a value, as a value
	reals  map[real]*onnx.Value
}

// real is a scalar constant.
type real struct {
	d onnx.DType
	v float64
}

// failure carries an error from a rule to [differentiation.apply].
type failure struct{ err error }

// fail ends the differentiation of the node at hand with an error.
func (b *builder) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// attrs are the attributes of a new node: int, int64, float32, string, []int64 or an attribute as it is.
type attrs map[string]any

// node adds a node with n outputs to the graph.
func (b *builder) node(op string, n int, in []*onnx.Value, a attrs) []*onnx.Value {
	names := make([]string, n)
	for i := range names {
		names[i] = b.m.Fresh("grad_" + op)
	}
	node := onnx.NewNode(op, in, names...)
	node.TrimInputs()
	for _, name := range sortedKeys(a) {
		node.Attrs = append(node.Attrs, attrOf(name, a[name]))
	}
	return b.added(node)
}

// added appends a node and infers the types of its outputs.
func (b *builder) added(n *onnx.Node) []*onnx.Value {
	b.g.Append(n)
	b.facts.Infer(n)
	for _, v := range n.Outputs() {
		if t := b.facts.Type(v); v != nil && t.IsTensor() && t.Elem != onnx.Undefined {
			v.Type = onnx.TensorType(t.Elem, nil)
		}
	}
	return n.Outputs()
}

func attrOf(name string, v any) *onnx.Attr {
	switch v := v.(type) {
	case int:
		return onnx.IntAttr(name, int64(v))
	case int64:
		return onnx.IntAttr(name, v)
	case float32:
		return onnx.FloatAttr(name, v)
	case string:
		return onnx.StringAttr(name, v)
	case []int64:
		return onnx.IntsAttr(name, v...)
	case *onnx.Tensor:
		return onnx.TensorAttr(name, v)
	}
	panic(fmt.Sprintf("grad: attribute %q of type %T", name, v))
}

// op adds a node of the standard domain with one output and no attributes.
func (b *builder) op(op string, in ...*onnx.Value) *onnx.Value { return b.node(op, 1, in, nil)[0] }

// opWith adds a node of the standard domain with one output.
func (b *builder) opWith(op string, a attrs, in ...*onnx.Value) *onnx.Value {
	return b.node(op, 1, in, a)[0]
}

func (b *builder) add(x, y *onnx.Value) *onnx.Value    { return b.op("Add", x, y) }
func (b *builder) sub(x, y *onnx.Value) *onnx.Value    { return b.op("Sub", x, y) }
func (b *builder) mul(x, y *onnx.Value) *onnx.Value    { return b.op("Mul", x, y) }
func (b *builder) div(x, y *onnx.Value) *onnx.Value    { return b.op("Div", x, y) }
func (b *builder) neg(x *onnx.Value) *onnx.Value       { return b.op("Neg", x) }
func (b *builder) matmul(x, y *onnx.Value) *onnx.Value { return b.op("MatMul", x, y) }

// scale returns k·x.
func (b *builder) scale(x *onnx.Value, k float64) *onnx.Value {
	if k == 1 {
		return x
	}
	return b.mul(x, b.num(x, k))
}

// plus returns x + k.
func (b *builder) plus(x *onnx.Value, k float64) *onnx.Value {
	if k == 0 {
		return x
	}
	return b.add(x, b.num(x, k))
}

// square returns x².
func (b *builder) square(x *onnx.Value) *onnx.Value { return b.mul(x, x) }

// num returns the scalar v in the element type of like.
func (b *builder) num(like *onnx.Value, v float64) *onnx.Value { return b.scalar(b.elem(like), v) }

// scalar returns the constant v of type d, one for all its readers.
func (b *builder) scalar(d onnx.DType, v float64) *onnx.Value {
	key := real{d, v}
	if c := b.reals[key]; c != nil {
		return c
	}
	t, err := onnx.FromFloat64s("grad_scalar", d, []int64{}, []float64{v})
	if err != nil {
		b.fail("%v", err)
	}
	c := b.g.NewConst(t)
	b.reals[key] = c
	return c
}

// ints returns a constant vector.
func (b *builder) ints(v ...int64) *onnx.Value {
	return b.g.NewConst(onnx.FromInts("grad_ints", []int64{int64(len(v))}, v))
}

// elem returns the element type of v.
func (b *builder) elem(v *onnx.Value) onnx.DType {
	d := b.facts.DType(v)
	if d == onnx.Undefined {
		b.fail("the element type of %q is not known", v.Name())
	}
	return d
}

// cast returns v with elements of type d.
func (b *builder) cast(v *onnx.Value, d onnx.DType) *onnx.Value {
	if b.elem(v) == d {
		return v
	}
	return b.opWith("Cast", attrs{"to": int64(d)}, v)
}

// castLike returns v in the element type of like.
func (b *builder) castLike(v, like *onnx.Value) *onnx.Value { return b.cast(v, b.elem(like)) }

// where returns x where the condition holds, else 0.
func (b *builder) where(cond, x *onnx.Value) *onnx.Value { return b.op("Where", cond, x, b.num(x, 0)) }

// choose returns scalar x where the condition holds, else scalar y, in the type of like.
func (b *builder) choose(cond, like *onnx.Value, x, y float64) *onnx.Value {
	return b.op("Where", cond, b.num(like, x), b.num(like, y))
}

func (b *builder) greater(x *onnx.Value, k float64) *onnx.Value {
	return b.op("Greater", x, b.num(x, k))
}

func (b *builder) less(x *onnx.Value, k float64) *onnx.Value { return b.op("Less", x, b.num(x, k)) }

// reduce reduces x over axes; keep leaves them in place with size 1.
func (b *builder) reduce(op string, x *onnx.Value, axes []int64, keep bool) *onnx.Value {
	k := 0
	if keep {
		k = 1
	}
	if len(axes) == 0 {
		return x
	}
	return b.opWith(op, attrs{"keepdims": k}, x, b.ints(axes...))
}

// transpose permutes the axes of x.
func (b *builder) transpose(x *onnx.Value, perm ...int64) *onnx.Value {
	return b.opWith("Transpose", attrs{"perm": perm}, x)
}

// swapped exchanges the last two axes of x.
func (b *builder) swapped(x *onnx.Value) *onnx.Value {
	perm := upTo(b.rank(x))
	k := len(perm)
	perm[k-1], perm[k-2] = perm[k-2], perm[k-1]
	return b.transpose(x, perm...)
}

// upTo returns 0, 1, …, n-1.
func upTo(n int) []int64 { return span(0, n) }

// span returns from, …, to-1.
func span(from, to int) []int64 {
	var out []int64
	for i := from; i < to; i++ {
		out = append(out, int64(i))
	}
	return out
}

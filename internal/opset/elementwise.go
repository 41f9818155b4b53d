package opset

import (
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// elementwiseRows are the operators that work element by element with broadcasting.
func elementwiseRows() []row {
	const old = "axis:int@..6 broadcast:int=0@..6"
	const legacy = old + " consumed_inputs:ints@..5"
	const consumed = "consumed_inputs:ints@..5"
	both := Elementwise | Commutative
	one, step := perOutput(1), Elementwise
	return []row{
		{"Abs", "1 6 13", "X", "Y", consumed, step, unaryValue(absExpr, math.Abs), one},
		{"Acos", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Acosh", "9 22", "input", "output", "", step, sameAsFirst, one},
		{"Asin", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Asinh", "9 22", "input", "output", "", step, sameAsFirst, one},
		{"Atan", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Atanh", "9 22", "input", "output", "", step, sameAsFirst, one},
		{"BitwiseNot", "18", "X", "Y", "", step, sameAsFirst, one},
		{"Ceil", "1 6 13", "X", "Y", consumed, step, unaryValue(nil, math.Ceil), one},
		{"Celu", "12", "X", "Y", "alpha:float=1", step, sameAsFirst, perOutput(4)},
		{"Clip", "1 6 11 12 13", "input|11:input min? max?", "output",
			consumed + " max:float@..5 min:float@..5 max:float=3.402823e+38@6..10 min:float=-3.402823e+38@6..10", step, inferClip, perOutput(2)},
		{"Cos", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Cosh", "9 22", "input", "output", "", step, sameAsFirst, one},
		{"Elu", "1 6 22", "X", "Y", "alpha:float=1 " + consumed, step, sameAsFirst, perOutput(3)},
		{"Erf", "9 13", "input", "output", "", step, sameAsFirst, one},
		{"Exp", "1 6 13", "input", "output", consumed, step, sameAsFirst, one},
		{"Floor", "1 6 13", "X", "Y", consumed, step, unaryValue(nil, math.Floor), one},
		{"Gelu", "20", "X", "Y", "approximate:string=none", step, sameAsFirst, perOutput(5)},
		{"HardSigmoid", "1 6 22", "X", "Y", "alpha:float=0.2 beta:float=0.5 " + consumed, step, sameAsFirst, perOutput(4)},
		{"HardSwish", "14 22", "X", "Y", "", step, sameAsFirst, perOutput(5)},
		{"LeakyRelu", "1 6 16", "X", "Y", "alpha:float=0.01 " + consumed, step, sameAsFirst, perOutput(2)},
		{"Log", "1 6 13", "input", "output", consumed, step, sameAsFirst, one},
		{"Mish", "18 22", "X", "Y", "", step, sameAsFirst, perOutput(4)},
		{"Neg", "1 6 13", "X", "Y", consumed, step, unaryValue(neg, func(x float64) float64 { return -x }), one},
		{"Not", "1", "X", "Y", "", step, unaryValue(notExpr, nil), one},
		{"PRelu", "1 6 7 9 16", "X slope", "Y", consumed, step, sameAsFirst, perOutput(2)},
		{"Reciprocal", "1 6 13", "X", "Y", consumed, step, unaryValue(nil, func(x float64) float64 { return 1 / x }), one},
		{"Relu", "1 6 13 14", "X", "Y", consumed, step, unaryValue(reluExpr, nil), one},
		{"Round", "11 22", "X", "Y", "", step, unaryValue(nil, math.RoundToEven), one},
		{"Selu", "1 6 22", "X", "Y", "alpha:float=1.6732@..5 " + consumed +
			" gamma:float=1.0507@..5 alpha:float=1.673263@6 gamma:float=1.050701@6", step, sameAsFirst, perOutput(4)},
		{"Shrink", "9", "input", "output", "bias:float=0 lambd:float=0.5", step, sameAsFirst, perOutput(2)},
		{"Sigmoid", "1 6 13", "X", "Y", consumed, step, sameAsFirst, perOutput(4)},
		{"Sign", "9 13", "input", "output", "", step, sameAsFirst, one},
		{"Sin", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Sinh", "9 22", "input", "output", "", step, sameAsFirst, one},
		{"Softplus", "1 22", "X", "Y", "", step, sameAsFirst, perOutput(3)},
		{"Softsign", "1 22", "input", "output", "", step, sameAsFirst, perOutput(3)},
		{"Sqrt", "1 6 13", "X", "Y", consumed, step, unaryValue(nil, math.Sqrt), one},
		{"Swish", "24", "X", "Y", "alpha:float=1", step, sameAsFirst, perOutput(5)},
		{"Tan", "7 22", "input", "output", "", step, sameAsFirst, one},
		{"Tanh", "1 6 13", "input", "output", consumed, step, sameAsFirst, one},
		{"ThresholdedRelu", "10 22", "X", "Y", "alpha:float=1", step, sameAsFirst, one},
		{"IsInf", "10 20", "X", "Y", "detect_negative:int=1 detect_positive:int=1", step, toBool, one},
		{"IsNaN", "9 13 20", "X", "Y", "", step, toBool, one},

		{"Add", "1 6 7 13 14", "A B", "C", legacy, both, binaryValue(add, func(a, b float64) float64 { return a + b }), one},
		{"Sub", "1 6 7 13 14", "A B", "C", legacy, step, binaryValue(sub, func(a, b float64) float64 { return a - b }), one},
		{"Mul", "1 6 7 13 14", "A B", "C", legacy, both, binaryValue(mul, func(a, b float64) float64 { return a * b }), one},
		{"Div", "1 6 7 13 14", "A B", "C", legacy, step, binaryValue(truncDiv, func(a, b float64) float64 { return a / b }), one},
		{"Mod", "10 13", "A B", "C", "fmod:int=0", step, inferMod, one},
		{"Pow", "1 7 12 13 15", "X Y", "Z", old, step, binary, one},
		{"BitShift", "11", "X Y", "Z", "direction:string!", step, binary, one},
		{"BitwiseAnd", "18", "A B", "C", "", both, binary, one},
		{"BitwiseOr", "18", "A B", "C", "", both, binary, one},
		{"BitwiseXor", "18", "A B", "C", "", both, binary, one},
		{"And", "1 7", "A B", "C", old, both, compare(boolExpr(func(a, b bool) bool { return a && b })), one},
		{"Or", "1 7", "A B", "C", old, both, compare(boolExpr(func(a, b bool) bool { return a || b })), one},
		{"Xor", "1 7", "A B", "C", old, both, compare(boolExpr(func(a, b bool) bool { return a != b })), one},
		{"Equal", "1 7 11 13 19", "A B", "C", old, both, compare(equalExpr), one},
		{"Greater", "1 7 9 13", "A B", "C", old, step, compare(greaterExpr), one},
		{"GreaterOrEqual", "12 16", "A B", "C", "", step, compare(func(a, b *expr) *expr { return notExpr(greaterExpr(b, a)) }), one},
		{"Less", "1 7 9 13", "A B", "C", old, step, compare(func(a, b *expr) *expr { return greaterExpr(b, a) }), one},
		{"LessOrEqual", "12 16", "A B", "C", "", step, compare(func(a, b *expr) *expr { return notExpr(greaterExpr(a, b)) }), one},

		{"Max", "1 6 8 12 13", "data_0+", "max", consumed, both, variadicValue(maximum), perInputs},
		{"Min", "1 6 8 12 13", "data_0+", "min", consumed, both, variadicValue(minimum), perInputs},
		{"Sum", "1 6 8 13", "data_0+", "sum", consumed, both, variadicValue(nil), perInputs},
		{"Mean", "1 6 8 13", "data_0+", "mean", consumed, both, variadicValue(nil), perInputs},
		{"Where", "9 16", "condition X Y", "output", "", step, inferWhere, one},

		{"Cast", "1 6 9 13 19 21 23 24 25", "input", "output",
			"to:string!@..5 to:int!@6 saturate:int=1@19 round_mode:string=up@24", step, inferCast, nil},
		{"CastLike", "15 19 21 23 24 25", "input target_type", "output",
			"saturate:int=1@19 round_mode:string=up@24", step, inferCastLike, nil},
		{"BitCast", "26", "input", "output", "to:int!", step, inferBitCast, nil},
		{"StringConcat", "20", "X Y", "Z", "", step, binary, nil},
	}
}

// perInputs costs one FLOP per output element for each input after the first.
func perInputs(c *costing) {
	c.cost.FLOPs = c.times(constant(max(1, int64(len(c.n.Inputs()))-1)), c.outCount(0))
}

// sameAsFirst gives the output the type of the first input, without its content.
func sameAsFirst(c *call) { c.setType(0, c.typ(0)) }

// toBool gives a Bool of the first input's shape.
func toBool(c *call) { c.set(0, onnx.Bool, c.shape(0)) }

// unaryValue is sameAsFirst with the content followed by a function of integers,
// one of floats, or both; a nil function follows nothing.
func unaryValue(ints func(*expr) *expr, floats func(float64) float64) func(*call) {
	return func(c *call) {
		sameAsFirst(c)
		if in := c.ints(0); in != nil && ints != nil {
			out := make([]*expr, len(in))
			for i, e := range in {
				out[i] = ints(e)
			}
			c.setInts(0, out)
		}
		if in := c.floats(0); in != nil && floats != nil {
			out := make([]float64, len(in))
			for i, x := range in {
				out[i] = floats(x)
			}
			c.setFloats(0, out)
		}
	}
}

func absExpr(e *expr) *expr {
	if n, ok := e.known(); ok && n != math.MinInt64 {
		return constant(abs(n))
	}
	if lo, ok := e.least(); ok && lo >= 0 {
		return e
	}
	return nil
}

func reluExpr(e *expr) *expr { return maximum(e, constant(0)) }

func notExpr(e *expr) *expr {
	if n, ok := e.known(); ok && (n == 0 || n == 1) {
		return constant(1 - n)
	}
	return nil
}

func truth(b bool) *expr {
	if b {
		return constant(1)
	}
	return constant(0)
}

func boolExpr(f func(a, b bool) bool) func(a, b *expr) *expr {
	return func(a, b *expr) *expr {
		x, xok := a.known()
		y, yok := b.known()
		if !xok || !yok {
			return nil
		}
		return truth(f(x != 0, y != 0))
	}
}

// equalExpr decides a = b where it can: a size never equals a negative number.
func equalExpr(a, b *expr) *expr {
	if a.same(b) {
		return constant(1)
	}
	d := sub(a, b)
	if n, ok := d.known(); ok {
		return truth(n == 0)
	}
	if lo, ok := d.least(); ok && lo > 0 {
		return constant(0)
	}
	if lo, ok := neg(d).least(); ok && lo > 0 {
		return constant(0)
	}
	return nil
}

// greaterExpr decides a > b where it can.
func greaterExpr(a, b *expr) *expr {
	d := sub(a, b)
	if lo, ok := d.least(); ok && lo > 0 {
		return constant(1)
	}
	if lo, ok := neg(d).least(); ok && lo >= 0 {
		return constant(0)
	}
	return nil
}

// binary gives the broadcast shape of two inputs and the first one's element type.
func binary(c *call) { c.set(0, c.elem(0), c.binaryShape()) }

// binaryShape returns the output shape of a two-input elementwise operator:
// before opset 7 the first input's, afterwards the broadcast one.
func (c *call) binaryShape() onnx.Shape {
	if c.legacy() {
		return c.shape(0)
	}
	return c.broadcast(c.shape(0), c.shape(1))
}

// legacy reports whether the operator broadcasts along attribute axis, as
// before opset 7; content is then followed between equal shapes only.
func (c *call) legacy() bool { return c.op.Attr("broadcast") != nil }

// binaryValue is binary with the content followed.
func binaryValue(ints func(a, b *expr) *expr, floats func(a, b float64) float64) func(*call) {
	return func(c *call) {
		elem := c.elem(0)
		if elem == onnx.Undefined {
			elem = c.elem(1)
		}
		s := c.binaryShape()
		c.set(0, elem, s)
		if at, ok := c.aligned(s, 0, 1); ok {
			c.setInts(0, c.wrapped(elem, zipInts(c, at, ints)))
			x, y := c.floats(0), c.floats(1)
			if x != nil && y != nil && elem == onnx.Float || elem == onnx.Double && x != nil && y != nil {
				out := make([]float64, len(at[0]))
				for i := range out {
					out[i] = rounded(elem, floats(x[at[0][i]], y[at[1][i]]))
				}
				c.setFloats(0, out)
			}
		}
	}
}

// rounded returns x as an element of type elem holds it.
func rounded(elem onnx.DType, x float64) float64 {
	if elem == onnx.Float {
		return float64(float32(x))
	}
	return x
}

// wrapped drops the elements that overflow an integer type below 64 bits.
func (c *call) wrapped(elem onnx.DType, e []*expr) []*expr {
	if e == nil || elem == onnx.Int64 || elem == onnx.Bool || !elem.IsInt() {
		return e
	}
	lo, hi := onnx.IntRange(elem)
	for i, x := range e {
		if n, ok := x.known(); ok && (n < lo || n > hi) {
			e[i] = nil
		}
	}
	return e
}

// zipInts applies f to the aligned integer elements of the first two inputs.
func zipInts(c *call, at [][]int, f func(a, b *expr) *expr) []*expr {
	x, y := c.ints(0), c.ints(1)
	if x == nil || y == nil || f == nil {
		return nil
	}
	out := make([]*expr, len(at[0]))
	for i := range out {
		out[i] = f(x[at[0][i]], y[at[1][i]])
	}
	return out
}

// aligned returns, for each of the given inputs, the element that goes into
// each element of a broadcast result of shape s; false where s is not small and
// static, or an input's content has another size than its shape.
func (c *call) aligned(s onnx.Shape, inputs ...int) ([][]int, bool) {
	dims, ok := s.Static()
	if !ok {
		return nil, false
	}
	n, ok := onnx.ElementCount(dims)
	if !ok || n > maxElems {
		return nil, false
	}
	out := make([][]int, len(inputs))
	for k, in := range inputs {
		src, ok := c.shape(in).Static()
		if !ok || len(src) > len(dims) {
			return nil, false
		}
		for j := range src {
			if src[j] != 1 && src[j] != dims[len(dims)-len(src)+j] {
				return nil, false
			}
		}
		size, _ := onnx.ElementCount(src)
		if c.legacy() && size != n {
			return nil, false
		}
		if e := c.ints(in); e != nil && int64(len(e)) != size {
			return nil, false
		}
		if x := c.floats(in); x != nil && int64(len(x)) != size {
			return nil, false
		}
		out[k] = broadcastIndex(dims, src, int(n))
	}
	return out, true
}

// broadcastIndex returns, for each element of a tensor of shape dims, the
// element of a tensor of shape src that broadcasting reads.
func broadcastIndex(dims, src []int64, n int) []int {
	out := make([]int, n)
	stride := make([]int, len(dims))
	step := 1
	for j := len(src) - 1; j >= 0; j-- {
		if src[j] != 1 {
			stride[len(dims)-len(src)+j] = step
		}
		step *= int(src[j])
	}
	for i := range out {
		rest, at := i, 0
		for j := len(dims) - 1; j >= 0; j-- {
			at += rest % int(dims[j]) * stride[j]
			rest /= int(dims[j])
		}
		out[i] = at
	}
	return out
}

// compare gives a Bool of the broadcast shape, with content where f decides.
func compare(f func(a, b *expr) *expr) func(*call) {
	return func(c *call) {
		s := c.binaryShape()
		c.set(0, onnx.Bool, s)
		if at, ok := c.aligned(s, 0, 1); ok {
			c.setInts(0, zipInts(c, at, f))
		}
	}
}

func inferMod(c *call) {
	f := modulo
	if c.int("fmod") != 0 {
		f = nil
	}
	binaryValue(f, math.Mod)(c)
	if len(c.out) > 0 {
		c.out[0].real = nil
	}
}

// variadicValue broadcasts all inputs and folds their integer content by f.
func variadicValue(f func(a, b *expr) *expr) func(*call) {
	return func(c *call) {
		shapes := make([]onnx.Shape, len(c.n.Inputs()))
		for i := range shapes {
			shapes[i] = c.shape(i)
		}
		s := c.broadcast(shapes...)
		if c.ver() < 8 && len(shapes) > 0 {
			s = shapes[0]
		}
		c.set(0, c.elem(0), s)
		if f == nil {
			return
		}
		var out []*expr
		for i := range shapes {
			at, ok := c.aligned(s, i)
			in := c.ints(i)
			if !ok || in == nil {
				return
			}
			next := make([]*expr, len(at[0]))
			for k, j := range at[0] {
				if next[k] = in[j]; out != nil {
					next[k] = f(out[k], in[j])
				}
			}
			out = next
		}
		c.setInts(0, out)
	}
}

// inferClip follows the content where both limits are known or absent.
func inferClip(c *call) {
	sameAsFirst(c)
	in := c.ints(0)
	if in == nil || c.ver() < 11 {
		return
	}
	limit := func(i int, f func(a, b *expr) *expr, e *expr) *expr {
		if !c.has(i) {
			return e
		}
		if l := c.ints(i); len(l) == 1 {
			return f(e, l[0])
		}
		return nil
	}
	out := make([]*expr, len(in))
	for i, e := range in {
		out[i] = limit(2, minimum, limit(1, maximum, e))
	}
	c.setInts(0, out)
}

func inferWhere(c *call) {
	elem := c.elem(1)
	if elem == onnx.Undefined {
		elem = c.elem(2)
	}
	s := c.broadcast(c.shape(0), c.shape(1), c.shape(2))
	c.set(0, elem, s)
	at, ok := c.aligned(s, 0, 1, 2)
	cond, x, y := c.ints(0), c.ints(1), c.ints(2)
	if !ok || x == nil || y == nil {
		return
	}
	out := make([]*expr, len(at[0]))
	for i := range out {
		a, b := x[at[1][i]], y[at[2][i]]
		if a.same(b) {
			out[i] = a
		} else if cond != nil {
			if n, ok := cond[at[0][i]].known(); ok && n != 0 {
				out[i] = a
			} else if ok {
				out[i] = b
			}
		}
	}
	c.setInts(0, out)
}

// castNames are the spellings of Cast's attribute before opset 6.
var castNames = map[string]onnx.DType{"FLOAT": onnx.Float, "UINT8": onnx.Uint8, "INT8": onnx.Int8, "UINT16": onnx.Uint16,
	"INT16": onnx.Int16, "INT32": onnx.Int32, "INT64": onnx.Int64, "STRING": onnx.String, "BOOL": onnx.Bool,
	"FLOAT16": onnx.Float16, "DOUBLE": onnx.Double, "UINT32": onnx.Uint32, "UINT64": onnx.Uint64}

func inferCast(c *call) {
	to := dtypeOf(c.int("to"))
	if c.ver() < 6 {
		to = castNames[c.str("to")]
	}
	c.castTo(to)
}

// dtypeOf returns an attribute's value as an element type, Undefined if it is none.
func dtypeOf(n int64) onnx.DType {
	if d := onnx.DType(n); int64(d) == n && d.Valid() {
		return d
	}
	return onnx.Undefined
}

func inferCastLike(c *call) { c.castTo(c.elem(1)) }

// castTo gives the first input's shape another element type and follows the content.
func (c *call) castTo(to onnx.DType) {
	c.set(0, to, c.shape(0))
	ints, floats := c.ints(0), c.floats(0)
	switch {
	case ints != nil && (to == onnx.Int64 || to == onnx.Int32):
		c.setInts(0, c.wrapped(to, append([]*expr{}, ints...)))
	case ints != nil && to == onnx.Bool:
		out := make([]*expr, len(ints))
		for i, e := range ints {
			out[i] = notExpr(equalExpr(e, constant(0)))
		}
		c.setInts(0, out)
	case ints != nil && (to == onnx.Float || to == onnx.Double):
		if n, ok := allKnown(ints); ok {
			out := make([]float64, len(n))
			for i, x := range n {
				out[i] = rounded(to, float64(x))
			}
			c.setFloats(0, out)
		}
	case floats != nil && (to == onnx.Int64 || to == onnx.Int32):
		out := make([]*expr, len(floats))
		for i, x := range floats {
			if math.Abs(x) < 1<<31 {
				out[i] = constant(int64(math.Trunc(x)))
			}
		}
		c.setInts(0, out)
	}
}

// inferBitCast reinterprets elements; the last dimension scales with the widths.
func inferBitCast(c *call) {
	to := dtypeOf(c.int("to"))
	from := c.elem(0)
	if to.Bits() != 0 && to.Bits() == from.Bits() {
		c.set(0, to, c.shape(0))
		return
	}
	c.set(0, to, nil)
}

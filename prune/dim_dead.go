package prune

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// deadness finds units that contribute nothing whatever the inputs are: what they
// compute is always zero, or is multiplied by zeros wherever it is read.
type deadness struct {
	d     *dims
	zero  map[opset.Axis][]bool // positions of activations that are always zero
	empty map[opset.Axis][]bool // positions of constants that are zero all over
}

// dead returns the units of groups that can go without any change.
func (d *dims) dead(groups []*group) (map[int32]bool, error) {
	x := &deadness{d: d, zero: map[opset.Axis][]bool{}, empty: map[opset.Axis][]bool{}}
	for n := range d.nodes() {
		if err := x.follow(n); err != nil {
			return nil, err
		}
	}
	out := map[int32]bool{}
	for _, g := range groups {
		if g.norm != nil {
			continue
		}
		left := len(g.units)
		for _, u := range g.units {
			yes, err := x.unread(u)
			if err != nil {
				return nil, err
			}
			if yes && left > 1 {
				out[u.root] = true
				left--
			}
		}
	}
	return out, nil
}

// unread reports whether nothing depends on a unit: every node that reads it and
// does not hand it on multiplies it by zeros, or it is zero there.
func (x *deadness) unread(u unit) (bool, error) {
	inUnit := map[*onnx.Value]bool{}
	for _, p := range u.places {
		inUnit[x.d.axes[p.axis].Value] = true
	}
	for _, p := range u.places {
		a := x.d.axes[p.axis]
		if a.Value.Constant() != nil || x.zeroAt(a.Axis, p.position) {
			continue
		}
		for _, use := range a.Value.Uses() {
			if slices.ContainsFunc(use.Node.Outputs(), func(v *onnx.Value) bool { return v != nil && inUnit[v] }) {
				continue
			}
			none, err := x.multipliesByZero(use.Node, a.Value, u)
			if !none || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// multipliesByZero reports whether node n sums over the unit with weights that are zero.
func (x *deadness) multipliesByZero(n *onnx.Node, read *onnx.Value, u unit) (bool, error) {
	if !slices.Contains([]string{"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"}, n.Op) {
		return false, nil
	}
	found := false
	for _, v := range n.Inputs() {
		if v == nil || v == read {
			continue
		}
		for _, p := range u.places {
			a := x.d.axes[p.axis]
			if a.Value != v {
				continue
			}
			if v.Constant() == nil {
				return false, nil
			}
			empty, err := x.emptyAt(a, p.position)
			if !empty || err != nil {
				return false, err
			}
			found = true
		}
	}
	return found, nil
}

func (x *deadness) zeroAt(a opset.Axis, position int) bool {
	z := x.zero[a]
	return z != nil && z[position]
}

// emptyAt reports whether a constant is zero at one position of an axis.
func (x *deadness) emptyAt(a axis, position int) (bool, error) {
	if e := x.empty[a.Axis]; e != nil {
		return e[position], nil
	}
	t := a.Value.Constant()
	values, err := t.Float64s()
	if err != nil {
		return false, err
	}
	inner := 1
	for _, n := range t.Shape[a.Axis.Axis+1:] {
		inner *= int(n)
	}
	e := slices.Repeat([]bool{true}, a.size)
	for i, v := range values {
		if v != 0 {
			e[i/inner%a.size] = false
		}
	}
	x.empty[a.Axis] = e
	return e[position], nil
}

// zeroPreserving are operators of one input that take zero to zero and work on
// each channel by itself.
var zeroPreserving = []string{"Relu", "LeakyRelu", "PRelu", "Elu", "Tanh", "HardSwish", "Gelu", "Mish", "Swish", "Abs", "Neg", "Erf", "Identity", "Dropout",
	"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "QuickGelu", "FastGelu"}

// follow finds the positions of n's output that are always zero.
func (x *deadness) follow(n *onnx.Node) error {
	y := n.Output(0)
	switch {
	case y == nil:
	case slices.Contains(zeroPreserving, n.Op):
		for i := range x.d.facts.Shape(y) {
			if z := x.zero[opset.Axis{Value: n.Input(0), Axis: i}]; z != nil && x.length(y, i) == len(z) {
				x.zero[opset.Axis{Value: y, Axis: i}] = z
			}
		}
	case n.Is("Add"), n.Is("Mul"):
		x.both(n)
	case n.Is("BatchNormalization"):
		return x.normalized(n)
	case n.Is("Conv"), n.Is("Gemm"), n.Is("MatMul"):
		return x.weighted(n)
	}
	return nil
}

// length returns the size of an axis that is followed, 0 for any other.
func (x *deadness) length(v *onnx.Value, i int) int {
	at, ok := x.d.index[opset.Axis{Value: v, Axis: i}]
	if !ok {
		return 0
	}
	return x.d.axes[at].size
}

// both is for sums, where both are zero, and products, where one is; operands
// have the output's shape.
func (x *deadness) both(n *onnx.Node) {
	a, b, y := n.Input(0), n.Input(1), n.Output(0)
	rank := len(x.d.facts.Shape(y))
	for i := range rank {
		size := x.length(y, i)
		za, zb := x.aligned(a, i, rank, size), x.aligned(b, i, rank, size)
		if size == 0 || za == nil && zb == nil {
			continue
		}
		out := make([]bool, size)
		for k := range out {
			zeroA, zeroB := za != nil && za[k], zb != nil && zb[k]
			out[k] = zeroA && zeroB || n.Is("Mul") && (zeroA || zeroB)
		}
		x.zero[opset.Axis{Value: y, Axis: i}] = out
	}
}

// aligned returns the zeros of an operand along the output's axis i.
func (x *deadness) aligned(v *onnx.Value, i, rank, size int) []bool {
	j := i - rank + len(x.d.facts.Shape(v))
	if j < 0 || x.length(v, j) != size {
		return nil
	}
	a := opset.Axis{Value: v, Axis: j}
	if v.Constant() == nil {
		return x.zero[a]
	}
	if !v.Constant().DType.IsFloat() {
		return nil
	}
	if _, err := x.emptyAt(x.d.axes[x.d.index[a]], 0); err != nil {
		return nil
	}
	return x.empty[a]
}

// normalized: zero stays zero where bias and mean leave it there, and a scale of
// zero leaves the bias.
func (x *deadness) normalized(n *onnx.Node) error {
	var p [4][]float64
	for i := range p {
		t := n.Input(i + 1).Constant()
		if t == nil {
			return nil
		}
		var err error
		if p[i], err = t.Float64s(); err != nil {
			return err
		}
	}
	z := x.zero[opset.Axis{Value: n.Input(0), Axis: 1}]
	out := make([]bool, len(p[0]))
	for k := range out {
		constant := p[0][k] == 0 || z != nil && z[k]
		shift := p[1][k] - p[0][k]*p[2][k]/math.Sqrt(p[3][k]+float64(n.Float("epsilon", 1e-5)))
		out[k] = constant && shift == 0
	}
	x.zero[opset.Axis{Value: n.Output(0), Axis: 1}] = out
	return nil
}

// weighted: an output is zero where its bias is and all its weights are, but those
// of inputs that are always zero.
func (x *deadness) weighted(n *onnx.Node) error {
	t := n.Input(1).Constant()
	if t == nil || len(t.Shape) < 2 || !t.DType.IsFloat() || n.Int("group", 1) != 1 || n.Is("MatMul") && len(t.Shape) != 2 {
		return nil
	}
	w, err := t.Float64s()
	if err != nil {
		return err
	}
	outAxis, in := 0, opset.Axis{Value: n.Input(0), Axis: 1}
	if n.Is("MatMul") || n.Is("Gemm") && n.Int("transB", 0) == 0 {
		outAxis = 1
	}
	if !n.Is("Conv") {
		in.Axis = len(x.d.facts.Shape(n.Input(0))) - 1
		if n.Int("transA", 0) != 0 {
			return nil
		}
	}
	inner := 1
	for _, k := range t.Shape[2:] {
		inner *= int(k)
	}
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	out := slices.Repeat([]bool{true}, int(t.Shape[outAxis]))
	for r := range rows {
		for c := range cols {
			o, i := r, c
			if outAxis == 1 {
				o, i = c, r
			}
			if x.zeroAt(in, i) || !out[o] {
				continue
			}
			at := (r*cols + c) * inner
			out[o] = !slices.ContainsFunc(w[at:at+inner], func(v float64) bool { return v != 0 })
		}
	}
	if b := n.Input(2); b != nil {
		bias, err := biasOf(b, len(out))
		if err != nil {
			return err
		}
		for o := range out {
			out[o] = out[o] && bias != nil && bias[o] == 0
		}
	}
	x.zero[opset.Axis{Value: n.Output(0), Axis: x.outputAxis(n)}] = out
	return nil
}

func (x *deadness) outputAxis(n *onnx.Node) int {
	if n.Is("Conv") {
		return 1
	}
	return len(x.d.facts.Shape(n.Output(0))) - 1
}

// biasOf returns a constant bias per output, nil where it is another thing.
func biasOf(v *onnx.Value, n int) ([]float64, error) {
	t := v.Constant()
	if t == nil {
		return nil, nil
	}
	if k, _ := t.Elements(); int(k) != n {
		return nil, nil
	}
	return t.Float64s()
}

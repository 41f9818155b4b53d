package quantize

import (
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// chain is a place where factors of channels can move: what computes a tensor can
// scale channel c by 1/s[c], and everything that reads it in the end multiplies
// by weights that can take s[c] back. Between them stand operators with
// f(x/s) = f(x)/s for s > 0, channel by channel.
type chain struct {
	source  *onnx.Node
	linear  *linear // the source, if it is one
	n       int     // channels
	axis    int     // 1, or −1 for the last
	sinks   []sink
	vectors []vector // constants that are added on the way
	touched []string // tensors whose values change
	tensors []string // of these, what the sinks read
	shifts  bool     // f(x−c) = f(x)−c too wherever x ≥ c ≥ 0
	facts   *opset.Facts
}

// sink is a reader whose input channels from on are the chain's.
type sink struct {
	l    *linear
	from int
}

type vector struct {
	node  *onnx.Node
	input int
}

// norms are operators that end by multiplying with a gain, and adding a bias,
// along the last axis.
var norms = map[string]bool{"LayerNormalization": true, "RMSNormalization": true, "SimplifiedLayerNormalization": true}

// chainsOf returns the chains of g that begin with an operator on the axis, in
// order, and why other linear operators begin none.
func chainsOf(g *onnx.Graph, facts *opset.Facts, axis int) (list []*chain, refused map[string]string) {
	refused = map[string]string{}
	for n := range g.Nodes() {
		c := &chain{source: n, axis: axis, facts: facts, shifts: true}
		if !c.begins() {
			continue
		}
		if why := c.follow(n.Output(0), 0); why != "" {
			refused[outputName(n)] = why
			continue
		}
		list = append(list, c)
	}
	return list, refused
}

// begins reports whether channels can be scaled where the chain begins.
func (c *chain) begins() bool {
	n := c.source
	if l, ok := linearOf(n); ok && l.axis == c.axis {
		c.linear, c.n = l, l.out
		return len(n.Input(1).Uses()) == 1 && !(n.Input(2) != nil && n.Input(2).Constant() == nil)
	}
	if c.axis != -1 {
		return false
	}
	gain := 1
	switch {
	case norms[n.Op]:
		if len(n.Outputs()) > 1 && (n.Output(1) != nil || n.Output(2) != nil) {
			return false
		}
		if rank := len(c.facts.Shape(n.Input(0))); n.Int("axis", -1) != -1 && int(n.Int("axis", -1)) != rank-1 {
			return false
		}
	case n.Is("Mul") && n.Input(0) != nil && n.Input(0).Constant() != nil:
		gain = 0
	case !n.Is("Mul"):
		return false
	}
	for i := gain; i < len(n.Inputs()) && (i == gain || norms[n.Op]); i++ {
		v := n.Input(i)
		if v == nil {
			continue
		}
		t := v.Constant()
		if t == nil || t.DType != onnx.Float || len(t.Shape) != 1 || t.Shape[0] < 2 || c.n > 0 && int(t.Shape[0]) != c.n {
			return false
		}
		c.n = int(t.Shape[0])
	}
	return c.n > 0
}

// follow enters what reads v, whose channels begin at from; it says why the chain
// cannot be.
func (c *chain) follow(v *onnx.Value, from int) string {
	if v.IsOutput() {
		return fmt.Sprintf("%q is an output", v.Name())
	}
	if !slices.Contains(c.touched, v.Name()) {
		c.touched = append(c.touched, v.Name())
	}
	if len(v.Uses()) == 0 {
		return "nothing reads it"
	}
	for _, u := range v.Uses() {
		if u.Node.Graph() != v.Graph() {
			return fmt.Sprintf("%v reads it from within a subgraph", u.Node)
		}
		if why := c.reader(u, v, from); why != "" {
			return why
		}
	}
	return ""
}

func (c *chain) reader(u onnx.Use, v *onnx.Value, from int) string {
	n := u.Node
	if l, ok := linearOf(n); ok && u.Index == 0 && l.axis == c.axis && l.in >= from+c.n {
		if len(n.Input(1).Uses()) != 1 {
			return fmt.Sprintf("the weight of %v has other readers", n)
		}
		c.sinks = append(c.sinks, sink{l, from})
		if !slices.Contains(c.tensors, v.Name()) {
			c.tensors = append(c.tensors, v.Name())
		}
		c.shifts = c.shifts && !padded(n)
		return ""
	}
	if onnx.NormalDomain(n.Domain) != "" || len(n.Outputs()) != 1 {
		return fmt.Sprintf("%v reads it", n)
	}
	switch n.Op {
	case "Relu", "Identity", "LeakyRelu", "PRelu":
		if u.Index == 0 {
			return c.follow(n.Output(0), from)
		}
	case "Clip":
		if c.clipsBelowZeroOnly(n) {
			return c.follow(n.Output(0), from)
		}
		return fmt.Sprintf("%v has an upper bound, which would have to be one per channel", n)
	case "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool":
		if c.axis == 1 {
			c.shifts = c.shifts && (n.Op != "AveragePool" || !padded(n))
			return c.follow(n.Output(0), from)
		}
	case "Mul":
		if other := n.Input(1 - u.Index); other != nil && other.Constant() != nil && len(c.facts.Shape(n.Output(0))) == len(c.facts.Shape(v)) {
			c.shifts = false
			return c.follow(n.Output(0), from)
		}
	case "Add":
		if c.addsVector(n, 1-u.Index, v) && from == 0 {
			c.vectors = append(c.vectors, vector{n, 1 - u.Index})
			return c.follow(n.Output(0), from)
		}
	case "Concat":
		if at, ok := c.concatenated(n, u.Index); ok {
			return c.follow(n.Output(0), from+at)
		}
	}
	return fmt.Sprintf("%v reads it", n)
}

// clipsBelowZeroOnly reports whether a Clip is a Relu. One with an upper bound
// would need another bound for each channel.
func (c *chain) clipsBelowZeroOnly(n *onnx.Node) bool {
	p := &plan{}
	lo, ok1 := p.number(n.Input(1), -math.MaxFloat32)
	hi, ok2 := p.number(n.Input(2), math.MaxFloat32)
	return ok1 && ok2 && (lo == 0 || lo == -math.MaxFloat32 || math.IsInf(float64(lo), -1)) && (hi == math.MaxFloat32 || math.IsInf(float64(hi), 1))
}

// addsVector reports whether input i of n is a constant with one number for each
// channel.
func (c *chain) addsVector(n *onnx.Node, i int, v *onnx.Value) bool {
	t := (*onnx.Tensor)(nil)
	if n.Input(i) != nil {
		t = n.Input(i).Constant()
	}
	if t == nil || t.DType != onnx.Float {
		return false
	}
	count, _ := t.Elements()
	if count != int64(c.n) {
		return false
	}
	rank := len(c.facts.Shape(v))
	at := len(t.Shape) - 1
	if c.axis == 1 {
		at = len(t.Shape) - (rank - 1)
	}
	return rank >= len(t.Shape) && at >= 0 && at < len(t.Shape) && t.Shape[at] == count
}

// concatenated returns how many channels a Concat puts before those of its input i.
func (c *chain) concatenated(n *onnx.Node, i int) (int, bool) {
	shape := c.facts.Shape(n.Input(i))
	axis, want := int(n.Int("axis", 0)), c.axis
	if len(shape) == 0 {
		return 0, false
	}
	if axis < 0 {
		axis += len(shape)
	}
	if want < 0 {
		want += len(shape)
	}
	if axis != want {
		return 0, false
	}
	before := 0
	for _, v := range n.Inputs()[:i] {
		s := c.facts.Shape(v)
		if len(s) <= axis || !s[axis].Known() {
			return 0, false
		}
		before += int(s[axis].Value)
	}
	return before, true
}

// padded reports whether n may put zeros around its input.
func padded(n *onnx.Node) bool {
	if auto := n.Str("auto_pad", "NOTSET"); auto != "NOTSET" && auto != "VALID" {
		return true
	}
	return slices.ContainsFunc(n.Ints("pads", nil), func(p int64) bool { return p != 0 })
}

// edits moves the factors s of the channels from the source to the sinks.
func (c *chain) edits(s []float64) []edit {
	inverse := make([]float64, len(s))
	for i, x := range s {
		inverse[i] = 1 / x
	}
	var out []edit
	switch {
	case c.linear != nil:
		out = append(out, c.linear.scaleOut(inverse))
		out = append(out, scaleVector(c.source, 2, inverse)...)
	case norms[c.source.Op]:
		out = append(out, scaleVector(c.source, 1, inverse)...)
		out = append(out, scaleVector(c.source, 2, inverse)...)
	case c.source.Input(0).Constant() != nil:
		out = append(out, scaleVector(c.source, 0, inverse)...)
	default:
		out = append(out, scaleVector(c.source, 1, inverse)...)
	}
	for _, v := range c.vectors {
		out = append(out, scaleVector(v.node, v.input, inverse)...)
	}
	for _, k := range c.sinks {
		out = append(out, k.l.scaleIn(k.from, s))
	}
	return out
}

// readPeaks returns, for each channel, the largest magnitude of the weights of
// all sinks that read it.
func (c *chain) readPeaks() ([]float64, error) {
	out := make([]float64, c.n)
	for _, k := range c.sinks {
		_, in, err := k.l.peaks()
		if err != nil {
			return nil, err
		}
		for i := range out {
			out[i] = math.Max(out[i], float64(in[k.from+i]))
		}
	}
	return out, nil
}

// bound of the factors around their mean: beyond, a channel is dead and its range
// says nothing.
const mostFactor = 1e3

// balance returns s[i] = a[i]^α / b[i]^(1−α), with geometric mean 1 and within
// bounds; 1 where a or b is 0.
func balance(a, b []float64, alpha float64) []float64 {
	s := make([]float64, len(a))
	sum, count := 0., 0
	for i := range s {
		if a[i] > 0 && b[i] > 0 {
			s[i] = alpha*math.Log(a[i]) - (1-alpha)*math.Log(b[i])
			sum, count = sum+s[i], count+1
		}
	}
	for i := range s {
		if !(a[i] > 0 && b[i] > 0) {
			s[i] = 1
			continue
		}
		s[i] = math.Min(math.Max(math.Exp(s[i]-sum/float64(count)), 1/mostFactor), mostFactor)
	}
	return s
}

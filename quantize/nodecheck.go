package quantize

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// NodeCheck is the error of one quantized node by itself: given the original's
// activations, against the original's result.
type NodeCheck struct {
	Node     string  `json:"node"` // as messages name it
	Output   string  `json:"output"`
	Noise    float64 `json:"noise"`    // mean squared error over mean square
	Expected float64 `json:"expected"` // by the steps of its codes, see [nodeChecks]
	Fault    string  `json:"fault,omitempty"`
}

// mostOver is how many times the expected error a node may have. Rounding errors
// that agree with each other reach a few times; a wrong axis, a transposed weight
// or a zero point that is off by one, tens of times and more.
const mostOver = 5

// nodeChecks checks every quantized node of m by itself, in a model that has the
// original beside copies of them: where n reads x and gives y, a copy reads the
// codes of the original's x, and what is off is summed up in the engine. It runs
// with the engine's optimizations off and on, so that a fault of its fusions is
// found too.
//
// Expected is the variance of rounding, step²/12, of the activation, carried to
// the output by the weights, and of the weight, carried there by the activation,
// and of the output's codes, with what the ranges clip, of the data that was
// measured and of that which the check runs on.
func (r *recovery) nodeChecks(ctx context.Context, c *choices, m *onnx.Model) ([]NodeCheck, error) {
	v := &verifier{r: r, stats: c.stats, q: m}
	base, err := r.float(c)
	if err != nil {
		return nil, err
	}
	if err := apply(base, c.shifts); err != nil {
		return nil, err
	}
	v.m = base
	if err := v.build(); err != nil || len(v.list) == 0 {
		return nil, err
	}
	for _, level := range []session.Level{session.LevelOff, session.LevelAll} {
		if err := v.run(ctx, level); err != nil {
			return nil, err
		}
	}
	out := make([]NodeCheck, len(v.list))
	for i, n := range v.list {
		out[i] = n.NodeCheck
	}
	return out, nil
}

// checkNodes checks what r decided, and leaves nodes with a fault in float32.
func (r *recovery) checkNodes(ctx context.Context) error {
	r.s.o.progress("checking nodes")
	for range 2 {
		m, _, err := r.quantized(ctx, r.now)
		if err != nil {
			return err
		}
		checks, err := r.nodeChecks(ctx, r.now, m)
		if err != nil {
			return err
		}
		faults := map[string]string{}
		for _, c := range checks {
			if c.Fault != "" {
				faults[c.Output] = c.Fault
			}
		}
		r.s.checks = append(r.s.checks[:0], checks...)
		if len(faults) == 0 {
			return nil
		}
		r.now = r.now.with(func(c *choices) {
			c.float = maps.Clone(c.float)
			if c.float == nil {
				c.float = map[string]string{}
			}
			for output, why := range faults {
				c.float[output] = why
				r.s.faults = append(r.s.faults, fmt.Sprintf("%q stays in float32: %s", output, why))
			}
		})
	}
	return nil
}

// verifier builds and runs the model of nodeChecks.
type verifier struct {
	r     *recovery
	stats map[string]*calibrate.Stats
	q     *onnx.Model // quantized
	m     *onnx.Model // the original, to which copies are added
	by    map[string]*onnx.Value
	acts  map[string]bool // outputs of the Relu and Clip nodes of q
	g     *onnx.Graph     // of m, to which copies are added now
	list  []*checkedNode
}

// checkedNode is a node under check with the outputs that tell of it.
type checkedNode struct {
	NodeCheck
	error, signal string  // names of outputs: sums of squares
	cutIn, cutOut string  // likewise, of what is outside the ranges of input and output; "" for none
	floor         float64 // expected mean squared error of an element
	carried       float64 // by which a sum of squared errors of the input grows on its way to the output
}

// build adds a copy of every quantized node with weights.
func (v *verifier) build() error {
	v.by, v.acts = map[string]*onnx.Value{}, map[string]bool{}
	for _, g := range v.m.Graphs() {
		if calibrate.Measurable(g) {
			for x := range g.Values() {
				v.by[x.Name()] = x
			}
		}
	}
	for n := range measurable(v.q) {
		if n.Is("Relu") || n.Is("Clip") {
			v.acts[n.Op+" "+n.Output(0).Name()] = true
		}
	}
	for _, x := range v.m.Graph.Outputs() {
		x.Type = onnx.TensorType(x.DType(), x.Shape())
	}
	v.m.Graph.SetOutputs(nil)
	for n := range measurable(v.q) {
		if place(n) != anchor || dequantized(n.Input(1)) == nil || dequantized(n.Input(0)) == nil {
			continue
		}
		if err := v.node(n); err != nil {
			return err
		}
	}
	return nil
}

// node adds the copy of n and the sums of its errors.
func (v *verifier) node(n *onnx.Node) error {
	in := dequantized(n.Input(0)).Input(0).Producer()
	if !isQuantize(in) {
		return nil
	}
	x := v.behind(v.by[in.Input(0).Name()])
	y, out := v.result(n)
	if x == nil || y == nil {
		return nil
	}
	v.g = y.Graph()
	k := &checkedNode{NodeCheck: NodeCheck{Node: n.String(), Output: y.Name()}}
	if !sameCodes(in, dequantized(n.Input(0))) || out != nil && !sameCodes(out, out.Output(0).Uses()[0].Node) {
		k.Fault = "codes are taken back with another scale or zero point than they were made with"
	}
	if !v.expect(k, n, x.Name(), y.Name(), out) {
		return nil // nothing is known of its activations
	}
	inputs := []*onnx.Value{v.pair(x, in, dequantized(n.Input(0))), v.constant(n.Input(1))}
	if b := n.Input(2); b != nil {
		inputs = append(inputs, v.constant(b))
	}
	got := v.add(n.Op, inputs, n.Attrs...)
	if out != nil {
		got = v.pair(got, out, out.Output(0).Uses()[0].Node)
	}
	d := v.add("Sub", []*onnx.Value{got, y})
	k.error = v.sum(v.add("Mul", []*onnx.Value{d, d}))
	k.signal = v.sum(v.add("Mul", []*onnx.Value{y, y}))
	k.cutIn = v.outside(x, in)
	if out != nil {
		k.cutOut = v.outside(y, out)
	}
	v.list = append(v.list, k)
	return nil
}

// sameCodes reports whether a QuantizeLinear and a DequantizeLinear have the same
// scale and zero point.
func sameCodes(q, dq *onnx.Node) bool {
	for i := 1; i <= 2; i++ {
		a, err1 := q.Input(i).Constant().Bytes()
		b, err2 := dq.Input(i).Constant().Bytes()
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}

// result returns the original's value that n's result stands for, which is that
// behind a Relu or Clip that the codes took in, and the QuantizeLinear of n's
// output; nil where it is not coded.
func (v *verifier) result(n *onnx.Node) (*onnx.Value, *onnx.Node) {
	y := v.by[n.Output(0).Name()]
	if y == nil {
		return nil, nil
	}
	var coded *onnx.Node
	for _, u := range n.Output(0).Uses() {
		if isQuantize(u.Node) && len(u.Node.Output(0).Uses()) > 0 && dequantized(u.Node.Output(0).Uses()[0].Node.Output(0)) != nil {
			coded = u.Node
		}
	}
	if coded != nil {
		y = v.behind(y)
	}
	return y, coded
}

// behind returns the result of a Relu or Clip that alone reads x and that the
// quantized model leaves to the codes, else x.
func (v *verifier) behind(x *onnx.Value) *onnx.Value {
	if x == nil || len(x.Uses()) == 0 {
		return x
	}
	act := x.Uses()[0].Node
	if act.Graph() == x.Graph() && (act.Is("Relu") || act.Is("Clip")) && !v.acts[act.Op+" "+act.Output(0).Name()] {
		return act.Output(0)
	}
	return x
}

func (v *verifier) add(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	n := onnx.NewNode(op, in, v.m.Fresh("check"))
	n.Name, n.Attrs = n.Output(0).Name(), attrs
	v.g.Append(n)
	return n.Output(0)
}

// pair codes x and takes the codes back, with the parameters of two nodes.
func (v *verifier) pair(x *onnx.Value, q, dq *onnx.Node) *onnx.Value {
	codes := v.like(q, x, v.copied(q.Input(1)), v.copied(q.Input(2)))
	return v.like(dq, codes, v.copied(dq.Input(1)), v.copied(dq.Input(2)))
}

// like adds a node of the operator and the attributes of n.
func (v *verifier) like(n *onnx.Node, in ...*onnx.Value) *onnx.Value {
	y := v.add(n.Op, in, n.Attrs...)
	y.Producer().Domain = n.Domain
	return y
}

func (v *verifier) copied(x *onnx.Value) *onnx.Value { return v.g.NewConst(x.Constant()) }

// constant copies a weight or bias with its DequantizeLinear.
func (v *verifier) constant(x *onnx.Value) *onnx.Value {
	n := dequantized(x)
	if n == nil {
		return v.copied(x)
	}
	var in []*onnx.Value
	for _, c := range n.Inputs() {
		in = append(in, v.copied(c))
	}
	return v.like(n, in...)
}

// outside adds the sum of squares of what a QuantizeLinear clips of x: held-out
// numbers may leave the range of those that were measured.
func (v *verifier) outside(x *onnx.Value, q *onnx.Node) string {
	r, _ := rangeOfCodes(q)
	bound := func(b float64) *onnx.Value {
		return v.g.NewConst(onnx.FromFloats("bound", []int64{}, []float32{float32(b)}))
	}
	d := v.add("Sub", []*onnx.Value{x, v.add("Clip", []*onnx.Value{x, bound(r[0]), bound(r[1])})})
	return v.sum(v.add("Mul", []*onnx.Value{d, d}))
}

func (v *verifier) sum(x *onnx.Value) string {
	s := v.add("ReduceSum", []*onnx.Value{x}, onnx.IntAttr("keepdims", 0))
	s.Type = onnx.TensorType(onnx.Float, onnx.Shape{})
	s = calibrate.Out(v.m, s)
	v.m.Graph.AddOutput(s)
	return s.Name()
}

// expect works out the error that rounding explains.
func (v *verifier) expect(k *checkedNode, n *onnx.Node, x, y string, out *onnx.Node) bool {
	sx, sy := v.stats[x], v.stats[y]
	if sx == nil || sx.Count == 0 || sy == nil || sy.Runs == 0 {
		return false
	}
	w := dequantized(n.Input(1))
	power, step, ok := weightPower(w, n)
	if !ok {
		return false
	}
	square := sx.Squares / float64(sx.Count)
	r, codes := rangeOfCodes(dequantized(n.Input(0)))
	noise := sx.Noise(r, codes) * square
	k.floor = noise*power + square*step
	k.carried = power * v.elements(y) / v.elements(x)
	if out != nil {
		r, codes := rangeOfCodes(out)
		k.floor += math.Pow((r[1]-r[0])/float64(codes.Levels-1), 2) / 12
		if sy.Count > 0 {
			k.floor += sy.Noise(r, codes) * sy.Squares / float64(sy.Count)
		}
	}
	if b := n.Input(2); b != nil && dequantized(b) != nil {
		k.floor += meanSquare(dequantized(b).Input(1).Constant()) / 12
	}
	return k.floor > 0
}

// rangeOfCodes returns the numbers that the codes of a QuantizeLinear or
// DequantizeLinear stand for, all that the type of its zero point has.
func rangeOfCodes(n *onnx.Node) ([2]float64, calibrate.Codes) {
	s, _ := n.Input(1).Constant().Float64s()
	z, _ := n.Input(2).Constant().Float64s()
	t := activationTypes[n.Input(2).Constant().DType.String()]
	return [2]float64{(float64(t.min) - z[0]) * s[0], (float64(t.max) - z[0]) * s[0]}, t.codes()
}

// weightPower returns the mean over the outputs of Σw² over what one output
// reads, and of the same of the rounding errors, Σstep²/12.
func weightPower(dq, n *onnx.Node) (power, step float64, ok bool) {
	codes, scales := dq.Input(0).Constant(), dq.Input(1).Constant()
	if codes == nil || scales == nil || codes.DType.Bits() != 8 {
		return 0, 0, false
	}
	b, err := codes.Bytes()
	s, err2 := scales.Floats()
	z, err3 := dq.Input(2).Constant().Float64s()
	if err != nil || err2 != nil || err3 != nil || len(b) == 0 {
		return 0, 0, false
	}
	signed := codes.DType == onnx.Int8
	axis := -1
	if len(s) > 1 {
		axis = int(dq.Int("axis", 1))
	}
	m := channelsOf(codes, axis)
	outputs := int64(1)
	if a := weightAxis(n, codes, false); a >= 0 {
		outputs = codes.Shape[a]
	} else {
		for i, d := range codes.Shape {
			if i != len(codes.Shape)-2 {
				outputs *= d
			}
		}
	}
	for i := range b {
		scale := float64(s[m.channel(i)])
		q := float64(b[i])
		if signed {
			q = float64(int8(b[i]))
		}
		q = (q - z[m.channel(i)]) * scale
		power += q * q
		step += scale * scale / 12
	}
	return power / float64(outputs), step / float64(outputs), true
}

func meanSquare(t *onnx.Tensor) float64 {
	f, err := t.Float64s()
	if err != nil || len(f) == 0 {
		return 0
	}
	sum := 0.
	for _, x := range f {
		sum += x * x
	}
	return sum / float64(len(f))
}

// run compares on the held-out inputs.
func (v *verifier) run(ctx context.Context, level session.Level) error {
	s, err := v.r.held.OpenAt(ctx, v.m, level)
	if err != nil {
		return fmt.Errorf("checking nodes: %w", err)
	}
	defer s.Close()
	total := make([]nodeSums, len(v.list))
	for i, in := range v.r.held.Inputs {
		if i == 4 {
			break // each is as good as another to find a fault
		}
		out, err := s.Run(ctx, in)
		if err != nil {
			return fmt.Errorf("checking nodes: %w", err)
		}
		for i, k := range v.list {
			t := &total[i]
			before := t.signal
			for name, sum := range map[string]*float64{k.error: &t.error, k.signal: &t.signal, k.cutIn: &t.cutIn, k.cutOut: &t.cutOut} {
				if name == "" {
					continue
				}
				f, err := out.Outputs[name].Float64s()
				if err != nil || len(f) != 1 {
					return fmt.Errorf("checking nodes: the engine gave no sum for %q", k.Output)
				}
				*sum += f[0]
			}
			if t.signal == before {
				continue // nothing but zeros, or in a branch that was not taken
			}
			t.elements += v.elements(k.Output)
		}
	}
	for i, k := range v.list {
		k.judge(total[i], level)
	}
	return nil
}

// elements is how many elements a tensor has in a run, on average.
func (v *verifier) elements(tensor string) float64 {
	s := v.stats[tensor]
	return math.Max(float64(s.Count)/float64(s.Runs), 1)
}

// nodeSums are what the outputs of a checked node sum to over the runs.
type nodeSums struct{ error, signal, cutIn, cutOut, elements float64 }

// judge enters what one level of optimization gave.
func (k *checkedNode) judge(t nodeSums, level session.Level) {
	if t.signal <= 0 || t.elements <= 0 {
		return
	}
	noise, expected := t.error/t.signal, (k.floor*t.elements+k.carried*t.cutIn+t.cutOut)/t.signal
	k.Noise, k.Expected = math.Max(k.Noise, noise), expected
	if !(noise <= mostOver*expected) && k.Fault == "" {
		with := map[session.Level]string{session.LevelOff: "off", session.LevelAll: "on"}[level]
		k.Fault = fmt.Sprintf("with the engine's optimizations %s its error is %.2g of its signal, %.0f times what rounding explains", with, noise, noise/expected)
	}
}

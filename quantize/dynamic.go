package quantize

import (
	"context"
	"fmt"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// dynamicName is how logs call dynamic quantization.
const dynamicName = "dynamic-int8"

// dynamicOpset is the version that brought DynamicQuantizeLinear.
const dynamicOpset = 11

// dynamic is int8 for matrix products, with the range of each activation
// measured by DynamicQuantizeLinear while the model runs. Convolutions stay
// in float32: ConvInteger is slower than Conv in most builds of the runtime.
type dynamic struct{ o *Options }

func (*dynamic) name() string { return dynamicName }

func (d *dynamic) prepare(_ context.Context, m *onnx.Model) ([]string, error) {
	if v := m.OpsetVersion(""); v == 0 || v >= dynamicOpset {
		return nil, nil
	}
	return upgrade.To(m, qdqOpset)
}

func (d *dynamic) pass(r *outcome) rewrite.Pass {
	return &dynamicPass{o: d.o, r: r, inputs: map[*onnx.Value][3]*onnx.Value{}, weights: map[dynamicKey]dynamicWeight{}}
}

func (d *dynamic) describe(r *Result) {
	r.Codes = &Codes{Activations: "uint8", Weights: d.o.Weights}
}

// dynamicKey names a quantized weight: turned, if it had to be transposed.
type dynamicKey struct {
	value  *onnx.Value
	graph  *onnx.Graph
	turned bool
}

type dynamicWeight struct {
	codes, scale *onnx.Value
	zero         *onnx.Value // nil: 0
	params       Params
}

type dynamicPass struct {
	o       *Options
	r       *outcome
	inputs  map[*onnx.Value][3]*onnx.Value // activation → codes, scale, zero point
	weights map[dynamicKey]dynamicWeight
}

func (*dynamicPass) Name() string { return dynamicName }

// Run replaces each product with a constant matrix.
func (p *dynamicPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	return walk(ctx, m, e, func(n *onnx.Node) error {
		if n.Is("Gather") && n.Input(0).Constant() != nil {
			return p.gather(n, e)
		}
		if place(n) != anchor {
			return nil
		}
		if why := p.refuse(n, e); why != "" {
			e.Decline(dynamicName, n, "%s", why)
			p.r.layers = append(p.r.layers, Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "float32", Reason: why})
			return nil
		}
		return p.node(n, e)
	})
}

// gather codes the table of n, or says why not.
func (p *dynamicPass) gather(n *onnx.Node, e *rewrite.Env) error {
	why := p.refuseTable(n, e)
	if why == "" {
		return p.table(n, e)
	}
	e.Decline(dynamicName, n, "%s", why)
	return nil
}

// refuse says why n stays in float32; "" if it need not.
func (p *dynamicPass) refuse(n *onnx.Node, e *rewrite.Env) string {
	if why := p.o.excluded(n, n.Input(1)); why != "" {
		return why
	}
	if n.Is("Conv") {
		return "convolutions are slower with ranges measured at run time; give calibration data for static int8"
	}
	if why := refuseProduct(n); why != "" {
		return why
	}
	if e.Facts.DType(n.Input(0)) != onnx.Float {
		return fmt.Sprintf("%q is not known to be float32", n.Input(0).Name())
	}
	if !e.Allow(dynamicName, n) {
		return "left out"
	}
	return ""
}

func refuseProduct(n *onnx.Node) string {
	bare := onnx.NewNode(n.Op, []*onnx.Value{n.Input(0), n.Input(1)}, "y")
	if why := refuseWeights(bare); why != "" {
		return why
	}
	if n.Is("Gemm") && n.Int("transA", 0) != 0 {
		return "its input is transposed"
	}
	return ""
}

// node replaces n by codes of its input, the integer product, and its rescaling.
func (p *dynamicPass) node(n *onnx.Node, e *rewrite.Env) error {
	site, before := e.At(dynamicName, n), n.Graph().Len()
	l := Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "int8"}
	g, out := n.Graph(), n.Output(0)
	w, err := p.weight(n)
	if err != nil {
		return err
	}
	l.Weight = &w.params
	a := p.input(n)
	add := p.adder(n)
	in := []*onnx.Value{a[0], w.codes, a[2]}
	if w.zero != nil {
		in = append(in, w.zero)
	}
	product := add("MatMulInteger", in)
	y := add("Cast", []*onnx.Value{product}, onnx.IntAttr("to", int64(onnx.Float)))
	y = add("Mul", []*onnx.Value{y, add("Mul", []*onnx.Value{a[1], w.scale})})
	if n.Is("Gemm") {
		y = gemmRest(n, y, add)
	}
	y.Type = out.Type
	if err := g.Replace(out, y); err != nil {
		return err
	}
	g.SweepFrom(n)
	p.r.layers = append(p.r.layers, l)
	return e.Fired(dynamicName, site, 1, g.Len()-before+1, "")
}

// adder returns what adds a node before n, named after n's output.
func (*dynamicPass) adder(n *onnx.Node) func(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	g, name := n.Graph(), outputName(n)
	return func(op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
		k := onnx.NewNode(op, in, g.Model().Fresh(name+"_"+op))
		k.Name, k.Attrs = k.Output(0).Name(), attrs
		g.InsertBefore(k, n)
		return k.Output(0)
	}
}

// gemmRest adds alpha and beta·C to the product.
func gemmRest(n *onnx.Node, y *onnx.Value, add func(string, []*onnx.Value, ...*onnx.Attr) *onnx.Value) *onnx.Value {
	scalar := func(name string) *onnx.Value {
		return n.Graph().NewConst(onnx.FromFloats(outputName(n)+"_"+name, []int64{}, []float32{n.Float(name, 1)}))
	}
	if n.Float("alpha", 1) != 1 {
		y = add("Mul", []*onnx.Value{y, scalar("alpha")})
	}
	c := n.Input(2)
	if c == nil {
		return y
	}
	if n.Float("beta", 1) != 1 {
		c = add("Mul", []*onnx.Value{c, scalar("beta")})
	}
	return add("Add", []*onnx.Value{y, c})
}

// input returns codes, scale and zero point of n's activation, made once per value.
func (p *dynamicPass) input(n *onnx.Node) [3]*onnx.Value {
	v, g := n.Input(0), n.Graph()
	if q, ok := p.inputs[v]; ok && q[0].Graph() == g {
		return q
	}
	m := g.Model()
	k := onnx.NewNode("DynamicQuantizeLinear", []*onnx.Value{v},
		m.Fresh(v.Name()+"_quantized"), m.Fresh(v.Name()+"_scale"), m.Fresh(v.Name()+"_zero_point"))
	k.Name = k.Output(0).Name()
	g.InsertBefore(k, n)
	q := [3]*onnx.Value{k.Output(0), k.Output(1), k.Output(2)}
	p.inputs[v] = q
	return q
}

// weight returns the codes and scales of n's matrix, [K, N] with one scale per
// column where it is a plain matrix.
func (p *dynamicPass) weight(n *onnx.Node) (dynamicWeight, error) {
	v := n.Input(1)
	return p.coded(v, n.Graph(), weightAxis(n, v.Constant(), p.o.PerTensor), n.Is("Gemm") && n.Int("transB", 0) == 1)
}

// coded returns the codes and scales of v, one scale for each index of axis, or
// one for all where that is negative. Scales along the first axis that stays the
// first are [rows, 1], and [n] otherwise.
func (p *dynamicPass) coded(v *onnx.Value, g *onnx.Graph, axis int, turn bool) (dynamicWeight, error) {
	key := dynamicKey{v, g, turn}
	if w, ok := p.weights[key]; ok {
		return w, nil
	}
	t := v.Constant()
	m := channelsOf(t, axis)
	s, err := p.o.weightCodes(axis >= 0, false).steps(m)
	if err != nil {
		return dynamicWeight{}, err
	}
	scales := s.scales
	codes := m.coded(v.Name()+"_quantized", s)
	if turn {
		codes = turned(codes)
	}
	shape := []int64{}
	switch {
	case axis == 0 && !turn:
		shape = []int64{int64(len(scales)), 1}
	case axis >= 0:
		shape = []int64{int64(len(scales))}
	}
	w := dynamicWeight{codes: g.NewConst(codes), scale: g.NewConst(onnx.FromFloats(v.Name()+"_scale", shape, scales)),
		params: s.describe(v.Name())}
	if axis >= 0 {
		w.params.Channels = len(scales)
	}
	if s.zero != 0 {
		w.zero = g.NewConst(s.t.zeros(v.Name()+"_zero_point", []int64{}, s.zero))
	}
	p.r.sizes.Before += t.Size()
	p.r.sizes.After += t.Size()/4 + 4*int64(len(scales))
	p.weights[key] = w
	return w, nil
}

// turned returns the transpose of a matrix of bytes.
func turned(t *onnx.Tensor) *onnx.Tensor {
	c := *t
	c.Shape = []int64{t.Shape[1], t.Shape[0]}
	c.Data = transposed{t.Data, int(t.Shape[0]), int(t.Shape[1])}
	return &c
}

// transposed reads a matrix of bytes, [rows, cols], by columns.
type transposed struct {
	src        onnx.Data
	rows, cols int
}

// Len returns the number of bytes.
func (d transposed) Len() int64 { return d.src.Len() }

// Bytes returns the transpose in new memory.
func (d transposed) Bytes() ([]byte, error) {
	src, err := d.src.Bytes()
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(src))
	for r := range d.rows {
		for c := range d.cols {
			out[c*d.rows+r] = src[r*d.cols+c]
		}
	}
	return out, nil
}

// finite32 reports whether x is neither NaN nor infinite.
func finite32(x float32) bool { return math.Abs(float64(x)) <= math.MaxFloat32 }

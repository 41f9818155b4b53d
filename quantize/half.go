package quantize

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// halfName is how logs call the conversion to float16.
const halfName = "fp16"

// toFloat16 computes in float16, with float32 inputs and outputs.
type toFloat16 struct{ o *Options }

func (*toFloat16) name() string { return halfName }

func (*toFloat16) prepare(context.Context, *onnx.Model) ([]string, error) { return nil, nil }

func (s *toFloat16) pass(r *outcome) rewrite.Pass {
	return &halfPass{o: s.o, r: r, halves: map[*onnx.Value]*onnx.Value{}}
}

func (*toFloat16) describe(*Result) {}

// halfPass converts node by node: casts appear before and behind a node that is
// converted, and those between two converted nodes vanish as the second one
// reads the first one's float16 result. Each firing leaves a valid model.
type halfPass struct {
	o      *Options
	r      *outcome
	halves map[*onnx.Value]*onnx.Value // float32 value → the same in float16
	masks  int                         // mask constants clamped
}

func (*halfPass) Name() string { return halfName }

// Run converts what can be converted.
func (p *halfPass) Run(ctx context.Context, m *onnx.Model, e *rewrite.Env) error {
	wide := islands(m)
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if e.Exhausted() {
				return nil
			}
			if err := p.visit(n, e, wide[n]); err != nil {
				return err
			}
		}
	}
	if p.masks > 0 {
		e.Log.Notice("%d mask constants below the range of float16 became %v", p.masks, -maxHalf)
	}
	return nil
}

func (p *halfPass) visit(n *onnx.Node, e *rewrite.Env, why string) error {
	if p.float32s(n, e) == 0 || n.Is("Constant") || p.made(n) {
		return nil
	}
	var w *onnx.Value
	for _, v := range n.Inputs() {
		if v.Constant() != nil {
			w = v
		}
	}
	if why == "" {
		why = p.o.excluded(n, w)
	}
	if why == "" {
		why = p.refuse(n, e)
	}
	if why == "" && !e.Allow(halfName, n) {
		why = "left out"
	}
	if why != "" {
		e.Decline(halfName, n, "%s", why)
		if w != nil {
			p.r.layers = append(p.r.layers, Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "float32", Reason: why})
		}
		return nil
	}
	return p.convert(n, e)
}

// made reports whether n is a cast between the two types.
func (p *halfPass) made(n *onnx.Node) bool {
	return n.Is("Cast") && (p.halves[n.Output(0)] != nil || n.Int("to", 0) == int64(onnx.Float16))
}

// float32s counts the float32 inputs and outputs of n.
func (p *halfPass) float32s(n *onnx.Node, e *rewrite.Env) int {
	count := 0
	for _, list := range [][]*onnx.Value{n.Inputs(), n.Outputs()} {
		for _, v := range list {
			if v != nil && p.dtype(v, e) == onnx.Float {
				count++
			}
		}
	}
	return count
}

func (p *halfPass) dtype(v *onnx.Value, e *rewrite.Env) onnx.DType {
	if t := v.Constant(); t != nil {
		return t.DType
	}
	if v.DType() != onnx.Undefined {
		return v.DType()
	}
	return e.Facts.DType(v)
}

// convert makes n read and write float16.
func (p *halfPass) convert(n *onnx.Node, e *rewrite.Env) error {
	site, before := e.At(halfName, n), n.Graph().Len()
	l := Layer{Node: n.String(), Op: n.Op, Output: outputName(n), Type: "float16"}
	for i, v := range n.Inputs() {
		if v != nil && p.dtype(v, e) == onnx.Float && !pinned(n, i) {
			n.SetInput(i, p.half(v, n))
		}
	}
	if n.Is("ConstantOfShape") {
		if a := n.Attr("value"); a != nil {
			n.SetAttr(onnx.TensorAttr("value", half(a.T)))
		} else {
			n.SetAttr(onnx.TensorAttr("value", half(onnx.FromFloats("value", []int64{1}, []float32{0}))))
		}
	}
	for _, v := range n.Outputs() {
		if v != nil && p.dtype(v, e) == onnx.Float {
			if err := p.widen(v); err != nil {
				return err
			}
		}
	}
	p.r.layers = append(p.r.layers, l)
	return e.Fired(halfName, site, 0, n.Graph().Len()-before, "")
}

// half returns v in float16: what it was widened from, a constant converted, or
// a cast of it beside its producer.
func (p *halfPass) half(v *onnx.Value, n *onnx.Node) *onnx.Value {
	if h := p.halves[v]; h != nil {
		return h
	}
	if c := v.Producer(); c.Is("Cast") && c.Input(0).DType() == onnx.Float16 {
		return c.Input(0)
	}
	g := v.Graph()
	if t := v.Constant(); t != nil {
		h := g.NewConst(half(t).Renamed(v.Name() + "_fp16"))
		p.halves[v] = h
		p.r.sizes.Before += t.Size()
		p.r.sizes.After += t.Size() / 2
		if masks(t) {
			p.masks++
		}
		return h
	}
	k := castNode(g, v, v.Name()+"_fp16", onnx.Float16)
	switch at := v.Producer(); {
	case at != nil:
		g.InsertAfter(k, at)
	case g.First() != nil:
		g.InsertBefore(k, g.First())
	}
	p.halves[v] = k.Output(0)
	return k.Output(0)
}

func castNode(g *onnx.Graph, v *onnx.Value, name string, to onnx.DType) *onnx.Node {
	k := onnx.NewNode("Cast", []*onnx.Value{v}, g.Model().Fresh(name))
	k.Name = k.Output(0).Name()
	k.Attrs = []*onnx.Attr{onnx.IntAttr("to", int64(to))}
	k.Output(0).Type = onnx.TensorType(to, v.Shape())
	return k
}

// widen makes v float16 and gives its readers a float32 copy.
func (p *halfPass) widen(v *onnx.Value) error {
	g := v.Graph()
	k := castNode(g, nil, v.Name()+"_fp32", onnx.Float)
	wide := k.Output(0)
	wide.Type = onnx.TensorType(onnx.Float, v.Shape())
	g.InsertAfter(k, v.Producer())
	if err := g.Replace(v, wide); err != nil {
		return err
	}
	k.SetInput(0, v)
	v.Type = onnx.TensorType(onnx.Float16, v.Shape())
	p.halves[wide] = v
	return nil
}

// refuse says why n stays in float32; "" if it need not.
func (p *halfPass) refuse(n *onnx.Node, e *rewrite.Env) string {
	if onnx.NormalDomain(n.Domain) != "" || !halfOps[n.Op] {
		return "the operator is computed in float32"
	}
	for i, v := range n.Inputs() {
		if v == nil || pinned(n, i) {
			continue
		}
		switch d := p.dtype(v, e); {
		case d == onnx.Undefined:
			return fmt.Sprintf("the type of %q is not known", v.Name())
		case v.Const != nil && v.Constant() == nil && d == onnx.Float:
			return fmt.Sprintf("%q is an input with a default, which a caller may override", v.Name())
		case v.Sparse != nil:
			return fmt.Sprintf("%q is a sparse constant", v.Name())
		}
		if t := v.Constant(); t != nil && t.DType == onnx.Float {
			if why := unfit(t, n); why != "" {
				return why
			}
		}
	}
	if n.Is("ConstantOfShape") {
		if a := n.Attr("value"); a != nil && a.T != nil {
			return unfit(a.T, n)
		}
	}
	return wideReduction(n, e.Facts)
}

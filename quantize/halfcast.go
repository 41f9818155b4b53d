package quantize

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// half returns v in 16 bits: what it was widened from, a constant converted, or a
// cast of it beside its producer, the same for all readers.
func (p *halfPass) half(v *onnx.Value, s standIn) *onnx.Value {
	key := halfKey{v, s}
	if v.Constant() == nil {
		key.s = toLargest
	}
	if h := p.halves[key]; h != nil {
		return h
	}
	if c := v.Producer(); c.Is("Cast") && c.Input(0).DType() == p.t.dtype {
		return c.Input(0)
	}
	g := v.Graph()
	if t := v.Constant(); t != nil {
		h := g.NewConst(p.t.coded(t, s).Renamed(v.Name() + "_" + p.Name()))
		p.r.sizes.Before += t.Size()
		p.r.sizes.After += t.Size() / 2
		p.halves[key] = h
		return h
	}
	from := v
	if p.masks.pure[v] {
		from = cut(v, p.masks.cutAt(v))
	}
	k := castBeside(from, v.Name()+"_"+p.Name(), p.t.dtype)
	p.halves[key] = k.Output(0)
	return k.Output(0)
}

// castBeside adds a cast of v behind what makes it.
func castBeside(v *onnx.Value, name string, to onnx.DType) *onnx.Node {
	g := v.Graph()
	k := castNode(g, v, name, to)
	switch at := v.Producer(); {
	case at != nil:
		g.InsertAfter(k, at)
	case g.First() != nil:
		g.InsertBefore(k, g.First())
	default:
		g.Append(k)
	}
	return k
}

func castNode(g *onnx.Graph, v *onnx.Value, name string, to onnx.DType) *onnx.Node {
	k := onnx.NewNode("Cast", []*onnx.Value{v}, g.Model().Fresh(name))
	k.Name = k.Output(0).Name()
	k.Attrs = []*onnx.Attr{onnx.IntAttr("to", int64(to))}
	k.Output(0).Type = onnx.TensorType(to, v.Shape())
	return k
}

// widen makes v of 16 bits and gives its readers a float32 copy.
func (p *halfPass) widen(v *onnx.Value) error {
	wide, err := behindCast(v, v.Name()+"_fp32", onnx.Float)
	if err != nil {
		return err
	}
	v.Type = onnx.TensorType(p.t.dtype, v.Shape())
	p.halves[halfKey{wide, toLargest}] = v
	return nil
}

// behindCast puts a cast between v, the output of a node, and all that read it.
func behindCast(v *onnx.Value, name string, to onnx.DType) (*onnx.Value, error) {
	g := v.Graph()
	k := castNode(g, nil, name, to)
	out := k.Output(0)
	out.Type = onnx.TensorType(to, v.Shape())
	g.InsertAfter(k, v.Producer())
	if err := g.Replace(v, out); err != nil {
		return nil, err
	}
	k.SetInput(0, v)
	return out, nil
}

// store returns the weight v, stored in 16 bits and cast to float32.
func (p *halfPass) store(v *onnx.Value) *onnx.Value {
	if w := p.stored[v]; w != nil {
		return w
	}
	t, g := v.Constant(), v.Graph()
	h := g.NewConst(p.t.coded(t, toLargest).Renamed(v.Name() + "_" + p.Name()))
	k := castBeside(h, v.Name()+"_fp32", onnx.Float)
	p.r.sizes.Before += t.Size()
	p.r.sizes.After += t.Size() / 2
	p.stored[v] = k.Output(0)
	return k.Output(0)
}

// widened returns what v is the float32 copy of; nil where it is none.
func (p *halfPass) widened(v *onnx.Value) *onnx.Value {
	if v == nil {
		return nil
	}
	c := v.Producer()
	if c.Is("Cast") && c.Input(0).DType() == p.t.dtype && v.DType() == onnx.Float && c.Graph() == v.Graph() {
		return c.Input(0)
	}
	return nil
}

// tidy takes out the model's own casts of copies back to the type that these were
// copied from, which give what was there before, and moves casts that only one
// branch of an If reads into it. Casts that nothing reads are swept later.
func (p *halfPass) tidy(m *onnx.Model) error {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if !n.Is("Cast") || n.Output(0) == nil || n.Output(0).IsOutput() || onnx.DType(n.Int("to", 0)) != p.t.dtype {
				continue
			}
			if h := p.widened(n.Input(0)); h != nil {
				if err := g.Replace(n.Output(0), h); err != nil {
					return err
				}
			}
		}
	}
	for _, g := range m.Graphs() {
		if g.Owner() == nil {
			g.Sweep()
		}
	}
	for _, v := range p.inserted() {
		p.sink(v.Producer())
	}
	return nil
}

// inserted returns the outputs of the casts that the pass added, by name.
func (p *halfPass) inserted() []*onnx.Value {
	var list []*onnx.Value
	for k, h := range p.halves {
		for _, pair := range [][2]*onnx.Value{{k.v, h}, {h, k.v}} {
			if c := pair[1].Producer(); c.Is("Cast") && c.Input(0) == pair[0] && c.Graph() != nil {
				list = append(list, pair[1])
			}
		}
	}
	slices.SortFunc(list, func(a, b *onnx.Value) int {
		if a.Name() < b.Name() {
			return -1
		}
		return 1
	})
	return list
}

// sink moves cast k into the branch of an If that alone reads it, and so on; never
// into a body that may run more than once.
func (p *halfPass) sink(k *onnx.Node) {
	v := k.Output(0)
	if v.IsOutput() || len(v.Uses()) == 0 {
		return
	}
	for {
		g := k.Graph()
		branch := branchOf(v.Uses()[0].Node.Graph(), g)
		for _, u := range v.Uses() {
			if branch == nil || branchOf(u.Node.Graph(), g) != branch {
				return
			}
		}
		if !branch.Owner().Is("If") {
			return
		}
		c := castNode(branch, k.Input(0), v.Name(), onnx.DType(k.Int("to", 0)))
		branch.InsertBefore(c, branch.First())
		for _, u := range slices.Clone(v.Uses()) {
			u.Node.SetInput(u.Index, c.Output(0))
		}
		g.SweepFrom(k)
		k, v = c, c.Output(0)
	}
}

// branchOf returns the graph directly below outer that is g or around it, nil if none.
func branchOf(g, outer *onnx.Graph) *onnx.Graph {
	for g != nil && g.Parent() != outer {
		g = g.Parent()
	}
	return g
}

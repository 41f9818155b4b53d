package onnxfile

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// scope maps the names that a graph defines, and knows the scope around it.
type scope struct {
	values map[string]*onnx.Value
	outer  *scope
}

func (s *scope) find(name string) *onnx.Value {
	for ; s != nil; s = s.outer {
		if v := s.values[name]; v != nil {
			return v
		}
	}
	return nil
}

// graphParts are the encoded parts of a graph or function body.
type graphParts struct {
	nodes, inits, sparse, inputs, outputs, infos [][]byte
	inputNames, outputNames                      []string // a function's, which have no types
}

// graph decodes a GraphProto whose enclosing scope is outer.
func (d *decoder) graph(b []byte, outer *scope, depth int) (*onnx.Graph, error) {
	if depth > maxDepth {
		return nil, d.errf(b, "graphs are nested more than %d deep", maxDepth)
	}
	if err := d.largePart(b); err != nil {
		return nil, err
	}
	g := onnx.NewGraph("")
	p := &graphParts{}
	if err := d.fields(b, "graph", func(f field) error { return d.graphField(g, p, f) }); err != nil {
		return nil, err
	}
	return g, d.build(g, p, outer, depth)
}

func (d *decoder) graphField(g *onnx.Graph, p *graphParts, f field) error {
	switch f.num {
	case 1, 2, 5, 10, 11, 12, 13, 14, 15, 16:
	default:
		g.Unknown = append(g.Unknown, f.raw...)
		return nil
	}
	if err := d.want(f, protowire.BytesType, "graph"); err != nil {
		return err
	}
	switch f.num { // counted before anything is made of them
	case 1, 5, 11, 12, 13, 15:
		if err := d.count(f.raw); err != nil {
			return err
		}
	}
	switch f.num {
	case 1:
		p.nodes = append(p.nodes, f.val)
	case 2:
		g.Name = f.str()
	case 5:
		p.inits = append(p.inits, f.val)
	case 10:
		g.Doc = f.str()
	case 11:
		p.inputs = append(p.inputs, f.val)
	case 12:
		p.outputs = append(p.outputs, f.val)
	case 13:
		p.infos = append(p.infos, f.val)
	case 14:
		g.Quant = append(g.Quant, f.val)
	case 15:
		p.sparse = append(p.sparse, f.val)
	case 16:
		e, err := d.entry(f.val)
		g.Meta = append(g.Meta, e)
		return err
	}
	return nil
}

// build fills g: first everything that defines a name, so that nodes may come
// in any order, then what reads names.
func (d *decoder) build(g *onnx.Graph, p *graphParts, outer *scope, depth int) error {
	sc := &scope{map[string]*onnx.Value{}, outer}
	for _, name := range p.inputNames {
		sc.define(g.AddInput(name, nil))
	}
	for _, step := range []func(*onnx.Graph, *graphParts, *scope) error{d.inputs, d.constants} {
		if err := step(g, p, sc); err != nil {
			return err
		}
	}
	shells := make([]nodeParts, len(p.nodes))
	for i, b := range p.nodes {
		if err := d.shell(&shells[i], b, sc); err != nil {
			return err
		}
		g.Append(shells[i].node)
	}
	for i := range shells {
		if err := d.fill(g, &shells[i], sc, depth); err != nil {
			return err
		}
	}
	if err := d.outputs(g, p, sc); err != nil {
		return err
	}
	return d.infos(g, p, sc)
}

// define makes v visible; the first definition of a name holds, Check reports more.
func (s *scope) define(v *onnx.Value) {
	if _, dup := s.values[v.Name()]; !dup {
		s.values[v.Name()] = v
	}
}

func (d *decoder) inputs(g *onnx.Graph, p *graphParts, sc *scope) error {
	for _, b := range p.inputs {
		vi, err := d.valueInfo(b)
		if err != nil {
			return err
		}
		v := g.AddInput(vi.name, vi.typ)
		vi.describe(v)
		sc.define(v)
	}
	return nil
}

func (d *decoder) constants(g *onnx.Graph, p *graphParts, sc *scope) error {
	for _, b := range p.inits {
		t, err := d.tensor(b)
		if err != nil {
			return err
		}
		if v := sc.values[t.Name]; v != nil && v.IsInput() && v.Const == nil {
			g.SetDefault(v, t)
			continue
		}
		sc.define(g.AddInitializer(t))
	}
	for _, b := range p.sparse {
		s, err := d.sparse(b)
		if err != nil {
			return err
		}
		if s.Values == nil {
			return d.errf(b, "sparse initializer without values")
		}
		sc.define(g.AddSparse(s))
	}
	return nil
}

func (d *decoder) outputs(g *onnx.Graph, p *graphParts, sc *scope) error {
	for _, name := range p.outputNames {
		g.AddOutput(d.outputValue(g, name, sc))
	}
	for _, b := range p.outputs {
		vi, err := d.valueInfo(b)
		if err != nil {
			return err
		}
		v := d.outputValue(g, vi.name, sc)
		if v.Type == nil || v.Producer() != nil {
			v.Type = vi.typ
		}
		vi.describe(v)
		g.AddOutput(v)
	}
	return nil
}

func (d *decoder) outputValue(g *onnx.Graph, name string, sc *scope) *onnx.Value {
	v := sc.find(name)
	if v == nil {
		v = g.AddDangling(name)
		sc.define(v)
	}
	return v
}

func (d *decoder) infos(g *onnx.Graph, p *graphParts, sc *scope) error {
	for _, b := range p.infos {
		vi, err := d.valueInfo(b)
		if err != nil {
			return err
		}
		v := sc.values[vi.name]
		if v == nil {
			v = g.AddOrphan(vi.name, vi.typ)
		}
		if v.Type == nil {
			v.Type = vi.typ
		}
		vi.describe(v)
	}
	return nil
}

// info is a decoded ValueInfoProto.
type info struct {
	name, doc string
	typ       *onnx.Type
	meta      []onnx.Entry
	unknown   []byte
}

func (vi *info) describe(v *onnx.Value) {
	if vi.doc != "" {
		v.Doc = vi.doc
	}
	if vi.meta != nil {
		v.Meta = vi.meta
	}
	if vi.unknown != nil {
		v.Unknown = vi.unknown
	}
}

func (d *decoder) valueInfo(b []byte) (vi info, err error) {
	err = d.fields(b, "value info", func(f field) (err error) {
		switch {
		case f.num == 1 && f.isBytes():
			vi.name, err = d.name(f)
		case f.num == 2 && f.isBytes():
			vi.typ, err = d.typ(f.val, 0)
		case f.num == 3 && f.isBytes():
			vi.doc = f.str()
		case f.num == 4 && f.isBytes():
			var e onnx.Entry
			e, err = d.entry(f.val)
			vi.meta = append(vi.meta, e)
		default:
			vi.unknown = append(vi.unknown, f.raw...)
		}
		return err
	})
	return vi, err
}

package onnxfile

import (
	"cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// nodeParts is a node whose outputs exist but whose inputs and attributes wait
// until every name of the graph is defined.
type nodeParts struct {
	node   *onnx.Node
	inputs []string
	attrs  [][]byte
}

// shell decodes all of a NodeProto but what refers to other values.
func (d *decoder) shell(p *nodeParts, b []byte, sc *scope) error {
	var outputs []string
	n := &onnx.Node{}
	err := d.fields(b, "node", func(f field) (err error) {
		switch f.num {
		case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
		default:
			n.Unknown = append(n.Unknown, f.raw...)
			return nil
		}
		if err := d.want(f, protowire.BytesType, "node"); err != nil {
			return err
		}
		switch f.num {
		case 1:
			s, err := d.name(f)
			p.inputs = append(p.inputs, s)
			return err
		case 2:
			s, err := d.name(f)
			outputs = append(outputs, s)
			return cmp.Or(err, d.count(f.raw))
		case 3:
			n.Name, err = d.name(f)
			return err
		case 4:
			n.Op, err = d.name(f)
			return err
		case 5:
			p.attrs = append(p.attrs, f.val)
			return d.largePart(f.raw)
		case 6:
			n.Doc = f.str()
		case 7:
			n.Domain = f.str()
		case 8:
			n.Overload = f.str()
		case 9:
			e, err := d.entry(f.val)
			n.Meta = append(n.Meta, e)
			return err
		case 10:
			n.Devices = append(n.Devices, f.val)
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.node = onnx.NewNode(n.Op, nil, outputs...)
	p.node.Name, p.node.Domain, p.node.Overload, p.node.Doc = n.Name, n.Domain, n.Overload, n.Doc
	p.node.Meta, p.node.Devices, p.node.Unknown = n.Meta, n.Devices, n.Unknown
	for _, v := range p.node.Outputs() {
		if v != nil {
			sc.define(v)
		}
	}
	return nil
}

// fill links the inputs of a node of g and decodes its attributes.
func (d *decoder) fill(g *onnx.Graph, p *nodeParts, sc *scope, depth int) error {
	for i, name := range p.inputs {
		var v *onnx.Value
		if name != "" {
			if v = sc.find(name); v == nil {
				if err := d.count(nil); err != nil {
					return err
				}
				v = g.AddDangling(name)
				sc.define(v)
			}
		}
		p.node.SetInput(i, v)
	}
	for _, b := range p.attrs {
		a, err := d.attr(b, sc, depth+1)
		if err != nil {
			return err
		}
		p.node.Attrs = append(p.node.Attrs, a)
	}
	return nil
}

// attr decodes an AttributeProto; graphs in it see the names of sc.
func (d *decoder) attr(b []byte, sc *scope, depth int) (*onnx.Attr, error) {
	a := &onnx.Attr{}
	seen := onnx.AttrUndefined
	err := d.fields(b, "attribute", func(f field) error {
		if t := fieldType[f.num]; t != onnx.AttrUndefined && seen == onnx.AttrUndefined {
			seen = t
		}
		return d.attrField(a, f, sc, depth)
	})
	if err != nil {
		return nil, err
	}
	if a.Type == onnx.AttrUndefined { // IR versions below 2 leave the type out
		a.Type = seen
	}
	return a, nil
}

// fieldType gives the attribute type that a field of AttributeProto stands for.
var fieldType = map[protowire.Number]onnx.AttrType{
	2: onnx.AttrFloat, 3: onnx.AttrInt, 4: onnx.AttrString, 5: onnx.AttrTensor, 6: onnx.AttrGraph,
	7: onnx.AttrFloats, 8: onnx.AttrInts, 9: onnx.AttrStrings, 10: onnx.AttrTensors, 11: onnx.AttrGraphs,
	14: onnx.AttrTypeProto, 15: onnx.AttrTypeProtos, 22: onnx.AttrSparse, 23: onnx.AttrSparses,
}

func (d *decoder) attrField(a *onnx.Attr, f field, sc *scope, depth int) (err error) {
	switch f.num {
	case 2:
		a.F = f.float()
		return d.want(f, protowire.Fixed32Type, "attribute")
	case 3:
		a.I = f.int()
		return d.want(f, protowire.VarintType, "attribute")
	case 20:
		a.Type = onnx.AttrType(f.int())
		return d.want(f, protowire.VarintType, "attribute")
	case 7:
		a.Floats, err = d.floats(a.Floats, f, "attribute")
		return err
	case 8:
		a.Ints, err = d.varints(a.Ints, f, "attribute")
		return err
	case 1, 4, 5, 6, 9, 10, 11, 13, 14, 15, 21, 22, 23:
		if err := d.want(f, protowire.BytesType, "attribute"); err != nil {
			return err
		}
		return d.attrMessage(a, f, sc, depth)
	}
	a.Unknown = append(a.Unknown, f.raw...)
	return nil
}

// attrMessage decodes the length-delimited fields of an AttributeProto.
func (d *decoder) attrMessage(a *onnx.Attr, f field, sc *scope, depth int) (err error) {
	switch f.num {
	case 1:
		a.Name = f.str()
	case 4:
		a.S = f.val
	case 5:
		a.T, err = d.tensor(f.val)
	case 6:
		a.G, err = d.graph(f.val, sc, depth)
	case 9:
		a.Strings, err = append(a.Strings, f.val), d.part(f.raw)
	case 10:
		var t *onnx.Tensor
		t, err = d.tensor(f.val)
		a.Tensors = append(a.Tensors, t)
	case 11:
		var g *onnx.Graph
		g, err = d.graph(f.val, sc, depth)
		a.Graphs = append(a.Graphs, g)
	case 13:
		a.Doc = f.str()
	case 14:
		a.TP, err = d.typ(f.val, 0)
	case 15:
		var t *onnx.Type
		t, err = d.typ(f.val, 0)
		a.Types = append(a.Types, t)
	case 21:
		a.Ref = f.str()
	case 22:
		a.Sparse, err = d.sparse(f.val)
	case 23:
		var s *onnx.SparseTensor
		s, err = d.sparse(f.val)
		a.Sparses = append(a.Sparses, s)
	}
	return err
}

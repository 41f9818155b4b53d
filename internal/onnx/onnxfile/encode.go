package onnxfile

import (
	"bytes"
	"math"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// Encode returns m as an encoded ModelProto with all content inside.
func Encode(m *onnx.Model) ([]byte, error) {
	r, err := (&encoder{}).model(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Grow(int(r.size))
	_, err = r.WriteTo(&out)
	return out.Bytes(), err
}

// EncodeTensor returns t as an encoded TensorProto.
func EncodeTensor(t *onnx.Tensor) ([]byte, error) {
	r, err := (&encoder{}).tensor(t)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = r.WriteTo(&out)
	return out.Bytes(), err
}

// encoder turns a model into a rope. place, where set, decides for each tensor
// whether its content goes to an external file.
type encoder struct {
	place func(*onnx.Tensor) *onnx.ExternalData
}

func (e *encoder) model(m *onnx.Model) (*rope, error) {
	r := &rope{}
	r.varint(1, m.IRVersion)
	r.str(2, m.ProducerName)
	r.str(3, m.ProducerVersion)
	r.str(4, m.Domain)
	if m.ModelVersion != 0 {
		r.varint(5, m.ModelVersion)
	}
	r.str(6, m.Doc)
	g, err := e.graph(m.Graph)
	if err != nil {
		return nil, err
	}
	r.message(7, g)
	encodeOpsets(r, 8, m.Opsets)
	encodeEntries(r, 14, m.Meta)
	rawEach(r, 20, m.Training)
	for _, f := range m.Functions {
		c, err := e.function(f)
		if err != nil {
			return nil, err
		}
		r.message(25, c)
	}
	rawEach(r, 26, m.Configuration)
	r.raw(m.Unknown)
	return r, nil
}

func rawEach(r *rope, num protowire.Number, msgs [][]byte) {
	for _, b := range msgs {
		r.bytes(num, b)
	}
}

func encodeOpsets(r *rope, num protowire.Number, list []onnx.Opset) {
	for _, o := range list {
		c := &rope{}
		c.str(1, o.Domain)
		c.varint(2, o.Version)
		c.raw(o.Unknown)
		r.message(num, c)
	}
}

func encodeEntries(r *rope, num protowire.Number, list []onnx.Entry) {
	for _, en := range list {
		c := &rope{}
		c.bytes(1, []byte(en.Key))
		c.bytes(2, []byte(en.Value))
		r.message(num, c)
	}
}

func (e *encoder) function(f *onnx.Function) (*rope, error) {
	r := &rope{}
	r.str(1, f.Name)
	for _, v := range f.Body.Inputs() {
		r.bytes(4, []byte(v.Name()))
	}
	for _, v := range f.Body.Outputs() {
		r.bytes(5, []byte(v.Name()))
	}
	for _, a := range f.Attrs {
		r.bytes(6, []byte(a))
	}
	if err := e.nodes(r, 7, f.Body); err != nil {
		return nil, err
	}
	r.str(8, f.Doc)
	encodeOpsets(r, 9, f.Opsets)
	r.str(10, f.Domain)
	for _, a := range f.AttrDefaults {
		c, err := e.attr(a)
		if err != nil {
			return nil, err
		}
		r.message(11, c)
	}
	for v := range f.Body.Values() {
		if elementKnown(v.Type) {
			r.message(12, encodeInfo(v))
		}
	}
	r.str(13, f.Overload)
	encodeEntries(r, 14, f.Meta)
	r.raw(f.Unknown)
	return r, nil
}

func (e *encoder) nodes(r *rope, num protowire.Number, g *onnx.Graph) error {
	for n := g.First(); n != nil; n = n.Next() {
		c, err := e.node(n)
		if err != nil {
			return err
		}
		r.message(num, c)
	}
	return nil
}

func (e *encoder) graph(g *onnx.Graph) (*rope, error) {
	r := &rope{}
	if err := e.nodes(r, 1, g); err != nil {
		return nil, err
	}
	r.str(2, g.Name)
	for _, v := range g.Initializers() {
		c, err := e.tensor(v.Const)
		if err != nil {
			return nil, err
		}
		r.message(5, c)
	}
	r.str(10, g.Doc)
	for _, v := range g.Inputs() {
		r.message(11, encodeInfo(v))
	}
	for _, v := range g.Outputs() {
		r.message(12, encodeInfo(v))
	}
	encodeInfos(r, g)
	rawEach(r, 14, g.Quant)
	for _, v := range g.SparseInitializers() {
		c, err := e.sparse(v.Sparse)
		if err != nil {
			return nil, err
		}
		r.message(15, c)
	}
	encodeEntries(r, 16, g.Meta)
	r.raw(g.Unknown)
	return r, nil
}

// encodeInfos writes value_info: what is known of values that are neither
// inputs nor outputs nor constants.
func encodeInfos(r *rope, g *onnx.Graph) {
	listed := map[*onnx.Value]bool{}
	for _, v := range g.Outputs() {
		listed[v] = true
	}
	for n := g.First(); n != nil; n = n.Next() {
		for _, v := range n.Outputs() {
			if v != nil && !listed[v] && (elementKnown(v.Type) || v.Doc != "" || v.Meta != nil) {
				r.message(13, encodeInfo(v))
			}
		}
	}
	for _, v := range g.Orphans() {
		r.message(13, encodeInfo(v))
	}
}

// elementKnown reports whether t says what its elements are; runtimes refuse
// types that give a shape only.
func elementKnown(t *onnx.Type) bool {
	switch {
	case t == nil:
		return false
	case t.Kind == onnx.KindTensor || t.Kind == onnx.KindSparseTensor:
		return t.Elem != onnx.Undefined
	case t.Kind == onnx.KindSequence || t.Kind == onnx.KindOptional:
		return elementKnown(t.Of)
	}
	return t.Kind != onnx.KindUnknown
}

func encodeInfo(v *onnx.Value) *rope {
	r := &rope{}
	r.bytes(1, []byte(v.Name()))
	if elementKnown(v.Type) {
		r.message(2, encodeType(v.Type))
	}
	r.str(3, v.Doc)
	encodeEntries(r, 4, v.Meta)
	r.raw(v.Unknown)
	return r
}

func (e *encoder) node(n *onnx.Node) (*rope, error) {
	r := &rope{}
	for _, v := range n.Inputs() {
		r.bytes(1, valueName(v))
	}
	for _, v := range n.Outputs() {
		r.bytes(2, valueName(v))
	}
	r.str(3, n.Name)
	r.str(4, n.Op)
	for _, a := range n.Attrs {
		c, err := e.attr(a)
		if err != nil {
			return nil, err
		}
		r.message(5, c)
	}
	r.str(6, n.Doc)
	r.str(7, n.Domain)
	r.str(8, n.Overload)
	encodeEntries(r, 9, n.Meta)
	rawEach(r, 10, n.Devices)
	r.raw(n.Unknown)
	return r, nil
}

func valueName(v *onnx.Value) []byte {
	if v == nil {
		return nil
	}
	return []byte(v.Name())
}

func (e *encoder) attr(a *onnx.Attr) (*rope, error) {
	r := &rope{}
	r.bytes(1, []byte(a.Name))
	if err := e.attrValue(r, a); err != nil {
		return nil, err
	}
	r.str(13, a.Doc)
	if a.Type != onnx.AttrUndefined {
		r.varint(20, int64(a.Type))
	}
	r.str(21, a.Ref)
	r.raw(a.Unknown)
	return r, nil
}

// attrValue writes the field that a's type names; a reference has none.
func (e *encoder) attrValue(r *rope, a *onnx.Attr) (err error) {
	if a.Ref != "" {
		return nil
	}
	switch a.Type {
	case onnx.AttrFloat:
		r.fixed32(2, math.Float32bits(a.F))
	case onnx.AttrInt:
		r.varint(3, a.I)
	case onnx.AttrString:
		r.bytes(4, a.S)
	case onnx.AttrFloats:
		for _, f := range a.Floats {
			r.fixed32(7, math.Float32bits(f))
		}
	case onnx.AttrInts:
		for _, i := range a.Ints {
			r.varint(8, i)
		}
	case onnx.AttrStrings:
		rawEach(r, 9, a.Strings)
	case onnx.AttrTypeProto:
		if a.TP != nil {
			r.message(14, encodeType(a.TP))
		}
	case onnx.AttrTypeProtos:
		for _, t := range a.Types {
			r.message(15, encodeType(t))
		}
	default:
		err = e.attrHeavy(r, a)
	}
	return err
}

// attrHeavy writes attributes that hold tensors or graphs.
func (e *encoder) attrHeavy(r *rope, a *onnx.Attr) error {
	add := func(num protowire.Number, c *rope, err error) error {
		if err == nil {
			r.message(num, c)
		}
		return err
	}
	var err error
	one := func(num protowire.Number, c *rope, e error) {
		if err == nil {
			err = add(num, c, e)
		}
	}
	if a.Type == onnx.AttrTensor && a.T != nil {
		c, e := e.tensor(a.T)
		one(5, c, e)
	}
	if a.Type == onnx.AttrGraph && a.G != nil {
		c, e := e.graph(a.G)
		one(6, c, e)
	}
	if a.Type == onnx.AttrTensors {
		for _, t := range a.Tensors {
			c, e := e.tensor(t)
			one(10, c, e)
		}
	}
	if a.Type == onnx.AttrGraphs {
		for _, g := range a.Graphs {
			c, e := e.graph(g)
			one(11, c, e)
		}
	}
	if a.Type == onnx.AttrSparse && a.Sparse != nil {
		c, e := e.sparse(a.Sparse)
		one(22, c, e)
	}
	if a.Type == onnx.AttrSparses {
		for _, s := range a.Sparses {
			c, e := e.sparse(s)
			one(23, c, e)
		}
	}
	return err
}

// EncodeAttr returns a as an encoded AttributeProto. Equal attributes have
// equal encodings.
func EncodeAttr(a *onnx.Attr) ([]byte, error) {
	r, err := (&encoder{}).attr(a)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = r.WriteTo(&out)
	return out.Bytes(), err
}

package onnxfile

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

func (e *encoder) tensor(t *onnx.Tensor) (*rope, error) {
	r := &rope{}
	if len(t.Shape) > 0 {
		var dims []byte
		for _, d := range t.Shape {
			dims = protowire.AppendTag(dims, 1, protowire.VarintType)
			dims = protowire.AppendVarint(dims, uint64(d))
		}
		r.raw(dims)
	}
	r.varint(2, int64(t.DType))
	var x *onnx.ExternalData
	if e.place != nil {
		x = e.place(t)
	}
	if x == nil {
		if err := inlineContent(r, t); err != nil {
			return nil, err
		}
	}
	r.str(8, t.Name)
	if x == nil && t.Data != nil {
		if _, typed := t.Data.(*typedData); !typed && t.Data.Len() > 0 {
			if err := r.content(9, t.Data); err != nil {
				return nil, err
			}
		}
	}
	r.str(12, t.Doc)
	if x != nil {
		encodeEntries(r, 13, externalEntries(x))
		r.varint(14, 1)
	}
	encodeEntries(r, 16, t.Meta)
	r.raw(t.Unknown)
	return r, nil
}

// inlineContent writes string content, and typed fields as they were read.
func inlineContent(r *rope, t *onnx.Tensor) error {
	if t.DType == onnx.String {
		rawEach(r, 6, t.Str)
		return nil
	}
	td, ok := t.Data.(*typedData)
	if !ok || td.size == 0 {
		return nil
	}
	if len(td.parts) == 1 {
		return r.content(td.num, onnx.Raw(td.parts[0]))
	}
	var all []byte
	for _, p := range td.parts {
		all = append(all, p...)
	}
	return r.content(td.num, onnx.Raw(all))
}

func externalEntries(x *onnx.ExternalData) []onnx.Entry {
	out := []onnx.Entry{{Key: "location", Value: x.Location}}
	out = append(out, onnx.Entry{Key: "offset", Value: strconv.FormatInt(x.Offset, 10)},
		onnx.Entry{Key: "length", Value: strconv.FormatInt(x.Length, 10)})
	return append(out, x.Extra...)
}

func (e *encoder) sparse(s *onnx.SparseTensor) (*rope, error) {
	r := &rope{}
	for num, t := range []*onnx.Tensor{1: s.Values, 2: s.Indices} {
		if t == nil {
			continue
		}
		c, err := e.tensor(t)
		if err != nil {
			return nil, err
		}
		r.message(protowire.Number(num), c)
	}
	for _, d := range s.Dims {
		r.varint(3, d)
	}
	r.raw(s.Unknown)
	return r, nil
}

func encodeType(t *onnx.Type) *rope {
	r, c := &rope{}, &rope{}
	switch t.Kind {
	case onnx.KindTensor, onnx.KindSparseTensor:
		c.varint(1, int64(t.Elem))
		if t.Shape != nil {
			c.message(2, encodeShape(t.Shape))
		}
		num := protowire.Number(1)
		if t.Kind == onnx.KindSparseTensor {
			num = 8
		}
		r.message(num, c)
	case onnx.KindSequence, onnx.KindOptional:
		if t.Of != nil {
			c.message(1, encodeType(t.Of))
		}
		num := protowire.Number(4)
		if t.Kind == onnx.KindOptional {
			num = 9
		}
		r.message(num, c)
	case onnx.KindMap:
		c.varint(1, int64(t.Key))
		if t.Of != nil {
			c.message(2, encodeType(t.Of))
		}
		r.message(5, c)
	case onnx.KindOpaque:
		r.bytes(7, t.Opaque)
	}
	r.str(6, t.Denotation)
	r.raw(t.Unknown)
	return r
}

func encodeShape(s onnx.Shape) *rope {
	r := &rope{}
	for _, d := range s {
		c := &rope{}
		switch {
		case d.Known():
			c.varint(1, d.Value)
		default:
			c.str(2, d.Param)
		}
		c.str(3, d.Denotation)
		r.message(1, c)
	}
	return r
}

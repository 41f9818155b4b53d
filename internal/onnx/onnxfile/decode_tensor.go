package onnxfile

import (
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// tensorParts are the fields of a TensorProto that decide where its content is.
type tensorParts struct {
	raw      []byte
	hasRaw   bool
	typed    typedData // float_data, int32_data, int64_data, double_data or uint64_data
	external []onnx.Entry
	location int64
}

// tensor decodes a TensorProto. Its content stays in the file.
func (d *decoder) tensor(b []byte) (*onnx.Tensor, error) {
	if err := d.largePart(b); err != nil {
		return nil, err
	}
	t := &onnx.Tensor{}
	p := &tensorParts{}
	err := d.fields(b, "tensor", func(f field) error { return d.tensorField(t, p, f) })
	if err != nil {
		return nil, err
	}
	if len(t.Shape) > maxRank {
		return nil, d.errf(b, "a tensor of %d dimensions; at most %d are allowed", len(t.Shape), maxRank)
	}
	if t.Shape == nil {
		t.Shape = []int64{}
	}
	return t, d.content(t, p, b)
}

func (d *decoder) tensorField(t *onnx.Tensor, p *tensorParts, f field) (err error) {
	switch f.num {
	case 1:
		t.Shape, err = d.varints(t.Shape, f, "tensor")
		return err
	case 2:
		t.DType = onnx.DType(f.int())
		return d.want(f, protowire.VarintType, "tensor")
	case 14:
		p.location = f.int()
		return d.want(f, protowire.VarintType, "tensor")
	case 4, 5, 7, 10, 11:
		return d.typedField(&p.typed, f)
	case 6, 8, 9, 12, 13, 16:
		if err := d.want(f, protowire.BytesType, "tensor"); err != nil {
			return err
		}
	}
	switch f.num {
	case 6:
		t.Str = append(t.Str, f.val)
	case 8:
		t.Name, err = d.name(f)
	case 9:
		p.raw, p.hasRaw = f.val, true
	case 12:
		t.Doc = f.str()
	case 13:
		var e onnx.Entry
		e, err = d.entry(f.val)
		p.external = append(p.external, e)
	case 16:
		var e onnx.Entry
		e, err = d.entry(f.val)
		t.Meta = append(t.Meta, e)
	default: // segment (3) among them: obsolete, passed through
		t.Unknown = append(t.Unknown, f.raw...)
	}
	return err
}

// content decides where t's bytes are.
func (d *decoder) content(t *onnx.Tensor, p *tensorParts, b []byte) error {
	switch {
	case p.location == 1:
		return d.external(t, p, b)
	case t.DType == onnx.String:
		return nil
	case p.hasRaw:
		t.Data = d.raw(p.raw)
	case len(p.typed.parts) > 0:
		p.typed.dtype = t.DType
		if err := p.typed.measure(); err != nil {
			return d.errf(b, "tensor %q: %v", t.Name, err)
		}
		t.Data = &p.typed
	}
	return nil
}

// raw returns b, raw content within the file, as a window of it where it is mapped.
func (d *decoder) raw(b []byte) onnx.Data {
	if off := d.offset(b); d.file != nil && off >= 0 && len(b) >= copyFrom {
		return window{b, d.file, off}
	}
	return onnx.Raw(b)
}

// external makes t a window of a file in the model's folder.
func (d *decoder) external(t *onnx.Tensor, p *tensorParts, b []byte) error {
	x := &onnx.ExternalData{Length: -1}
	for _, e := range p.external {
		var err error
		switch e.Key {
		case "location":
			x.Location = e.Value
		case "offset":
			x.Offset, err = strconv.ParseInt(e.Value, 10, 64)
		case "length":
			x.Length, err = strconv.ParseInt(e.Value, 10, 64)
			if x.Length < 0 {
				err = strconv.ErrRange
			}
		default:
			x.Extra = append(x.Extra, e)
		}
		if err != nil || x.Offset < 0 {
			return d.errf(b, "tensor %q: external data has %s %q, want a number of bytes", t.Name, e.Key, e.Value)
		}
	}
	if x.Length < 0 {
		x.Length = t.Size()
	}
	t.External = x
	if d.dir == nil {
		return d.errf(b, "tensor %q: its data is in file %q, but there is no folder to find that in", t.Name, x.Location)
	}
	data, err := d.dir.window(x)
	if err != nil {
		return d.errf(b, "tensor %q: %v", t.Name, err)
	}
	t.Data = data
	return nil
}

func (d *decoder) sparse(b []byte) (*onnx.SparseTensor, error) {
	if err := d.part(b); err != nil {
		return nil, err
	}
	s := &onnx.SparseTensor{}
	err := d.fields(b, "sparse tensor", func(f field) (err error) {
		switch {
		case f.num == 1 && f.isBytes():
			s.Values, err = d.tensor(f.val)
		case f.num == 2 && f.isBytes():
			s.Indices, err = d.tensor(f.val)
		case f.num == 3:
			s.Dims, err = d.varints(s.Dims, f, "sparse tensor")
		default:
			s.Unknown = append(s.Unknown, f.raw...)
		}
		return err
	})
	return s, err
}

// DecodeTensor parses an encoded TensorProto, as in the test data files of
// ONNX. Its content is a window of b, which must not change.
func DecodeTensor(b []byte) (*onnx.Tensor, error) {
	d := &decoder{whole: b}
	t, err := d.tensor(b)
	if err != nil {
		return nil, err
	}
	if t.DType != onnx.String && t.Data == nil {
		t.Data = onnx.Raw(nil)
	}
	return t, nil
}

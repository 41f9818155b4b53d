package onnxfile

import (
	"bytes"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"google.golang.org/protobuf/encoding/protowire"
)

// Decode parses an encoded ModelProto. Tensor contents are windows of b, which
// must not change. External data is refused, since there is no folder to find it in.
func Decode(b []byte) (*onnx.Model, error) {
	return decodeModel("", b[:len(b):len(b)], nil, nil)
}

func decodeModel(path string, b []byte, file *mapping, dir *folder) (*onnx.Model, error) {
	d := &decoder{path: path, whole: b, file: file, dir: dir}
	if err := d.sniff(b); err != nil {
		return nil, err
	}
	m := &onnx.Model{}
	var graph []byte
	var functions [][]byte
	err := d.fields(b, "model", func(f field) error {
		switch f.num {
		case 7:
			if graph != nil {
				return d.errf(f.raw, "model: a second graph")
			}
			graph = f.val
			return d.want(f, protowire.BytesType, "model")
		case 25:
			functions = append(functions, f.val)
			if err := d.count(f.raw); err != nil {
				return err
			}
			return d.want(f, protowire.BytesType, "model")
		}
		return d.modelField(m, f)
	})
	if err != nil {
		return nil, err
	}
	if graph == nil {
		return nil, d.errf(b, "not an ONNX model: it has no graph")
	}
	if len(m.Opsets) == 0 && m.IRVersion < 3 {
		m.Opsets = []onnx.Opset{{Version: 1}}
	}
	g, err := d.graph(graph, nil, 0)
	if err != nil {
		return nil, err
	}
	m.SetGraph(g)
	for _, b := range functions {
		fn, err := d.function(b)
		if err != nil {
			return nil, err
		}
		m.AddFunction(fn)
	}
	if err := m.Expands(); err != nil {
		return nil, d.errf(b, "%v", err)
	}
	return m, nil
}

// sniff recognises what is often found in place of a model.
func (d *decoder) sniff(b []byte) error {
	switch {
	case len(b) == 0:
		return d.errf(nil, "the file is empty")
	case bytes.HasPrefix(b, []byte("version https://git-lfs")):
		return &FormatError{d.path, -1, "this is a Git LFS pointer, not the model; run: git lfs pull"}
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return &FormatError{d.path, -1, "this is a zip archive, not an ONNX model"}
	case bytes.HasPrefix(b, []byte("ORTM")), len(b) > 8 && string(b[4:8]) == "ORTM":
		return &FormatError{d.path, -1, "this is an ORT-format model; give the .onnx file that it was made from"}
	case bytes.HasPrefix(b, []byte("<!DOCTYPE")), bytes.HasPrefix(b, []byte("<html")):
		return &FormatError{d.path, -1, "this is an HTML page, not an ONNX model"}
	}
	return nil
}

// modelField decodes every field of a ModelProto but its graph and functions.
func (d *decoder) modelField(m *onnx.Model, f field) error {
	typ := protowire.BytesType
	switch f.num {
	case 1, 5:
		typ = protowire.VarintType
	case 2, 3, 4, 6, 8, 14, 20, 26:
	default:
		m.Unknown = append(m.Unknown, f.raw...)
		return nil
	}
	if err := d.want(f, typ, "model"); err != nil {
		return err
	}
	switch f.num {
	case 1:
		m.IRVersion = f.int()
	case 2:
		m.ProducerName = f.str()
	case 3:
		m.ProducerVersion = f.str()
	case 4:
		m.Domain = f.str()
	case 5:
		m.ModelVersion = f.int()
	case 6:
		m.Doc = f.str()
	case 8:
		o, err := d.opset(f.val)
		m.Opsets = append(m.Opsets, o)
		return err
	case 14:
		e, err := d.entry(f.val)
		m.Meta = append(m.Meta, e)
		return err
	case 20:
		m.Training = append(m.Training, f.val)
	case 26:
		m.Configuration = append(m.Configuration, f.val)
	}
	return nil
}

func (d *decoder) opset(b []byte) (o onnx.Opset, err error) {
	if err := d.part(b); err != nil {
		return o, err
	}
	err = d.fields(b, "opset import", func(f field) error {
		switch {
		case f.num == 1 && f.isBytes():
			o.Domain = f.str()
		case f.num == 2 && f.isVarint():
			o.Version = f.int()
		default:
			o.Unknown = append(o.Unknown, f.raw...)
		}
		return nil
	})
	return o, err
}

func (d *decoder) entry(b []byte) (e onnx.Entry, err error) {
	if err := d.part(b); err != nil {
		return e, err
	}
	err = d.fields(b, "metadata entry", func(f field) error {
		switch {
		case f.num == 1 && f.isBytes():
			e.Key = f.str()
		case f.num == 2 && f.isBytes():
			e.Value = f.str()
		}
		return nil
	})
	return e, err
}

// function decodes a FunctionProto.
func (d *decoder) function(b []byte) (*onnx.Function, error) {
	fn := &onnx.Function{}
	p := &graphParts{}
	err := d.fields(b, "function", func(f field) error {
		if f.num == 0 || !f.isBytes() {
			fn.Unknown = append(fn.Unknown, f.raw...)
			return nil
		}
		var err error
		switch f.num {
		case 1:
			fn.Name = f.str()
		case 4:
			p.inputNames, err = append(p.inputNames, f.str()), d.count(f.raw)
		case 5:
			p.outputNames, err = append(p.outputNames, f.str()), d.count(f.raw)
		case 6:
			fn.Attrs, err = append(fn.Attrs, f.str()), d.part(f.raw)
		case 7:
			p.nodes, err = append(p.nodes, f.val), d.count(f.raw)
		case 8:
			fn.Doc = f.str()
		case 9:
			var o onnx.Opset
			o, err = d.opset(f.val)
			fn.Opsets = append(fn.Opsets, o)
		case 10:
			fn.Domain = f.str()
		case 11:
			if err = d.largePart(f.raw); err != nil {
				return err
			}
			var a *onnx.Attr
			a, err = d.attr(f.val, nil, 1)
			fn.AttrDefaults = append(fn.AttrDefaults, a)
		case 12:
			p.infos, err = append(p.infos, f.val), d.count(f.raw)
		case 13:
			fn.Overload = f.str()
		case 14:
			var e onnx.Entry
			e, err = d.entry(f.val)
			fn.Meta = append(fn.Meta, e)
		default:
			fn.Unknown = append(fn.Unknown, f.raw...)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	fn.Body = onnx.NewGraph(fn.Name)
	return fn, d.build(fn.Body, p, nil, 0)
}

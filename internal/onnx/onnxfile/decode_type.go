package onnxfile

import "github.com/lapidary-ml/lapidary/internal/onnx"

// typ decodes a TypeProto.
func (d *decoder) typ(b []byte, depth int) (*onnx.Type, error) {
	if depth > maxDepth {
		return nil, d.errf(b, "types are nested more than %d deep", maxDepth)
	}
	if err := d.largePart(b); err != nil {
		return nil, err
	}
	t := &onnx.Type{}
	err := d.fields(b, "type", func(f field) (err error) {
		if !f.isBytes() {
			t.Unknown = append(t.Unknown, f.raw...)
			return nil
		}
		switch f.num {
		case 1:
			t.Kind = onnx.KindTensor
			err = d.tensorType(t, f.val)
		case 8:
			t.Kind = onnx.KindSparseTensor
			err = d.tensorType(t, f.val)
		case 4:
			t.Kind = onnx.KindSequence
			err = d.elemType(t, f.val, 1, depth)
		case 9:
			t.Kind = onnx.KindOptional
			err = d.elemType(t, f.val, 1, depth)
		case 5:
			t.Kind = onnx.KindMap
			err = d.elemType(t, f.val, 2, depth)
		case 6:
			t.Denotation = f.str()
		case 7:
			t.Kind, t.Opaque = onnx.KindOpaque, f.val
		default:
			t.Unknown = append(t.Unknown, f.raw...)
		}
		return err
	})
	return t, err
}

// tensorType decodes TypeProto.Tensor or TypeProto.SparseTensor into t.
func (d *decoder) tensorType(t *onnx.Type, b []byte) error {
	return d.fields(b, "tensor type", func(f field) error {
		switch {
		case f.num == 1 && f.isVarint():
			t.Elem = onnx.DType(f.int())
		case f.num == 2 && f.isBytes():
			t.Shape = onnx.Shape{}
			return d.fields(f.val, "shape", func(f field) error {
				if f.num != 1 || !f.isBytes() {
					return nil
				}
				dim, err := d.dim(f.val)
				t.Shape = append(t.Shape, dim)
				return err
			})
		}
		return nil
	})
}

func (d *decoder) dim(b []byte) (onnx.Dim, error) {
	dim := onnx.Symbol("")
	if err := d.part(b); err != nil {
		return dim, err
	}
	err := d.fields(b, "dimension", func(f field) error {
		switch {
		case f.num == 1 && f.isVarint():
			dim.Value, dim.Param = max(f.int(), -1), ""
		case f.num == 2 && f.isBytes():
			dim.Value, dim.Param = -1, f.str()
		case f.num == 3 && f.isBytes():
			dim.Denotation = f.str()
		}
		return nil
	})
	return dim, err
}

// elemType decodes TypeProto.Sequence, Optional or Map, whose element or value
// type is field num.
func (d *decoder) elemType(t *onnx.Type, b []byte, num int, depth int) error {
	return d.fields(b, "element type", func(f field) (err error) {
		switch {
		case int(f.num) == num && f.isBytes():
			t.Of, err = d.typ(f.val, depth+1)
		case f.num == 1 && f.isVarint():
			t.Key = onnx.DType(f.int())
		}
		return err
	})
}

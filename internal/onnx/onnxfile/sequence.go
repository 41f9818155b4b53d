package onnxfile

import "github.com/lapidary-ml/lapidary/internal/onnx"

// DecodeSequence parses an encoded SequenceProto of tensors, as in the test
// data files of ONNX. It fails on sequences of anything else.
func DecodeSequence(b []byte) ([]*onnx.Tensor, error) {
	d := &decoder{whole: b}
	out := []*onnx.Tensor{}
	err := d.fields(b, "sequence", func(f field) error {
		switch {
		case f.num == 3 && f.isBytes():
			t, err := d.tensor(f.val)
			out = append(out, t)
			return err
		case f.num >= 4 && f.num <= 7:
			return d.errf(f.raw, "sequence: elements are not tensors")
		}
		return nil
	})
	return out, err
}

// Optional is a decoded OptionalProto: a tensor, a sequence of tensors, or nothing.
type Optional struct {
	Tensor   *onnx.Tensor
	Sequence []*onnx.Tensor
}

// DecodeOptional parses an encoded OptionalProto of a tensor or a sequence of tensors.
func DecodeOptional(b []byte) (o Optional, err error) {
	d := &decoder{whole: b}
	err = d.fields(b, "optional", func(f field) (err error) {
		switch {
		case f.num == 3 && f.isBytes():
			o.Tensor, err = d.tensor(f.val)
		case f.num == 5 && f.isBytes():
			o.Sequence, err = DecodeSequence(f.val)
		case f.num == 4 || f.num == 6 || f.num == 7:
			return d.errf(f.raw, "optional: the value is not a tensor or a sequence")
		}
		return err
	})
	return o, err
}

package dataset

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// LabelKind says what the labels of a set are.
type LabelKind int

// The kinds of labels, with the tensor that a sample's Label is.
const (
	NoLabel   LabelKind = iota
	Class               // one class index: int64, scalar
	Value               // one or more numbers to predict: double, scalar or [K]
	Positions           // one class index per position, such as the next token: int64 [T…]
	ClassSet            // the indices of the classes that apply: int64 [k], k ≥ 0
	Boxes               // the objects in a picture: double [n, BoxColumns]
	LabelMap            // one class index per pixel: int64 [H,W]
)

// String returns the kind's name in reports.
func (k LabelKind) String() string {
	switch k {
	case Class:
		return "class"
	case Value:
		return "value"
	case Positions:
		return "positions"
	case ClassSet:
		return "class-set"
	case Boxes:
		return "boxes"
	case LabelMap:
		return "label-map"
	}
	return "none"
}

// Sample is one row of a set, ready for the model.
type Sample struct {
	Index    int64                   // row in the file's own order, from 0
	ID       string                  // the image's file name, or "row 17"
	Inputs   map[string]*onnx.Tensor // by input name, with the batch axis
	Expected map[string]*onnx.Tensor // outputs that came with the sample, nil if none
	Label    *onnx.Tensor            // nil if unlabelled; see LabelKind
	Slices   []string                // groups that the sample belongs to
	Sequence string                  // equal in consecutive samples of one sequence
	Sum      [16]byte                // digest of the sample's content if Options.Sum, see [Digest]

	whole bool // an input has no batch axis of its own
}

// Batch is consecutive samples put together along the first axis.
type Batch struct {
	Samples []*Sample
	Inputs  map[string]*onnx.Tensor
	Padding int // copies of the last sample at the end, which fill a fixed batch size
}

// batchable reports whether s may follow in the same batch as first.
func batchable(first, s *Sample) bool {
	if len(first.Inputs) != len(s.Inputs) {
		return false
	}
	for name, t := range first.Inputs {
		u := s.Inputs[name]
		if u == nil || u.DType != t.DType || !slices.Equal(u.Shape, t.Shape) {
			return false
		}
	}
	return true
}

// join concatenates the samples' inputs along the first axis, repeating the
// last one pad times. Inputs of rank 0 are the same in all samples.
func join(samples []*Sample, pad int) (*Batch, error) {
	b := &Batch{Samples: samples, Inputs: samples[0].Inputs, Padding: pad}
	n := len(samples) + pad
	if n == 1 {
		return b, nil
	}
	b.Inputs = map[string]*onnx.Tensor{}
	for name, t := range samples[0].Inputs {
		if len(t.Shape) == 0 {
			b.Inputs[name] = t
			continue
		}
		parts := make([]*onnx.Tensor, n)
		for i := range parts {
			parts[i] = samples[min(i, len(samples)-1)].Inputs[name]
		}
		j, err := concat(name, parts)
		if err != nil {
			return nil, err
		}
		b.Inputs[name] = j
	}
	return b, nil
}

func concat(name string, parts []*onnx.Tensor) (*onnx.Tensor, error) {
	t := parts[0]
	shape := slices.Clone(t.Shape)
	shape[0] *= int64(len(parts))
	if t.DType == onnx.String {
		out := &onnx.Tensor{Name: name, DType: t.DType, Shape: shape}
		for _, p := range parts {
			out.Str = append(out.Str, p.Str...)
		}
		return out, nil
	}
	if t.DType.Bits() < 8 {
		return nil, fmt.Errorf("input %q: %v elements share bytes and cannot be batched; use batch size 1", name, t.DType)
	}
	content := make([][]byte, len(parts))
	for i, p := range parts {
		var err error
		if content[i], err = p.Bytes(); err != nil {
			return nil, err
		}
	}
	return onnx.NewTensor(name, t.DType, shape, bytes.Join(content, nil))
}

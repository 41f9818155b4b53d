package explain

import (
	"bytes"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// view is one sample, cut into features, with what hides them.
type view struct {
	sample   Sample
	input    *onnx.Tensor
	part     *partition
	original []byte   // the input's content
	fill     []byte   // what hides by the fill, packed like the input
	rows     [][]byte // rows of the data, packed like the input; nil where there are none to hide by
	size     int      // bytes per element
}

func newView(s Sample, input string, o Options, b *background) (*view, error) {
	t := s.Inputs[input]
	p, err := newPartition(t.Shape, o)
	if err != nil {
		return nil, fmt.Errorf("sample %q: input %q: %v", s.ID, input, err)
	}
	if b.fill == FillToken && len(o.Keep) > 0 {
		tokens, err := t.Ints()
		if err != nil {
			return nil, fmt.Errorf("sample %q: %v", s.ID, err)
		}
		p = p.without(tokens, o.Keep)
	}
	if len(p.features) < 2 {
		return nil, fmt.Errorf("sample %q: input %q of shape %v gives %d features to hide, want at least 2", s.ID, input, t.Shape, len(p.features))
	}
	v := &view{sample: s, input: t, part: p, rows: b.rows, size: t.DType.Bits() / 8}
	if v.fill, err = b.bytes(t, p); err != nil {
		return nil, fmt.Errorf("sample %q: %v", s.ID, err)
	}
	if v.original, err = t.Bytes(); err != nil {
		return nil, fmt.Errorf("sample %q: %v", s.ID, err)
	}
	return v, nil
}

// on returns the view cut into rows × cols cells, for maps of another resolution.
func (v *view) on(rows, cols int) (*view, error) {
	if rows == v.part.rows && cols == v.part.cols {
		return v, nil
	}
	if v.part.layout == Flat || rows > v.part.height || cols > v.part.width {
		return nil, fmt.Errorf("sample %q: a map of %d × %d cells does not fit an input of shape %v", v.sample.ID, rows, cols, v.input.Shape)
	}
	w := *v
	w.part = v.part.regrid(rows, cols)
	return &w, nil
}

// backgrounds returns what features are hidden by: the rows of the data if there are some and they are wanted, else the fill.
func (v *view) backgrounds(rows bool) [][]byte {
	if rows && len(v.rows) > 0 {
		return v.rows
	}
	return [][]byte{v.fill}
}

// hide replaces feature i in dst by what background has there.
func (v *view) hide(dst []byte, i int, background []byte) {
	v.copyElements(dst, v.part.features[i], background)
}

// copyElements copies elements from src, packed like the input.
func (v *view) copyElements(dst []byte, elements []int32, src []byte) {
	for _, e := range elements {
		at := int(e) * v.size
		copy(dst[at:at+v.size], src[at:at+v.size])
	}
}

// moves says whether hiding feature i by any of the backgrounds changes the sample.
func (v *view) moves(i int, backgrounds [][]byte) bool {
	for _, b := range backgrounds {
		for _, e := range v.part.features[i] {
			at := int(e) * v.size
			if !bytes.Equal(b[at:at+v.size], v.original[at:at+v.size]) {
				return true
			}
		}
	}
	return false
}

package prune

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// pick returns t with only some positions of an axis, read when it is asked for.
func pick(t *onnx.Tensor, axis int, keep []int) *onnx.Tensor {
	out := *t
	out.External = nil
	out.Shape = append([]int64(nil), t.Shape...)
	out.Shape[axis] = int64(len(keep))
	p := &picked{src: t.Data, keep: keep, size: int(t.Shape[axis]), outer: 1, inner: t.DType.Bits() / 8}
	for _, n := range t.Shape[:axis] {
		p.outer *= int(n)
	}
	for _, n := range t.Shape[axis+1:] {
		p.inner *= int(n)
	}
	out.Data = p
	return &out
}

// picked is the content of a tensor [outer, size, inner] at some positions of its
// middle axis; inner counts bytes.
type picked struct {
	src                onnx.Data
	keep               []int
	outer, size, inner int
}

// Len returns the number of bytes.
func (p *picked) Len() int64 { return int64(p.outer) * int64(len(p.keep)) * int64(p.inner) }

// Bytes returns the content in new memory.
func (p *picked) Bytes() ([]byte, error) {
	src, err := p.src.Bytes()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, p.Len())
	for o := range p.outer {
		row := src[o*p.size*p.inner:]
		for i := 0; i < len(p.keep); {
			j := i + 1
			for j < len(p.keep) && p.keep[j] == p.keep[j-1]+1 {
				j++
			}
			out = append(out, row[p.keep[i]*p.inner:(p.keep[j-1]+1)*p.inner]...)
			i = j
		}
	}
	return out, nil
}

// rowwise returns t [rows, size, …] with, for each row, other positions of its
// second axis; every row keeps as many.
func rowwise(t *onnx.Tensor, keep func(row int) []int) (*onnx.Tensor, error) {
	src, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	inner := t.DType.Bits() / 8
	for _, n := range t.Shape[2:] {
		inner *= int(n)
	}
	var out []byte
	count := 0
	for r := range int(t.Shape[0]) {
		row := src[r*int(t.Shape[1])*inner:]
		list := keep(r)
		for _, k := range list {
			out = append(out, row[k*inner:(k+1)*inner]...)
		}
		count = len(list)
	}
	shape := append([]int64(nil), t.Shape...)
	shape[1] = int64(count)
	return onnx.NewTensor(t.Name, t.DType, shape, out)
}

package dataset

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Port is an input or output of the model that the data is for.
type Port struct {
	Name string
	Type *onnx.Type
}

// shape returns the dimensions of a tensor port; nil if the rank is unknown.
func (p Port) shape() onnx.Shape {
	if p.Type == nil || p.Type.Kind != onnx.KindTensor && p.Type.Kind != onnx.KindOptional {
		return nil
	}
	if p.Type.Kind == onnx.KindOptional {
		return Port{Type: p.Type.Of}.shape()
	}
	return p.Type.Shape
}

// elem returns the element type of a tensor port; Undefined if unknown.
func (p Port) elem() onnx.DType {
	if p.Type == nil {
		return onnx.Undefined
	}
	if p.Type.Kind == onnx.KindOptional {
		return Port{Type: p.Type.Of}.elem()
	}
	return p.Type.Elem
}

// resolvePorts gives symbolic dimensions the sizes of dims. A size of 0, which
// some exporters write for "any", becomes unknown.
func resolvePorts(ports []Port, dims map[string]int64) []Port {
	out := make([]Port, len(ports))
	for i, p := range ports {
		out[i] = Port{p.Name, resolveType(p.Type, dims)}
	}
	return out
}

func resolveType(t *onnx.Type, dims map[string]int64) *onnx.Type {
	if t == nil {
		return nil
	}
	c := *t
	c.Of = resolveType(t.Of, dims)
	c.Shape = slices.Clone(t.Shape)
	for i, d := range c.Shape {
		if n, ok := dims[d.Param]; ok && !d.Known() {
			c.Shape[i] = onnx.Fixed(n)
		} else if d.Value == 0 {
			c.Shape[i] = onnx.Symbol("")
		}
	}
	return &c
}

// fitRow finds the shape in which one sample of shape row is given to port p:
// a row of the input's rank less one gets a batch axis of 1, one of the
// input's rank is a whole input. flat allows a list of numbers to fill any
// shape of as many elements.
func fitRow(p Port, row []int64, flat bool) (shape []int64, whole bool, err error) {
	want := p.shape()
	if want == nil {
		return append([]int64{1}, row...), false, nil
	}
	switch r := len(want); {
	case len(row) == r && agree(want, row):
		return row, true, nil
	case len(row) == r-1 && agree(want[1:], row):
		return append([]int64{1}, row...), false, nil
	case len(row) == 0 && r == 2 && agree(want[1:], []int64{1}):
		return []int64{1, 1}, false, nil
	case flat && len(row) <= 1:
		if shape, ok := fillShape(want, row); ok {
			return shape, false, nil
		}
	}
	return nil, false, fmt.Errorf("a sample of shape %v does not fit input %q of type %v: it needs shape %v, or the same without the first axis",
		row, p.Name, p.Type, want)
}

// fillShape gives a list the shape of the input, with a batch axis of 1.
func fillShape(want onnx.Shape, row []int64) ([]int64, bool) {
	n, _ := onnx.ElementCount(row)
	if len(want) == 0 {
		return []int64{}, n == 1
	}
	shape := []int64{1}
	for _, d := range want[1:] {
		if !d.Known() {
			return nil, false
		}
		shape = append(shape, d.Value)
	}
	have, ok := onnx.ElementCount(shape)
	return shape, ok && have == n
}

func agree(want onnx.Shape, have []int64) bool {
	for i, d := range want {
		if d.Known() && d.Value != have[i] {
			return false
		}
	}
	return true
}

// batchSize returns the batch sizes that the inputs allow: 0 for any. Whole
// inputs and carried state allow 1 only.
func batchSize(ports []Port, whole bool, state map[string]string) int {
	if whole || len(state) > 0 {
		return 1
	}
	size := 0
	for _, p := range ports {
		if s := p.shape(); len(s) > 0 && s[0].Known() && s[0].Value > 0 {
			if n := int(s[0].Value); size == 0 || n == size {
				size = n
			} else {
				return 1
			}
		}
	}
	return size
}

// findPort returns the port with the given name.
func findPort(ports []Port, name string) (Port, bool) {
	i := slices.IndexFunc(ports, func(p Port) bool { return p.Name == name })
	if i < 0 {
		return Port{}, false
	}
	return ports[i], true
}

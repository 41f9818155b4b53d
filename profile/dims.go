package profile

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// resolve infers the types of m's values with a number for every dimension of
// every input: the one that was given, else 1, which is noted.
func (s *StaticProfile) resolve(m *onnx.Model, given map[string]int64) (*opset.Facts, error) {
	o := opset.Options{Dims: map[string]int64{}, InputShapes: map[string]onnx.Shape{}, ReadOnly: true}
	places := map[string]int64{} // given sizes of dimensions without a symbol
	maps.Copy(o.Dims, given)
	for _, v := range m.Graph.Inputs() {
		shape := slices.Clone(v.Shape())
		if v.Type.IsTensor() && shape == nil && v.Const == nil {
			s.Assumptions = append(s.Assumptions, fmt.Sprintf("input %q has no declared shape: what depends on it is not counted", v.Name()))
		}
		unnamed := false
		for i, d := range shape {
			switch {
			case d.Known():
			case d.Param == "":
				name := fmt.Sprintf("%s[%d]", v.Name(), i)
				size, ok := given[name]
				if ok {
					places[name] = size
				}
				shape[i], unnamed = onnx.Fixed(s.dim(name, size, ok)), true
			default:
				size, ok := given[d.Param]
				o.Dims[d.Param] = s.dim(d.Param, size, ok)
			}
		}
		if unnamed {
			o.InputShapes[v.Name()] = shape
		}
	}
	for name, size := range places {
		if size < 0 {
			return nil, fmt.Errorf("dimension %q: size %d is negative", name, size)
		}
		delete(o.Dims, name)
	}
	facts, err := opset.Infer(m, o)
	if err != nil {
		return nil, err
	}
	if pinned := pin(m, facts, o.InputShapes); pinned {
		if facts, err = opset.Infer(m, o); err != nil {
			return nil, err
		}
	}
	s.noteAssumed()
	return facts, nil
}

// dim records an open dimension, once, and returns its size.
func (s *StaticProfile) dim(name string, size int64, given bool) int64 {
	if !given {
		size = 1
	}
	if !slices.ContainsFunc(s.Dims, func(d Dim) bool { return d.Name == name }) {
		s.Dims = append(s.Dims, Dim{Name: name, Value: size, Assumed: !given})
	}
	return size
}

// pin replaces dimensions of inputs that are still open, such as expressions
// over symbols that the model does not declare, by 1.
func pin(m *onnx.Model, facts *opset.Facts, shapes map[string]onnx.Shape) bool {
	pinned := false
	for _, v := range m.Graph.Inputs() {
		shape := slices.Clone(facts.Shape(v))
		open := false
		for i, d := range shape {
			if !d.Known() {
				shape[i], open = onnx.Fixed(1), true
			}
		}
		if open {
			shapes[v.Name()], pinned = shape, true
		}
	}
	return pinned
}

// noteAssumed says which sizes nobody gave.
func (s *StaticProfile) noteAssumed() {
	var names []string
	for _, d := range s.Dims {
		if d.Assumed {
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return
	}
	more := ""
	if len(names) > 8 {
		more = fmt.Sprintf(" and %d more", len(names)-8)
		names = names[:8]
	}
	s.Assumptions = append(s.Assumptions, fmt.Sprintf("%s%s: taken as 1, since no size was given", strings.Join(names, ", "), more))
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

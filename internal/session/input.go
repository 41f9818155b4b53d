package session

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// ElementName is the name under which element i of the sequence called name is
// given to and returned by [Session.Run].
func ElementName(name string, i int) string { return name + "[" + strconv.Itoa(i) + "]" }

// KeysName is the name under which the keys of the map called name are given
// to and returned by [Session.Run].
func KeysName(name string) string { return name + ".keys" }

// CheckInputs reports the first fault of in: a required port without a tensor,
// a tensor whose type or shape a port cannot take, or a name that is neither
// in ports nor in defaults, which hold the inputs that may be left out.
func CheckInputs(ports, defaults []Port, in map[string]*onnx.Tensor) error {
	used := 0
	for _, p := range ports {
		n, err := p.check(in, false)
		if err != nil {
			return err
		}
		used += n
	}
	for _, p := range defaults {
		n, err := p.check(in, true)
		if err != nil {
			return err
		}
		used += n
	}
	if used == len(in) {
		return nil
	}
	return unknownInput(ports, defaults, in)
}

// check looks up what in holds for p and returns the number of its tensors.
func (p Port) check(in map[string]*onnx.Tensor, optional bool) (int, error) {
	kind := onnx.KindUnknown
	if p.Type != nil {
		kind = p.Type.Kind
	}
	switch kind {
	case onnx.KindOptional:
		return Port{p.Name, p.Type.Of}.check(in, true)
	case onnx.KindSequence:
		return p.checkSequence(in, optional)
	case onnx.KindMap:
		keys, values := in[KeysName(p.Name)], in[p.Name]
		if keys == nil && values == nil && optional {
			return 0, nil
		}
		if keys == nil || values == nil {
			return 0, fmt.Errorf("input %q is missing: a map is given as %q and %q", p.Name, p.Name, KeysName(p.Name))
		}
		return 2, nil
	case onnx.KindTensor, onnx.KindUnknown:
		t := in[p.Name]
		if t == nil {
			if optional {
				return 0, nil
			}
			return 0, fmt.Errorf("input %q is missing: the model wants %v", p.Name, p.Type)
		}
		return 1, fits(p.Name, p.Type, t)
	}
	return 0, fmt.Errorf("input %q: inputs of type %v cannot be given", p.Name, p.Type)
}

func (p Port) checkSequence(in map[string]*onnx.Tensor, optional bool) (int, error) {
	for i := 0; ; i++ {
		name := ElementName(p.Name, i)
		t := in[name]
		if t == nil {
			if i == 0 && !optional {
				return 0, fmt.Errorf("input %q is missing: a sequence is given as %q, %q, …", p.Name, name, ElementName(p.Name, 1))
			}
			return i, nil
		}
		if err := fits(name, p.Type.Of, t); err != nil {
			return 0, err
		}
	}
}

// fits reports why a port of type want cannot take t.
func fits(name string, want *onnx.Type, t *onnx.Tensor) error {
	if _, ok := t.Elements(); !ok {
		return fmt.Errorf("input %q: shape %v has a negative size or overflows", name, t.Shape)
	}
	if !want.IsTensor() {
		return nil
	}
	if want.Elem != onnx.Undefined && want.Elem != t.DType {
		return fmt.Errorf("input %q has type %v, the model wants %v", name, t.DType, want)
	}
	if want.Shape.Contradicts(onnx.ShapeOf(t.Shape...)) {
		return fmt.Errorf("input %q has shape %v, the model wants %v", name, onnx.ShapeOf(t.Shape...), want)
	}
	return nil
}

// unknownInput names a tensor of in that no port takes.
func unknownInput(ports, defaults []Port, in map[string]*onnx.Tensor) error {
	known := map[string]bool{}
	var names []string
	for _, p := range append(append([]Port{}, ports...), defaults...) {
		known[p.Name], known[KeysName(p.Name)] = true, true
		for i := 0; in[ElementName(p.Name, i)] != nil; i++ {
			known[ElementName(p.Name, i)] = true
		}
		names = append(names, strconv.Quote(p.Name))
	}
	worst := ""
	for name := range in {
		if !known[name] && (worst == "" || name < worst) {
			worst = name
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("input %q is unknown: the model has no inputs", worst)
	}
	return fmt.Errorf("input %q is unknown: the model's inputs are %s", worst, strings.Join(names, ", "))
}

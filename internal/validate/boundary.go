package validate

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// boundary says how inputs in the baseline's types become the candidate's.
type boundary struct {
	convert map[string]onnx.DType // inputs whose element type differs
	absent  map[string]bool       // inputs that the candidate does not take
}

// match compares the ports of the two models by name and returns the inputs that data must fit: the baseline's, with every
// dimension fixed that the candidate fixes.
func match(baseline, candidate session.Session) ([]dataset.Port, *boundary, error) {
	b := &boundary{convert: map[string]onnx.DType{}, absent: map[string]bool{}}
	theirs := map[string]*onnx.Type{}
	for _, p := range candidate.Inputs() {
		theirs[p.Name] = p.Type
	}
	var in []dataset.Port
	for _, p := range baseline.Inputs() {
		t, ok := theirs[p.Name]
		delete(theirs, p.Name)
		if !ok {
			b.absent[p.Name] = true
			in = append(in, dataset.Port{Name: p.Name, Type: p.Type})
			continue
		}
		merged, err := mergeTypes(p.Type, t)
		if err != nil {
			return nil, nil, fmt.Errorf("input %q: the baseline takes %v, the candidate %v: %v", p.Name, p.Type, t, err)
		}
		if p.Type.IsTensor() && t.IsTensor() && p.Type.Elem != t.Elem {
			b.convert[p.Name] = t.Elem
		}
		in = append(in, dataset.Port{Name: p.Name, Type: merged})
	}
	if len(theirs) > 0 || len(in) > 0 && len(b.absent) == len(in) {
		return nil, nil, fmt.Errorf("the two models do not take the same inputs: the baseline has %s, the candidate %s",
			portNames(baseline.Inputs()), portNames(candidate.Inputs()))
	}
	for _, p := range baseline.Outputs() {
		if !hasPort(candidate.Outputs(), p.Name) {
			return nil, nil, fmt.Errorf("the candidate lacks output %q: the baseline has %s, the candidate %s",
				p.Name, portNames(baseline.Outputs()), portNames(candidate.Outputs()))
		}
	}
	return in, b, nil
}

// mergeTypes returns the type whose values both inputs take, in the element type of a.
func mergeTypes(a, b *onnx.Type) (*onnx.Type, error) {
	if !a.IsTensor() || !b.IsTensor() {
		if a != nil && b != nil && !a.Equal(b) {
			return nil, fmt.Errorf("only tensors may differ")
		}
		return a, nil
	}
	if a.Elem != b.Elem && !(a.Elem.IsFloat() && b.Elem.IsFloat()) && !(a.Elem.IsInt() && b.Elem.IsInt()) {
		return nil, fmt.Errorf("one cannot be converted to the other")
	}
	if !a.Shape.Ranked() || !b.Shape.Ranked() {
		if !a.Shape.Ranked() {
			return a.WithShape(b.Shape), nil
		}
		return a, nil
	}
	if a.Shape.Contradicts(b.Shape) {
		return nil, fmt.Errorf("no shape fits both")
	}
	merged := append(onnx.Shape{}, a.Shape...)
	for i, d := range b.Shape {
		if d.Known() && !merged[i].Known() {
			merged[i] = d
		}
	}
	return a.WithShape(merged), nil
}

func hasPort(ports []session.Port, name string) bool {
	for _, p := range ports {
		if p.Name == name {
			return true
		}
	}
	return false
}

func portNames(ports []session.Port) string {
	names := make([]string, len(ports))
	for i, p := range ports {
		names[i] = strconv.Quote(p.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// trivial says whether the candidate takes the baseline's inputs as they are.
func (b *boundary) trivial() bool { return len(b.convert) == 0 && len(b.absent) == 0 }

// inputs returns the candidate's inputs for a run of the baseline.
func (b *boundary) inputs(in map[string]*onnx.Tensor) (map[string]*onnx.Tensor, error) {
	if b.trivial() {
		return in, nil
	}
	out := make(map[string]*onnx.Tensor, len(in))
	for name, t := range in {
		if b.absent[name] {
			continue
		}
		if d, ok := b.convert[name]; ok && t.DType != d {
			c, err := convert(t, d)
			if err != nil {
				return nil, fmt.Errorf("input %q: %w", name, err)
			}
			t = c
		}
		out[name] = t
	}
	return out, nil
}

// convert returns t with elements of type d, rounded where d is a narrower float; a number that d cannot hold is an error.
func convert(t *onnx.Tensor, d onnx.DType) (*onnx.Tensor, error) {
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out, err := onnx.FromFloat64s(t.Name, d, t.Shape, v)
	if err != nil {
		return nil, err
	}
	back, err := out.Float64s()
	if err != nil {
		return nil, err
	}
	for i, x := range v {
		if math.IsInf(back[i], 0) && !math.IsInf(x, 0) || d.IsInt() && back[i] != x {
			return nil, fmt.Errorf("element %d is %v, which %v cannot hold", i, x, d)
		}
	}
	return out, nil
}

// adapted is the candidate's session behind the baseline's inputs.
type adapted struct {
	session.Session
	b  *boundary
	in []session.Port
}

// Inputs returns the baseline's inputs that the candidate takes too, in the baseline's types.
func (a *adapted) Inputs() []session.Port { return a.in }

// Run converts the inputs and runs the candidate.
func (a *adapted) Run(ctx context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	in, err := a.b.inputs(in)
	if err != nil {
		return nil, err
	}
	return a.Session.Run(ctx, in)
}

// adapt hides the differences between the two models' inputs.
func (b *boundary) adapt(candidate session.Session, in []dataset.Port) session.Session {
	if b.trivial() {
		return candidate
	}
	a := &adapted{Session: candidate, b: b}
	for _, p := range in {
		if !b.absent[p.Name] {
			a.in = append(a.in, session.Port{Name: p.Name, Type: p.Type})
		}
	}
	return a
}

package grad

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// Options says what to differentiate and by what.
type Options struct {
	Of   string   // the output to differentiate; "" is the first with floating-point elements
	Wrt  []string // inputs or values computed in the main graph; empty means the inputs with floating-point elements
	Only bool     // leave out the other outputs of the model
}

// Result is a model with its gradient.
type Result struct {
	Model *onnx.Model // a copy of the model given, with the inputs and outputs below
	Of    string      // the output that is differentiated
	Seed  string      // the input that weighs the elements of Of, in its type and shape

	// Gradients names the output that holds the gradient of each value of Wrt, in its shape. Values that are neither inputs nor
	// outputs are outputs too, under their own names.
	Gradients map[string]string

	StraightThrough []string // nodes whose slope is that of a surrogate, in order of execution
	Cuts            []string // nodes at which a path from Wrt to Of ends because what they produce is no longer a real number
}

// minOpset is the first opset in which all that rules emit means what they mean: reductions take their axes as an input.
const minOpset = 18

// Build returns a copy of m that computes the gradient of an output too. It errs, naming the node, where a node between Wrt
// and Of has no rule, and where Of does not depend on one of Wrt in a way that has a slope. Tensors are shared with m, which
// must stay open as long as the result is used.
func Build(m *onnx.Model, o Options) (*Result, error) {
	d, err := begin(m)
	if err != nil {
		return nil, err
	}
	of, wrt, err := d.ends(o)
	if err != nil {
		return nil, fmt.Errorf("differentiating: %w", err)
	}
	if err := d.run(of, wrt); err != nil {
		return nil, fmt.Errorf("differentiating %q: %w", of.Name(), err)
	}
	r := &Result{Model: d.m, Of: of.Name(), Gradients: map[string]string{}}
	d.outputs(r, of, wrt, o)
	r.StraightThrough, r.Cuts = d.straight, d.cuts
	d.g.Sweep()
	if err := d.m.Check(); err != nil {
		return nil, fmt.Errorf("differentiating %q: the gradient's graph is not valid: %w", of.Name(), err)
	}
	return r, nil
}

// begin returns a differentiation of a copy of m that is brought to an opset that rules know, without calls of functions.
func begin(m *onnx.Model) (*differentiation, error) {
	c := m.Clone()
	if _, err := upgrade.To(c, minOpset); err != nil {
		return nil, fmt.Errorf("differentiating: %w", err)
	}
	if err := inlineCalls(c); err != nil {
		return nil, fmt.Errorf("differentiating: %w", err)
	}
	facts, err := opset.Infer(c, opset.Options{})
	if err != nil {
		return nil, err
	}
	b := &builder{m: c, g: c.Graph, facts: facts, shapes: map[*onnx.Value]*onnx.Value{}, reals: map[real]*onnx.Value{}}
	return &differentiation{builder: b, grads: map[*onnx.Value][]*onnx.Value{}}, nil
}

// ends finds the values that the options name.
func (d *differentiation) ends(o Options) (of *onnx.Value, wrt []*onnx.Value, err error) {
	for _, v := range d.g.Outputs() {
		if o.Of == v.Name() || o.Of == "" && of == nil && d.facts.DType(v).IsFloat() {
			of = v
		}
	}
	switch {
	case of == nil && o.Of != "":
		return nil, nil, fmt.Errorf("the model has no output %q", o.Of)
	case of == nil:
		return nil, nil, fmt.Errorf("the model has no output with floating-point elements")
	case !d.facts.DType(of).IsFloat():
		return nil, nil, fmt.Errorf("output %q has %v elements, which have no slope", of.Name(), d.facts.DType(of))
	}
	if len(o.Wrt) == 0 {
		for _, v := range d.g.Inputs() {
			if v.Const == nil && d.facts.DType(v).IsFloat() {
				wrt = append(wrt, v)
			}
		}
		if len(wrt) == 0 {
			return nil, nil, fmt.Errorf("the model has no input with floating-point elements: name a value that it computes, such as an embedding")
		}
	}
	named := map[string]*onnx.Value{}
	for v := range d.g.Values() {
		named[v.Name()] = v
	}
	for _, name := range o.Wrt {
		v := named[name]
		switch {
		case v == nil:
			return nil, nil, fmt.Errorf("the model has no value %q", name)
		case !d.facts.DType(v).IsFloat():
			return nil, nil, fmt.Errorf("%q has %v elements, by which nothing can be differentiated", name, d.facts.DType(v))
		case slices.Contains(wrt, v):
			return nil, nil, fmt.Errorf("%q is named twice", name)
		}
		wrt = append(wrt, v)
	}
	return of, wrt, nil
}

// outputs makes outputs of the gradients.
func (d *differentiation) outputs(r *Result, of *onnx.Value, wrt []*onnx.Value, o Options) {
	if o.Only {
		d.g.SetOutputs([]*onnx.Value{of})
	}
	r.Seed = d.seed.Name()
	for _, v := range wrt {
		if !v.IsInput() && !v.IsOutput() {
			v.Type = d.declared(v)
			d.g.AddOutput(v)
		}
		// An Identity gives every gradient a name of its own, also where it is the seed or that of another value.
		out := onnx.NewNode("Identity", []*onnx.Value{d.total(v)}, d.m.Fresh("grad_of_"+v.Name()))
		g := d.added(out)[0]
		g.Type = d.declared(v)
		d.g.AddOutput(g)
		r.Gradients[v.Name()] = g.Name()
	}
}

// declared returns the type of v for a port: symbols that only the inference knows are left out.
func (d *differentiation) declared(v *onnx.Value) *onnx.Type {
	if v.Type.IsTensor() && v.Type.Shape.Ranked() && v.Type.Elem != onnx.Undefined {
		return v.Type
	}
	return onnx.TensorType(d.elem(v), nil)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

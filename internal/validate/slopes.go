package validate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/grad"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// slopes differentiates one of the two models: for each tensor that somebody asks for, a model of its own is built and loaded.
type slopes struct {
	g         *graphs
	candidate bool
	output    string
	ready     map[string]*slopeModel // by the tensor asked for
	refused   map[string]error
	straight  []string
}

// slopeModel is a loaded model with a gradient.
type slopeModel struct {
	session  session.Session
	seed     session.Port
	tensor   string // what the gradient is by
	gradient string // its output
}

func (g *graphs) gradient(candidate bool, output string) *slopes {
	return &slopes{g: g, candidate: candidate, output: output, ready: map[string]*slopeModel{}, refused: map[string]error{}}
}

// StraightThrough returns the nodes whose slope was that of a surrogate in what was built so far.
func (s *slopes) StraightThrough() []string { return s.straight }

// Slope runs the model with its gradient by a tensor; see [explain.Gradient].
func (s *slopes) Slope(ctx context.Context, in map[string]*onnx.Tensor, seed []float64, tensor string) (value, gradient *onnx.Tensor, err error) {
	if s.ready[tensor] == nil && s.refused[tensor] == nil {
		s.ready[tensor], s.refused[tensor] = s.build(ctx, tensor)
	}
	if err := s.refused[tensor]; err != nil {
		return nil, nil, err
	}
	m := s.ready[tensor]
	all := make(map[string]*onnx.Tensor, len(in)+1)
	batch := int64(1)
	for name, t := range in {
		all[name] = t
		if len(t.Shape) > 0 && (name != m.tensor || len(in) == 1) { // an embedding may begin with the axis of the tokens
			batch = t.Shape[0]
		}
	}
	shape, err := seedShape(m.seed, int64(len(seed)), batch)
	if err != nil {
		return nil, nil, err
	}
	if all[m.seed.Name], err = onnx.FromFloat64s(m.seed.Name, m.seed.Type.Elem, shape, seed); err != nil {
		return nil, nil, err
	}
	r, err := m.session.Run(ctx, all)
	if err != nil {
		return nil, nil, err
	}
	if value = in[m.tensor]; value == nil {
		value = r.Outputs[m.tensor]
	}
	if gradient = r.Outputs[m.gradient]; value == nil || gradient == nil {
		return nil, nil, fmt.Errorf("its model gave no %q and %q", m.tensor, m.gradient)
	}
	return value, gradient, nil
}

// build makes and loads the model with the gradient by a tensor.
func (s *slopes) build(ctx context.Context, tensor string) (*slopeModel, error) {
	m, err := onnxfile.Open(s.g.path(s.candidate), onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if tensor == explain.FeatureMap {
		maps, err := grad.FeatureMaps(m, s.output)
		if err != nil {
			return nil, err
		}
		if len(maps) == 0 {
			return nil, fmt.Errorf("it has no feature map [N, channels, height, width] that convolutions made")
		}
		tensor = maps[len(maps)-1]
	}
	return s.differentiate(ctx, m, tensor)
}

// differentiate adds the gradient by a tensor to m and loads that. It is differentiated once for all shapes.
func (s *slopes) differentiate(ctx context.Context, m *onnx.Model, tensor string) (*slopeModel, error) {
	r, err := grad.Build(m, grad.Options{Of: s.output, Wrt: []string{tensor}, Only: true})
	if err != nil {
		return nil, err
	}
	loaded, err := s.g.load(ctx, r.Model)
	if err != nil {
		return nil, err
	}
	out := &slopeModel{session: loaded, tensor: strings.Clone(tensor), gradient: r.Gradients[tensor]}
	for _, p := range loaded.Inputs() {
		if p.Name == r.Seed {
			out.seed = p
		}
	}
	if !out.seed.Type.IsTensor() {
		return nil, fmt.Errorf("the engine does not know the type of %q", r.Seed)
	}
	if s.candidate {
		out.session = s.g.v.bounds.adapt(loaded, s.g.v.in)
	}
	for _, n := range r.StraightThrough {
		if !slices.Contains(s.straight, n) {
			s.straight = append(s.straight, n)
		}
	}
	return out, nil
}

// seedShape returns the output's shape for that many elements: what is not declared is the batch, in front, or what is left.
func seedShape(p session.Port, elements, batch int64) ([]int64, error) {
	dims := slices.Clone(p.Type.Shape)
	open := func() (at []int) {
		for i, d := range dims {
			if !d.Known() {
				at = append(at, i)
			}
		}
		return at
	}
	if at := open(); len(at) > 1 && at[0] == 0 {
		dims[0] = onnx.Fixed(batch)
	}
	at, known := open(), int64(1)
	for _, d := range dims {
		if d.Known() {
			known *= d.Value
		}
	}
	switch {
	case !dims.Ranked() || len(at) > 1 || known == 0 || elements%known != 0:
		return nil, fmt.Errorf("the output's declared shape %v does not say the shape of %d elements", p.Type.Shape, elements)
	case len(at) == 1:
		dims[at[0]] = onnx.Fixed(elements / known)
	case known != elements:
		return nil, fmt.Errorf("the output's declared shape %v does not have %d elements", p.Type.Shape, elements)
	}
	shape, _ := dims.Static()
	return shape, nil
}

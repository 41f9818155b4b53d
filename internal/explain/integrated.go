package explain

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/integrate/quad"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// pathPoints is where integrated gradients looks at the slope where nothing else is asked for. Captum's default is 50 points.
const pathPoints = 32

// integratedGradients gives each element its distance from the background times the mean slope on the straight way between
// background and sample (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365):
//
//	A_i = (x_i - b_i) · ∫₀¹ ∂f/∂x_i (b + t·(x - b)) dt
//
// by the quadrature of Gauss and Legendre. Attributions add up to f(x) - f(b); what they lack of it is the quadrature's error at
// kinks, or that of the surrogate that a quantized model's gradient is. The elements of tokens are the numbers of their embedding.
var integratedGradients = Method{
	Name: "integrated-gradients", Doc: "mean slope on the way from the background, times the distance (needs gradients)", Complete: true, Slopes: true, ByInput: true,
	Runs: func(_ *partition, _ int, o Options) int { return 2 + (1+gradientRuns)*points(o, pathPoints) },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		p, err := p.numeric(ctx)
		if err != nil {
			return nil, err
		}
		x, err := p.real()
		if err != nil {
			return nil, err
		}
		b, err := p.backgroundElements()
		if err != nil {
			return nil, err
		}
		at, weights := quadrature(points(p.o, pathPoints))
		path := make([][]byte, len(at))
		point := make([]float64, len(x))
		for k, t := range at {
			for i := range point {
				point[i] = b[i] + t*(x[i]-b[i])
			}
			if path[k], err = p.packed(point); err != nil {
				return nil, err
			}
		}
		ends, err := p.model.rows(ctx, p.view.sample, variants{n: 2, fill: func(i int, dst []byte) { copy(dst, [][]byte{p.view.original, p.view.fill}[i]) }})
		if err != nil {
			return nil, err
		}
		elements := make([]float64, len(x))
		err = p.slopes(ctx, path, func(k int, _ float64, gradient []float64) {
			for i, g := range gradient {
				elements[i] += weights[k] * g * (x[i] - b[i])
			}
		})
		if err != nil {
			return nil, err
		}
		base := p.target.value(ends[0], p.model.kind)
		a := p.result(base, p.perFeature(elements))
		a.residual = residual(a.values, base-p.target.value(ends[1], p.model.kind))
		return a, nil
	},
}

// points returns how many points a method looks at.
func points(o Options, own int) int {
	if o.Perturbations > 0 {
		return o.Perturbations
	}
	return own
}

// quadrature returns n points in (0, 1) and their weights, which sum to 1: exact for polynomials of degree 2n - 1.
func quadrature(n int) (at, weights []float64) {
	at, weights = make([]float64, n), make([]float64, n)
	quad.Legendre{}.FixedLocations(at, weights, 0, 1)
	return at, weights
}

// backgroundElements returns what hides the elements of the explained input.
func (p *problem) backgroundElements() ([]float64, error) {
	t := p.view.input
	b, err := onnx.NewTensor(t.Name, t.DType, t.Shape, p.view.fill)
	if err != nil {
		return nil, fmt.Errorf("sample %q: %v", p.view.sample.ID, err)
	}
	return b.Float64s()
}

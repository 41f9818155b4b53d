package explain

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// gradCAM weighs the channels of the last feature map by their mean slopes and leaves out what speaks against the class (Selvaraju
// et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", arXiv:1610.02391):
//
//	A = max(0, Σ_c mean(∂f/∂F_c) · F_c)
//
// The map is interpolated to the pixels of the input, and a cell's value is the mean of its pixels: so maps of two models can be
// compared whose feature maps differ in size.
var gradCAM = Method{
	Name: "grad-cam", Doc: "channels of the last feature map, weighted by their slopes (needs gradients)", Slopes: true,
	Runs: func(_ *partition, _ int, _ Options) int { return 2 },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		part := p.view.part
		if part.layout == Flat {
			return nil, fmt.Errorf("grad-cam needs an image, input %q has shape %v", p.model.input, p.view.input.Shape)
		}
		m := p.model.alone()
		rows, err := m.rows(ctx, p.view.sample, variants{n: 1, fill: func(int, []byte) {}})
		if err != nil {
			return nil, err
		}
		p.runs++
		features, slope, err := p.slope(ctx, p.view.original, p.target.slope(rows[0], m.kind), m, FeatureMap)
		if err != nil {
			return nil, err
		}
		cam, height, width, err := activation(features, slope)
		if err != nil {
			return nil, fmt.Errorf("the %s, sample %q: %v", m.name, p.view.sample.ID, err)
		}
		return p.result(p.target.value(rows[0], m.kind), part.interpolated(cam, height, width)), nil
	},
}

// activation returns max(0, Σ_c mean(slopes_c)·maps_c) over the pixels of a feature map [1, channels, height, width].
func activation(maps, slopes *onnx.Tensor) (cam []float64, height, width int, err error) {
	if maps == nil || slopes == nil || len(maps.Shape) != 4 || maps.Shape[0] != 1 || !slices.Equal(maps.Shape, slopes.Shape) {
		return nil, 0, 0, fmt.Errorf("there is no feature map of one sample with its gradient")
	}
	f, err := maps.Float64s()
	if err != nil {
		return nil, 0, 0, err
	}
	s, err := slopes.Float64s()
	if err != nil {
		return nil, 0, 0, err
	}
	height, width = int(maps.Shape[2]), int(maps.Shape[3])
	pixels := height * width
	cam = make([]float64, pixels)
	for c := range int(maps.Shape[1]) {
		weight := 0.0
		for _, v := range s[c*pixels : (c+1)*pixels] {
			weight += v / float64(pixels)
		}
		for i, v := range f[c*pixels : (c+1)*pixels] {
			cam[i] += weight * v
		}
	}
	for i := range cam {
		cam[i] = max(cam[i], 0)
	}
	return cam, height, width, nil
}

// interpolated brings a map of height × width to the cells of an image: bilinearly to its pixels, whose centres lie as in
// half-pixel coordinates, and then by the mean of each cell's pixels.
func (p *partition) interpolated(cam []float64, height, width int) []float64 {
	out, count := make([]float64, p.rows*p.cols), make([]float64, p.rows*p.cols)
	for y := range p.height {
		y0, y1, dy := neighbours(y, p.height, height)
		for x := range p.width {
			x0, x1, dx := neighbours(x, p.width, width)
			top := (1-dx)*cam[y0*width+x0] + dx*cam[y0*width+x1]
			bottom := (1-dx)*cam[y1*width+x0] + dx*cam[y1*width+x1]
			cell := p.cell(y, x)
			out[cell] += (1-dy)*top + dy*bottom
			count[cell]++
		}
	}
	for i := range out {
		out[i] /= count[i]
	}
	return out
}

// neighbours returns the two of n points that pixel i of size lies between, and how far it is from the first.
func neighbours(i, size, n int) (low, high int, share float64) {
	at := (float64(i)+0.5)*float64(n)/float64(size) - 0.5
	at = min(max(at, 0), float64(n-1))
	low = int(at)
	return low, min(low+1, n-1), at - float64(low)
}

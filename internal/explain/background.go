package explain

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// background gives what hidden elements are replaced by.
type background struct {
	fill  Fill
	token int64
	grid  int
	means []float64 // per channel of the partition
	span  float64   // largest less smallest element over all samples
}

// fillOf resolves the default fill for an element type; it errs on a fill the type cannot have.
func fillOf(o Options, d onnx.DType) (Fill, error) {
	tokens := d == onnx.Int64 || d == onnx.Int32
	switch {
	case d.Bits() < 8 || !d.IsFloat() && !d.IsInt() && d != onnx.Bool:
		return 0, fmt.Errorf("inputs of type %v cannot be perturbed", d)
	case o.Fill == FillMean && tokens:
		return FillToken, nil
	case o.Fill == FillToken && !d.IsInt():
		return 0, fmt.Errorf("a replacement token needs an integer input, this one is %v", d)
	}
	return o.Fill, nil
}

// newBackground reads every sample's input once, for the mean and the range.
func newBackground(samples []Sample, input string, o Options, fill Fill) (*background, error) {
	b := &background{fill: fill, token: o.Token, grid: o.Grid}
	if fill == FillToken {
		return b, nil
	}
	var sums, counts []float64
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, s := range samples {
		t := s.Inputs[input]
		p, err := newPartition(t.Shape, o)
		if err != nil {
			return nil, fmt.Errorf("sample %q: input %q: %v", s.ID, input, err)
		}
		if fill == FillBlur && p.layout == Flat {
			return nil, fmt.Errorf("sample %q: input %q: blurring needs an image layout, the shape is %v", s.ID, input, t.Shape)
		}
		v, err := t.Float64s()
		if err != nil {
			return nil, fmt.Errorf("sample %q: %v", s.ID, err)
		}
		if sums == nil {
			sums, counts = make([]float64, p.nChannels), make([]float64, p.nChannels)
		}
		if len(sums) != p.nChannels {
			if fill == FillMean {
				return nil, fmt.Errorf("sample %q: input %q has %d channels or columns, the samples before have %d: a mean needs equal ones, fill with zero",
					s.ID, input, p.nChannels, len(sums))
			}
			sums, counts = make([]float64, p.nChannels), make([]float64, p.nChannels)
		}
		for e, x := range v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, fmt.Errorf("sample %q: input %q holds %v at element %d, want finite numbers", s.ID, input, x, e)
			}
			c := p.channels(e)
			sums[c] += x
			counts[c]++
			lo, hi = min(lo, x), max(hi, x)
		}
	}
	for c := range sums {
		sums[c] /= counts[c]
	}
	b.means, b.span = sums, hi-lo
	return b, nil
}

// bytes returns the background for one sample, packed like the sample.
func (b *background) bytes(t *onnx.Tensor, p *partition) ([]byte, error) {
	n, _ := t.Elements()
	v := make([]float64, n)
	switch b.fill {
	case FillMean:
		for e := range v {
			v[e] = b.means[p.channels(e)]
		}
		if t.DType.IsInt() {
			for e := range v {
				v[e] = math.Round(v[e])
			}
		}
	case FillBlur:
		x, err := t.Float64s()
		if err != nil {
			return nil, err
		}
		blur(v, x, t.Shape, p, b.grid)
	case FillToken:
		for e := range v {
			v[e] = float64(b.token)
		}
	}
	filled, err := onnx.FromFloat64s(t.Name, t.DType, t.Shape, v)
	if err != nil {
		return nil, err
	}
	return filled.Bytes()
}

// blur sets out to in, averaged over boxes of about three cells in each direction, clamped at the border; separable.
func blur(out, in []float64, shape []int64, p *partition, grid int) {
	channels, height, width := int(shape[1]), int(shape[2]), int(shape[3])
	stepC, stepY, stepX := height*width, width, 1
	if p.layout == NHWC {
		channels, height, width = int(shape[3]), int(shape[1]), int(shape[2])
		stepC, stepY, stepX = 1, width*channels, channels
	}
	half := slices.Clone(in)
	for c := range channels {
		for y := range height {
			boxLine(half, in, c*stepC+y*stepY, stepX, width, max(1, 3*width/(2*grid)))
		}
		for x := range width {
			boxLine(out, half, c*stepC+x*stepX, stepY, height, max(1, 3*height/(2*grid)))
		}
	}
}

// boxLine averages n elements of in, from start on with a stride, over windows of 2·radius + 1 cut off at the ends.
func boxLine(out, in []float64, start, stride, n, radius int) {
	sum, lo, hi := 0.0, 0, 0 // window is [lo, hi)
	for i := range n {
		for ; hi < min(n, i+radius+1); hi++ {
			sum += in[start+hi*stride]
		}
		for ; lo < i-radius; lo++ {
			sum -= in[start+lo*stride]
		}
		out[start+i*stride] = sum / float64(hi-lo)
	}
}

// jittered returns the tensor with every element shifted by up to amplitude, uniformly.
func jittered(t *onnx.Tensor, amplitude float64, rng *rand.Rand) (*onnx.Tensor, error) {
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range v {
		v[i] += amplitude * (2*rng.Float64() - 1)
		if t.DType.IsInt() {
			v[i] = math.Round(v[i])
		}
	}
	return onnx.FromFloat64s(t.Name, t.DType, t.Shape, v)
}

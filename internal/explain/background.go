package explain

import (
	"crypto/sha256"
	"encoding/binary"
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
	spans []float64 // per channel: largest less smallest element over all samples
	rows  [][]byte  // the input's content in some samples, where methods take hidden features from there; else nil
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
	var sums, counts, lo, hi []float64
	start := func(n int) {
		sums, counts = make([]float64, n), make([]float64, n)
		lo, hi = slices.Repeat([]float64{math.Inf(1)}, n), slices.Repeat([]float64{math.Inf(-1)}, n)
	}
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
			start(p.nChannels)
		}
		if len(sums) != p.nChannels {
			if fill == FillMean {
				return nil, fmt.Errorf("sample %q: input %q has %d channels or columns, the samples before have %d: a mean needs equal ones, fill with zero",
					s.ID, input, p.nChannels, len(sums))
			}
			start(p.nChannels)
		}
		for e, x := range v {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, fmt.Errorf("sample %q: input %q holds %v at element %d, want finite numbers", s.ID, input, x, e)
			}
			c := p.channels(e)
			sums[c] += x
			counts[c]++
			lo[c], hi[c] = min(lo[c], x), max(hi[c], x)
		}
	}
	for c := range sums {
		sums[c] /= counts[c]
		hi[c] -= lo[c]
	}
	b.means, b.spans = sums, hi
	return b, nil
}

// defaultRows is how many rows of a table hidden features are taken from; SHAP's users take 100, of which the first sixteenth says most.
const defaultRows = 16

// drawRows takes rows of the data to hide features by, evenly spread over the samples: as many as the options ask for, for a table
// 16 where they say nothing. Samples of several shapes, tokens and fills that were asked for give none.
func (b *background) drawRows(samples []Sample, input string, o Options) error {
	n := o.Rows
	first := samples[0].Inputs[input]
	if n == 0 && b.fill == FillMean {
		if p, err := newPartition(first.Shape, o); err == nil && p.layout == Flat && p.single {
			n = defaultRows
		}
	}
	if n <= 0 || b.fill == FillToken {
		return nil
	}
	for _, s := range samples {
		if !slices.Equal(s.Inputs[input].Shape, first.Shape) {
			if o.Rows > 0 {
				return fmt.Errorf("sample %q: input %q has shape %v, the samples before have %v: hidden features can be taken from rows of one shape only", s.ID, input, s.Inputs[input].Shape, first.Shape)
			}
			return nil
		}
	}
	n = min(n, len(samples))
	for i := range n {
		content, err := samples[i*len(samples)/n].Inputs[input].Bytes()
		if err != nil {
			return err
		}
		b.rows = append(b.rows, content)
	}
	return nil
}

// name says what hides features: by rows of the data where there are some and they are wanted.
func (b *background) name(rows bool) string {
	if rows && len(b.rows) > 0 {
		return "rows"
	}
	return b.fill.String()
}

// digest returns the SHA-256, in hexadecimal, of what hides features: the name, a zero byte, and the content of the rows; else the
// fill's means as float64, its token or its grid as int64, all in little-endian order.
func (b *background) digest(rows bool) string {
	h := sha256.New()
	h.Write(append([]byte(b.name(rows)), 0))
	switch name := b.name(rows); {
	case name == "rows":
		for _, r := range b.rows {
			h.Write(r)
		}
	case b.fill == FillMean:
		binary.Write(h, binary.LittleEndian, b.means)
	case b.fill == FillToken:
		binary.Write(h, binary.LittleEndian, b.token)
	case b.fill == FillBlur:
		binary.Write(h, binary.LittleEndian, int64(b.grid))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
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

// movable says whether samples can be moved by a part of their range.
func (b *background) movable() bool {
	return b.fill != FillToken && slices.ContainsFunc(b.spans, func(s float64) bool { return s > 0 })
}

// jittered returns the tensor with every element moved by up to a share of its channel's range, uniformly: columns of a table have
// units of their own.
func (b *background) jittered(t *onnx.Tensor, o Options, rng *rand.Rand) (*onnx.Tensor, error) {
	p, err := newPartition(t.Shape, o)
	if err != nil {
		return nil, err
	}
	v, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	for i := range v {
		span := slices.Max(b.spans) // of samples of several sizes, the last one's channels are not this one's
		if p.nChannels == len(b.spans) {
			span = b.spans[p.channels(i)]
		}
		v[i] += o.Jitter * span * (2*rng.Float64() - 1)
		if t.DType.IsInt() {
			v[i] = math.Round(v[i])
		}
	}
	return onnx.FromFloat64s(t.Name, t.DType, t.Shape, v)
}

package explain

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// defaultMasks is how many masks RISE draws where Options.Perturbations says nothing: half of them are the others' opposites,
// without which it takes about eight times as many.
const defaultMasks = 500

// rise correlates the target with random masks (Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation", 2018):
// of an image, a coarse grid of zeros and ones with probability 1/2 each, enlarged bilinearly by a little more than the image and
// shifted at random; of other inputs, zeros and ones per feature. Masks come in pairs m and 1-m, so that the mean of f cancels:
//
//	A(l) = mean over pairs of (f(x_m) - f(x_{1-m})) · 2 (m(l) - 1/2),  x_m = m x + (1-m) fill
//
// which for a linear model and masks of zeros and ones is w_l (x_l - fill_l) on average.
var rise = Method{
	Name: "rise", Doc: "random masks, and how the output goes with them", Random: true,
	Runs: func(_ *partition, _ int, o Options) int { return 2 * maskPairs(o) },
	Attribute: func(ctx context.Context, p *problem) (*attribution, error) {
		r, err := newMasker(p)
		if err != nil {
			return nil, err
		}
		pairs := maskPairs(p.o)
		cells := make([][]float64, pairs)
		var mask []float64
		var failed error
		rng := p.random()
		base, values, err := p.evaluate(ctx, 2*pairs, func(i int, dst []byte) {
			if i%2 == 0 { // the next pair; versions are asked for in order
				mask = r.draw(rng)
				cells[i/2] = r.perFeature(mask)
			}
			if err := r.apply(dst, mask, i%2 == 1); err != nil && failed == nil {
				failed = err
			}
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			return nil, err
		}
		a := p.result(base, nil)
		a.values, a.stdErr = correlate(cells, values)
		return a, nil
	},
}

func maskPairs(o Options) int {
	n := defaultMasks
	if o.Perturbations > 0 {
		n = o.Perturbations
	}
	return max(n/2, 1)
}

// correlate returns the attributions by the masks' values per feature and the targets of each pair, and their standard error.
func correlate(cells [][]float64, targets []float64) (values []float64, stdErr *float64) {
	n, m := len(cells), len(cells[0])
	values, squares := make([]float64, m), make([]float64, m)
	for i, c := range cells {
		d := targets[2*i] - targets[2*i+1]
		for l, v := range c {
			e := d * 2 * (v - 0.5)
			values[l] += e / float64(n)
			squares[l] += e * e / float64(n)
		}
	}
	if n < 2 {
		return values, nil
	}
	sum := 0.0
	for l := range values {
		sum += max(0, squares[l]-values[l]*values[l]) / float64(n-1)
	}
	e := math.Sqrt(sum / float64(m))
	return values, &e
}

// masker draws masks for one sample and applies them.
type masker struct {
	v    *view
	x, b []float64 // sample and what hides it
	soft bool      // an image: masks have values between 0 and 1, one per pixel
}

func newMasker(p *problem) (*masker, error) {
	r := &masker{v: p.view, soft: p.view.part.layout != Flat}
	if !r.soft {
		return r, nil
	}
	var err error
	if r.x, err = p.view.input.Float64s(); err != nil {
		return nil, fmt.Errorf("sample %q: %v", p.view.sample.ID, err)
	}
	fill, err := onnx.NewTensor(p.view.input.Name, p.view.input.DType, p.view.input.Shape, p.view.fill)
	if err != nil {
		return nil, err
	}
	r.b, err = fill.Float64s()
	return r, err
}

// draw returns the next mask: one value per pixel of an image, else one per feature.
func (r *masker) draw(rng *rand.Rand) []float64 {
	p := r.v.part
	if !r.soft {
		return bernoulli(len(p.features), rng)
	}
	grid := bernoulli(p.rows*p.cols, rng)
	y, x := stretch(p.height, p.rows, rng), stretch(p.width, p.cols, rng)
	out := make([]float64, p.height*p.width)
	for i, a := range y {
		for j, b := range x {
			top := grid[a.at*p.cols+b.at]*(1-b.share) + grid[a.at*p.cols+b.next]*b.share
			low := grid[a.next*p.cols+b.at]*(1-b.share) + grid[a.next*p.cols+b.next]*b.share
			out[i*p.width+j] = top*(1-a.share) + low*a.share
		}
	}
	return out
}

func bernoulli(n int, rng *rand.Rand) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(rng.IntN(2))
	}
	return out
}

// between says which two cells of the grid a pixel lies between, and how near it is to the second.
type between struct {
	at, next int
	share    float64
}

// stretch enlarges a grid of cells to (cells+1)·ceil(n/cells) pixels, bilinearly with centres of cells on centres of pixels, and
// cuts n of them out from a random place within the first cell.
func stretch(n, cells int, rng *rand.Rand) []between {
	size := (n + cells - 1) / cells
	offset, scale := rng.IntN(size), float64(cells)/float64((cells+1)*size)
	out := make([]between, n)
	for i := range out {
		u := min(max((float64(i+offset)+0.5)*scale-0.5, 0), float64(cells-1))
		at := int(u)
		out[i] = between{at, min(at+1, cells-1), u - float64(at)}
	}
	return out
}

// perFeature returns the mean of a mask over each feature.
func (r *masker) perFeature(mask []float64) []float64 {
	if !r.soft {
		return mask
	}
	p := r.v.part
	out, pixels := make([]float64, p.rows*p.cols), make([]float64, p.rows*p.cols)
	for i, v := range mask {
		c := p.cell(i/p.width, i%p.width)
		out[c] += v
		pixels[c]++
	}
	for c := range out {
		out[c] /= pixels[c]
	}
	return out
}

// apply writes m x + (1-m) fill into dst, where m is the mask or its opposite.
func (r *masker) apply(dst []byte, mask []float64, opposite bool) error {
	p := r.v.part
	keep := func(v float64) float64 {
		if opposite {
			return 1 - v
		}
		return v
	}
	if !r.soft {
		for i, v := range mask {
			if keep(v) == 0 {
				r.v.hide(dst, i, r.v.fill)
			}
		}
		return nil
	}
	out := make([]float64, len(r.x))
	for c := range p.nChannels {
		for i, v := range mask {
			e := p.index(c, i/p.width, i%p.width)
			m := keep(v)
			out[e] = m*r.x[e] + (1-m)*r.b[e]
			if r.v.input.DType.IsInt() {
				out[e] = math.Round(out[e])
			}
		}
	}
	t, err := onnx.FromFloat64s(r.v.input.Name, r.v.input.DType, r.v.input.Shape, out)
	if err != nil {
		return err
	}
	content, err := t.Bytes()
	copy(dst, content)
	return err
}

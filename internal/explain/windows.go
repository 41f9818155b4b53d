package explain

// spread turns one score per window into one value per feature.
type spread func(scores []float64) []float64

// windows returns the elements of the sliding windows that the options ask for, and how their scores become values of features:
// each pixel (of an image, else each feature) gets the mean of the windows that cover it. Without a window they are the features.
func (p *partition) windows(o Options) ([][]int32, spread) {
	switch {
	case o.Window == 0:
		return p.features, func(scores []float64) []float64 { return scores }
	case p.layout == Flat:
		return p.runs(o)
	}
	var out [][]int32
	var rects []rect
	for _, y := range slide(p.height, o.Window, o.Stride) {
		for _, x := range slide(p.width, o.Window, o.Stride) {
			r := rect{y, x}
			rects = append(rects, r)
			out = append(out, p.elements(r))
		}
	}
	return out, func(scores []float64) []float64 { return p.cells(rects, scores) }
}

// span is a half-open range of positions along one axis.
type span struct{ from, to int }

// rect is a window of an image.
type rect struct{ y, x span }

// slide returns the windows of a size along an axis of length n at a stride: ceil((n - size) / stride) + 1 of them, the last
// one cut off at the end. A size beyond n is n.
func slide(n, size, stride int) []span {
	size = min(size, n)
	var out []span
	for at := 0; ; at += stride {
		out = append(out, span{at, min(at+size, n)})
		if at+size >= n {
			return out
		}
	}
}

func (p *partition) elements(r rect) []int32 {
	var out []int32
	for c := range p.nChannels {
		for y := r.y.from; y < r.y.to; y++ {
			for x := r.x.from; x < r.x.to; x++ {
				out = append(out, p.index(c, y, x))
			}
		}
	}
	return out
}

// cells averages the windows' scores over each pixel, and the pixels over each cell.
func (p *partition) cells(rects []rect, scores []float64) []float64 {
	sums, covers := make([]float64, p.height*p.width), make([]float64, p.height*p.width)
	for i, r := range rects {
		for y := r.y.from; y < r.y.to; y++ {
			for x := r.x.from; x < r.x.to; x++ {
				sums[y*p.width+x] += scores[i]
				covers[y*p.width+x]++
			}
		}
	}
	out, pixels := make([]float64, p.rows*p.cols), make([]float64, p.rows*p.cols)
	for i := range sums {
		c := p.cell(i/p.width, i%p.width)
		out[c] += sums[i] / covers[i]
		pixels[c]++
	}
	for c := range out {
		out[c] /= pixels[c]
	}
	return out
}

// runs slides the window over neighbouring features.
func (p *partition) runs(o Options) ([][]int32, spread) {
	spans := slide(len(p.features), o.Window, o.Stride)
	var out [][]int32
	for _, s := range spans {
		var elements []int32
		for _, f := range p.features[s.from:s.to] {
			elements = append(elements, f...)
		}
		out = append(out, elements)
	}
	return out, func(scores []float64) []float64 {
		values, covers := make([]float64, len(p.features)), make([]float64, len(p.features))
		for i, s := range spans {
			for f := s.from; f < s.to; f++ {
				values[f] += scores[i]
				covers[f]++
			}
		}
		for f := range values {
			values[f] /= covers[f]
		}
		return values
	}
}

package explain

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// partition cuts a tensor of one shape into features: disjoint sets of element indices, laid out on a grid of rows × cols.
type partition struct {
	rows, cols int
	features   [][]int32 // element indices per feature, ascending
	layout     Layout    // resolved: never Auto
	channels   func(element int) int
	nChannels  int

	height, width int                     // of an image, in pixels
	index         func(c, y, x int) int32 // of an image's element
	single        bool                    // each feature is one element: a column of a table
}

// batched says whether a shape's first axis is a batch of one: rank 2 and more with a leading 1.
func batched(shape []int64) bool { return len(shape) >= 2 && shape[0] == 1 }

func resolveLayout(l Layout, shape []int64) (Layout, error) {
	few := func(d int64) bool { return d == 1 || d == 3 || d == 4 }
	switch {
	case l == Flat || l == Auto && (len(shape) != 4 || shape[0] != 1):
		return Flat, nil
	case len(shape) != 4 || shape[0] != 1:
		return l, fmt.Errorf("an image layout needs shape [1, …] of rank 4, the input has %v", shape)
	case l == Auto && few(shape[3]) && !few(shape[1]):
		return NHWC, nil
	case l == Auto:
		return NCHW, nil
	}
	return l, nil
}

// newPartition cuts shape by the options' layout.
func newPartition(shape []int64, o Options) (*partition, error) {
	n, ok := onnx.ElementCount(shape)
	if !ok || n == 0 || n > 1<<30 {
		return nil, fmt.Errorf("shape %v cannot be cut into features", shape)
	}
	layout, err := resolveLayout(o.Layout, shape)
	if err != nil {
		return nil, err
	}
	switch layout {
	case NCHW:
		return imagePartition(layout, int(shape[1]), int(shape[2]), int(shape[3]), o.Grid), nil
	case NHWC:
		return imagePartition(layout, int(shape[3]), int(shape[1]), int(shape[2]), o.Grid), nil
	}
	return flatPartition(shape, int(n), o.MaxFeatures), nil
}

func imagePartition(layout Layout, channels, height, width, grid int) *partition {
	p := &partition{layout: layout, nChannels: channels, height: height, width: width}
	p.channels = func(e int) int { return e / (height * width) }
	p.index = func(c, y, x int) int32 { return int32((c*height+y)*width + x) }
	if layout == NHWC {
		p.channels = func(e int) int { return e % channels }
		p.index = func(c, y, x int) int32 { return int32((y*width+x)*channels + c) }
	}
	return p.regrid(min(grid, height), min(grid, width))
}

// regrid returns the partition of an image into rows × cols cells, none of which is empty where the image has as many pixels.
func (p *partition) regrid(rows, cols int) *partition {
	q := *p
	q.rows, q.cols = min(rows, p.height), min(cols, p.width)
	q.features = make([][]int32, q.rows*q.cols)
	for c := range p.nChannels {
		for y := range p.height {
			for x := range p.width {
				cell := q.cell(y, x)
				q.features[cell] = append(q.features[cell], p.index(c, y, x))
			}
		}
	}
	for _, f := range q.features {
		slices.Sort(f)
	}
	return &q
}

// cell returns the cell of an image's pixel.
func (p *partition) cell(y, x int) int { return y*p.rows/p.height*p.cols + x*p.cols/p.width }

func flatPartition(shape []int64, n, limit int) *partition {
	if batched(shape) {
		shape = shape[1:]
	}
	positions := 1
	if len(shape) > 0 {
		positions = int(shape[0])
	}
	each := n / positions
	p := &partition{rows: 1, cols: min(positions, limit), layout: Flat, nChannels: n, single: len(shape) <= 1 && positions <= limit}
	p.channels = func(e int) int { return e }
	if len(shape) > 1 {
		last := int(shape[len(shape)-1])
		p.nChannels = last
		p.channels = func(e int) int { return e % last }
	}
	p.features = make([][]int32, p.cols)
	for e := range n {
		f := e / each * p.cols / positions
		p.features[f] = append(p.features[f], int32(e))
	}
	return p
}

// without drops the features all of whose tokens are to be kept, and those tokens from the others.
func (p *partition) without(tokens, keep []int64) *partition {
	q := *p
	q.features = nil
	for _, f := range p.features {
		var left []int32
		for _, e := range f {
			if !slices.Contains(keep, tokens[e]) {
				left = append(left, e)
			}
		}
		if len(left) > 0 {
			q.features = append(q.features, left)
		}
	}
	q.rows, q.cols = 1, len(q.features)
	return &q
}

package prune

import "github.com/lapidary-ml/lapidary/internal/onnx"

// maskView shows a weight tensor as matrices, whatever order its operator keeps
// it in: a row for each output, with the weights that this output sums over.
//
// The columns of a convolution are sorted by tap, and by channel within a tap:
// groups and blocks of weights run along the channels of one tap, as sparse
// tensor cores and TensorRT want them.
type maskView struct {
	rows, cols int
	seg        int // columns that groups and blocks do not cross: those of one tap
	parts      int // equal parts of the rows, each of which reads columns of its own

	inner                int // rows of one matrix of a batch
	batch, row, tap, col int // elements from one to the next
}

// index returns the element at a row and a column.
func (v maskView) index(r, c int) int {
	return r/v.inner*v.batch + r%v.inner*v.row + c/v.seg*v.tap + c%v.seg*v.col
}

// part returns how many rows a part has; blocks do not cross it.
func (v maskView) part() int { return v.rows / v.parts }

// viewOf shows the weight of a shape that u reads; false where it is none of the kind.
func viewOf(u onnx.Use, shape []int64) (maskView, bool) {
	dims := make([]int, len(shape))
	for i, d := range shape {
		if d <= 0 {
			return maskView{}, false
		}
		dims[i] = int(d)
	}
	if len(dims) < 2 {
		return maskView{}, false
	}
	n := u.Node
	switch opName(n) {
	case "Conv", "com.microsoft.FusedConv":
		return convView(dims, int(n.Int("group", 1)))
	case "ConvTranspose":
		return transposedView(dims, int(n.Int("group", 1)))
	case "LSTM", "GRU", "RNN":
		return rowsView(dims[:len(dims)-1], dims[len(dims)-1], 1), true
	}
	left := u.Index == 0
	flag := "transB"
	if left {
		flag = "transA"
	}
	if n.Int("transBatchA", 0) != 0 || n.Int("transBatchB", 0) != 0 {
		return maskView{}, false
	}
	return productView(dims, left != (n.Int(flag, 0) != 0)), true
}

// convView shows weights [M, C/groups, taps…].
func convView(dims []int, groups int) (maskView, bool) {
	taps := maskProduct(dims[2:])
	m, c := dims[0], dims[1]
	if groups < 1 || m%groups != 0 {
		return maskView{}, false
	}
	return maskView{rows: m, cols: c * taps, seg: c, parts: groups, inner: m, row: c * taps, tap: 1, col: taps}, true
}

// transposedView shows weights [C, M/groups, taps…]: each tap has outputs of its own.
func transposedView(dims []int, groups int) (maskView, bool) {
	if groups < 1 || dims[0]%groups != 0 {
		return maskView{}, false
	}
	c, n := dims[0]/groups, maskProduct(dims[1:])
	return maskView{rows: groups * n, cols: c, seg: c, parts: groups, inner: n, batch: c * n, row: 1, col: n}, true
}

// productView shows a batch of matrices, [N, K] each where the weights that are
// summed are neighbours, else [K, N].
func productView(dims []int, neighbours bool) maskView {
	rank := len(dims)
	batch, a, b := maskProduct(dims[:rank-2]), dims[rank-2], dims[rank-1]
	if neighbours {
		return rowsView([]int{batch, a}, b, batch)
	}
	return maskView{rows: batch * b, cols: a, seg: a, parts: batch, inner: b, batch: a * b, row: 1, col: b}
}

// rowsView shows rows of n neighbours.
func rowsView(outer []int, n, parts int) maskView {
	rows := maskProduct(outer)
	return maskView{rows: rows, cols: n, seg: n, parts: parts, inner: rows, row: n, col: 1}
}

func maskProduct(dims []int) int {
	p := 1
	for _, d := range dims {
		p *= d
	}
	return p
}

// segments calls f with the first and the last column, excluded, of each segment.
func (v maskView) segments(f func(c0, c1 int)) {
	for c := 0; c < v.cols; c += v.seg {
		f(c, c+v.seg)
	}
}

// groups calls f with the columns of each group of m.
func (v maskView) groups(m int, f func(c0, c1 int)) {
	v.segments(func(c0, c1 int) {
		for c := c0; c < c1; c += m {
			f(c, min(c+m, c1))
		}
	})
}

// maskBlock is a block of rows and columns, the last ones excluded.
type maskBlock struct{ r0, r1, c0, c1 int }

// blocks calls f with each block of a pattern, in an order of their own.
func (v maskView) blocks(p maskPattern, f func(b maskBlock)) {
	part := v.part()
	for r := 0; r < v.rows; r += part {
		for a := 0; a < part; a += p.cols {
			v.groups(p.rows, func(c0, c1 int) {
				f(maskBlock{r + a, r + min(a+p.cols, part), c0, c1})
			})
		}
	}
}

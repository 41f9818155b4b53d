package eval

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// productOperators multiply matrices, accumulating in float64 or int64.
func productOperators() []operator {
	return []operator{
		{"MatMul", 1, latest, "", func(c *call) []*array { return one(c.matmul(c.input(0), c.input(1))) }},
		{"Gemm", 6, 6, "alpha beta broadcast transA transB", gemmOf6},
		{"Gemm", 7, latest, "alpha beta transA transB", gemm},
	}
}

// matmul multiplies as numpy.matmul does.
func (c *call) matmul(a, b *array) *array {
	if a.dt != b.dt {
		c.fail("operands are %v and %v", a.dt, b.dt)
	}
	if a.rank() == 0 || b.rank() == 0 {
		c.fail("an operand is a scalar")
	}
	as, bs := slices.Clone(a.shape), slices.Clone(b.shape)
	if len(as) == 1 {
		as = append([]int64{1}, as...)
	}
	if len(bs) == 1 {
		bs = append(bs, 1)
	}
	m, k, n := as[len(as)-2], as[len(as)-1], bs[len(bs)-1]
	if k != bs[len(bs)-2] {
		c.fail("shapes %v and %v do not fit", a.shape, b.shape)
	}
	batch := c.broadcastShape(as[:len(as)-2], bs[:len(bs)-2])
	shape := slices.Clone(batch)
	if a.rank() > 1 {
		shape = append(shape, m)
	}
	if b.rank() > 1 {
		shape = append(shape, n)
	}
	c.count(a.dt, shape)
	c.work(append(slices.Clone(batch), m, k, n)...)
	x, y := batches(as, batch), batches(bs, batch)
	switch kindOf(a) {
	case kindF32, kindF64:
		return store(c, a.dt, shape, multiply(load[float64](a), load[float64](b), x, y, int(m), int(k), int(n)))
	case kindI64:
		if a.dt != onnx.Bool {
			return store(c, a.dt, shape, multiply(load[int64](a), load[int64](b), x, y, int(m), int(k), int(n)))
		}
	}
	c.unsupported("element type %v", a.dt)
	return nil
}

// batches returns where each matrix of an operand of shape s begins when its
// batch axes are broadcast to batch.
func batches(s, batch []int64) []int {
	size := int(s[len(s)-2] * s[len(s)-1])
	st := stretched(s[:len(s)-2], batch)
	var out []int
	n, step := rowOf(batch, st)
	eachRow(batch, [][]int{st}, func(_ int, from []int) {
		for i := range n {
			out = append(out, (from[0]+i*step)*size)
		}
	})
	return out
}

// multiply computes the products of the matrices [m, k] of a that begin at x
// and those [k, n] of b that begin at y.
func multiply[T float64 | int64](a, b []T, x, y []int, m, k, n int) []T {
	out := make([]T, 0, len(x)*m*n)
	for i := range x {
		for r := range m {
			row := make([]T, n)
			for p := range k {
				f := a[x[i]+r*k+p]
				for col, v := range b[y[i]+p*n : y[i]+(p+1)*n] {
					row[col] += f * v
				}
			}
			out = append(out, row...)
		}
	}
	return out
}

// gemmOf6 is Gemm before opset 7, which broadcasts C only where asked to.
func gemmOf6(c *call) []*array {
	out := gemm(c)
	if bias := c.input(2); c.int("broadcast", 0) == 0 && !slices.Equal(bias.shape, out[0].shape) {
		c.fail("C has shape %v without the attribute \"broadcast\"", bias.shape)
	}
	return out
}

// gemm computes alpha·A'·B' + beta·C.
func gemm(c *call) []*array {
	a, b := c.input(0), c.input(1)
	if a.rank() != 2 || b.rank() != 2 || !a.dt.IsFloat() {
		c.unsupported("operands %v%v and %v%v", a.dt, a.shape, b.dt, b.shape)
	}
	if c.int("transA", 0) != 0 {
		a = c.transposed(a)
	}
	if c.int("transB", 0) != 0 {
		b = c.transposed(b)
	}
	alpha, beta := c.float("alpha", 1), c.float("beta", 1)
	p := c.mapFloats(c.matmul(a, b), func(x float64) float64 { return alpha * x })
	bias := c.opt(2)
	if bias == nil {
		return one(p)
	}
	if !slices.Equal(c.broadcastShape(p.shape, bias.shape), p.shape) {
		c.fail("C of shape %v does not broadcast to %v", bias.shape, p.shape)
	}
	scaled := c.mapFloats(bias, func(x float64) float64 { return beta * x })
	return one(binary2{f32: add[float32], f64: add[float64]}.apply(c, p, scaled))
}

func (c *call) transposed(a *array) *array {
	shape := []int64{a.shape[1], a.shape[0]}
	out := c.blank(a, shape)
	rows, cols := int(a.shape[0]), int(a.shape[1])
	for i := range rows {
		for j := range cols {
			copyElems(out, j*rows+i, a, i*cols+j, 1)
		}
	}
	return out
}

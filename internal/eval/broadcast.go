package eval

import "slices"

// broadcastShape returns the shape that multidirectional broadcasting gives.
func (c *call) broadcastShape(shapes ...[]int64) []int64 {
	rank := 0
	for _, s := range shapes {
		rank = max(rank, len(s))
	}
	out := make([]int64, rank)
	for i := range out {
		out[i] = 1
		for _, s := range shapes {
			j := i - (rank - len(s))
			if j < 0 || s[j] == 1 || s[j] == out[i] {
				continue
			}
			if out[i] != 1 {
				c.fail("shapes %v cannot be broadcast together", shapes)
			}
			out[i] = s[j]
		}
	}
	return out
}

// stretched returns the strides by which an array of shape s is read under
// out, which s broadcasts to: 0 along stretched axes.
func stretched(s, out []int64) []int {
	own := strides(s)
	st := make([]int, len(out))
	for i, d := range s {
		if d != 1 {
			st[len(out)-len(s)+i] = own[i]
		}
	}
	return st
}

// eachRow walks over shape in row-major order. For each run along the last axis
// it calls f with the position of the run's start in the result and, under each
// of the given strides, in the operands.
func eachRow(shape []int64, operands [][]int, f func(at int, from []int)) {
	if slices.Contains(shape, 0) {
		return
	}
	from := make([]int, len(operands))
	if len(shape) == 0 {
		f(0, from)
		return
	}
	outer := shape[:len(shape)-1]
	row := int(shape[len(shape)-1])
	pos := make([]int64, len(outer))
	for at := 0; ; at += row {
		f(at, from)
		d := len(outer) - 1
		for ; d >= 0; d-- {
			pos[d]++
			for k, st := range operands {
				from[k] += st[d]
			}
			if pos[d] < outer[d] {
				break
			}
			for k, st := range operands {
				from[k] -= st[d] * int(outer[d])
			}
			pos[d] = 0
		}
		if d < 0 {
			return
		}
	}
}

// rowOf returns the length of the last axis (1 for a scalar) and the step of st along it.
func rowOf(shape []int64, st []int) (n, step int) {
	if len(shape) == 0 {
		return 1, 0
	}
	return int(shape[len(shape)-1]), st[len(st)-1]
}

// zip2 computes f over two operands broadcast to shape.
func zip2[A, B, T any](shape []int64, a []A, as []int64, b []B, bs []int64, f func(A, B) T) []T {
	out := make([]T, product(shape))
	sa, sb := stretched(as, shape), stretched(bs, shape)
	n, da := rowOf(shape, sa)
	_, db := rowOf(shape, sb)
	eachRow(shape, [][]int{sa, sb}, func(at int, from []int) {
		i, j := from[0], from[1]
		for k := range n {
			out[at+k] = f(a[i], b[j])
			i, j = i+da, j+db
		}
	})
	return out
}

// expandTo repeats the elements of a along broadcast axes to fill shape.
func (c *call) expandTo(a *array, shape []int64) *array {
	if slices.Equal(a.shape, shape) {
		return a
	}
	out := c.blank(a, shape)
	st := stretched(a.shape, shape)
	n, step := rowOf(shape, st)
	eachRow(shape, [][]int{st}, func(at int, from []int) {
		c.copyRun(out, at, a, from[0], n, step)
	})
	return out
}

// copyRun copies n elements of src, step apart from index si on, to index di of dst.
func (c *call) copyRun(dst *array, di int, src *array, si, n, step int) {
	if step == 1 {
		copyElems(dst, di, src, si, n)
		return
	}
	for k := range n {
		copyElems(dst, di+k, src, si, 1)
		si += step
	}
}

package opset

import "strings"

// relateMatMul: A […, M, K] and B […, K, N] give Y […, M, N].
func relateMatMul(r *relating) { r.product(false, false) }

// relateFusedMatMul is MatMul with either matrix transposed.
func relateFusedMatMul(r *relating) {
	if r.int("transBatchA") != 0 || r.int("transBatchB") != 0 {
		r.unknown = true
		return
	}
	r.product(r.int("transA") != 0, r.int("transB") != 0)
}

// product ties the axes of a matrix product of inputs 0 and 1 with broadcast
// batch axes.
func (r *relating) product(transA, transB bool) {
	ra, rb, ry := len(r.shape(0)), len(r.shape(1)), len(r.f.Shape(r.n.Output(0)))
	if ra == 0 || rb == 0 {
		r.unknown = true
		return
	}
	m, ka, kb, n := -2, -1, -2, -1
	if transA {
		m, ka = -1, -2
	}
	if transB {
		kb, n = -1, -2
	}
	switch {
	case ra == 1 && rb == 1:
		r.join(0, 0, 1, 0)
		return
	case ra == 1:
		r.join(0, 0, 1, kb)
		r.link(1, n, 0, ry-1)
	case rb == 1:
		r.join(0, ka, 1, 0)
		r.link(0, m, 0, ry-1)
	default:
		r.join(0, ka, 1, kb)
		r.link(0, m, 0, ry-2)
		r.link(1, n, 0, ry-1)
	}
	r.batch(0, ra, ry, min(ra, 2))
	r.batch(1, rb, ry, min(rb, 2))
}

// batch ties the batch axes of an operand to those of the product. An axis that
// both operands have counts heads, where neither is a constant.
func (r *relating) batch(i, rank, out, matrix int) {
	tail := out - 2
	if rank < 2 {
		return
	}
	for a := range rank - matrix {
		o := tail - (rank - matrix) + a
		x, ok := r.in(i, a)
		y, okY := r.res(0, o)
		if n, known := r.length(x); known && n == 1 {
			if k, known := r.length(y); !known || k != 1 {
				r.free(x, ok)
				continue
			}
		}
		r.tie(x, ok, y, okY)
		if a > 0 && r.n.Input(0).Constant() == nil && r.n.Input(1).Constant() == nil {
			r.heads(x, ok)
		}
	}
}

// relateGemm: A [M, K], B [K, N], each possibly transposed, and C, broadcast to
// Y [M, N].
func relateGemm(r *relating) {
	m, ka, kb, n := 0, 1, 0, 1
	if r.int("transA") != 0 {
		m, ka = 1, 0
	}
	if r.int("transB") != 0 {
		kb, n = 1, 0
	}
	r.join(0, ka, 1, kb)
	r.link(0, m, 0, 0)
	r.link(1, n, 0, 1)
	r.aligned(r.n.Input(2), r.n.Output(0))
}

// relateEinsum ties axes of one letter. A letter of one operand that the result
// lacks is summed over and pinned.
func relateEinsum(r *relating) {
	eq := strings.ReplaceAll(r.str("equation"), " ", "")
	left, right, ok := strings.Cut(eq, "->")
	terms := strings.Split(left, ",")
	if !ok || strings.Contains(eq, ".") || len(terms) != len(r.n.Inputs()) {
		r.unknown = true
		return
	}
	first, times := map[rune]Axis{}, map[rune]int{}
	add := func(a Axis, known bool, c rune) {
		if !known {
			return
		}
		if was, seen := first[c]; seen {
			r.tie(was, true, a, true)
		}
		first[c] = a
		times[c]++
	}
	for i, t := range terms {
		for j, c := range t {
			if strings.Count(t, string(c)) > 1 {
				r.unknown = true
				return
			}
			a, known := r.in(i, j)
			add(a, known, c)
		}
	}
	for j, c := range right {
		a, known := r.res(0, j)
		add(a, known, c)
	}
	for c, a := range first {
		if times[c] == 1 {
			r.pin(a, true, nil, "Einsum sums over it")
		}
	}
}

// relateRecurrent: X […, I], W [D, gates·H, I], R [D, gates·H, H], B [D, 2·gates·H],
// states [D, N, H] or [N, D, H], P [D, 3·H] give Y with H last.
func relateRecurrent(r *relating) {
	h, okH := r.in(2, 2)
	n, known := r.length(h)
	if !okH || !known || n == 0 {
		r.unknown = true
		return
	}
	r.join(0, 2, 1, 2)
	spread := func(input, axis int) {
		a, ok := r.in(input, axis)
		if k, known := r.length(a); ok && known {
			r.tieBy(h, true, a, true, cycled(k, n))
		}
	}
	spread(1, 1)
	spread(2, 1)
	spread(3, 1)
	spread(7, 1)
	for _, state := range []int{5, 6} {
		r.join(2, 2, state, 2)
	}
	r.link(2, 2, 0, 3)
	r.link(2, 2, 1, 2)
	r.link(2, 2, 2, 2)
}

package opset

// headed relates an axis of heads·width positions, heads outermost, to an axis
// that a head's first position stands for: position j goes with From's index[j].
func (r *relating) headed(from Axis, to Axis, ok bool, width, toHead int, head func(h int) int) {
	n, known := r.length(to)
	if !ok || !known || toHead <= 0 {
		return
	}
	index := make([]int, n)
	for j := range index {
		index[j] = head(j/toHead) * width
	}
	r.tieBy(from, true, to, true, index)
}

// relateAttention: Q [B, H, S, D], K and V [B, G, T, D] or, with the numbers of
// heads as attributes, [B, S, H·D]. Query heads go with the head of K and V that
// they share.
func relateAttention(r *relating) {
	if len(r.shape(0)) == 3 {
		r.packedHeads(int(r.int("q_num_heads")), int(r.int("kv_num_heads")))
		return
	}
	q, okQ := r.in(0, 1)
	k, okK := r.in(1, 1)
	nq, known := r.length(q)
	nk, knownK := r.length(k)
	if !okQ || !okK || !known || !knownK || nk == 0 || nq%nk != 0 {
		r.unknown = true
		return
	}
	for _, i := range []int{0, 1, 2} {
		r.link(i, 0, 0, 0)
	}
	r.link(0, 2, 0, 2)
	r.link(2, 3, 0, 3)
	r.tieBy(k, true, q, true, repeated(nq, nq/nk))
	r.link(0, 1, 0, 1)
	r.join(1, 1, 2, 1)
	r.heads(q, true)
	for _, i := range []int{4, 5} {
		r.join(1, 1, i, 1)
	}
	for _, o := range []int{1, 2} {
		r.link(1, 1, o, 1)
	}
	if s := r.shape(3); len(s) == 4 && s[1].Known() && s[1].Value == 1 {
		r.free(r.in(3, 1))
	} else if len(s) == 4 {
		r.join(3, 1, 0, 1)
	}
}

// packedHeads is for Q, K and V [B, S, heads·width] with caches [B, heads, T, width].
func (r *relating) packedHeads(heads, shared int) {
	q, okQ := r.in(0, 2)
	k, okK := r.in(1, 2)
	v, okV := r.in(2, 2)
	y, okY := r.res(0, 2)
	nq, known := r.length(q)
	nk, knownK := r.length(k)
	nv, knownV := r.length(v)
	ny, knownY := r.length(y)
	if shared == 0 {
		shared = heads
	}
	if !(okQ && okK && okV && okY && known && knownK && knownV && knownY) || heads <= 0 || shared <= 0 ||
		heads%shared != 0 || nq%heads != 0 || nk%shared != 0 || nv%shared != 0 || ny%heads != 0 {
		r.unknown = true
		return
	}
	width, same, per := nk/shared, func(h int) int { return h }, func(h int) int { return h / (heads / shared) }
	r.headed(k, k, true, width, width, same)
	r.headed(k, v, true, width, nv/shared, same)
	r.headed(k, q, true, width, nq/heads, per)
	r.headed(k, y, true, width, ny/heads, per)
	r.heads(k, true)
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
	for _, i := range r.caches() {
		if a, ok := r.in(i, 1); ok {
			r.headed(k, a, true, width, 1, same)
		}
	}
	for _, o := range []int{1, 2} {
		if a, ok := r.res(o, 1); ok {
			r.headed(k, a, true, width, 1, same)
		}
	}
}

// caches returns the inputs that hold keys and values of the past.
func (r *relating) caches() []int {
	switch r.op.Name {
	case "GroupQueryAttention":
		return []int{3, 4}
	case "MultiHeadAttention":
		return []int{6, 7}
	}
	return []int{4, 5}
}

// relateMultiHead is for com.microsoft's attention with separate or packed inputs.
func relateMultiHead(r *relating) {
	heads, shared := int(r.int("num_heads")), int(r.int("kv_num_heads"))
	if !r.has(1) || !r.has(2) || len(r.shape(0)) != 3 || len(r.shape(1)) != 3 || len(r.shape(2)) != 3 {
		r.unknown = true
		return
	}
	if r.op.Name == "MultiHeadAttention" {
		for _, i := range []int{4, 5} {
			for a := range r.shape(i) {
				if n, ok := r.length(Axis{r.n.Input(i), a}); ok && n == 1 {
					r.free(r.in(i, a))
				}
			}
		}
		r.attentionBias(heads)
	}
	r.packedHeads(heads, shared)
}

// attentionBias relates the bias of MultiHeadAttention: those of query, key and
// value, one after the other.
func (r *relating) attentionBias(heads int) {
	b, ok := r.in(3, 0)
	q, okQ := r.in(0, 2)
	k, okK := r.in(1, 2)
	v, okV := r.in(2, 2)
	nq, known := r.length(q)
	nk, knownK := r.length(k)
	nv, knownV := r.length(v)
	nb, knownB := r.length(b)
	if !ok {
		return
	}
	if !(okQ && okK && okV && known && knownK && knownV && knownB) || nq+nk+nv != nb || heads <= 0 || nq%heads != 0 || nv%heads != 0 {
		r.unknown = true
		return
	}
	index := make([]int, nb)
	for j := range index {
		switch {
		case j < nq:
			index[j] = j
		case j < nq+nk:
			index[j] = j - nq
		default:
			index[j] = (j - nq - nk) / (nv / heads) * (nq / heads)
		}
	}
	r.tieBy(q, true, b, true, index)
}

// relatePackedAttention: com.microsoft.Attention, whose weights [in, q+k+v] make
// queries, keys and values of one width.
func relatePackedAttention(r *relating) {
	heads := int(r.int("num_heads"))
	w, ok := r.in(1, 1)
	y, okY := r.res(0, 2)
	n, known := r.length(w)
	hidden, knownY := r.length(y)
	if !ok || !okY || !known || !knownY || n != 3*hidden || heads <= 0 || hidden%heads != 0 || r.int("do_rotary") != 0 || r.has(4) {
		r.unknown = true
		return
	}
	width := hidden / heads
	r.join(0, 2, 1, 0)
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
	r.headed(y, y, true, width, width, func(h int) int { return h })
	r.headed(y, w, true, width, width, func(h int) int { return h % heads })
	if b, ok := r.in(2, 0); ok {
		r.headed(y, b, true, width, width, func(h int) int { return h % heads })
	}
	r.heads(y, true)
}

// relateRotary: X [B, H, S, D] or, with the number of heads as attribute, [B, S, H·D].
func relateRotary(r *relating) {
	if len(r.shape(0)) == 4 {
		for i := range 3 {
			r.link(0, i, 0, i)
		}
		return
	}
	heads := int(r.int("num_heads"))
	x, ok := r.in(0, 2)
	y, okY := r.res(0, 2)
	n, known := r.length(x)
	if !ok || !okY || !known || heads <= 0 || n%heads != 0 {
		r.unknown = true
		return
	}
	r.link(0, 0, 0, 0)
	r.link(0, 1, 0, 1)
	r.headed(x, x, true, n/heads, n/heads, func(h int) int { return h })
	r.tie(x, true, y, true)
	r.heads(x, true)
}

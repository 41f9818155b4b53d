package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// fusedMatMul: a product of matrices that are transposed or multiplied by one
// number first is one operator of ONNX Runtime's own.
func fusedMatMul(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "fused-matmul", Doc: "takes transposed and scaled factors of a MatMul into com.microsoft.FusedMatMul",
		Pattern: "MatMul|com.microsoft.FusedMatMul(a, b)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			f := newFused(m, m.Root)
			in := []*onnx.Value{m.Value("a"), m.Value("b")}
			if f.absorb(m, in) == 0 {
				return rewrite.ErrNotHere
			}
			return f.emit(t, m, p, in)
		},
	}
}

// fusedMatMulScale: one number behind the product.
func fusedMatMulScale(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "fused-matmul-scale", Doc: "takes a number that a product of matrices is multiplied by into com.microsoft.FusedMatMul",
		Pattern: "Mul|Div(mm=MatMul|com.microsoft.FusedMatMul(a, b), c)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			mm := m.Node("mm")
			v, k, ok := scaledByNumber(m.Facts, m.Root)
			if !ok || v != mm.Output(0) {
				return rewrite.ErrNotHere
			}
			if err := soleUse(mm); err != nil {
				return err
			}
			f := newFused(m, mm)
			f.alpha *= k
			return f.emit(t, m, p, []*onnx.Value{m.Value("a"), m.Value("b")})
		},
	}
}

// fusedMatMulTranspose: the transpose of a product is the product of the
// transposes, the other way round.
func fusedMatMulTranspose(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "fused-matmul-transpose", Doc: "takes a Transpose behind a product of matrices into com.microsoft.FusedMatMul",
		Pattern: "Transpose(mm=MatMul|com.microsoft.FusedMatMul(a, b))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			if !t.Own() {
				return rewrite.ErrNotHere
			}
			mm, rank := m.Node("mm"), int64(len(m.Facts.Shape(m.Root.Output(0))))
			if rank < 2 || !swapsLast(m.Root.Ints("perm", nil), rank) {
				return rewrite.ErrNotHere
			}
			if err := soleUse(mm); err != nil {
				return err
			}
			f := newFused(m, mm)
			f.trans = [2]bool{!f.trans[1], !f.trans[0]}
			f.batch[0], f.batch[1] = f.batch[1], f.batch[0]
			return f.emit(t, m, p, []*onnx.Value{m.Value("b"), m.Value("a")})
		},
	}
}

// fusedProduct are the attributes of FusedMatMul.
type fusedProduct struct {
	alpha float64
	trans [2]bool
	batch [2]int64
}

func newFused(m *rewrite.Match, n *onnx.Node) fusedProduct {
	return fusedProduct{float64(n.Float("alpha", 1)), [2]bool{n.Int("transA", 0) != 0, n.Int("transB", 0) != 0},
		[2]int64{n.Int("transBatchA", 0), n.Int("transBatchB", 0)}}
}

// absorb looks through Transposes of the last two axes and factors, and returns
// how many there were. Constants are left to folding.
func (f *fusedProduct) absorb(m *rewrite.Match, in []*onnx.Value) int {
	done := 0
	for i := range in {
		for n := in[i].Producer(); n != nil && settledNode(n); n = in[i].Producer() {
			rank := int64(len(m.Facts.Shape(n.Input(0))))
			if n.Is("Transpose") && rank >= 2 && f.batch[i] == 0 {
				perm := n.Ints("perm", nil)
				batch, swap := frontToBack(perm, rank)
				if !batch && !swapsLast(perm, rank) || batch && int64(len(m.Facts.Shape(in[1-i]))) != rank {
					break // the kernel moves batches only between factors of one rank
				}
				if batch {
					f.batch[i] = 1
				}
				in[i], f.trans[i] = n.Input(0), f.trans[i] != (swap || !batch)
				done++
				continue
			}
			if !n.Is("Mul") && !n.Is("Div") {
				break
			}
			v, k, ok := scaledByNumber(m.Facts, n)
			if ok && k == 0.5 && v.Producer() != nil && v.Producer().Is("Mul") {
				break // it may be the half of a Gelu, which engines look for
			}
			if !ok || int64(len(m.Facts.Shape(v))) != int64(len(m.Facts.Shape(in[i]))) {
				break
			}
			in[i] = v
			f.alpha *= k
			done++
		}
	}
	return done
}

// frontToBack reports whether a permutation of more than two axes brings the
// first axis behind the batch, and whether it ends up last.
func frontToBack(perm []int64, rank int64) (ok, last bool) {
	if rank < 3 || int64(len(perm)) != rank {
		return false, false
	}
	for i := range rank - 2 {
		if perm[i] != i+1 {
			return false, false
		}
	}
	return perm[rank-2] == 0 || perm[rank-1] == 0, perm[rank-1] == 0
}

// swapsLast reports whether a permutation exchanges the last two axes only.
func swapsLast(perm []int64, rank int64) bool {
	if int64(len(perm)) != rank {
		return perm == nil && rank == 2
	}
	for i, a := range perm[:rank-2] {
		if a != int64(i) {
			return false
		}
	}
	return perm[rank-2] == rank-1 && perm[rank-1] == rank-2
}

func (f *fusedProduct) emit(t *Target, m *rewrite.Match, p *rewrite.Patch, in []*onnx.Value) error {
	elem := m.Facts.DType(in[0])
	if !elem.IsFloat() {
		return rewrite.Decline("the factors are %v", elem)
	}
	for _, v := range in {
		if len(m.Facts.Shape(v)) < 2 {
			return rewrite.Decline("a factor has shape %v", m.Facts.Shape(v))
		}
	}
	if err := t.offer(m, microsoft, "FusedMatMul", elem); err != nil {
		return err
	}
	var attrs []*onnx.Attr
	if f.alpha != 1 {
		attrs = append(attrs, onnx.FloatAttr("alpha", float32(f.alpha)))
	}
	for i, name := range []string{"A", "B"} {
		if f.trans[i] {
			attrs = append(attrs, onnx.IntAttr("trans"+name, 1))
		}
		if f.batch[i] != 0 {
			attrs = append(attrs, onnx.IntAttr("transBatch"+name, f.batch[i]))
		}
	}
	p.Swap(m.Root.Output(0), p.AddNode(microsoft, "FusedMatMul", in, 1, attrs...).Output(0))
	return nil
}

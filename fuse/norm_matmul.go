package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normMatMul moves the scale and the shift of a normalization into the weights
// behind it. The normalization still scales, by ones, so that nothing is saved
// unless a second one of the same input becomes the same by it, or its shift
// goes away and the next operator has a bias already.
func normMatMul(t *Target) rewrite.Rule {
	const name = "norm-matmul"
	return rewrite.Rule{
		Name: name, Doc: "folds scale and shift of LayerNormalization and RMSNormalization into the MatMul or Gemm after it, where another one of the same input then equals it; everywhere if asked for by name",
		Pattern: "MatMul|Gemm(norm=LayerNormalization|RMSNormalization|SimplifiedLayerNormalization(x, gamma, ?beta), w, ...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			norm := m.Node("norm")
			a, err := normScale(m, norm)
			if err != nil {
				return err
			}
			if !t.asked(name) && !hasTwin(norm) {
				return rewrite.Decline("the scale would become ones, which saves nothing on the target %s: no other normalization of the same input would equal it", t.name())
			}
			return stripNorm(m, p, t, norm, a)
		},
	}
}

// normScale returns what norm does after it has normalized the last axis.
func normScale(m *rewrite.Match, norm *onnx.Node) (affine, error) {
	var a affine
	if norm.Graph() != m.Root.Graph() {
		return a, rewrite.Decline("%v is in an enclosing graph", norm)
	}
	if err := soleUse(norm); err != nil {
		return a, err
	}
	for i, v := range norm.Outputs() {
		if i > 0 && v != nil && !v.Dead() {
			return a, rewrite.Decline("output %d of %v is read", i, norm)
		}
	}
	rank := int64(rankOf(norm.Input(0), m.Facts))
	if axis := norm.Int("axis", -1); axis != -1 && (rank < 0 || axis != rank-1) {
		return a, rewrite.Decline("%v normalizes from axis %d on", norm, axis)
	}
	gamma, err := m.Const("gamma")
	if err != nil {
		return a, err
	}
	beta, err := optionalConst(m, "beta")
	if err != nil {
		return a, err
	}
	if len(gamma.Shape) != 1 || beta != nil && !slices.Equal(beta.Shape, gamma.Shape) {
		return a, rewrite.Decline("the scale has shape %s", dims(gamma.Shape))
	}
	if a.scale, err = gamma.Float64s(); err != nil {
		return a, err
	}
	a.shift = make([]float64, len(a.scale))
	if beta != nil {
		if a.shift, err = beta.Float64s(); err != nil {
			return a, err
		}
	}
	if all(a.scale, 1) && a.pure() {
		return a, rewrite.Decline("%v neither scales nor shifts", norm)
	}
	return a, nil
}

// hasTwin reports whether another normalization of the same kind reads the same
// input and goes into weights too.
func hasTwin(norm *onnx.Node) bool {
	for _, u := range norm.Input(0).Uses() {
		n := u.Node
		if n == norm || u.Index != 0 || n.Op != norm.Op || n.Domain != norm.Domain || n.Graph() != norm.Graph() {
			continue
		}
		same := n.Float("epsilon", 1e-5) == norm.Float("epsilon", 1e-5) && n.Int("axis", -1) == norm.Int("axis", -1) && n.Int("stash_type", 1) == norm.Int("stash_type", 1)
		uses := n.Output(0).Uses()
		if same && len(uses) == 1 && !n.Output(0).IsOutput() && hasWeights(uses[0].Node, uses[0].Index) && n.Input(1).Constant() != nil {
			return true
		}
	}
	return false
}

// stripNorm proposes norm with a scale of ones, and its a in the weights of the root.
func stripNorm(m *rewrite.Match, p *rewrite.Patch, t *Target, norm *onnx.Node, a affine) error {
	gamma := norm.Input(1).Constant()
	ones, err := onnx.FromFloat64s(gamma.Name, gamma.DType, gamma.Shape, slices.Repeat([]float64{1}, len(a.scale)))
	if err != nil {
		return err
	}
	plain := p.AddNode(norm.Domain, norm.Op, []*onnx.Value{m.Value("x"), p.Const(ones)}, 1, norm.Attrs...).Output(0)
	f := folder{m: m, p: p, t: t}
	into := matrixOf
	if m.Root.Is("Gemm") {
		into = gemmOf
	}
	y, err := into(&f, plain, a)
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), y)
	return nil
}

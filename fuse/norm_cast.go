package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normCast takes the casts around a normalization away: those operators compute
// in float32 whatever they read (attribute stash_type).
func normCast(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "norm-cast", Doc: "makes one normalization of 16 bits of one in float32 between casts, as its stash_type says; not on a CPU, which is faster with the casts",
		Pattern: "outer=Cast(norm=LayerNormalization|RMSNormalization|SimplifiedLayerNormalization|GroupNormalization(cast=Cast(x), scale, ?bias))",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			x, norm := m.Value("x"), m.Node("norm")
			d := m.Facts.DType(x)
			if d != onnx.Float16 && d != onnx.BFloat16 || m.Facts.DType(m.Root.Output(0)) != d || m.Facts.DType(norm.Input(0)) != onnx.Float || m.Facts.DType(norm.Output(0)) != onnx.Float {
				return rewrite.ErrNotHere
			}
			if t.name() == "portable" || t.Name == "ort-cpu" {
				return rewrite.Decline("on a CPU the %s of %v can take several times as long as that of float32 with the casts", norm.Op, d)
			}
			if err := normAlone(norm); err != nil {
				return err
			}
			if norm.Int("stash_type", int64(onnx.Float)) != int64(onnx.Float) {
				return rewrite.Decline("%v computes in another type than float32", norm)
			}
			if err := offerHalf(t, m, norm.Op); err != nil {
				return err
			}
			in := slices.Clone(norm.Inputs())
			in[0] = x
			for i, v := range in[1:] {
				if v == nil {
					continue
				}
				c, err := narrowed(m, p, v, d)
				if err != nil {
					return err
				}
				in[1+i] = c
			}
			p.Swap(m.Root.Output(0), p.Add(norm.Op, in, norm.Attrs...))
			return nil
		},
	}
}

// offerHalf declines unless the target has a normalization of the type of the root.
func offerHalf(t *Target, m *rewrite.Match, op string) error {
	switch op {
	case "LayerNormalization":
		return offerNorm(t, m, op, 17)
	case "SimplifiedLayerNormalization":
		return offerNorm(t, m, op, 1)
	case "GroupNormalization":
		if m.Opset() < 21 {
			return rewrite.Decline("GroupNormalization of opset %d computes in the type that it reads", m.Opset())
		}
	}
	return t.offer(m, "", op, m.Facts.DType(m.Root.Output(0)))
}

// narrowed returns the value of type d that v, of float32, is cast from, or that
// is equal to it, or declines.
func narrowed(m *rewrite.Match, p *rewrite.Patch, v *onnx.Value, d onnx.DType) (*onnx.Value, error) {
	if n := v.Producer(); n != nil && n.Is("Cast") && m.Facts.DType(n.Input(0)) == d {
		return n.Input(0), nil
	}
	t, err := constant(v, "a parameter of the normalization")
	if err != nil {
		return nil, err
	}
	x, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	c, err := floatTensor(t.Name, d, t.Shape, x)
	if err != nil {
		return nil, err
	}
	y, err := c.Float64s()
	if err != nil {
		return nil, err
	}
	if !slices.Equal(x, y) {
		return nil, rewrite.Decline("%q has digits that %v does not hold", t.Name, d)
	}
	return p.Const(c), nil
}

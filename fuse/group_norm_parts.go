package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// groupNormParts writes GroupNormalization as exporters do, where the engine has
// no kernel of it: its function body takes the mean, the variance and the quotient
// one after the other, and InstanceNormalization is one kernel.
func groupNormParts(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "group-norm-parts", Doc: "writes GroupNormalization as InstanceNormalization of grouped channels for ort-cpu, which has no kernel of it and is twice as fast so",
		Pattern: "GroupNormalization(x, scale, bias)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			x := m.Value("x")
			d, shape, groups := m.Facts.DType(x), m.Facts.Shape(x), m.Root.Int("num_groups", 0)
			switch {
			case t.Name != "ort-cpu":
				return rewrite.ErrNotHere
			case t.Kernel != nil && t.Kernel("", "GroupNormalization", m.Opset(), d):
				return rewrite.Decline("the engine has a kernel of GroupNormalization for %v", d)
			case m.Root.Int("stash_type", int64(onnx.Float)) != int64(d):
				return rewrite.Decline("%v is normalized in another type", d)
			case len(shape) < 3 || !shape[1].Known() || groups < 1 || shape[1].Value%groups != 0:
				return rewrite.Decline("%d groups of the channels of %v", groups, shape)
			}
			if err := t.offer(m, "", "InstanceNormalization", d); err != nil {
				return err
			}
			y, err := instanceOfGroups(m, p, groups, shape)
			if err != nil {
				return err
			}
			p.Swap(m.Root.Output(0), y)
			return nil
		},
	}
}

// instanceOfGroups proposes the parts. Scale and bias are per channel since opset
// 21, and per group before.
func instanceOfGroups(m *rewrite.Match, p *rewrite.Patch, groups int64, shape onnx.Shape) (*onnx.Value, error) {
	x, scale, bias := m.Value("x"), m.Value("scale"), m.Value("bias")
	perChannel := m.Opset() >= 21
	grouped := ofGroups(shape, groups)
	to, err := reshapeTarget(m.Facts, shape, grouped)
	if err != nil {
		return nil, err
	}
	in := []*onnx.Value{p.Add("Reshape", []*onnx.Value{x, intsConst(p, "grouped", to)}), scale, bias}
	if perChannel {
		for i, c := range []float64{1, 0} {
			if in[1+i], err = spread(p, []string{"scale", "shift"}[i], m.Facts.DType(x), []int64{groups}, c); err != nil {
				return nil, err
			}
		}
	}
	y := p.Add("InstanceNormalization", in, onnx.FloatAttr("epsilon", m.Root.Float("epsilon", 1e-5)))
	y = p.Add("Reshape", []*onnx.Value{y, shapeOf(m, p, x, grouped)})
	if !perChannel {
		return y, nil
	}
	column := append([]int64{shape[1].Value}, slices.Repeat([]int64{1}, len(shape)-2)...)
	for i, v := range []*onnx.Value{scale, bias} {
		if v, err = asColumn(p, v, column); err != nil {
			return nil, err
		}
		y = p.Add([]string{"Mul", "Add"}[i], []*onnx.Value{y, v})
	}
	return y, nil
}

// ofGroups returns the shape [N, groups, …] of a value [N, C, spatial…].
func ofGroups(shape onnx.Shape, groups int64) onnx.Shape {
	out := onnx.Shape{shape[0], onnx.Fixed(groups), {Value: -1}}
	if area, ok := shape[1:].Static(); ok {
		count, _ := onnx.ElementCount(area)
		out[2] = onnx.Fixed(count / groups)
	}
	return out
}

// shapeOf returns the shape of x for a Reshape of a value of another shape to it.
func shapeOf(m *rewrite.Match, p *rewrite.Patch, x *onnx.Value, from onnx.Shape) *onnx.Value {
	if to, err := reshapeTarget(m.Facts, from, m.Facts.Shape(x)); err == nil {
		return intsConst(p, "shape", to)
	}
	return p.Add("Shape", []*onnx.Value{x})
}

// asColumn returns the vector v in another shape.
func asColumn(p *rewrite.Patch, v *onnx.Value, shape []int64) (*onnx.Value, error) {
	t := v.Constant()
	if t == nil {
		return p.Add("Reshape", []*onnx.Value{v, intsConst(p, "column", shape)}), nil
	}
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	c, err := onnx.NewTensor(t.Name, t.DType, shape, b)
	if err != nil {
		return nil, err
	}
	return p.Const(c), nil
}

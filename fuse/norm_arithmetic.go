package fuse

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// normArithmetic takes what scales or shifts a normalization into its own scale
// and shift.
var normArithmetic = rewrite.Rule{
	Name: "norm-arithmetic", Doc: "folds arithmetic with a constant behind a normalization into its scale and shift; what is computed takes their place where they are ones and zeros",
	Pattern: "Add|Sub|Mul|Div(...)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		for i, v := range m.Root.Inputs() {
			if v == nil {
				continue
			}
			n := v.Producer()
			if n == nil || v.Index() != 0 || !affineNorm(n) || m.Root.OpsetVersion("") < 7 {
				continue
			}
			return absorbedByNorm(m, p, n, m.Root.Input(1-i))
		}
		return rewrite.ErrNotHere
	},
}

// affineNorm reports whether n is a normalization with a scale as its second input.
func affineNorm(n *onnx.Node) bool {
	return n.Is("LayerNormalization") || n.Is("RMSNormalization") || n.Is("SimplifiedLayerNormalization") ||
		n.Is("InstanceNormalization") || n.Is("BatchNormalization") || n.Is("GroupNormalization") && n.OpsetVersion("") >= 21
}

// shifts reports whether a normalization has a shift.
func shifts(n *onnx.Node) bool {
	return !n.Is("RMSNormalization") && !n.Is("SimplifiedLayerNormalization")
}

func absorbedByNorm(m *rewrite.Match, p *rewrite.Patch, norm *onnx.Node, c *onnx.Value) error {
	if norm.Graph() != m.Root.Graph() {
		return rewrite.Decline("%v is in an enclosing graph", norm)
	}
	if err := normAlone(norm); err != nil {
		return err
	}
	if norm.Is("BatchNormalization") {
		if err := inference(norm); err != nil {
			return err
		}
	}
	y := norm.Output(0)
	if s := m.Facts.Shape(y); s == nil || !m.Facts.Shape(m.Root.Output(0)).Equal(s) {
		return rewrite.Decline("the shape may go from %v to %v", s, m.Facts.Shape(m.Root.Output(0)))
	}
	if err := noAttentionScale(m.Root); err != nil {
		return err
	}
	in := slices.Clone(norm.Inputs())
	if shifts(norm) && len(in) < 3 {
		in = append(in, nil)
	}
	var err error
	if c.Constant() == nil {
		err = computedParam(m, norm, in, c)
	} else {
		err = foldedParams(m, p, norm, in)
	}
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add(norm.Op, in, norm.Attrs...))
	return nil
}

// normAlone declines where more than one node reads what a normalization gives.
func normAlone(norm *onnx.Node) error {
	if err := soleUse(norm); err != nil {
		return err
	}
	for i, v := range norm.Outputs() {
		if i > 0 && v != nil && !v.Dead() {
			return rewrite.Decline("output %d of %v is read", i, norm)
		}
	}
	return nil
}

// normAxes returns the axes that scale and shift of a normalization have, and the
// first of them.
func normAxes(m *rewrite.Match, norm *onnx.Node) (onnx.Shape, int, error) {
	x := m.Facts.Shape(norm.Input(0))
	if norm.Is("InstanceNormalization") || norm.Is("BatchNormalization") || norm.Is("GroupNormalization") {
		if len(x) < 2 {
			return nil, 0, rewrite.Decline("%v has no channels", x)
		}
		return x[1:2], 1, nil
	}
	axis := int(norm.Int("axis", -1))
	if axis < 0 {
		axis += len(x)
	}
	if axis < 0 || axis >= len(x) {
		return nil, 0, rewrite.Decline("%v normalizes from axis %d of %v", norm, axis, x)
	}
	return x[axis:], axis, nil
}

// foldedParams puts the arithmetic of the root into the parameters among in.
func foldedParams(m *rewrite.Match, p *rewrite.Patch, norm *onnx.Node, in []*onnx.Value) error {
	axes, first, err := normAxes(m, norm)
	if err != nil {
		return err
	}
	gamma, err := constant(in[1], "the scale")
	if err != nil {
		return err
	}
	if !onnx.ShapeOf(gamma.Shape...).Equal(axes) {
		return rewrite.Decline("the scale of shape %s is not one for each of %v", dims(gamma.Shape), axes)
	}
	a, ok := channelwise(m.Facts, m.Root, norm.Output(0), first, axes)
	if !ok {
		return rewrite.Decline("the constant is not one for each of %v", axes)
	}
	if !shifts(norm) && !a.pure() {
		return rewrite.Decline("%s has no shift", norm.Op)
	}
	scale, err := gamma.Float64s()
	if err != nil {
		return err
	}
	shift, name := make([]float64, len(scale)), "shift"
	if shifts(norm) && in[2] != nil {
		beta, err := constant(in[2], "the shift")
		if err != nil {
			return err
		}
		if shift, err = beta.Float64s(); err != nil {
			return err
		}
		name = beta.Name
		if !slices.Equal(beta.Shape, gamma.Shape) {
			return rewrite.Decline("the shift has shape %s", dims(beta.Shape))
		}
	}
	for i := range scale {
		before := scale[i]
		scale[i] *= a.scale[i]
		shift[i] = shift[i]*a.scale[i] + a.shift[i]
		if least := leastNormal(gamma.DType); before != 0 && a.scale[i] != 0 && math.Abs(scale[i]) < least && math.Abs(before) >= least {
			return rewrite.Decline("the scale would be below %v, where %v loses digits", least, gamma.DType)
		}
	}
	if !all(a.scale, 1) {
		if in[1], err = param(p, gamma.Name, gamma, scale); err != nil {
			return err
		}
	}
	if shifts(norm) && (in[2] != nil || !all(shift, 0)) {
		in[2], err = param(p, name, gamma, shift)
	}
	return err
}

// param returns v as a constant like t.
func param(p *rewrite.Patch, name string, t *onnx.Tensor, v []float64) (*onnx.Value, error) {
	c, err := floatTensor(name, t.DType, t.Shape, v)
	if err != nil {
		return nil, err
	}
	return p.Const(c), nil
}

// computedParam puts c, which is no constant, in the place of a scale of ones, or
// of a shift of zeros.
func computedParam(m *rewrite.Match, norm *onnx.Node, in []*onnx.Value, c *onnx.Value) error {
	axes, _, err := normAxes(m, norm)
	if err != nil {
		return err
	}
	if !m.Facts.Shape(c).Equal(axes) || m.Facts.DType(c) != m.Facts.DType(in[1]) {
		return rewrite.Decline("%q of shape %v is not one for each of %v", c.Name(), m.Facts.Shape(c), axes)
	}
	neutral := func(v *onnx.Value, x float64) bool {
		if v == nil || v.Constant() == nil {
			return v == nil
		}
		e, ok := evenElements(v.Constant())
		return ok && e == x
	}
	switch {
	case m.Root.Is("Mul") && neutral(in[1], 1) && (!shifts(norm) || neutral(in[2], 0)):
		in[1] = c
	case m.Root.Is("Add") && shifts(norm) && neutral(in[2], 0):
		in[2] = c
	default:
		return rewrite.Decline("%v has a scale or shift of its own, and %q is not constant", norm, c.Name())
	}
	return nil
}

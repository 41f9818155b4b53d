package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// instanceNorm recognises InstanceNormalization (Ulyanov and others,
// arXiv:1607.08022): over the spatial axes, with scale and shift per channel.
func instanceNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "instancenorm", Doc: "recognises InstanceNormalization in any arithmetic that computes it",
		Pattern: "Add(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			root := m.Root.Output(0)
			if !isFloat(m.Facts.DType(root)) {
				return rewrite.Decline("the element type is %v", m.Facts.DType(root))
			}
			region := upstream(m.Root, mostUpstream)
			if !hasMean(region) || !rooted(m.Root, 5) {
				return rewrite.ErrNotHere
			}
			f, err := normOf(m, root, region)
			if err != nil {
				return err
			}
			shape := m.Facts.Shape(f.x)
			if !f.centred || len(shape) < 3 || !trailing(f.axes, len(shape)) || f.axes[0] != 2 || f.scale == nil || f.shift == nil || f.factor != 1 {
				return rewrite.Decline("it is not over the spatial axes of a value, with scale and shift")
			}
			if err := unshared(m, f.r); err != nil {
				return err
			}
			if err := t.offer(m, "", "InstanceNormalization", m.Facts.DType(f.x)); err != nil {
				return err
			}
			scale, err := perChannelVector(m, p, f.scale, shape)
			if err != nil {
				return err
			}
			shift, err := perChannelVector(m, p, f.shift, shape)
			if err != nil {
				return err
			}
			p.Swap(root, p.Add("InstanceNormalization", []*onnx.Value{f.x, scale, shift}, onnx.FloatAttr("epsilon", float32(f.epsilon))))
			return nil
		},
	}
}

// perChannelVector returns a constant of shape [1, C, 1…] or [C, 1…] as a vector.
func perChannelVector(m *rewrite.Match, p *rewrite.Patch, v *onnx.Value, x onnx.Shape) (*onnx.Value, error) {
	t := v.Constant()
	if t == nil {
		return nil, rewrite.Decline("%q is not constant", v.Name())
	}
	n, _ := t.Elements()
	at := len(t.Shape) - (len(x) - 1)
	if at < 0 || t.Shape[at] != n || !x[1].Same(onnx.Fixed(n)) {
		return nil, rewrite.Decline("%q of shape %s is not one for each channel of %v", v.Name(), dims(t.Shape), x)
	}
	b, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	c, err := onnx.NewTensor(t.Name, t.DType, []int64{n}, b)
	if err != nil {
		return nil, err
	}
	return p.Const(c), nil
}

// meanVariance: (x − mean) / (√variance + 10⁻⁹), which is MeanVarianceNormalization.
var meanVariance = formula{
	name: "mean-variance", doc: "recognises MeanVarianceNormalization in any arithmetic that computes it",
	roots: "Div", inner: []string{"ReduceMean"},
	read: func(e, x algebra.Poly, tol float64) ([]*onnx.Attr, bool) {
		for _, m := range e {
			for _, f := range m.F {
				if f.P != -1 || f.Atom.Func != "" || f.Atom.Value != nil {
					continue
				}
				if axes := deviationAxes(f.Atom.Args[0]); axes != nil && slices.ContainsFunc(deviated(x, axes), func(w algebra.Poly) bool { return algebra.Close(e, w, tol) }) {
					return []*onnx.Attr{onnx.IntsAttr("axes", axes...)}, true
				}
			}
		}
		return nil, false
	},
	emit: standard("MeanVarianceNormalization"),
}

// deviationAxes returns the axes of the mean within a root in an expression.
func deviationAxes(p algebra.Poly) []int64 {
	for _, m := range p {
		for _, f := range m.F {
			switch {
			case f.P != 0.5 || f.Atom.Value != nil:
			case f.Atom.Func == "":
				return meanAxes(f.Atom.Args[0])
			default:
				return meanAxes(algebra.Poly{{C: 1, F: []algebra.Factor{f}}})
			}
		}
	}
	return nil
}

// deviated returns (x − mean) / (deviation + 10⁻⁹) with the variance written
// either way.
func deviated(x algebra.Poly, axes []int64) []algebra.Poly {
	mean := algebra.Reduce("mean", x, axes)
	d := algebra.Sub(x, mean)
	var out []algebra.Poly
	for _, variance := range []algebra.Poly{
		algebra.Sub(algebra.Reduce("mean", algebra.Pow(x, 2), axes), algebra.Pow(mean, 2)),
		algebra.Reduce("mean", algebra.Pow(d, 2), axes),
	} {
		out = append(out, algebra.Mul(d, algebra.Pow(algebra.Add(algebra.Pow(variance, 0.5), algebra.Number(1e-9)), -1)))
	}
	return out
}

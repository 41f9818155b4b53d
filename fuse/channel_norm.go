package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/algebra"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// instanceNorm recognises InstanceNormalization (Ulyanov and others,
// arXiv:1607.08022): over the spatial axes, with scale and shift per channel. Of
// channels that a Reshape has grouped it makes one too, which is how exporters
// write GroupNormalization and what a CPU is mostly fastest with. ONNX Runtime's
// kernel runs on one thread: for large maps on many, the check of time tells.
func instanceNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "instancenorm", Doc: "recognises InstanceNormalization in any arithmetic that computes it, also of channels in groups",
		Pattern: "Add|Mul|Div(...)",
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
			if !f.centred || len(shape) < 3 || !m.Facts.Shape(root).Equal(shape) {
				return rewrite.Decline("it is not over the spatial axes of a value")
			}
			if m.Facts.DType(root) == onnx.Double {
				return rewrite.Decline("ONNX Runtime has no InstanceNormalization of double")
			}
			if err := f.channelFollowed(m); err != nil {
				return err
			}
			if err := unshared(m, f.r); err != nil {
				return err
			}
			if err := t.offer(m, "", "InstanceNormalization", m.Facts.DType(f.x)); err != nil {
				return err
			}
			if g := groupedLast(m.Facts, f); g != nil {
				return g.emit(m, p, f)
			}
			return f.instance(m, p, shape)
		},
	}
}

// instance proposes InstanceNormalization of x, [N, C, spatial…].
func (f *normForm) instance(m *rewrite.Match, p *rewrite.Patch, shape onnx.Shape) error {
	grouped := groupedFirst(m.Facts, f.x)
	if !trailing(f.axes, len(shape)) || f.axes[0] != 2 || f.scale == nil && f.shift == nil && len(shape) == 3 && !grouped {
		return rewrite.Decline("it is not over the spatial axes of a value, with scale and shift")
	}
	scale, shift, err := f.channelParams(m, p, shape)
	if err == nil {
		p.Swap(m.Root.Output(0), p.Add("InstanceNormalization", []*onnx.Value{f.x, scale, shift}, onnx.FloatAttr("epsilon", float32(f.epsilon))))
		return nil
	}
	if !grouped || f.scale != nil && f.factor != 1 {
		return err
	}
	bare := *f
	bare.scale, bare.shift = nil, nil
	if scale, shift, err = bare.channelParams(m, p, shape); err != nil {
		return err
	}
	y := p.Add("InstanceNormalization", []*onnx.Value{f.x, scale, shift}, onnx.FloatAttr("epsilon", float32(f.epsilon)))
	if f.scale != nil {
		y = p.Add("Mul", []*onnx.Value{y, f.scale})
	}
	if f.shift != nil {
		y = p.Add("Add", []*onnx.Value{y, f.shift})
	}
	p.Swap(m.Root.Output(0), y)
	return nil
}

// channelParams returns scale and shift as vectors for the channels of shape.
func (f *normForm) channelParams(m *rewrite.Match, p *rewrite.Patch, shape onnx.Shape) (scale, shift *onnx.Value, err error) {
	if f.scale != nil && f.factor != 1 {
		return nil, nil, rewrite.Decline("it is scaled by %q and by %v", f.scale.Name(), f.factor)
	}
	param := func(name string, v *onnx.Value, c float64) (*onnx.Value, error) {
		if v != nil {
			return perChannelVector(m, p, v, shape)
		}
		if !shape[1].Known() {
			return nil, rewrite.Decline("it has no %s, and the number %v of one is not known", name, shape[1])
		}
		return spread(p, name, m.Facts.DType(f.x), []int64{shape[1].Value}, c)
	}
	if scale, err = param("scale", f.scale, f.factor); err == nil {
		shift, err = param("shift", f.shift, 0)
	}
	return scale, shift, err
}

// channelFollowed declines where the only reader of root scales or shifts the
// normalization per channel, or per element, and so ends a larger one.
func (f *normForm) channelFollowed(m *rewrite.Match) error {
	root := m.Root.Output(0)
	shape := m.Facts.Shape(root)
	n := soleReader(root)
	if n == nil || !(n.Is("Mul") && f.scale == nil && f.shift == nil || n.Is("Add") && f.shift == nil) {
		return f.followed(m)
	}
	c := n.Input(0)
	if c == root {
		c = n.Input(1)
	}
	if t := c.Constant(); t != nil {
		if v, ok := alongAxes(t, len(shape), 1, shape[1:2]); ok && len(v) > 1 {
			return rewrite.Decline("%v belongs to the normalization", n)
		}
	}
	return f.followed(m)
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
	read: func(e, x algebra.Poly, tol float64) ([]setting, bool) {
		for _, m := range e {
			for _, f := range m.F {
				if f.P != -1 || f.Atom.Func != "" || f.Atom.Value != nil {
					continue
				}
				if axes := deviationAxes(f.Atom.Args[0]); axes != nil && slices.ContainsFunc(deviated(x, axes), func(w algebra.Poly) bool { return algebra.Close(e, w, tol) }) {
					return []setting{{attr: onnx.IntsAttr("axes", axes...)}}, true
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

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// groupedFirst reports whether v comes by Reshape from [N, C, spatial…] to
// [N, groups, …].
func groupedFirst(facts *opset.Facts, v *onnx.Value) bool {
	from, to := facts.Shape(ungrouped(v)), facts.Shape(v)
	return len(from) > 2 && len(to) > 2 && from[0].Same(to[0]) && divides(to[1], from[1])
}

// divides reports whether d is known to divide whole into parts of more than one.
func divides(d, whole onnx.Dim) bool {
	return d.Known() && whole.Known() && d.Value > 0 && d.Value < whole.Value && whole.Value%d.Value == 0
}

// lastGroups is a value [N, spatial…, groups, channels of one], which Reshape
// makes of [N, spatial…, C] and that a Transpose of x, [N, C, spatial…].
type lastGroups struct {
	x              *onnx.Value
	shape          onnx.Shape // of x
	groups         int64
	perm           []int64 // of the Transpose
	nhwc, ungroups onnx.Shape
}

// groupedLast returns how the channels of the value that f normalizes are
// grouped, nil where they are not, last, and come from a Transpose. The axes are
// all but those of the batch and of the groups.
func groupedLast(facts *opset.Facts, f *normForm) *lastGroups {
	r := f.x.Producer()
	if r == nil || !r.Is("Reshape") {
		return nil
	}
	t := r.Input(0).Producer()
	if t == nil || !t.Is("Transpose") {
		return nil
	}
	g := &lastGroups{x: t.Input(0), shape: facts.Shape(t.Input(0)), perm: t.Ints("perm", nil), nhwc: facts.Shape(r.Input(0)), ungroups: facts.Shape(f.x)}
	n := len(g.ungroups)
	if len(g.shape) != n-1 || len(g.nhwc) != n-1 || n < 4 || !slices.Equal(g.perm, lastChannels(n-1)) || !divides(g.ungroups[n-2], g.shape[1]) {
		return nil
	}
	for i, d := range g.nhwc[:n-2] {
		if !d.Same(g.ungroups[i]) {
			return nil
		}
	}
	var axes []int64
	for i := 1; i < n; i++ {
		if i != n-2 {
			axes = append(axes, int64(i))
		}
	}
	if !slices.Equal(f.axes, axes) {
		return nil
	}
	g.groups = g.ungroups[n-2].Value
	return g
}

// lastChannels is the order of axes that puts the channels last.
func lastChannels(rank int) []int64 {
	out := []int64{0}
	for i := 2; i < rank; i++ {
		out = append(out, int64(i))
	}
	return append(out, 1)
}

// emit proposes the normalization before the Transpose, in the form of exporters:
// Reshape, InstanceNormalization, Reshape, Mul, Add.
func (g *lastGroups) emit(m *rewrite.Match, p *rewrite.Patch, f *normForm) error {
	if f.scale != nil && f.factor != 1 {
		return rewrite.Decline("it is scaled by %q and by %v", f.scale.Name(), f.factor)
	}
	grouped := ofGroups(g.shape, g.groups)
	to, err := reshapeTarget(m.Facts, g.shape, grouped)
	if err != nil {
		return err
	}
	d := m.Facts.DType(f.x)
	ones, err := spread(p, "scale", d, []int64{g.groups}, f.factor)
	if err != nil {
		return err
	}
	zeros, err := spread(p, "shift", d, []int64{g.groups}, 0)
	if err != nil {
		return err
	}
	y := p.Add("Reshape", []*onnx.Value{g.x, intsConst(p, "grouped", to)})
	y = p.Add("InstanceNormalization", []*onnx.Value{y, ones, zeros}, onnx.FloatAttr("epsilon", float32(f.epsilon)))
	y = p.Add("Reshape", []*onnx.Value{y, shapeOf(m, p, g.x, grouped)})
	for i, v := range []*onnx.Value{f.scale, f.shift} {
		if v == nil {
			continue
		}
		c, err := g.param(p, v)
		if err != nil {
			return err
		}
		y = p.Add([]string{"Mul", "Add"}[i], []*onnx.Value{y, c})
	}
	y = p.Add("Transpose", []*onnx.Value{y}, onnx.IntsAttr("perm", g.perm...))
	if to, err = reshapeTarget(m.Facts, g.nhwc, g.ungroups); err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add("Reshape", []*onnx.Value{y, intsConst(p, "groups", to)}))
	return nil
}

// param returns a constant that varies with the channels only, as one that
// broadcasts to x.
func (g *lastGroups) param(p *rewrite.Patch, v *onnx.Value) (*onnx.Value, error) {
	t, err := constant(v, "a scale or shift")
	if err != nil {
		return nil, err
	}
	n := len(g.ungroups)
	values, ok := alongAxes(t, n, n-2, g.ungroups[n-2:])
	if !ok {
		return nil, rewrite.Decline("%q of shape %s is not one for each channel of %v", v.Name(), dims(t.Shape), g.ungroups)
	}
	c, err := floatTensor(t.Name, t.DType, append([]int64{int64(len(values))}, slices.Repeat([]int64{1}, n-3)...), values)
	if err != nil {
		return nil, err
	}
	return p.Const(c), nil
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// groupNorm recognises GroupNormalization (Wu and He, arXiv:1803.08494) in the
// form that exporters write, and that instance-norm makes of arithmetic: an
// InstanceNormalization of the channels grouped by Reshape.
func groupNorm(t *Target) rewrite.Rule {
	return rewrite.Rule{
		Name: "group-norm", Doc: "recognises GroupNormalization in the InstanceNormalization of grouped channels; com.microsoft.GroupNorm for ort-cuda, on a CPU it stays as it is",
		Pattern: "Add|Sub|Mul|Div|Reshape(...)",
		Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			g, err := readGroups(m)
			if err != nil {
				return err
			}
			if t.Name == "ort-cuda" {
				return g.contrib(t, m, p)
			}
			if t.name() == "portable" || t.Name == "ort-cpu" {
				return rewrite.Decline("on a CPU InstanceNormalization of the groups takes half the time of GroupNormalization, which ONNX Runtime has as a function only")
			}
			return g.standard(t, m, p)
		},
	}
}

// groupForm is a normalization over groups of channels of x, [N, C, spatial…],
// with a scale and a shift for each channel.
type groupForm struct {
	x            *onnx.Value
	groups       int64
	scale, shift []float64
	epsilon      float32
}

// readGroups reads the match as the end of a normalization over groups:
// Reshape to [N, groups, …], InstanceNormalization, Reshape back, with constants
// per channel before or after the latter, if any.
func readGroups(m *rewrite.Match) (*groupForm, error) {
	root := m.Root.Output(0)
	norm := groupedNorm(m)
	if norm == nil {
		return nil, rewrite.ErrNotHere
	}
	x := ungrouped(norm.Input(0))
	shape, grouped := m.Facts.Shape(x), m.Facts.Shape(norm.Input(0))
	if !m.Facts.Shape(root).Equal(shape) || len(shape) < 3 || !shape[0].Same(grouped[0]) || !shape[1].Known() || !grouped[1].Known() ||
		grouped[1].Value < 1 || shape[1].Value%grouped[1].Value != 0 {
		return nil, rewrite.Decline("InstanceNormalization of %v from %v is not of groups of channels", grouped, shape)
	}
	g := &groupForm{x: x, groups: grouped[1].Value, epsilon: norm.Float("epsilon", 1e-5)}
	if g.goesOn(m, shape) {
		return nil, rewrite.ErrNotHere
	}
	if err := g.affine(m, norm, shape); err != nil {
		return nil, err
	}
	return g, nil
}

// ungrouped returns the value of which v is a Reshape, or one after another.
func ungrouped(v *onnx.Value) *onnx.Value {
	for n := v.Producer(); n != nil && n.Is("Reshape"); n = v.Producer() {
		v = n.Input(0)
	}
	return v
}

// groupedNorm returns the InstanceNormalization of the result of a Reshape from
// which the root comes by Reshape and arithmetic with constants, nil if none.
func groupedNorm(m *rewrite.Match) *onnx.Node {
	back := false
	for n, i := m.Root, 0; n != nil && n.Graph() == m.Root.Graph() && i < 8; i++ {
		switch {
		case n.Is("InstanceNormalization"):
			if r := n.Input(0).Producer(); back && r != nil && r.Is("Reshape") && len(m.Facts.Shape(n.Input(0))) > 2 {
				return n
			}
			return nil
		case n.Is("Reshape"):
			back = true
		case !withConstant(n):
			return nil
		}
		n = varied(n).Producer()
	}
	return nil
}

// varied returns the input of a Reshape that it reshapes, or the one of
// arithmetic with a constant that is none.
func varied(n *onnx.Node) *onnx.Value {
	if v := n.Input(0); n.Is("Reshape") || v.Constant() == nil {
		return v
	}
	return n.Input(1)
}

// goesOn reports whether what reads the root scales or shifts it per channel, so
// that the normalization ends further on.
func (g *groupForm) goesOn(m *rewrite.Match, shape onnx.Shape) bool {
	arithmetic := false
	for v := m.Root.Output(0); !arithmetic || !m.Facts.Shape(v).Equal(shape); {
		n := soleReader(v)
		switch {
		case n == nil || n.Graph() != m.Root.Graph():
			return false
		case n.Is("Reshape") && n.Input(0) == v:
		default:
			if _, ok := channelwise(m.Facts, n, v, 1, g.channelAxes(m.Facts.Shape(v), shape)); !ok {
				return false
			}
			arithmetic = true
		}
		v = n.Output(0)
	}
	return true
}

// affine composes what is done to the groups of norm per channel, or declines.
func (g *groupForm) affine(m *rewrite.Match, norm *onnx.Node, shape onnx.Shape) error {
	channels := int(shape[1].Value)
	g.scale, g.shift = slices.Repeat([]float64{1}, channels), make([]float64, channels)
	before := func(a affine) { // what comes so far is done after a
		each := channels / len(a.scale)
		for c := range g.scale {
			g.shift[c] += g.scale[c] * a.shift[c/each]
			g.scale[c] *= a.scale[c/each]
		}
	}
	for n := m.Root; n != norm; n = varied(n).Producer() {
		if n != m.Root {
			if err := soleUse(n); err != nil {
				return err
			}
		}
		if n.Is("Reshape") {
			continue
		}
		v := varied(n)
		a, ok := channelwise(m.Facts, n, v, 1, g.channelAxes(m.Facts.Shape(v), shape))
		if !ok {
			return rewrite.Decline("%v is not arithmetic with a constant for each channel", n)
		}
		before(a)
	}
	if err := soleUse(norm); err != nil {
		return err
	}
	a, err := normAffine(norm, g.groups)
	if err != nil {
		return err
	}
	before(a)
	return nil
}

// channelAxes returns the axes after the first that are the channels, or groups
// of them, in a Reshape of shape s of a value [N, C, spatial…]; nil if none are.
func (g *groupForm) channelAxes(s, shape onnx.Shape) onnx.Shape {
	groups := onnx.Fixed(g.groups)
	switch {
	case len(s) < 2 || !s[0].Same(shape[0]):
		return nil
	case s[1].Same(shape[1]):
		return s[1:2]
	case s[1].Same(groups) && len(s) > 2 && s[2].Same(onnx.Fixed(shape[1].Value/g.groups)):
		return s[1:3]
	case s[1].Same(groups):
		return s[1:2]
	}
	return nil
}

// normAffine returns scale and shift of an InstanceNormalization of n channels.
func normAffine(norm *onnx.Node, n int64) (affine, error) {
	var a affine
	for i, list := range []*[]float64{&a.scale, &a.shift} {
		t, err := constant(norm.Input(1+i), "a parameter of InstanceNormalization")
		if err != nil {
			return a, err
		}
		if *list, err = t.Float64s(); err != nil {
			return a, err
		}
		if int64(len(*list)) != n {
			return a, rewrite.Decline("%v has %d parameters for %d channels", norm, len(*list), n)
		}
	}
	return a, nil
}

// standard proposes GroupNormalization, whose scale and shift are those of
// channels since opset 21. The form before, with those of groups, is deprecated
// in the very version that brought it.
func (g *groupForm) standard(t *Target, m *rewrite.Match, p *rewrite.Patch) error {
	d := m.Facts.DType(g.x)
	if m.Opset() < 21 {
		return rewrite.Decline("GroupNormalization needs opset 21: raise the model's with --opset 21")
	}
	if d == onnx.Double {
		return rewrite.Decline("GroupNormalization takes the mean of %v in float32", d)
	}
	if err := t.offer(m, "", "GroupNormalization", d); err != nil {
		return err
	}
	in, err := g.inputs(p, g.x, d)
	if err != nil {
		return err
	}
	p.Swap(m.Root.Output(0), p.Add("GroupNormalization", in, onnx.FloatAttr("epsilon", g.epsilon), onnx.IntAttr("num_groups", g.groups)))
	return nil
}

// contrib proposes com.microsoft.GroupNorm. Its kernel takes images in the
// layout [N, H, W, C] only, whose channels it computes by twos, and parameters
// of float32.
func (g *groupForm) contrib(t *Target, m *rewrite.Match, p *rewrite.Patch) error {
	d, per := m.Facts.DType(g.x), int64(len(g.scale))/g.groups
	if len(m.Facts.Shape(g.x)) != 4 || per%2 != 0 {
		return rewrite.Decline("GroupNorm is for images with an even number of channels in a group, and here are %d in a group of %v", per, m.Facts.Shape(g.x))
	}
	if err := t.offer(m, microsoft, "GroupNorm", d); err != nil {
		return err
	}
	in, err := g.inputs(p, p.Add("Transpose", []*onnx.Value{g.x}, onnx.IntsAttr("perm", 0, 2, 3, 1)), onnx.Float)
	if err != nil {
		return err
	}
	end := m.Root.Output(0)
	activated := swished(m.Root)
	if activated != nil {
		end = activated
	}
	n := p.AddNode(microsoft, "GroupNorm", in, 1, onnx.IntAttr("activation", boolInt(activated != nil)), onnx.IntAttr("channels_last", 1),
		onnx.FloatAttr("epsilon", g.epsilon), onnx.IntAttr("groups", g.groups))
	p.Swap(end, p.Add("Transpose", []*onnx.Value{n.Output(0)}, onnx.IntsAttr("perm", 0, 3, 1, 2)))
	return nil
}

// swished returns the result of Swish of what n gives, where nothing else reads
// that, nil where there is none. It may be spelled out.
func swished(n *onnx.Node) *onnx.Value {
	v := n.Output(0)
	if s := soleReader(v); s != nil && s.Graph() == n.Graph() {
		switch {
		case s.Is("Swish") && s.Float("alpha", 1) == 1, s.Op == "QuickGelu" && onnx.NormalDomain(s.Domain) == microsoft && s.Float("alpha", 1.702) == 1:
			return s.Output(0)
		}
		return nil
	}
	if v.IsOutput() || len(v.Uses()) != 2 {
		return nil
	}
	for i, u := range v.Uses() {
		if s := u.Node; s.Is("Sigmoid") {
			p := v.Uses()[1-i].Node
			if p.Is("Mul") && p.OpsetVersion("") >= 7 && p.Graph() == n.Graph() && soleReader(s.Output(0)) == p {
				return p.Output(0)
			}
		}
	}
	return nil
}

// inputs returns x with scale and shift as vectors of element type d.
func (g *groupForm) inputs(p *rewrite.Patch, x *onnx.Value, d onnx.DType) ([]*onnx.Value, error) {
	out := []*onnx.Value{x}
	for i, list := range [][]float64{g.scale, g.shift} {
		t, err := floatTensor([]string{"scale", "shift"}[i], d, []int64{int64(len(list))}, list)
		if err != nil {
			return nil, err
		}
		out = append(out, p.Const(t))
	}
	return out, nil
}

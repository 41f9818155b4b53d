package bisect_test

import (
	"context"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/bisect"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// overridable has two inputs with a default, and an operator whose form changes
// at opset 13.
const overridable = `<ir_version: 8, opset_import: ["" : 11]>
main (float[2,4] x, float[4] w, float[4] v) => (float[2] y) <float[4] w = {1, 2, 3, 4}, float[4] v = {1, 1, 2, 2}> {
  a = Mul (x, v)
  b = Pow (a, w)
  y = ReduceSum <axes = [1], keepdims = 0> (b)
}
`

// fused is fuse with only the given passes.
func fused(opset int64, passes ...string) produce.Transform {
	return func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		o.Only = passes
		return fuse.Model(ctx, m, fuse.Options{Opset: opset, Rewrite: o})
	}
}

// TestPassesWithoutNodes: what freezes inputs and what raises the opset is named
// as any rule is.
func TestPassesWithoutNodes(t *testing.T) {
	for _, c := range []struct {
		rule, place string
		rewrites    int
		f           produce.Transform
		refuses     func(*onnx.Node) bool
	}{
		{"freeze", `input "w"`, 2, fused(0, "freeze"), func(n *onnx.Node) bool { return n.Is("Pow") && n.Input(1).Constant() != nil }},
		{"opset", "the model", 3, fused(13, "freeze", "opset"), func(n *onnx.Node) bool { return n.Is("ReduceSum") && n.Input(1) != nil }},
	} {
		found, err := bisect.Rewrites(t.Context(), store(t, overridable), c.f, rewrite.Options{}, options(c.refuses))
		if err != nil {
			t.Fatal(err)
		}
		w := found.First
		if w == nil || w.Firing.Rule != c.rule || w.Firing.Node != c.place || w.Others != "" || found.Rewrites != c.rewrites {
			t.Errorf("%s: found %+v of %d rewrites", c.rule, w, found.Rewrites)
		}
	}
}

// TestFreezeOneByOne: the number of rewrites counts inputs, and one is left out
// by its key.
func TestFreezeOneByOne(t *testing.T) {
	inputs := func(o rewrite.Options) []string {
		m := parse(t, overridable)
		if _, err := fused(0, "freeze")(t.Context(), m, o); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, v := range m.Graph.Inputs() {
			names = append(names, v.Name())
		}
		return names
	}
	for _, c := range []struct {
		o    rewrite.Options
		want []string
	}{
		{rewrite.Options{}, []string{"x"}},
		{rewrite.Options{Limit: -1}, []string{"x", "w", "v"}},
		{rewrite.Options{Limit: 1}, []string{"x", "v"}},
		{rewrite.Options{Skip: map[string]bool{"freeze at w": true}}, []string{"x", "w"}},
	} {
		if got := inputs(c.o); !slices.Equal(got, c.want) {
			t.Errorf("%+v leaves the inputs %q, want %q", c.o, got, c.want)
		}
	}
}

package bisect_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/bisect"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// chain has five places for the rules: negations in pairs, and sums.
const chain = `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,4] x) => (float[N,4] y, float[N,4] z)
<float[4] one = {1, 1, 1, 1}, float[4] two = {2, 2, 2, 2}> {
  a = Neg (x)
  b = Neg (a)
  c = Abs (b)
  d = Neg (c)
  e = Neg (d)
  f = Add (e, one)
  g = Mul (f, two)
  h = Neg (g)
  i = Neg (h)
  j = Sub (i, two)
  y = Exp (j)
  z = Abs (x)
}
`

// planted is a transform with a right rule, and a wrong one that takes Sub for Add.
func planted(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
	pass, err := rewrite.Rules("planted", []rewrite.Rule{
		{Name: "double-neg", Doc: "right", Pattern: "Neg(Neg(x))", Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			p.Swap(m.Root.Output(0), m.Value("x"))
			return nil
		}},
		{Name: "sub-is-add", Doc: "wrong", Pattern: "Sub(x, c)", Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
			p.Swap(m.Root.Output(0), p.Add("Add", []*onnx.Value{m.Value("x"), m.Value("c")}))
			return nil
		}},
	})
	if err != nil {
		return nil, err
	}
	return rewrite.Run(ctx, m, []rewrite.Pass{pass}, nil, o)
}

func TestFirstWrongRewrite(t *testing.T) {
	found, err := bisect.Rewrites(t.Context(), store(t, chain), planted, rewrite.Options{}, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	w := found.First
	if w == nil || w.Firing.Rule != "sub-is-add" || w.Fault.Kind != bisect.Wrong {
		t.Fatalf("found %+v", found)
	}
	if found.Rewrites != 4 {
		t.Errorf("%d rewrites, want 4", found.Rewrites)
	}
	if !slices.ContainsFunc(w.Before, func(s string) bool { return strings.Contains(s, "Sub (") }) ||
		!slices.ContainsFunc(w.After, func(s string) bool { return strings.Contains(s, "Add (") }) {
		t.Errorf("before %q, after %q", w.Before, w.After)
	}
	if w.Broken == nil || w.Broken.Value != "y" || w.Broken.MaxAbs == nil || *w.Broken.MaxAbs == 0 {
		t.Errorf("broken value %+v", w.Broken)
	}
	if w.Others != "" {
		t.Errorf("without it: %s", w.Others)
	}
}

// TestNothingWrong: the right rule alone, and the wrong one where only faults of
// another kind are looked for.
func TestNothingWrong(t *testing.T) {
	path := store(t, chain)
	found, err := bisect.Rewrites(t.Context(), path, planted, rewrite.Options{Only: []string{"double-neg"}}, options(nil))
	if err != nil || found.First != nil || found.Rewrites != 3 {
		t.Errorf("found %+v, %v", found, err)
	}
	o := options(nil)
	o.Kinds = []bisect.Kind{bisect.Load}
	if found, err = bisect.Rewrites(t.Context(), path, planted, rewrite.Options{}, o); err != nil || found.First != nil {
		t.Errorf("looking for load faults: found %+v, %v", found, err)
	}
}

// TestRewriteThatDoesNotLoad: the engine has no kernel of what the rule emits.
func TestRewriteThatDoesNotLoad(t *testing.T) {
	adds := func(n *onnx.Node) bool { return n.Is("Add") && n.Input(1) != nil && n.Input(1).Name() == "two" }
	found, err := bisect.Rewrites(t.Context(), store(t, chain), planted, rewrite.Options{}, options(adds))
	if err != nil {
		t.Fatal(err)
	}
	if w := found.First; w == nil || w.Firing.Rule != "sub-is-add" || w.Fault.Kind != bisect.Load {
		t.Errorf("found %+v", found.First)
	}
}

// TestTwoWrong: the rest is wrong too without the first.
func TestTwoWrong(t *testing.T) {
	text := strings.Replace(chain, "  z = Abs (x)", "  z = Sub (x, one)", 1)
	found, err := bisect.Rewrites(t.Context(), store(t, text), planted, rewrite.Options{}, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if found.First == nil || found.First.Others == "" {
		t.Errorf("found %+v", found.First)
	}
}

func TestReduceRewrite(t *testing.T) {
	path := store(t, chain)
	o := options(nil)
	found, err := bisect.Rewrites(t.Context(), path, planted, rewrite.Options{}, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := bisect.ReduceRewrite(t.Context(), path, planted, found, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n := c.Model.Graph.Len(); n != 1 || !c.Model.Graph.First().Is("Sub") {
		t.Errorf("reduced to %d nodes, the first %v", n, c.Model.Graph.First())
	}
	dir := t.TempDir()
	files, err := c.Save(filepath.Join(dir, "small.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 3 {
		t.Errorf("wrote %v", files)
	}
	shows(t, files[0])
	if _, err := c.Save(filepath.Join(dir, "other.onnx")); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second case in the same folder: %v", err)
	}
}

// shows checks that the case at path shows the fault with the inputs beside it,
// and that these come with what the original computes.
func shows(t *testing.T, path string) {
	t.Helper()
	dir := filepath.Join(filepath.Dir(path), bisect.DataFolder)
	tensor := func(name string) *onnx.Tensor {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		x, err := onnxfile.DecodeTensor(b)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	in, want := tensor("input_0.pb"), tensor("output_0.pb")
	s, err := evaluator(nil)(t.Context(), path, options(nil).Verify.Session)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), map[string]*onnx.Tensor{in.Name: in})
	if err != nil {
		t.Fatal(err)
	}
	v := produce.Verify{}
	if d, err := v.Distance(want.Name, want, r.Outputs[want.Name]); err != nil || !d.OK {
		t.Errorf("the original does not compute what is beside it: %+v, %v", d, err)
	}
	found, err := bisect.Rewrites(t.Context(), path, planted, rewrite.Options{}, options(nil))
	if err != nil || found.First == nil || found.First.Firing.Rule != "sub-is-add" {
		t.Errorf("the reduced model does not show the fault: %+v, %v", found, err)
	}
}

// TestWrongWithoutRewrite: a transform that changes the model outside of its rewrites.
func TestWrongWithoutRewrite(t *testing.T) {
	sneaky := func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		for n := range m.Graph.Nodes() {
			if n.Is("Exp") {
				n.Op = "Abs"
			}
		}
		return planted(ctx, m, o)
	}
	found, err := bisect.Rewrites(t.Context(), store(t, chain), sneaky, rewrite.Options{}, options(nil))
	if err != nil || found.First == nil || found.First.Number != 0 {
		t.Fatalf("found %+v, %v", found, err)
	}
	if _, err := bisect.ReduceRewrite(t.Context(), store(t, chain), sneaky, found, options(nil)); err == nil {
		t.Error("what no rewrite did was reduced")
	}
}

// TestChangedWeight: a rewrite that changes content only shows it before and after.
func TestChangedWeight(t *testing.T) {
	twist := func(_ context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		log := rewrite.NewLog()
		if o.Limit < 0 {
			return log, nil
		}
		for _, v := range m.Graph.Initializers() {
			if v.Name() == "two" && len(o.Skip) == 0 {
				v.SetConst(onnx.FromFloats("two", []int64{4}, []float32{2, 2, 2, 3}))
			}
		}
		log.Fired = append(log.Fired, rewrite.Firing{Rule: "twist", Key: "twist"})
		return log, nil
	}
	found, err := bisect.Rewrites(t.Context(), store(t, chain), twist, rewrite.Options{}, options(nil))
	if err != nil || found.First == nil {
		t.Fatalf("%+v, %v", found, err)
	}
	b, a := found.First.Before, found.First.After
	if len(b) != 1 || len(a) != 1 || b[0] == a[0] || !strings.HasPrefix(a[0], "constant two float[4]") {
		t.Errorf("before %q, after %q", b, a)
	}
}

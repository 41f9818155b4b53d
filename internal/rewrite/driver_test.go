package rewrite_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

const header = "<ir_version: 8, opset_import: [\"\" : 17]>\n"

func parse(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("test", []byte(header+text))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return m
}

func text(t *testing.T, m *onnx.Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := onnxtext.Format(&b, m, onnxtext.Options{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// nodes writes the nodes of the main graph, one a line.
func nodes(m *onnx.Model) []string {
	var out []string
	for n := range m.Graph.Nodes() {
		var in []string
		for _, v := range n.Inputs() {
			in = append(in, v.Name())
		}
		out = append(out, n.Output(0).Name()+" = "+n.Op+"("+strings.Join(in, ", ")+")")
	}
	return out
}

func group(t *testing.T, name string, list ...rewrite.Rule) rewrite.Pass {
	t.Helper()
	p, err := rewrite.Rules(name, list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func run(t *testing.T, m *onnx.Model, o rewrite.Options, passes ...rewrite.Pass) *rewrite.Log {
	t.Helper()
	log, err := rewrite.Run(t.Context(), m, passes, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return log
}

func keysOf(log *rewrite.Log) []string {
	var out []string
	for _, f := range log.Fired {
		out = append(out, f.Key)
	}
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// rule swaps the root for what f makes of the match.
func rule(name, pattern string, f func(m *rewrite.Match, p *rewrite.Patch) *onnx.Value) rewrite.Rule {
	return rewrite.Rule{Name: name, Doc: "for a test", Pattern: pattern, Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		p.Swap(m.Root.Output(0), f(m, p))
		return nil
	}}
}

// become makes a node of op over the bound values.
func become(op string, names ...string) func(*rewrite.Match, *rewrite.Patch) *onnx.Value {
	return func(m *rewrite.Match, p *rewrite.Patch) *onnx.Value {
		var in []*onnx.Value
		for _, n := range names {
			in = append(in, m.Value(n))
		}
		return p.Add(op, in)
	}
}

func take(name string) func(*rewrite.Match, *rewrite.Patch) *onnx.Value {
	return func(m *rewrite.Match, _ *rewrite.Patch) *onnx.Value { return m.Value(name) }
}

const fourNegs = `main (float[N] x) => (float[N] y) {
  a = Relu (x)
  b = Neg (a)
  c = Neg (b)
  d = Neg (c)
  e = Neg (d)
  y = Abs (e)
}`

var doubleNeg = rule("double-neg", "Neg(Neg(x))", take("x"))

func TestFixpoint(t *testing.T) {
	m := parse(t, fourNegs)
	log := run(t, m, rewrite.Options{}, group(t, "g", doubleNeg))
	same(t, "nodes", []string{"a = Relu(x)", "y = Abs(a)"}, nodes(m))
	same(t, "keys", []string{"double-neg at c", "double-neg at e"}, keysOf(log))
	if log.Fired[0].Gone != 2 || log.Fired[0].New != 0 {
		t.Errorf("removed %d and added %d nodes, want 2 and 0", log.Fired[0].Gone, log.Fired[0].New)
	}
}

func TestLimit(t *testing.T) {
	m := parse(t, fourNegs)
	log := run(t, m, rewrite.Options{Limit: 1}, group(t, "g", doubleNeg))
	same(t, "nodes", []string{"a = Relu(x)", "d = Neg(a)", "e = Neg(d)", "y = Abs(e)"}, nodes(m))
	same(t, "firings", 1, len(log.Fired))
}

func TestSkip(t *testing.T) {
	m := parse(t, fourNegs)
	log := run(t, m, rewrite.Options{Skip: map[string]bool{"double-neg at c": true}}, group(t, "g", doubleNeg))
	same(t, "keys", []string{"double-neg at d", "double-neg at e"}, keysOf(log))
	same(t, "nodes", []string{"a = Relu(x)", "y = Abs(a)"}, nodes(m))
	m = parse(t, fourNegs)
	log = run(t, m, rewrite.Options{Skip: map[string]bool{"double-neg at c": true, "double-neg at d": true}}, group(t, "g", doubleNeg))
	same(t, "keys", []string{"double-neg at e"}, keysOf(log))
}

// TestSkipOneOfTwo: a rule fires twice at one name; leaving one firing out must
// not leave out the other.
func TestSkipOneOfTwo(t *testing.T) {
	const two = `main (float[N] a, float[N] b) => (float[N] y) {
  p = Neg (a)
  q = Neg (b)
  y = Add (p, q)
}`
	strip := rule("strip", "Add(Neg(x), z)", become("Add", "x", "z"))
	full := run(t, parse(t, two), rewrite.Options{}, group(t, "g", strip))
	same(t, "keys", []string{"strip at y", "strip at y #2"}, keysOf(full))
	for _, tc := range []struct {
		skip  []string
		keys  []string
		nodes []string
	}{
		{[]string{"strip at y"}, []string{"strip at y #2"}, []string{"p = Neg(a)", "y = Add(b, p)"}},
		{[]string{"strip at y #2"}, []string{"strip at y"}, []string{"q = Neg(b)", "y = Add(a, q)"}},
		{[]string{"strip at y", "strip at y #2"}, nil, []string{"p = Neg(a)", "q = Neg(b)", "y = Add(p, q)"}},
	} {
		m, skip := parse(t, two), map[string]bool{}
		for _, k := range tc.skip {
			skip[k] = true
		}
		log := run(t, m, rewrite.Options{Skip: skip}, group(t, "g", strip))
		same(t, "keys", tc.keys, keysOf(log))
		same(t, "nodes", tc.nodes, nodes(m))
	}
}

// TestKeysAreUnique: also where the same match fires again and again.
func TestKeysAreUnique(t *testing.T) {
	m := parse(t, "main (float[N] x) => (float[N] y) { y = Relu (x) }")
	n := 0
	again := rewrite.Rule{Name: "again", Doc: "for a test", Pattern: "Relu(x)", Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if n++; n > 3 {
			return rewrite.Decline("three times are enough")
		}
		p.Swap(m.Root.Output(0), p.Add("Relu", []*onnx.Value{m.Value("x")}))
		return nil
	}}
	log := run(t, m, rewrite.Options{}, group(t, "g", again))
	same(t, "keys", []string{"again at y", "again at y #2", "again at y #3"}, keysOf(log))
}

func TestSelection(t *testing.T) {
	relu := rule("relu", "Relu(Relu(x))", become("Relu", "x"))
	abs := rule("abs", "Abs(Abs(x))", become("Abs", "x"))
	for name, tc := range map[string]struct {
		o    rewrite.Options
		want []string
	}{
		"all":                    {rewrite.Options{}, []string{"relu", "abs"}},
		"only a rule":            {rewrite.Options{Only: []string{"abs"}}, []string{"abs"}},
		"only a group":           {rewrite.Options{Only: []string{"g"}}, []string{"relu", "abs"}},
		"a group and its rule":   {rewrite.Options{Only: []string{"g", "relu"}}, []string{"relu"}},
		"without a rule":         {rewrite.Options{Disable: []string{"relu"}}, []string{"abs"}},
		"without the group":      {rewrite.Options{Disable: []string{"g"}}, nil},
		"a group without a rule": {rewrite.Options{Only: []string{"g"}, Disable: []string{"abs"}}, []string{"relu"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, "main (float[N] x) => (float[N] y) { a = Relu (x) b = Relu (a) c = Abs (b) y = Abs (c) }")
			log := run(t, m, tc.o, group(t, "g", relu, abs))
			var got []string
			for _, f := range log.Fired {
				got = append(got, f.Rule)
			}
			same(t, "rules", tc.want, got)
		})
	}
}

// TestUndoing: rules that undo each other end with an error, not never.
func TestUndoing(t *testing.T) {
	there, back := rule("there", "Relu(x)", become("Abs", "x")), rule("back", "Abs(x)", become("Relu", "x"))
	m := parse(t, "main (float[N] x) => (float[N] y) { y = Relu (x) }")
	_, err := rewrite.Run(t.Context(), m, []rewrite.Pass{group(t, "g", there, back)}, nil, rewrite.Options{})
	if err == nil || !strings.Contains(err.Error(), "undo each other") || !strings.Contains(err.Error(), "there") {
		t.Errorf("error is %v", err)
	}
	m = parse(t, "main (float[N] x) => (float[N] y) { y = Relu (x) }")
	log := run(t, m, rewrite.Options{}, group(t, "g", there), group(t, "h", back))
	if len(log.Notices) != 1 || !strings.Contains(log.Notices[0], "stopped after") {
		t.Errorf("notices are %q", log.Notices)
	}
}

// TestOutputs: a value that takes an output's place takes its name, and what
// cannot is declined.
func TestOutputs(t *testing.T) {
	identity := rule("identity", "Identity(x)", take("x"))
	for name, tc := range map[string]struct {
		in       string
		want     []string
		declined string
	}{
		"takes the name": {"main (float[N] x) => (float[N] y) { a = Relu (x) y = Identity (a) }", []string{"y = Relu(x)"}, ""},
		"read inside too": {"main (float[N] x) => (float[N] y, float[N] z) { a = Relu (x) y = Identity (a) z = Abs (a) }",
			[]string{"y = Relu(x)", "z = Abs(y)"}, ""},
		"of an input":        {"main (float[N] x) => (float[N] y) { y = Identity (x) }", []string{"y = Identity(x)"}, "cannot be the graph input"},
		"of another output":  {"main (float[N] x) => (float[N] a, float[N] y) { a = Relu (x) y = Identity (a) }", []string{"a = Relu(x)", "y = Identity(a)"}, "cannot share the value of output"},
		"of a constant twin": {"main (float[N] x) => (float[2] y, float[N] z) <float[2] c = {1, 2}> { y = Identity (c) z = Relu (x) }", []string{"z = Relu(x)"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, tc.in)
			log := run(t, m, rewrite.Options{}, group(t, "g", identity))
			same(t, "nodes", tc.want, nodes(m))
			if tc.declined != "" && (len(log.Declined) != 1 || !strings.Contains(log.Declined[0].Reason, tc.declined)) {
				t.Errorf("declined %v, want %q", log.Declined, tc.declined)
			}
		})
	}
}

// TestOtherOutputs: within a subgraph, an outer value cannot be its output.
func TestOtherOutputs(t *testing.T) {
	m := parse(t, `main (bool c, float[N] x) => (float[N] y) {
  r = Relu (x)
  y = If <then_branch = g () => (float[N] p) { p = Identity (r) }, else_branch = h () => (float[N] p) { q = Identity (r) p = Abs (q) }> (c)
}`)
	log := run(t, m, rewrite.Options{}, group(t, "g", rule("identity", "Identity(x)", take("x"))))
	same(t, "keys", []string{"identity at q"}, keysOf(log))
	same(t, "refusals", 1, len(log.Declined))
	if !strings.Contains(log.Declined[0].Reason, "enclosing graph") {
		t.Errorf("declined %v", log.Declined)
	}
	if !strings.Contains(text(t, m), "p = Abs (r)") {
		t.Errorf("the subgraph is\n%s", text(t, m))
	}
}

// TestDeclined: a refusal is logged once, from the last look, and not where the
// node is gone.
func TestDeclined(t *testing.T) {
	looks := 0
	never := rewrite.Rule{Name: "never", Doc: "for a test", Pattern: "Abs(x)", Rewrite: func(m *rewrite.Match, _ *rewrite.Patch) error {
		looks++
		return rewrite.Decline("reads %s", m.Value("x").Name())
	}}
	log := run(t, parse(t, fourNegs), rewrite.Options{}, group(t, "g", never, doubleNeg))
	if looks < 2 {
		t.Fatalf("it looked %d times", looks)
	}
	if len(log.Declined) != 1 || log.Declined[0].Reason != "reads a" {
		t.Errorf("declined %v, want one: reads a", log.Declined)
	}
	neg := never
	neg.Pattern = "Neg(x)"
	log = run(t, parse(t, fourNegs), rewrite.Options{}, group(t, "g", neg, doubleNeg))
	same(t, "refusals at nodes that are gone", 0, len(log.Declined))
}

// TestTypesStay: a patch that would change a shape or an element type is declined.
func TestTypesStay(t *testing.T) {
	m := parse(t, "main (float[2,3] x) => (float[2,3] y) { a = Abs (x) y = Relu (a) }")
	log := run(t, m, rewrite.Options{}, group(t, "g", rule("turn", "Relu(x)", become("Transpose", "x"))))
	same(t, "firings", 0, len(log.Fired))
	if len(log.Declined) != 1 || !strings.Contains(log.Declined[0].Reason, "float[3,2] instead of float[2,3]") {
		t.Errorf("declined %v", log.Declined)
	}
	same(t, "nodes", []string{"a = Abs(x)", "y = Relu(a)"}, nodes(m))
}

// TestError: an error that is no refusal ends the run and names rule and node.
func TestError(t *testing.T) {
	broken := errors.New("broken")
	bad := rewrite.Rule{Name: "bad", Doc: "for a test", Pattern: "Relu(x)", Rewrite: func(*rewrite.Match, *rewrite.Patch) error { return broken }}
	m := parse(t, "main (float[N] x) => (float[N] y) { y = Relu (x) }")
	_, err := rewrite.Run(t.Context(), m, []rewrite.Pass{group(t, "g", bad)}, nil, rewrite.Options{})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), `rule bad at node producing "y" (Relu)`) {
		t.Errorf("error is %v", err)
	}
}

// TestFunctionBody: rules reach function bodies, where constants are nodes and
// domains are imported by the function.
func TestFunctionBody(t *testing.T) {
	m := parse(t, `main (float[N] x) => (float[N] y) { y = local.f (x) }
<domain: "local", opset_import: ["" : 17]>
f (a) => (b) { b = Relu (a) }`)
	m.ImportOpset("local", 1)
	emit := rule("emit", "Relu(x)", func(mt *rewrite.Match, p *rewrite.Patch) *onnx.Value {
		c := p.Const(onnx.FromFloats("c", []int64{}, []float32{2}))
		return p.AddNode("com.microsoft", "BiasGelu", []*onnx.Value{mt.Value("x"), c}, 1).Output(0)
	})
	log := run(t, m, rewrite.Options{}, group(t, "g", emit))
	same(t, "keys", []string{"emit at b"}, keysOf(log))
	f := m.Functions[0]
	var ops []string
	for n := range f.Body.Nodes() {
		ops = append(ops, n.Op)
	}
	same(t, "body", []string{"Constant", "BiasGelu"}, ops)
	same(t, "initializers", 0, len(f.Body.Initializers()))
	if f.OpsetVersion("com.microsoft") != 1 || m.OpsetVersion("com.microsoft") != 1 {
		t.Errorf("com.microsoft is imported as %d by the function and %d by the model", f.OpsetVersion("com.microsoft"), m.OpsetVersion("com.microsoft"))
	}
}

// TestSharedConstant: a new constant gets a name of its own, the old one stays
// for its other readers.
func TestSharedConstant(t *testing.T) {
	m := parse(t, "main (float[2] x) => (float[2] y, float[2] z) <float[2] c = {1, 2}> { y = Mul (x, c) z = Add (x, c) }")
	double := rule("double", "Mul(x, c)", func(mt *rewrite.Match, p *rewrite.Patch) *onnx.Value {
		return p.Add("Div", []*onnx.Value{mt.Value("x"), p.Const(onnx.FromFloats("c", []int64{2}, []float32{1, 0.5}))})
	})
	run(t, m, rewrite.Options{}, group(t, "g", double))
	same(t, "nodes", []string{"y = Div(x, c_1)", "z = Add(x, c)"}, nodes(m))
}

func TestOrder(t *testing.T) {
	a, b := group(t, "a", doubleNeg), group(t, "b", rule("other", "Abs(Abs(x))", take("x")))
	order := []rewrite.Constraint{{Before: "b", After: "a", Reason: "so it is"}}
	_, err := rewrite.Run(t.Context(), parse(t, fourNegs), []rewrite.Pass{a, b}, order, rewrite.Options{})
	if err == nil || !strings.Contains(err.Error(), "pass b must come before a: so it is") {
		t.Errorf("error is %v", err)
	}
	if _, err := rewrite.Run(t.Context(), parse(t, fourNegs), []rewrite.Pass{b, a}, order, rewrite.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := rewrite.Run(t.Context(), parse(t, fourNegs), []rewrite.Pass{a}, order, rewrite.Options{}); err != nil {
		t.Errorf("with one of the two only: %v", err)
	}
}

// TestFiredCallback sees each firing with the model as it is then, and can stop the run.
func TestFiredCallback(t *testing.T) {
	var sizes []int
	stop := errors.New("stop")
	_, err := rewrite.Run(t.Context(), parse(t, fourNegs), []rewrite.Pass{group(t, "g", doubleNeg)}, nil, rewrite.Options{Debug: true,
		Fired: func(_ rewrite.Firing, m *onnx.Model) error {
			if sizes = append(sizes, m.Graph.Len()); len(sizes) == 2 {
				return stop
			}
			return nil
		}})
	if !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
	same(t, "nodes", []int{4, 2}, sizes)
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rewrite.Run(ctx, parse(t, fourNegs), []rewrite.Pass{group(t, "g", doubleNeg)}, nil, rewrite.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestMalformedRules(t *testing.T) {
	for name, list := range map[string][]rewrite.Rule{
		"pattern":    {{Name: "a", Doc: "d", Pattern: "Add(x", Rewrite: doubleNeg.Rewrite}},
		"leaf":       {{Name: "a", Doc: "d", Pattern: "x", Rewrite: doubleNeg.Rewrite}},
		"name":       {{Doc: "d", Pattern: "Add(x, y)", Rewrite: doubleNeg.Rewrite}},
		"doc":        {{Name: "a", Pattern: "Add(x, y)", Rewrite: doubleNeg.Rewrite}},
		"no rewrite": {{Name: "a", Doc: "d", Pattern: "Add(x, y)"}},
		"twice":      {doubleNeg, doubleNeg},
	} {
		if _, err := rewrite.Rules("g", list); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestLinear counts how often a rule looks at a chain that it takes apart: twice
// the nodes, twice the looks.
func TestLinear(t *testing.T) {
	looks := func(pairs int) int {
		m := onnx.NewModel(17)
		v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
		for i := range 2*pairs + 1 {
			op := "Neg"
			if i == 2*pairs {
				op = "Abs"
			}
			n := onnx.NewNode(op, []*onnx.Value{v}, "v"+strconv.Itoa(i))
			m.Graph.Append(n)
			v = n.Output(0)
		}
		m.Graph.AddOutput(v)
		count := 0
		look := rewrite.Rule{Name: "look", Doc: "for a test", Pattern: "Neg|Abs(x)", Rewrite: func(*rewrite.Match, *rewrite.Patch) error {
			count++
			return rewrite.Decline("it only counts")
		}}
		run(t, m, rewrite.Options{}, group(t, "g", look, doubleNeg))
		same(t, "nodes", []string{v.Name() + " = Abs(x)"}, nodes(m))
		return count
	}
	small, large := looks(500), looks(1000)
	if large > 2*small+20 {
		t.Errorf("%d looks for 1000 pairs, %d for 500", large, small)
	}
	if small > 6*1001 {
		t.Errorf("%d looks at 1001 nodes", small)
	}
}

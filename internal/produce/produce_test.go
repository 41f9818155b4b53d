package produce_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// model has four places where "double-neg" is right and "wrong" ones where an
// operator is taken for another.
const model = `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,3] x) => (float[N,3] y) {
  a1 = Neg (x)
  a2 = Neg (a1)
  b = Sin (a2)
  c1 = Neg (b)
  c2 = Neg (c1)
  d = Cos (c2)
  e1 = Neg (d)
  e2 = Neg (e1)
  f = Atan (e2)
  g1 = Neg (f)
  g2 = Neg (g1)
  y = Abs (g2)
}`

func swap(name, pattern, op string) rewrite.Rule {
	return rewrite.Rule{Name: name, Doc: "for a test", Pattern: pattern, Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		v := m.Value("x")
		if op != "" {
			v = p.Add(op, []*onnx.Value{v})
		}
		p.Swap(m.Root.Output(0), v)
		return nil
	}}
}

var (
	doubleNeg = swap("double-neg", "Neg(Neg(x))", "")
	wrongCos  = swap("wrong-cos", "Cos(x)", "Tan")
	wrongAtan = swap("wrong-atan", "Atan(x)", "Sinh")
	wrongSin  = swap("wrong-sin", "Sin(x)", "Tanh")
)

func transform(t *testing.T, list ...rewrite.Rule) produce.Transform {
	t.Helper()
	p, err := rewrite.Rules("rules", list)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		return rewrite.Run(ctx, m, []rewrite.Pass{p}, nil, o)
	}
}

// source writes the model into a folder of its own and returns its path.
func source(t *testing.T, text string) string {
	t.Helper()
	m, err := onnxtext.Parse("model", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "in.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func beside(path string) string { return filepath.Join(filepath.Dir(path), "out.onnx") }

// ops returns the operators of a model file.
func ops(t *testing.T, path string) []string {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var out []string
	for n := range m.Graph.Nodes() {
		out = append(out, n.Op)
	}
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func rolledBack(r *produce.Result) []string {
	var out []string
	for _, b := range r.RolledBack {
		out = append(out, b.Firing.Rule)
	}
	return out
}

// folder lists what lies in a file's folder.
func folder(t *testing.T, path string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFile(t *testing.T) {
	src := source(t, model)
	e := &engine{}
	o := produce.Options{Verify: &produce.Verify{Open: e.open}, Step: report.Step{Command: "fuse", Tool: "test"}}
	r, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg), o)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "operators", []string{"Sin", "Cos", "Atan", "Abs"}, ops(t, beside(src)))
	same(t, "rolled back", 0, len(r.RolledBack))
	same(t, "nodes", []int{12, 4}, []int{r.Input.Nodes, r.Output.Nodes})
	if r.Checked == nil || r.Checked.Samples != 4 || len(r.Checked.Outputs) != 1 || r.Checked.Outputs[0].Name != "y" {
		t.Errorf("checked %+v", r.Checked)
	}
	if info, err := os.Stat(beside(src)); err != nil || info.Size() != r.Output.Bytes {
		t.Errorf("the file has not the %d bytes that the result says (%v)", r.Output.Bytes, err)
	}
	same(t, "folder", []string{"in.onnx", "out.onnx"}, folder(t, src))
}

// TestHistory: each step is appended to those that the model carries, with the
// digest of the file that it read.
func TestHistory(t *testing.T) {
	src := source(t, model)
	e := &engine{}
	first := produce.Options{Step: report.Step{Command: "fuse", Tool: "test"}}
	r1, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg), first)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "sessions without verification", 0, len(e.opened))
	second := produce.Options{Step: report.Step{Command: "prune", Tool: "test", Options: []string{"--x"}}, Verify: &produce.Verify{Open: e.open}, InPlace: true}
	if _, err := produce.File(t.Context(), beside(src), beside(src), transform(t, doubleNeg), second); err != nil {
		t.Fatal(err)
	}
	m, err := onnxfile.Open(beside(src), onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	steps, err := produce.History(m)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "steps", []report.Step{
		{Command: "fuse", Tool: "test", InputSHA256: r1.Input.SHA256},
		{Command: "prune", Tool: "test", Options: []string{"--x"}, InputSHA256: r1.Output.SHA256, Verified: true},
	}, steps)
}

// TestRollback: wrong rewrites are left out alone, all others stay.
func TestRollback(t *testing.T) {
	for name, tc := range map[string]struct {
		rules  []rewrite.Rule
		want   []string
		undone []string
	}{
		"one in the middle": {[]rewrite.Rule{doubleNeg, wrongCos}, []string{"Sin", "Cos", "Atan", "Abs"}, []string{"wrong-cos"}},
		"the first":         {[]rewrite.Rule{wrongSin, doubleNeg}, []string{"Sin", "Cos", "Atan", "Abs"}, []string{"wrong-sin"}},
		"three of seven": {[]rewrite.Rule{wrongAtan, doubleNeg, wrongSin, wrongCos}, []string{"Sin", "Cos", "Atan", "Abs"},
			[]string{"wrong-sin", "wrong-cos", "wrong-atan"}},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, model)
			e := &engine{}
			r, err := produce.File(t.Context(), beside(src), src, transform(t, tc.rules...), produce.Options{Verify: &produce.Verify{Open: e.open}})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "operators", tc.want, ops(t, beside(src)))
			same(t, "rolled back", tc.undone, rolledBack(r))
			for _, b := range r.RolledBack {
				if !strings.Contains(b.Reason, `output "y" differs`) {
					t.Errorf("reason is %q", b.Reason)
				}
			}
			same(t, "folder", []string{"in.onnx", "out.onnx"}, folder(t, src))
		})
	}
}

// TestRollbackOfWhatDoesNotLoad: a rewrite to an operator that the engine does
// not have is undone too.
func TestRollbackOfWhatDoesNotLoad(t *testing.T) {
	src := source(t, model)
	e := &engine{refuse: "Tan"}
	r, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg, wrongCos), produce.Options{Verify: &produce.Verify{Open: e.open}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "rolled back", []string{"wrong-cos"}, rolledBack(r))
	if !strings.Contains(r.RolledBack[0].Reason, "does not load: no kernel for Tan") {
		t.Errorf("reason is %q", r.RolledBack[0].Reason)
	}
}

// TestNoMemoryForTheResult: a machine that is full says nothing about a rewrite, so none is undone and nothing is written.
func TestNoMemoryForTheResult(t *testing.T) {
	src := source(t, model)
	e := &engine{full: "Tan"}
	_, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg, wrongCos), produce.Options{Verify: &produce.Verify{Open: e.open}})
	if !errors.As(err, new(session.OutOfMemory)) || !strings.Contains(err.Error(), "cannot be verified") {
		t.Errorf("error is %v", err)
	}
	same(t, "models that were opened: the original twice, the result once", 3, len(e.opened))
	same(t, "folder", []string{"in.onnx"}, folder(t, src))
}

// TestSkipIsKept: what the caller leaves out stays left out when more is.
func TestSkipIsKept(t *testing.T) {
	src := source(t, model)
	e := &engine{}
	o := produce.Options{Verify: &produce.Verify{Open: e.open}, Rewrite: rewrite.Options{Skip: map[string]bool{"double-neg at a2": true}}}
	r, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg, wrongCos), o)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "operators", []string{"Neg", "Neg", "Sin", "Cos", "Atan", "Abs"}, ops(t, beside(src)))
	same(t, "rolled back", []string{"wrong-cos"}, rolledBack(r))
	same(t, "the caller's own", 1, len(o.Rewrite.Skip))
}

// stubborn is a pass that asks nobody.
type stubborn struct{}

func (stubborn) Name() string { return "stubborn" }

func (stubborn) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	for n := range m.Graph.Nodes() {
		if n.Is("Cos") {
			site := e.At("stubborn", n)
			n.Op = "Tan"
			return e.Fired("stubborn", site, 0, 0, "")
		}
	}
	return nil
}

// silent changes the model and does not say so.
func silent(_ context.Context, m *onnx.Model, _ rewrite.Options) (*rewrite.Log, error) {
	for n := range m.Graph.Nodes() {
		if n.Is("Cos") {
			n.Op = "Tan"
		}
	}
	return rewrite.NewLog(), nil
}

// TestNothingWritten: on every failure the target stays as it was, and nothing
// else is left behind.
func TestNothingWritten(t *testing.T) {
	cosines := `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,3] x) => (float[N,3] c9) {
  c0 = Cos (x) c1 = Cos (c0) c2 = Cos (c1) c3 = Cos (c2) c4 = Cos (c3) c5 = Cos (c4) c6 = Cos (c5) c7 = Cos (c6) c8 = Cos (c7) c9 = Cos (c8)
}`
	stubbornly := func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		return rewrite.Run(ctx, m, []rewrite.Pass{stubborn{}}, nil, o)
	}
	broken := func(context.Context, *onnx.Model, rewrite.Options) (*rewrite.Log, error) {
		return nil, errors.New("broken")
	}
	for name, tc := range map[string]struct {
		model string
		f     produce.Transform
		e     *engine
		want  string
	}{
		"the original does not load": {model, transform(t, doubleNeg), &engine{refuse: "Abs"}, "cannot be verified: the original does not load: no kernel for Abs"},
		"it cannot be left out":      {model, stubbornly, &engine{}, "cannot be left out"},
		"nothing was rewritten":      {model, silent, &engine{}, "nothing was rewritten, and yet"},
		"too many wrong rewrites":    {cosines, transform(t, wrongCos), &engine{}, "more than 8 rewrites change the result"},
		"the transform fails":        {model, broken, &engine{}, "broken"},
		"cancelled":                  {model, transform(t, doubleNeg), nil, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tc.e == nil {
				runs := 0
				tc.e = &engine{onRun: func() {
					if runs++; runs > 9 { // the original has run at both levels
						cancel()
					}
				}}
			}
			src := source(t, tc.model)
			before := read(t, src)
			if err := os.WriteFile(beside(src), []byte("as it was"), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := produce.File(ctx, beside(src), src, tc.f, produce.Options{Verify: &produce.Verify{Open: tc.e.open}})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
			same(t, "target", "as it was", read(t, beside(src)))
			same(t, "input", before, read(t, src))
			same(t, "folder", []string{"in.onnx", "out.onnx"}, folder(t, src))
		})
	}
}

// TestInPlace: the input is its own target only where that is allowed.
func TestInPlace(t *testing.T) {
	src := source(t, model)
	before := read(t, src)
	link := filepath.Join(filepath.Dir(src), "link.onnx")
	if err := os.Link(src, link); err != nil {
		t.Fatal(err)
	}
	for _, dst := range []string{src, link, filepath.Join(filepath.Dir(src), ".", "in.onnx")} {
		_, err := produce.File(t.Context(), dst, src, transform(t, doubleNeg), produce.Options{})
		if err == nil || !strings.Contains(err.Error(), "--in-place") {
			t.Errorf("%s: error is %v", dst, err)
		}
		same(t, "input", before, read(t, src))
	}
	r, err := produce.File(t.Context(), src, src, transform(t, doubleNeg), produce.Options{InPlace: true})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "operators", []string{"Sin", "Cos", "Atan", "Abs"}, ops(t, src))
	if r.Input.SHA256 == r.Output.SHA256 {
		t.Error("input and output have the same digest")
	}
	if _, err := produce.File(t.Context(), "", src, transform(t, doubleNeg), produce.Options{}); err == nil {
		t.Error("no target is no error")
	}
}

// TestBrokenByTheEngine: where the engine's own optimizations spoil the
// original, a result that agrees with what it gives without them is right.
func TestBrokenByTheEngine(t *testing.T) {
	src := source(t, model)
	e := &engine{broken: "Neg"}
	r, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg), produce.Options{Verify: &produce.Verify{Open: e.open}})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "rolled back", 0, len(r.RolledBack))
	same(t, "operators", []string{"Sin", "Cos", "Atan", "Abs"}, ops(t, beside(src)))
}

// TestRepair: what runtimes tolerate is mended first, and said.
func TestRepair(t *testing.T) {
	unsorted := `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,3] x) => (float[N,3] y) {
  y = Abs (b)
  b = Neg (a)
  a = Neg (x)
}`
	src := source(t, unsorted)
	r, err := produce.File(t.Context(), beside(src), src, transform(t), produce.Options{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "operators", []string{"Neg", "Neg", "Abs"}, ops(t, beside(src)))
	if len(r.Log.Notices) != 1 || !strings.Contains(r.Log.Notices[0], "execution order") {
		t.Errorf("notices are %q", r.Log.Notices)
	}
}

// TestNarrowOutput: an output of float32 that is computed in float16 is held to that, one that is not is held to float32.
func TestNarrowOutput(t *testing.T) {
	const text = `<ir_version: 8, opset_import: ["" : 17]>
main (float[N,3] x) => (float[N,3] y, float[N,3] z) {
  h = Cast <to = 10> (x)
  a = Neg (h)
  b = Neg (a)
  c = Sin (b)
  y = Cast <to = 1> (c)
  d = Neg (x)
  e = Neg (d)
  z = Sin (e)
}`
	src := source(t, text)
	e := &engine{}
	r, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg), produce.Options{Verify: &produce.Verify{Open: e.open}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, o := range r.Checked.Outputs {
		got[o.Name] = o.Class
	}
	same(t, "classes", map[string]string{"y": "float16", "z": "float32"}, got)
}

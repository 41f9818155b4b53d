package produce

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// fakeEngine computes y = x whatever the nodes are, except that Sin makes it
// wrong. It takes 1 ms times what slow says, with noise between processes and
// between runs; and it fuses every Relu but no Sigmoid.
type fakeEngine struct {
	rng    *rand.Rand
	slow   func(path string, m *onnx.Model) float64
	mute   bool // it cannot write its graph
	spoils bool // the graph that it writes computes something else
	opened int
}

func newFake(seed uint64, slow func(string, *onnx.Model) float64) *fakeEngine {
	return &fakeEngine{rng: rand.New(rand.NewPCG(seed, 1)), slow: slow}
}

func (f *fakeEngine) open(_ context.Context, path string, o session.Options) (session.Session, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if o.SaveModel != "" {
		if data := o.Config["session.optimized_model_external_initializers_file_name"]; !filepath.IsLocal(data) {
			return nil, fmt.Errorf("weights of the graph would go to %q, outside its folder", data)
		}
		if f.mute {
			return nil, errors.New("this engine writes no graphs")
		}
		c := optimized(m)
		if f.spoils {
			c.Graph.Last().Op = "Sin"
		}
		if _, err := onnxfile.Write(o.SaveModel, c, onnxfile.WriteOptions{}); err != nil {
			return nil, err
		}
	}
	f.opened++
	s := &fakeSession{f: f, each: 1e-3 * math.Exp(0.015*f.rng.NormFloat64())}
	if f.slow != nil {
		s.each *= f.slow(path, m)
	}
	for n := range m.Graph.Nodes() {
		s.wrong = s.wrong || n.Is("Sin")
	}
	return s, nil
}

// optimized is what the fake engine makes of m: a Relu is fused, a Sigmoid is
// left as the parts of what could have been fused.
func optimized(m *onnx.Model) *onnx.Model {
	c := m.Clone()
	for n := range c.Graph.Nodes() {
		switch n.Op {
		case "Relu":
			n.Domain, n.Op = "com.microsoft", "FusedConv"
		case "Sigmoid":
			n.Op = "Conv"
			act := onnx.NewNode("Clip", []*onnx.Value{n.Output(0)}, c.Fresh("act"))
			c.Graph.InsertAfter(act, n)
			c.Graph.Replace(n.Output(0), act.Output(0))
			act.SetInput(0, n.Output(0))
		}
	}
	c.ImportOpset("com.microsoft", 1)
	return c
}

type fakeSession struct {
	f     *fakeEngine
	each  float64 // seconds
	drift float64 // of the machine, in log seconds
	wrong bool
}

var xType = onnx.TensorType(onnx.Float, onnx.ShapeOf(2))

func (s *fakeSession) Inputs() []session.Port  { return []session.Port{{Name: "x", Type: xType}} }
func (s *fakeSession) Outputs() []session.Port { return []session.Port{{Name: "y", Type: xType}} }
func (s *fakeSession) Close() error            { return nil }

func (s *fakeSession) Run(_ context.Context, in map[string]*onnx.Tensor) (*session.Result, error) {
	y := in["x"].Renamed("y")
	if s.wrong {
		y = onnx.FromFloats("y", []int64{2}, []float32{7, 7})
	}
	return &session.Result{Outputs: map[string]*onnx.Tensor{"y": y}, Elapsed: s.time()}, nil
}

func (s *fakeSession) Time(_ context.Context, _ map[string]*onnx.Tensor, n int) ([]time.Duration, error) {
	out := make([]time.Duration, n)
	for i := range out {
		out[i] = s.time()
	}
	return out, nil
}

// time draws the time of one run: noise that hangs together over runs, noise
// that does not, and now and then an interruption.
func (s *fakeSession) time() time.Duration {
	s.drift = 0.95*s.drift + 0.01*s.f.rng.NormFloat64()
	t := s.each * math.Exp(s.drift+0.03*s.f.rng.NormFloat64())
	if s.f.rng.Float64() < 0.02 {
		t *= 1 + 3*s.f.rng.Float64()
	}
	return time.Duration(t * 1e9)
}

// swap is a rule that puts one operator in another's place.
func swap(name, from, to string) rewrite.Rule {
	return rewrite.Rule{Name: name, Doc: "for the test", Pattern: from + "(x)", Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		if to == "" {
			p.Swap(m.Root.Output(0), m.Value("x"))
		} else {
			p.Swap(m.Root.Output(0), p.Add(to, []*onnx.Value{m.Value("x")}))
		}
		return nil
	}}
}

// drill is a model with three sites for each of four rules.
func drill(t *testing.T) string {
	t.Helper()
	text := `<ir_version: 8, opset_import: ["" : 17]>
main (float[2] x) => (float[2] y) {
  a1 = Identity(x)
  b1 = Neg(a1)
  c1 = Relu(b1)
  a2 = Identity(c1)
  b2 = Neg(a2)
  c2 = Relu(b2)
  a3 = Identity(c2)
  b3 = Neg(a3)
  c3 = Relu(b3)
  d1 = Abs(c3)
  y = Floor(d1)
}
`
	m, err := onnxtext.Parse("drill", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "drill.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// fuseBy runs File with rules over the drill.
func fuseBy(t *testing.T, f *fakeEngine, g *Guard, seed uint64, rules ...rewrite.Rule) *Result {
	t.Helper()
	src := drill(t)
	pass, err := rewrite.Rules("rules", rules)
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "out.onnx")
	r, err := File(t.Context(), dst, src, func(ctx context.Context, m *onnx.Model, o rewrite.Options) (*rewrite.Log, error) {
		return rewrite.Run(ctx, m, []rewrite.Pass{pass}, nil, o)
	}, Options{Verify: &Verify{Open: f.open, Seed: seed}, Guard: g})
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dst), ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return r
}

// has reports whether m has a node of operator op.
func has(m *onnx.Model, op string) bool {
	return slices.ContainsFunc(slices.Collect(m.Graph.Nodes()), func(n *onnx.Node) bool { return n.Op == op })
}

// countOp counts the nodes of operator op in the file at path.
func countOp(t *testing.T, path, op string) int {
	t.Helper()
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return Count(m).Ops[op]
}

package profile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report/schematest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/name, or rewrites it under -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, d)
	}
}

func checkWidth(t *testing.T, name, table string, width int) {
	t.Helper()
	for line := range strings.Lines(table) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%s: a line of %d columns, want at most %d: %s", name, n, width, line)
			return
		}
	}
}

// residual is input [N,3,8,8] → Conv 4×3×3×3, padded → Relu → Conv 4×4×1×1 →
// Add of the Relu → GlobalAveragePool → Flatten → Gemm 4→2.
func residual() *onnx.Model {
	m := onnx.NewModel(17)
	m.ProducerName = "by hand"
	g := m.Graph
	floats := func(name string, shape ...int64) *onnx.Value {
		n, _ := onnx.ElementCount(shape)
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i % 2)
		}
		return g.AddInitializer(onnx.FromFloats(name, shape, v))
	}
	add := func(name, op string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
		n := onnx.NewNode(op, in, name+"_out")
		n.Name, n.Attrs = name, attrs
		g.Append(n)
		return n.Output(0)
	}
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(3), onnx.Fixed(8), onnx.Fixed(8)}))
	a := add("conv1", "Conv", []*onnx.Value{x, floats("w1", 4, 3, 3, 3), floats("b1", 4)}, onnx.IntsAttr("pads", 1, 1, 1, 1))
	r := add("relu", "Relu", []*onnx.Value{a})
	c := add("conv2", "Conv", []*onnx.Value{r, floats("w2", 4, 4, 1, 1)})
	s := add("add", "Add", []*onnx.Value{c, r})
	p := add("pool", "GlobalAveragePool", []*onnx.Value{s})
	f := add("flat", "Flatten", []*onnx.Value{p})
	g.AddOutput(add("fc", "Gemm", []*onnx.Value{f, floats("w3", 4, 2), floats("b3", 2)}))
	return m
}

func static(t *testing.T, m *onnx.Model, o StaticOptions) *StaticProfile {
	t.Helper()
	s, err := Static(m, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHandComputed(t *testing.T) {
	s := static(t, residual(), StaticOptions{Dims: map[string]int64{"N": 2}, Sparsity: true})
	// conv1: 2 images × 64 places × 4 maps × 27; conv2: × 4; fc: 2 × 4 × 2.
	if want := int64(2*64*4*27 + 2*64*4*4 + 2*4*2); s.Work.MACs != want {
		t.Errorf("%d MACs, want %d", s.Work.MACs, want)
	}
	if want := int64(108 + 4 + 16 + 8 + 2); s.Weights.Parameters != want || s.Weights.Bytes != 4*want {
		t.Errorf("%d parameters in %d bytes, want %d in %d", s.Weights.Parameters, s.Weights.Bytes, want, 4*want)
	}
	if z := s.Weights.Sparsity; z == nil || z.Zeros != 69 || z.Share != 0.5 {
		t.Errorf("sparsity %+v, want half of 138", z)
	}
	// While add runs, its two inputs and its output are alive: 3 × 2×4×8×8 floats.
	if a := s.Activations; a.PeakBytes != 3*2048 || a.NodeName != "add" || len(a.Live) != 3 {
		t.Errorf("activations %+v, want 6144 at add", a)
	}
	live := []int64{1536 + 2048, 2 * 2048, 2 * 2048, 3 * 2048, 2048 + 32, 64, 32 + 16}
	for i, n := range s.Nodes {
		if n.LiveBytes != live[i] {
			t.Errorf("%s: %d bytes alive, want %d", n.Name, n.LiveBytes, live[i])
		}
	}
	if d := cmp.Diff([]Dim{{Name: "N", Value: 2}}, s.Dims); d != "" || len(s.Assumptions) != 0 {
		t.Errorf("dims %s, assumptions %q", d, s.Assumptions)
	}
	n := s.Nodes[0]
	if d := cmp.Diff([]string{"float[2,3,8,8]", "float[4,3,3,3]", "float[4]"}, n.Inputs); d != "" || n.Work.BytesRead != 4*(384+112) || n.Work.BytesWritten != 2048 || n.Parameters != 112 {
		t.Errorf("conv1: %+v %s", n, d)
	}
}

func TestDimensions(t *testing.T) {
	s := static(t, residual(), StaticOptions{})
	if d := cmp.Diff([]Dim{{Name: "N", Value: 1, Assumed: true}}, s.Dims); d != "" || len(s.Assumptions) != 1 {
		t.Errorf("dims %s, assumptions %q", d, s.Assumptions)
	}
	if _, err := Static(residual(), StaticOptions{Dims: map[string]int64{"M": 2}}); err == nil {
		t.Error("a dimension that the model does not have was accepted")
	}
	m := residual()
	m.Graph.Inputs()[0].Type = onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol(""), onnx.Fixed(3), onnx.Symbol("H+1"), onnx.Fixed(8)})
	s = static(t, m, StaticOptions{Dims: map[string]int64{"x[0]": 3}})
	if got := s.Inputs[0].Used; got != "float[3,3,1,8]" {
		t.Errorf("input used as %s", got)
	}
	if _, err := Static(m, StaticOptions{Dims: map[string]int64{"x[0]": -3}}); err == nil {
		t.Error("a negative size was accepted")
	}
}

func TestUnknownOperator(t *testing.T) {
	m := residual()
	n := onnx.NewNode("Sharpen", []*onnx.Value{m.Graph.Inputs()[0]}, "sharp")
	n.Domain = "com.example"
	m.Graph.Append(n)
	s := static(t, m, StaticOptions{})
	want := Coverage{Nodes: 8, Counted: 7, Percent: 87.5, BytesPercent: s.Coverage.BytesPercent, Unknown: []UnknownSum{{"com.example.Sharpen", "operator not known", 1}}}
	if d := cmp.Diff(want, s.Coverage); d != "" {
		t.Error(d)
	}
	// What the unknown operator reads is known, what it writes is not.
	var all int64
	for _, n := range s.Nodes {
		all += n.Work.BytesRead + n.Work.BytesWritten
	}
	if want := 100 * float64(all-4*192) / float64(all); s.Coverage.BytesPercent != want {
		t.Errorf("%v %% of the traffic, want %v %%", s.Coverage.BytesPercent, want)
	}
}

func TestNoGraph(t *testing.T) {
	s := static(t, &onnx.Model{}, StaticOptions{})
	if s.Coverage.Percent != 100 || s.NodeCount != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBodies counts the body of a Loop as often as it runs and one branch of an If.
func TestBodies(t *testing.T) {
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 4)))
	cond := g.AddInput("cond", onnx.TensorType(onnx.Bool, onnx.ShapeOf()))
	w := g.AddInitializer(onnx.FromFloats("w", []int64{4, 4}, make([]float32, 16)))
	branch := func(name string, products int) *onnx.Graph {
		b := onnx.NewGraph(name)
		v := x
		for range products {
			n := onnx.NewNode("MatMul", []*onnx.Value{v, w}, m.Fresh(name))
			b.Append(n)
			v = n.Output(0)
		}
		b.AddOutput(v)
		return b
	}
	n := onnx.NewNode("If", []*onnx.Value{cond}, "y")
	n.Name = "choose"
	n.Attrs = []*onnx.Attr{{Name: "then_branch", Type: onnx.AttrGraph, G: branch("a", 1)}, {Name: "else_branch", Type: onnx.AttrGraph, G: branch("b", 3)}}
	g.Append(n)
	g.AddOutput(n.Output(0))
	s := static(t, m, StaticOptions{})
	if s.Work.MACs != 3*16 || s.Weights.Parameters != 16 || s.NodeCount != 5 {
		t.Errorf("%d MACs, %d parameters, %d nodes, want those of the longer branch", s.Work.MACs, s.Weights.Parameters, s.NodeCount)
	}
	if len(s.Assumptions) != 1 || s.Nodes[1].Path != "choose.then_branch" || s.Nodes[1].Runs != 0 {
		t.Errorf("assumptions %q, nodes %+v", s.Assumptions, s.Nodes[1])
	}
	// x, y and the first two products of the else branch.
	if s.Activations.PeakBytes != 1+16+16+2*16 {
		t.Errorf("activations %+v", s.Activations)
	}
}

func TestZeros(t *testing.T) {
	tests := []struct {
		d    onnx.DType
		b    []byte
		n    int64
		want int64
	}{
		{onnx.Float, []byte{0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0}, 3, 2},
		{onnx.Float16, []byte{0, 0x80, 0, 1}, 2, 1},
		{onnx.Int8, []byte{0, 0x80, 1}, 3, 1},
		{onnx.Int4, []byte{0x10, 0x00}, 3, 2},
		{onnx.Float4E2M1, []byte{0x81}, 2, 1},
		{onnx.Float8E4M3FNUZ, []byte{0x80, 0}, 2, 1},
		{onnx.Double, []byte{0, 0, 0, 0, 0, 0, 0, 0x80}, 1, 1},
	}
	for _, tt := range tests {
		if got := zerosOf(tt.d, tt.b, tt.n); got != tt.want {
			t.Errorf("%v %x: %d zeros, want %d", tt.d, tt.b, got, tt.want)
		}
	}
}

const publishedSchema = "../docs/schemas/profile-v1.json"

func TestSchema(t *testing.T) {
	want, err := schematest.Generate(".", "Profile", SchemaURI)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(publishedSchema, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say; run this test with -update and look at the difference", publishedSchema)
	}
}

func TestGolden(t *testing.T) {
	p := New(static(t, residual(), StaticOptions{Sparsity: true}), nil)
	p.Static.File = &File{Name: "residual\x1b[31m.onnx", Bytes: 1234567, ExternalBytes: 552}
	checkDocument(t, "static", p)
}

// checkDocument compares both forms of a profile with golden files, and the
// document with its schema.
func checkDocument(t *testing.T, name string, p *Profile) {
	t.Helper()
	b, err := p.JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name+".json", b)
	schema, err := os.ReadFile(publishedSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := schematest.Validate(schema, b); err != nil {
		t.Errorf("the document: %v", err)
	}
	var table bytes.Buffer
	if err := p.Table(&table, TableOptions{}); err != nil {
		t.Fatal(err)
	}
	checkWidth(t, name, table.String(), 80)
	golden(t, name+".txt", table.Bytes())
}

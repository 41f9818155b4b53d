package opset_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// absurd are attribute and tensor values that no well-formed model has.
var absurd = []int64{0, 1, -1, 2, 3, 5, -7, 64, 1 << 20, 1 << 40, -1 << 62, 1<<63 - 1, -1 << 63}

func drawInts(t *rapid.T, label string) []int64 {
	return rapid.SliceOfN(rapid.SampledFrom(absurd), 0, 6).Draw(t, label)
}

// drawType draws a type of any kind and rank.
func drawType(t *rapid.T, label string) *onnx.Type {
	elem := rapid.SampledFrom([]onnx.DType{onnx.Float, onnx.Int64, onnx.Int32, onnx.Bool, onnx.String, onnx.Uint8, onnx.Undefined, 99}).Draw(t, label+".elem")
	var s onnx.Shape
	if rapid.IntRange(0, 5).Draw(t, label+".ranked") > 0 {
		s = onnx.Shape{}
		for range rapid.IntRange(0, 6).Draw(t, label+".rank") {
			s = append(s, rapid.SampledFrom([]onnx.Dim{onnx.Fixed(0), onnx.Fixed(1), onnx.Fixed(2), onnx.Fixed(3), onnx.Fixed(1 << 62),
				onnx.Symbol("N"), onnx.Symbol("M"), onnx.Symbol("N-1"), onnx.Symbol("2*N+"), onnx.Symbol("a b{"), onnx.Symbol("")}).Draw(t, label+".dim"))
		}
	}
	tensor := onnx.TensorType(elem, s)
	switch rapid.IntRange(0, 12).Draw(t, label+".kind") {
	case 0:
		return &onnx.Type{Kind: onnx.KindSequence, Of: tensor}
	case 1:
		return &onnx.Type{Kind: onnx.KindOptional, Of: tensor}
	case 2:
		return &onnx.Type{Kind: onnx.KindMap, Key: onnx.Int64, Of: tensor}
	case 3:
		return &onnx.Type{Kind: onnx.KindSequence}
	case 4:
		return nil
	}
	return tensor
}

// drawAttr draws a value for an attribute, mostly of the right type.
func drawAttr(t *rapid.T, s opset.AttrSpec) *onnx.Attr {
	kind := s.Type
	if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 {
		kind = onnx.AttrType(rapid.IntRange(0, 14).Draw(t, "kind"))
	}
	a := &onnx.Attr{Name: s.Name, Type: kind}
	a.I = rapid.SampledFrom(absurd).Draw(t, "i")
	a.F = rapid.Float32().Draw(t, "f")
	a.Ints = drawInts(t, "ints")
	a.S = []byte(rapid.SampledFrom([]string{"", "SAME_UPPER", "VALID", "ij,jk->ik", "...i,->", "i.j", "bidirectional", "none"}).Draw(t, "s"))
	a.Floats = rapid.SliceOfN(rapid.Float32(), 0, 5).Draw(t, "floats")
	a.Strings = [][]byte{[]byte("x"), nil}
	if rapid.Bool().Draw(t, "tensor") {
		a.T = onnx.FromInts("t", []int64{2}, []int64{rapid.SampledFrom(absurd).Draw(t, "e"), 3})
	}
	if kind == onnx.AttrGraph && rapid.Bool().Draw(t, "graph") {
		g := onnx.NewGraph("body")
		for range rapid.IntRange(0, 4).Draw(t, "body inputs") {
			g.AddInput("b", drawType(t, "body"))
		}
		for _, v := range g.Inputs() {
			g.AddOutput(v)
		}
		a.G = g
	}
	return a
}

// TestHostileNodes gives every operator inputs, attributes and outputs of any
// number and kind. Inference and cost must end without a panic, and a second
// inference must agree with what the first wrote into the model.
func TestHostileNodes(t *testing.T) {
	ops := opset.All()
	rapid.Check(t, func(t *rapid.T) {
		op := rapid.SampledFrom(ops).Draw(t, "op")
		version := rapid.SampledFrom(op.Versions).Draw(t, "version")
		m := onnx.NewModel(version)
		m.Opsets = []onnx.Opset{{Version: version}, {Domain: op.Domain, Version: version}}
		if op.Domain == "" {
			m.Opsets = m.Opsets[:1]
		}
		form := opset.Lookup(op.Domain, op.Name, version)
		var in []*onnx.Value
		for i := range rapid.IntRange(0, len(form.Inputs)+2).Draw(t, "inputs") {
			switch rapid.IntRange(0, 4).Draw(t, "input") {
			case 0:
				in = append(in, nil)
			case 1:
				n := drawInts(t, "content")
				in = append(in, m.Graph.AddInitializer(onnx.FromInts(m.Fresh("c"), []int64{int64(len(n))}, n)))
			case 2:
				in = append(in, m.Graph.AddInitializer(onnx.FromFloats(m.Fresh("f"), nil, []float32{rapid.Float32().Draw(t, "scalar")})))
			default:
				in = append(in, m.Graph.AddInput(m.Fresh("x"), drawType(t, string(rune('a'+i)))))
			}
		}
		n := onnx.NewNode(form.Name, in, []string{"y0", "", "y2", "y3"}[:rapid.IntRange(0, 4).Draw(t, "outputs")]...)
		n.Domain = op.Domain
		for _, s := range form.Attrs {
			if rapid.IntRange(0, 4).Draw(t, "attr") > 0 {
				n.Attrs = append(n.Attrs, drawAttr(t, s))
			}
		}
		m.Graph.Append(n)
		f, err := opset.Infer(m, opset.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.Cost(n)
		again, err := opset.Infer(m, opset.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range again.Contradictions {
			for _, v := range n.Outputs() {
				if c.Value == v {
					t.Fatalf("%v: %v, then %v", n, c.Declared, c.Inferred)
				}
			}
		}
	})
}

// TestUnsortedAndCyclic infers a graph whose nodes read what comes later.
func TestUnsortedAndCyclic(t *testing.T) {
	m := onnx.NewModel(17)
	a := onnx.NewNode("Relu", nil, "a")
	b := onnx.NewNode("Relu", []*onnx.Value{a.Output(0)}, "b")
	m.Graph.Append(a)
	m.Graph.Append(b)
	a.SetInput(0, b.Output(0))
	f, err := opset.Infer(m, opset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Type(b.Output(0)); got != nil {
		t.Errorf("type %v out of nothing", got)
	}
}

// TestRecursiveFunction infers a function that calls itself, and a chain of
// functions each calling the next one twice.
func TestRecursiveFunction(t *testing.T) {
	m := onnx.NewModel(17)
	m.ImportOpset("local", 1)
	opsets := []onnx.Opset{{Version: 17}, {Domain: "local", Version: 1}}
	const length = 24
	for i := range length + 1 {
		g := onnx.NewGraph("body")
		v := g.AddInput("x", nil)
		next := string(rune('a' + i + 1))
		if i == length {
			next = string(rune('a' + i)) // itself
		}
		for range 2 {
			n := onnx.NewNode(next, []*onnx.Value{v}, "y")
			n.Domain = "local"
			g.Append(n)
			v = n.Output(0)
		}
		g.AddOutput(v)
		m.AddFunction(&onnx.Function{Name: string(rune('a' + i)), Domain: "local", Opsets: opsets, Body: g})
	}
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	n := onnx.NewNode("a", []*onnx.Value{x}, "y")
	n.Domain = "local"
	m.Graph.Append(n)
	f, err := opset.Infer(m, opset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !f.Incomplete {
		t.Error("2^24 calls were followed")
	}
}

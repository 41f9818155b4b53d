package quantize

import (
	"math"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/meaning"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// leastMeaning is what every output keeps in dB where its weights have values that every format has, and nothing else is rounded.
const leastMeaning = 20

// FuzzMeaning changes small models a little, gives them weights of three values, which every format of weights has, and quantizes these: what is computed stays.
func FuzzMeaning(f *testing.F) {
	all := meaning.NewBases(f, "../fuse/testdata/*.txtar", "../fuse/testdata/*/*.txtar")
	for _, name := range []string{"tabular", "lstm", "gru", "bert", "transformer", "llama", "gpt2"} {
		for _, style := range nets.StylesOf(name) {
			m, err := nets.Build(name, nets.Options{Style: style, Batch: 1, Seq: 3})
			if err != nil {
				f.Fatal(err)
			}
			all[name+"/"+string(style)] = m
		}
	}
	all.Fuzz(f, func(t *testing.T, m *onnx.Model, how uint8) {
		ternary(t, m)
		keepsMeaning(t, m, how)
	})
}

// ternary gives the matrices of m three values. That of the largest size is the lowest code, whose opposite there is not.
func ternary(t *testing.T, m *onnx.Model) {
	t.Helper()
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			c := v.Constant()
			if c == nil || !c.DType.IsFloat() || len(c.Shape) < 2 || math.MaxInt32 < c.Size() {
				continue
			}
			x, err := c.Float64s()
			if err != nil {
				continue
			}
			x = slices.Clone(x)
			most := 0.0
			for _, e := range x {
				most = max(most, math.Abs(e))
			}
			for i, e := range x {
				switch {
				case math.Abs(e) < most/4 || most == 0 || math.IsInf(most, 0) || math.IsNaN(most):
					x[i] = 0
				case e < 0:
					x[i] = -0.5
				default:
					x[i] = 0.25
				}
			}
			out, err := onnx.FromFloat64s(c.Name, c.DType, c.Shape, x)
			if err != nil {
				t.Fatal(err)
			}
			v.SetConst(out)
		}
	}
}

// meantWays are ways to quantize that round nothing but weights.
var meantWays = []Options{
	{To: Int8, WeightOptions: WeightOptions{WeightOnly: true}},
	{To: Int4, WeightOptions: WeightOptions{BlockSize: 16}},
	{To: Int4, WeightOptions: WeightOptions{Form: string(formPlain), BlockSize: 16}},
	{To: Int8, WeightOptions: WeightOptions{WeightOnly: true, Form: string(formPlain)}},
}

func keepsMeaning(t *testing.T, m *onnx.Model, how uint8) {
	t.Helper()
	want, ok := meaning.Of(t.Context(), m, uint64(how))
	if !ok {
		return
	}
	after := meaning.Reread(t, m)
	transform, _, err := Transform(meantWays[int(how)%len(meantWays)])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transform(t.Context(), after, rewrite.Options{}); err != nil {
		return // refused, with a reason
	}
	if err := after.Check(); err != nil {
		t.Fatalf("the result is not valid: %v\n%s", err, meaning.Text(m))
	}
	if err := want.Below(t.Context(), after, leastMeaning); err != nil {
		t.Fatalf("%v\n%s\n%s", err, meaning.Text(m), meaning.Text(after))
	}
}

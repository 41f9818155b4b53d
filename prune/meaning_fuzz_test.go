package prune

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/meaning"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
)

// quick are the networks that are computed in a few milliseconds.
var quick = []string{"tabular", "lstm", "gru", "bert", "transformer", "llama"}

// bases are models for [FuzzMeaning]: those of the tests of fuse, blocks of fused operators, and small networks.
func bases(f *testing.F) meaning.Bases {
	out := meaning.NewBases(f, "../fuse/testdata/*.txtar", "../fuse/testdata/*/*.txtar")
	r := rand.New(rand.NewPCG(1, 2))
	for name, text := range fusedNetworks {
		m, err := onnxtext.Parse(name, []byte(text))
		if err != nil {
			f.Fatal(err)
		}
		for _, v := range slices.Clone(m.Graph.Inputs()) {
			if shape, ok := v.Type.Shape.Static(); ok && strings.HasPrefix(v.Name(), "w") {
				c := drawn(r, v.Name()+"_weight", shape)
				if err := m.Graph.Replace(v, m.Graph.NewConst(c)); err != nil {
					f.Fatal(err)
				}
				if err := m.Graph.RemoveInput(v); err != nil {
					f.Fatal(err)
				}
			}
		}
		out[name] = m
	}
	for _, name := range quick {
		m, err := nets.Build(name, nets.Options{Style: nets.StylesOf(name)[0], Batch: 1, Seq: 3})
		if err != nil {
			f.Fatal(err)
		}
		out[name] = m
	}
	return out
}

// FuzzMeaning changes small models a little, sets a part of their units to zero, and takes exactly these out: what is computed stays.
func FuzzMeaning(f *testing.F) { bases(f).Fuzz(f, meaningOracle) }

// awake reports whether something other than zero is computed of weights that are zero, or the filters of a convolution are no weights: units are
// not dead then where their weights are zero.
func awake(m *onnx.Model) bool {
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if (n.Is("Conv") || n.Is("ConvTranspose")) && n.Input(1).Constant() == nil {
				return true
			}
			if v := n.Input(0); v.Constant() != nil && slices.Contains([]string{"Exp", "Sigmoid", "Softmax", "Cos", "HardSigmoid", "Softplus"}, n.Op) {
				return true
			}
		}
	}
	return false
}

func meaningOracle(t *testing.T, m *onnx.Model, how uint8) {
	t.Helper()
	if _, err := m.Repair(); err != nil || m.Check() != nil || awake(m) {
		return
	}
	share := []float64{0.3, 0.6, 0.1}[how%3]
	blocked := map[string]string{}
	p := &structured{o: &StructureOptions{Importance: ByL2, Scope: Layer, Sparsity: share}}
	for range 100 {
		zero := m.Clone()
		if initialize(zero) != nil {
			return
		}
		pl, err := p.plan(zero, share, blocked)
		if err != nil {
			return
		}
		pl.groups = exact(pl.groups)
		if pl.removed = pl.d.choose(pl.groups, choice{share, Layer, 1, 0}); len(pl.removed) == 0 {
			return
		}
		erase(t, pl.d, pl.removed)
		want, ok := meaning.Of(t.Context(), zero, uint64(how))
		if !ok {
			return
		}
		small := zero.Clone()
		d, err := newDims(small, nil, blocked)
		if err != nil {
			t.Fatal(err)
		}
		err = d.shrink(pl.removed)
		if no, is := err.(*mismatch); is && blocked[nodeKey(no.node)] == "" {
			blocked[nodeKey(no.node)] = no.why
			continue
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, meaning.Text(zero))
		}
		if err := small.Check(); err != nil {
			t.Fatalf("the result is not valid: %v\n%s", err, meaning.Text(zero))
		}
		if err := want.Differs(t.Context(), small); err != nil {
			t.Fatalf("%v\n%s\n%s", err, meaning.Text(zero), meaning.Text(small))
		}
		return
	}
}

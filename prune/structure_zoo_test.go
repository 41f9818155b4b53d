package prune

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/trial"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// bundled opens a model of testdata and data for it.
func bundled(t *testing.T, model, data string, limit int64) (*onnx.Model, *trial.Options) {
	t.Helper()
	path := filepath.Join("..", "testdata", model+".onnx")
	m, err := onnxfile.Open(path, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	var ports []dataset.Port
	for _, v := range m.Graph.Inputs() {
		ports = append(ports, dataset.Port{Name: v.Name(), Type: v.Type})
	}
	set, err := dataset.Open(filepath.Join("..", "testdata", data), dataset.Options{Inputs: ports, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return m, &trial.Options{Data: set, Open: ort.Opener(zootest.Library(t)), Session: session.Options{Threads: 1}, Batch: 1, Most: limit}
}

// TestImportances holds that every criterion but plain chance is better than
// removing the units that it holds for the best.
func TestImportances(t *testing.T) {
	for _, by := range UnitImportances() {
		t.Run(string(by), func(t *testing.T) {
			m, data := bundled(t, "digits-cnn", "digits-calib.npz", 12)
			held, err := trial.New(t.Context(), m, *data)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			o := &StructureOptions{Pattern: Channels, Importance: by, Sparsity: 0.2, Data: data}
			if err := o.validate(); err != nil {
				t.Fatal(err)
			}
			o.Scope = Layer
			db := func(turned bool) float64 {
				p := &structured{o: o, turned: turned}
				c := m.Clone()
				if err := p.settle(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				small, err := p.shrunk(t.Context(), c, 0.2, false)
				if err != nil {
					t.Fatal(err)
				}
				s, err := held.Score(t.Context(), small)
				if err != nil {
					t.Fatal(err)
				}
				return s.DB
			}
			least, most := db(false), db(true)
			t.Logf("without the least important fifth %.1f dB, without the most important %.1f dB", least, most)
			if least <= most {
				t.Errorf("%.1f dB without the least important, %.1f dB without the most important", least, most)
			}
		})
	}
}

// TestLayers removes residual blocks of a transformer, the least important first.
func TestLayers(t *testing.T) {
	m, data := bundled(t, "digits-vit", "digits-calib.npz", 32)
	o := &ShrinkOptions{StructureOptions: StructureOptions{Pattern: Layers, Sparsity: 0.3, Data: data}}
	j, err := newShrinkJob(o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	log, err := j.transform(t.Context(), m, o.Rewrite)
	if err != nil {
		t.Fatal(err)
	}
	r := j.result()
	if len(log.Fired) == 0 || r.After.MACs >= r.Before.MACs {
		t.Errorf("%d blocks went, MACs %d → %d", len(log.Fired), r.Before.MACs, r.After.MACs)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// TestGoals reaches what can be reached and says what cannot.
func TestGoals(t *testing.T) {
	for _, c := range []struct {
		name string
		o    StructureOptions
		met  bool
	}{
		{"macs", StructureOptions{MACsRatio: 0.6}, true},
		{"parameters", StructureOptions{ParamsRatio: 0.5}, true},
		{"accuracy", StructureOptions{MaxDrop: 3}, true},
		{"out of reach", StructureOptions{MACsRatio: 0.001}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, data := bundled(t, "digits-cnn", "digits-calib.npz", 64)
			o := &ShrinkOptions{StructureOptions: c.o}
			o.Pattern, o.Data, o.Repair = Channels, data, "none"
			j, err := newShrinkJob(o)
			if err != nil {
				t.Fatal(err)
			}
			defer j.close()
			if _, err := j.transform(t.Context(), m, o.Rewrite); err != nil {
				t.Fatal(err)
			}
			g := j.units.goal
			if g.Met != c.met {
				t.Errorf("met %v with %v", g.Met, g.Reached)
			}
			r := j.result()
			if got := float64(r.After.MACs) / float64(r.Before.MACs); c.met && c.o.MACsRatio > 0 && (got > 0.6 || got < 0.5) {
				t.Errorf("MACs at %.2f of before", got)
			}
			if got := float64(r.After.Parameters) / float64(r.Before.Parameters); c.o.ParamsRatio > 0 && (got > 0.5 || got < 0.4) {
				t.Errorf("parameters at %.2f of before", got)
			}
		})
	}
}

// TestDead finds what contributes nothing and leaves the rest.
func TestDead(t *testing.T) {
	m := onnx.NewModel(17)
	g := m.Graph
	x := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 4)))
	dense := func(name string, in *onnx.Value, rows, cols int64, w []float32, bias []float32) *onnx.Value {
		n := onnx.NewNode("Gemm", []*onnx.Value{in, g.AddInitializer(onnx.FromFloats(name+"w", []int64{rows, cols}, w)),
			g.AddInitializer(onnx.FromFloats(name+"b", []int64{cols}, bias))}, name)
		n.Name = name
		g.Append(n)
		return n.Output(0)
	}
	ones := func(n int) []float32 { return slices.Repeat([]float32{1}, n) }
	// Of five hidden neurons the first is computed from zeros, the second read with
	// zeros, the third has a bias and the fourth a NaN-free life of its own.
	w1 := ones(20)
	for r := range 4 {
		w1[r*5], w1[r*5+2] = 0, 0
	}
	h := dense("a", x, 4, 5, w1, []float32{0, 1, 0.5, 1, 1})
	relu := onnx.NewNode("Relu", []*onnx.Value{h}, "h")
	g.Append(relu)
	w2 := ones(10)
	w2[2], w2[3] = 0, 0
	g.AddOutput(dense("y", relu.Output(0), 5, 2, w2, []float32{0, 0}))

	p := &structured{o: &StructureOptions{Pattern: Neurons, Importance: ByL2, Scope: Global}}
	small, err := func() (*onnx.Model, error) {
		p.blocked = map[string]string{}
		return p.shrunk(t.Context(), m, 0, false)
	}()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range small.Graph.Initializers() {
		if v.Name() == "aw" && v.Const.Shape[1] != 3 {
			t.Errorf("%d of 5 neurons stay, want 3", v.Const.Shape[1])
		}
	}
	in := map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{1, 4}, []float32{1, -2, 3, 0.25})}
	sameOutputs(t, ort.Opener(zootest.Library(t)), m, small, in)
}

// TestCounts holds rounding, floors and scopes.
func TestCounts(t *testing.T) {
	mk := func(n int, first float64) *candidateGroup {
		g := &candidateGroup{group: &group{units: make([]unit, n)}}
		for i := range n {
			g.scores = append(g.scores, first+float64(i))
		}
		return g
	}
	for _, c := range []struct {
		name string
		c    choice
		want []int
	}{
		{"layer", choice{0.25, Layer, 1, 0}, []int{8, 4}},
		{"rounded to 8", choice{0.3, Layer, 8, 0}, []int{8, 8}},
		{"floor", choice{0.9, Layer, 1, 0.5}, []int{16, 8}},
		{"never all", choice{0.999, Layer, 1, 0}, []int{31, 15}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.c.counts([]*candidateGroup{mk(32, 1), mk(16, 1)}); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	// Over all groups a group of which every unit matters alike loses less than one with idle units.
	idle := mk(32, 0)
	for i := range idle.scores[:16] {
		idle.scores[i] = 1e-6
	}
	got := choice{1. / 3, Global, 1, 0}.counts([]*candidateGroup{idle, mk(16, 100)})
	if !slices.Equal(got, []int{16, 0}) {
		t.Errorf("global: got %v, want [16 0]", got)
	}
}

// TestEvenly meets the quotas of two ways of dividing at once.
func TestEvenly(t *testing.T) {
	var c component
	c.partitions = []partition{{4, 6}, {3, 8}}
	for i := range 24 {
		c.members = append(c.members, member{int32(i), math.Mod(float64(i)*7, 11), []int{i / 6, i % 3}})
	}
	for gone := range 24 {
		counts := [2]map[int]int{{}, {}}
		for _, m := range c.evenly(gone) {
			counts[0][m.blocks[0]]++
			counts[1][m.blocks[1]]++
		}
		for k, n := range counts {
			for b := range n {
				if n[b] != n[0] || len(n) != c.partitions[k].blocks {
					t.Errorf("%d asked: blocks lose %v", gone, n)
					break
				}
			}
		}
	}
}

// TestRepair holds that what is left makes up for at least half of what was lost.
func TestRepair(t *testing.T) {
	for _, c := range []struct {
		model string
		o     StructureOptions
	}{
		{"digits-cnn", StructureOptions{Pattern: Channels}},
		{"digits-vit", StructureOptions{Pattern: Neurons}},
		{"digits-vit", StructureOptions{Pattern: Heads}},
	} {
		t.Run(c.model+"/"+string(c.o.Pattern), func(t *testing.T) {
			m, data := bundled(t, c.model, "digits-calib.npz", 128)
			_, val := bundled(t, c.model, "digits-val.npz", 100)
			held, err := trial.New(t.Context(), m, *val)
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			noise := map[string]float64{}
			for _, repair := range []string{"none", "auto"} {
				o := c.o
				o.Importance, o.Data, o.Repair, o.Scope, o.Sparsity = ByActivity, data, repair, Layer, 0.3
				if err := o.validate(); err != nil {
					t.Fatal(err)
				}
				p := &structured{o: &o}
				small := m.Clone()
				if _, err := rewrite.Run(t.Context(), small, []rewrite.Pass{p}, nil, rewrite.Options{}); err != nil {
					t.Fatal(err)
				}
				s, err := held.Score(t.Context(), small)
				if err != nil {
					t.Fatal(err)
				}
				noise[repair] = noiseOf(s.SQNR)
				for _, r := range p.result.Repairs {
					if r.Name == RepairChain {
						t.Logf("%+v", r)
					}
				}
				t.Logf("repair %s: %.1f dB, %d of %d right", repair, s.SQNR, s.Right, s.Rows)
				p.held.Close()
			}
			if noise["auto"] > noise["none"]/2 {
				t.Errorf("the noise goes from %.3g to %.3g", noise["none"], noise["auto"])
			}
		})
	}
}

// zooModels are trained models with data for one run.
var zooModels = []struct{ model, data string }{
	{"mnist-8", "mnist.npz"}, {"mnist-cnn", "mnist.npz"}, {"squeezenet1.1", "synthetic:1"}, {"magika-fast", "magika-fast.npz"},
	{"stories260K", "stories.npz"}, {"silero-vad", "silero.npz"}, {"ultraface-rfb-320", "synthetic:1"}, {"ultraface-slim-320", "synthetic:1"},
	{"fns-candy", "synthetic:1"}, {"iris-mlp", "iris.npz"},
}

// TestOracleZoo is [TestOracle] for trained models.
func TestOracleZoo(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, z := range zooModels {
		t.Run(z.model, func(t *testing.T) {
			m, err := onnxfile.Open(zootest.Path(t, "models/"+z.model+".onnx"), onnxfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			var ports []dataset.Port
			for _, v := range m.Graph.Inputs() {
				if v.Const == nil {
					ports = append(ports, dataset.Port{Name: v.Name(), Type: v.Type})
				}
			}
			spec := z.data
			if !strings.HasPrefix(spec, "synthetic") {
				spec = zootest.Path(t, "data/"+spec)
			}
			set, err := dataset.Open(spec, dataset.Options{Inputs: ports, Limit: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer set.Close()
			for _, v := range slices.Clone(m.Graph.Inputs()) {
				if v.Const != nil && v.Constant() == nil {
					if err := m.Graph.Freeze(v); err != nil {
						t.Fatal(err)
					}
				}
			}
			for b, err := range calibrate.Over(t.Context(), set, 1).Batches {
				if err != nil {
					t.Fatal(err)
				}
				in, err := b.Inputs()
				if err != nil {
					t.Fatal(err)
				}
				oracleOn(t, open, m, in)
			}
		})
	}
}

package prune

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/trial"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// topologies are the networks that removal by structure is held against.
var topologies = []string{"resnet50", "mobilenetv2", "mobilenetv3", "efficientnet-b0", "densenet121", "vgg19", "yolov8n", "unet",
	"bert", "gpt2", "llama", "vit", "transformer", "whisper-encoder", "tabular", "lstm", "gru", "gtcrn"}

// lights are published topologies whose weights the corpus leaves out.
var lights = []string{"bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19", "zfnet512"}

// built returns a network in its tiny form.
func built(t *testing.T, name string, style nets.Style) *onnx.Model {
	t.Helper()
	m, err := nets.Build(name, nets.Options{Style: style, Batch: 2, Seq: 7})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// light returns a topology of the corpus with seeded weights of the usual scale.
func light(t *testing.T, name string) *onnx.Model {
	t.Helper()
	data := zootest.Archive(t, "light")["light_"+name+".onnx"]
	m, err := onnxfile.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	f, err := opset.Infer(m, opset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range m.Graph.Nodes() {
		if !n.Is("ConstantOfShape") {
			continue
		}
		shape, ok := f.Shape(n.Output(0)).Static()
		if !ok {
			t.Fatalf("%v: no shape", n)
		}
		count, _ := onnx.ElementCount(shape)
		fan := 1.0
		for _, k := range shape[min(1, len(shape)):] {
			fan *= float64(k)
		}
		v := make([]float32, count)
		for i := range v {
			if v[i] = float32(r.NormFloat64() * math.Sqrt(2/fan)); len(shape) == 1 {
				v[i] = 0.5 + r.Float32()
			}
		}
		if err := m.Graph.Replace(n.Output(0), m.Graph.NewConst(onnx.FromFloats(m.Fresh(n.Output(0).Name()), shape, v))); err != nil {
			t.Fatal(err)
		}
	}
	m.Graph.Sweep()
	return m
}

// erase sets the slices of everything that goes to zero, in every weight.
func erase(t *testing.T, d *dims, removed map[int32]bool) {
	t.Helper()
	for _, a := range d.axes {
		v := a.Value
		c := v.Constant()
		if c == nil || v == nil || !c.DType.IsFloat() || variance(v) {
			continue
		}
		var gone []int
		for k := range a.size {
			if removed[d.find(int32(a.base+k))] {
				gone = append(gone, k)
			}
		}
		if len(gone) > 0 {
			v.SetConst(slicesZeroed(t, c, a.Axis.Axis, gone))
		}
	}
	for n := range d.nodes() {
		if n.Is("Conv") && d.derived[opset.Axis{Value: n.Input(1), Axis: 1}] {
			eraseGrouped(t, d, n, removed)
		}
	}
}

// variance reports whether v is what a BatchNormalization divides by.
func variance(v *onnx.Value) bool {
	return slices.ContainsFunc(v.Uses(), func(u onnx.Use) bool { return u.Node.Is("BatchNormalization") && u.Index == 4 })
}

func slicesZeroed(t *testing.T, c *onnx.Tensor, axis int, gone []int) *onnx.Tensor {
	values, err := c.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	values = slices.Clone(values)
	inner := 1
	for _, n := range c.Shape[axis+1:] {
		inner *= int(n)
	}
	for at := 0; at < len(values); at += inner * int(c.Shape[axis]) {
		for _, k := range gone {
			clear(values[at+k*inner : at+(k+1)*inner])
		}
	}
	out, err := onnx.FromFloat64s(c.Name, c.DType, c.Shape, values)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eraseGrouped zeroes the weights by which a grouped convolution reads channels that go.
func eraseGrouped(t *testing.T, d *dims, n *onnx.Node, removed map[int32]bool) {
	a := d.axes[d.index[opset.Axis{Value: n.Input(0), Axis: 1}]]
	w := n.Input(1).Constant()
	values, err := w.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	values = slices.Clone(values)
	group := int(n.Int("group", 1))
	per, rows := a.size/group, int(w.Shape[0])/group
	inner := len(values) / int(w.Shape[0]) / per
	for k := range a.size {
		if !removed[d.find(int32(a.base+k))] {
			continue
		}
		for r := k / per * rows; r < (k/per+1)*rows; r++ {
			at := (r*per + k%per) * inner
			clear(values[at : at+inner])
		}
	}
	out, err := onnx.FromFloat64s(w.Name, w.DType, w.Shape, values)
	if err != nil {
		t.Fatal(err)
	}
	n.Input(1).SetConst(out)
}

// exact leaves out groups over which a node takes statistics that removal changes
// whatever the values are.
func exact(list []*candidateGroup) []*candidateGroup {
	return slices.DeleteFunc(list, func(g *candidateGroup) bool {
		return g.norm != nil && !strings.Contains(g.norm.Op, "RMS") && !strings.Contains(g.norm.Op, "Simplified")
	})
}

// TestOracle zeroes channels first and takes exactly those out: the outputs must
// stay what they were.
func TestOracle(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, name := range topologies {
		for _, style := range nets.StylesOf(name)[:2] {
			t.Run(name+"/"+string(style), func(t *testing.T) { oracle(t, open, built(t, name, style)) })
		}
	}
	for _, name := range lights {
		t.Run("light/"+name, func(t *testing.T) {
			if !zootest.Chosen(name) && name != "shufflenet" {
				t.Skip("not in the fifth of the corpus that runs by default")
			}
			oracle(t, open, light(t, name))
		})
	}
}

func oracle(t *testing.T, open session.Opener, m *onnx.Model) {
	in, err := nets.Inputs(m, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range m.Graph.Inputs() {
		if v.Constant() != nil {
			delete(in, v.Name())
		}
	}
	oracleOn(t, open, m, in)
}

// oracleOn removes a third of the units of every exact group.
func oracleOn(t *testing.T, open session.Opener, m *onnx.Model, in map[string]*onnx.Tensor) {
	blocked := map[string]string{}
	p := &structured{o: &StructureOptions{Importance: ByL2, Scope: Layer, Sparsity: 0.3}}
	for {
		zero := m.Clone()
		if err := initialize(zero); err != nil {
			t.Fatal(err)
		}
		pl, err := p.plan(zero, 0.3, blocked)
		if err != nil {
			t.Fatal(err)
		}
		pl.groups = exact(pl.groups)
		pl.removed = pl.d.choose(pl.groups, choice{0.3, Layer, 1, 0})
		if len(pl.removed) == 0 {
			t.Fatal("nothing can be removed")
		}
		erase(t, pl.d, pl.removed)
		small := zero.Clone()
		d, err := newDims(small, nil, blocked)
		if err != nil {
			t.Fatal(err)
		}
		err = d.shrink(pl.removed)
		if no, is := err.(*mismatch); is && blocked[nodeKey(no.node)] == "" {
			t.Logf("does not fit: %v", no)
			blocked[nodeKey(no.node)] = no.why
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := small.Check(); err != nil {
			t.Fatal(err)
		}
		cost, err := costs(zero, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, after := totals(zero, cost), totalsOf(t, small)
		t.Logf("%d groups, %d units gone; MACs %d → %d, parameters %d → %d; reach %.1f %% of MACs %v", len(pl.groups), len(pl.removed),
			before.MACs, after.MACs, before.Parameters, after.Parameters, 100*pl.coverage(cost).MACs, pl.coverage(cost).Pinned)
		sameOutputs(t, open, zero, small, in)
		return
	}
}

func totalsOf(t *testing.T, m *onnx.Model) Totals {
	f, err := costs(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	return totals(m, f)
}

func sameOutputs(t *testing.T, open session.Opener, a, b *onnx.Model, in map[string]*onnx.Tensor) {
	t.Helper()
	dir := t.TempDir()
	want, got := runOutputs(t, open, filepath.Join(dir, "a.onnx"), a, in), runOutputs(t, open, filepath.Join(dir, "b.onnx"), b, in)
	named, err := compare.Outputs(want, got, compare.ClassFor)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range named {
		if !d.OK {
			t.Errorf("output %q: %s", d.Name, d.Reason)
		}
	}
}

func runOutputs(t *testing.T, open session.Opener, path string, m *onnx.Model, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), path, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r.Outputs
}

// TestStructuredPass runs the pass over a network and finds it smaller.
func TestStructuredPass(t *testing.T) {
	m := built(t, "resnet50", nets.TorchScript)
	p := &structured{o: &StructureOptions{Pattern: Channels, Importance: ByL2, Scope: Global, MACsRatio: 0.5}}
	if err := p.o.validate(); err != nil {
		t.Fatal(err)
	}
	if _, err := rewrite.Run(t.Context(), m, []rewrite.Pass{p}, nil, rewrite.Options{}); err != nil {
		t.Fatal(err)
	}
	ratio := float64(p.result.After.MACs) / float64(p.result.Before.MACs)
	if ratio > 0.5 || ratio < 0.4 {
		t.Errorf("MACs at %.2f of before, want about 0.5", ratio)
	}
}

// TestNothingToRepair: where only what contributes nothing goes, nothing is repaired, so
// that data for the check of the result may be of a model without outputs to compare.
func TestNothingToRepair(t *testing.T) {
	for sparsity, want := range map[float64]bool{0: false, 0.5: true} {
		o := StructureOptions{Pattern: Channels, Sparsity: sparsity, Data: &trial.Options{}}
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		if o.looks() != want || o.measured() != want {
			t.Errorf("sparsity %v: looks %v, measured %v", sparsity, o.looks(), o.measured())
		}
	}
}

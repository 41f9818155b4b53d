package fuse_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// layers builds a network layer by layer, with random weights.
type layers struct {
	m *onnx.Model
	v *onnx.Value // the last value
	r *rand.Rand
}

func newLayers(shape ...int64) *layers {
	l := &layers{m: onnx.NewModel(17), r: rand.New(rand.NewPCG(3, 4))}
	l.v = l.m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(shape...)))
	return l
}

// op adds a node that reads the last value and in.
func (l *layers) op(name string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	return l.on(l.v, name, in, attrs...)
}

// on adds a node that reads x and in.
func (l *layers) on(x *onnx.Value, name string, in []*onnx.Value, attrs ...*onnx.Attr) *onnx.Value {
	n := onnx.NewNode(name, append([]*onnx.Value{x}, in...), l.m.Fresh(name))
	n.Attrs = attrs
	l.m.Graph.Append(n)
	l.v = n.Output(0)
	return l.v
}

// weights adds a constant of elements between low and high.
func (l *layers) weights(low, high float32, shape ...int64) *onnx.Value {
	n, _ := onnx.ElementCount(shape)
	v := make([]float32, n)
	for i := range v {
		v[i] = low + (high-low)*l.r.Float32()
	}
	return l.m.Graph.NewConst(onnx.FromFloats("w", shape, v))
}

func (l *layers) ints(v ...int64) *onnx.Value {
	return l.m.Graph.NewConst(onnx.FromInts("i", []int64{int64(len(v))}, v))
}

func (l *layers) conv(out, in, k, group int64) *onnx.Value {
	w := l.weights(-0.3, 0.3, out, in/group, k, k)
	return l.op("Conv", []*onnx.Value{w}, onnx.IntAttr("group", group), onnx.IntsAttr("pads", k/2, k/2, k/2, k/2))
}

func (l *layers) batchNorm(c int64) *onnx.Value {
	return l.op("BatchNormalization", []*onnx.Value{l.weights(0.5, 1.5, c), l.weights(-1, 1, c), l.weights(-1, 1, c), l.weights(0.5, 1.5, c)})
}

func (l *layers) outputs(v ...*onnx.Value) *onnx.Model {
	for _, o := range v {
		l.m.Graph.AddOutput(o)
	}
	return l.m
}

func one(v *onnx.Value) []*onnx.Value { return []*onnx.Value{v} }

// folded are graphs whose arithmetic goes into weights, as wide as they are
// measured, and how many nodes are left.
var folded = []struct {
	name  string
	build func() *onnx.Model
	nodes int
	o     fuse.Options
}{
	{name: "pointwise-chain", build: pointwiseChain, nodes: 1},
	{name: "depthwise-add", build: depthwiseAdd, nodes: 4},
	{name: "conv-sub-div", build: convSubDiv, nodes: 3},
	{name: "parallel-pointwise", build: parallelPointwise, nodes: 2, o: fuse.Options{Enable: []string{"conv-merge"}}},
	{name: "concat-pointwise", build: concatPointwise, nodes: 1},
	{name: "matmul-columns", build: matmulColumns, nodes: 8},
	{name: "matmul-reshape-add", build: matmulReshapeAdd, nodes: 2},
	{name: "image-normalization", build: imageNormalization, nodes: 1},
	{name: "pool-batchnorm", build: poolBatchNorm, nodes: 2},
	{name: "pad-conv", build: padBeforeConv, nodes: 1},
}

func pointwiseChain() *onnx.Model {
	l := newLayers(1, 64, 56, 56)
	l.conv(256, 64, 1, 1)
	return l.outputs(l.conv(64, 256, 1, 1))
}

// depthwiseAdd has scalars between depthwise Convs, which leave the layout of
// channels that the runtime gives Convs.
func depthwiseAdd() *onnx.Model {
	l := newLayers(1, 64, 56, 56)
	for range 4 {
		l.conv(64, 64, 3, 64)
		l.op("Add", one(l.weights(0.1, 0.2)))
	}
	return l.outputs(l.v)
}

func convSubDiv() *onnx.Model {
	l := newLayers(1, 64, 28, 28)
	for range 3 {
		l.conv(64, 64, 3, 1)
		l.op("Sub", one(l.weights(-1, 1, 64, 1, 1)))
		l.op("Div", one(l.weights(1, 2, 1, 64, 1, 1)))
	}
	return l.outputs(l.v)
}

func parallelPointwise() *onnx.Model {
	l := newLayers(1, 192, 28, 28)
	x, out := l.v, []*onnx.Value(nil)
	for range 3 {
		out = append(out, l.on(x, "Conv", one(l.weights(-0.1, 0.1, 64, 192, 1, 1))))
	}
	return l.outputs(out...)
}

func concatPointwise() *onnx.Model {
	l := newLayers(1, 192, 28, 28)
	x, parts := l.v, []*onnx.Value(nil)
	for range 3 {
		parts = append(parts, l.on(x, "Conv", one(l.weights(-0.1, 0.1, 64, 192, 1, 1))))
	}
	return l.outputs(l.on(parts[0], "Concat", parts[1:], onnx.IntAttr("axis", 1)))
}

func matmulColumns() *onnx.Model {
	l := newLayers(1, 128, 256)
	for range 4 {
		l.op("MatMul", one(l.weights(-0.1, 0.1, 256, 256)))
		l.op("Mul", one(l.weights(0.5, 1.5, 256)))
		l.op("Relu", nil)
	}
	return l.outputs(l.v)
}

// matmulReshapeAdd is a dense layer as Keras writes it.
func matmulReshapeAdd() *onnx.Model {
	l := newLayers(128, 256)
	l.op("MatMul", one(l.weights(-0.1, 0.1, 256, 256)))
	l.op("Reshape", one(l.ints(8, 16, 256)))
	return l.outputs(l.op("Add", one(l.weights(-1, 1, 256))))
}

func imageNormalization() *onnx.Model {
	l := newLayers(1, 3, 112, 112)
	l.op("Sub", one(l.weights(0.4, 0.5, 3, 1, 1)))
	l.op("Div", one(l.weights(0.2, 0.3, 1, 3, 1, 1)))
	return l.outputs(l.op("Conv", one(l.weights(-0.3, 0.3, 32, 3, 3, 3)), onnx.IntsAttr("strides", 2, 2)))
}

func poolBatchNorm() *onnx.Model {
	l := newLayers(1, 32, 56, 56)
	l.conv(64, 32, 3, 1)
	l.op("AveragePool", nil, onnx.IntsAttr("kernel_shape", 2, 2), onnx.IntsAttr("strides", 2, 2))
	return l.outputs(l.batchNorm(64))
}

func padBeforeConv() *onnx.Model {
	l := newLayers(1, 32, 56, 56)
	l.op("Pad", one(l.ints(0, 0, 1, 1, 0, 0, 1, 1)))
	return l.outputs(l.op("Conv", one(l.weights(-0.3, 0.3, 32, 32, 3, 3))))
}

// TestFolded folds each graph as far as it goes, and the runtime computes the same.
func TestFolded(t *testing.T) {
	open := runtimeOpener(t)
	for _, c := range folded {
		t.Run(c.name, func(t *testing.T) {
			m := c.build()
			in := randomInput(m)
			dir := t.TempDir()
			want := outputsOf(t, open, filepath.Join(dir, "original.onnx"), m, in)
			if _, err := fuse.Model(t.Context(), m, c.o); err != nil {
				t.Fatal(err)
			}
			if n := m.Graph.Len(); n != c.nodes {
				t.Errorf("%d nodes are left, want %d", n, c.nodes)
			}
			if err := agree(want, outputsOf(t, open, filepath.Join(dir, "fused.onnx"), m, in)); err != nil {
				t.Error(err)
			}
		})
	}
}

// randomInput returns numbers for the one input of m, which has a fixed shape.
func randomInput(m *onnx.Model) map[string]*onnx.Tensor {
	x := m.Graph.Inputs()[0]
	return map[string]*onnx.Tensor{x.Name(): randomFor(x)}
}

// randomFor returns normal numbers of the shape of x, a symbolic size being 2.
func randomFor(x *onnx.Value) *onnx.Tensor {
	shape, n := []int64{}, 1
	for _, d := range x.Type.Shape {
		size := int64(2)
		if d.Known() {
			size = d.Value
		}
		shape, n = append(shape, size), n*int(size)
	}
	r := rand.New(rand.NewPCG(5, 6))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return onnx.FromFloats(x.Name(), shape, v)
}

// TestMergesAreAskedFor: what costs on a CPU what it gains is done by name, or
// for a GPU, only.
func TestMergesAreAskedFor(t *testing.T) {
	products := func() *onnx.Model {
		l := newLayers(4, 8)
		x, out := l.v, []*onnx.Value(nil)
		for range 3 {
			out = append(out, l.on(x, "MatMul", one(l.weights(-1, 1, 8, 8))))
		}
		return l.outputs(out...)
	}
	for _, c := range []struct {
		rule   string
		build  func() *onnx.Model
		o      fuse.Options
		merged bool
	}{
		{"conv-merge", parallelPointwise, fuse.Options{}, false},
		{"conv-merge", parallelPointwise, fuse.Options{Enable: []string{"conv-merge"}}, true},
		{"matmul-merge", products, fuse.Options{}, false},
		{"matmul-merge", products, fuse.Options{Target: fuse.Target{Name: "ort-cpu"}}, false},
		{"matmul-merge", products, fuse.Options{Enable: []string{"matmul-merge"}}, true},
		{"matmul-merge", products, fuse.Options{Target: fuse.Target{Name: "ort-cuda"}}, true},
		{"matmul-merge", products, fuse.Options{Rewrite: rewrite.Options{Only: []string{"matmul-merge"}}}, true},
	} {
		t.Run(fmt.Sprintf("%s/%s%v%v", c.rule, c.o.Target.Name, c.o.Enable, c.o.Rewrite.Only), func(t *testing.T) {
			log, err := fuse.Model(t.Context(), c.build(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			if got := firings(log, c.rule) > 0; got != c.merged {
				t.Errorf("merged: %v, want %v", got, c.merged)
			}
			if !c.merged && refusals(log, c.rule) == "" {
				t.Error("no reason was given")
			}
		})
	}
}

// TestNormTwins: two normalizations of one input become one where both scales
// go into weights; a single one keeps its scale.
func TestNormTwins(t *testing.T) {
	for _, twins := range []int{1, 2} {
		l := newLayers(2, 5, 8)
		x, out := l.v, []*onnx.Value(nil)
		for range twins {
			l.on(x, "LayerNormalization", one(l.weights(0.5, 1.5, 8)))
			out = append(out, l.op("MatMul", one(l.weights(-1, 1, 8, 4))))
		}
		m := l.outputs(out...)
		in := randomInput(m)
		dir, open := t.TempDir(), runtimeOpener(t)
		want := outputsOf(t, open, filepath.Join(dir, "original.onnx"), m, in)
		log, err := fuse.Model(t.Context(), m, fuse.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := firings(log, "norm-matmul"); n != twins-1+twins/2 {
			t.Errorf("%d of %d scales were folded", n, twins)
		}
		norms := 0
		for n := range m.Graph.Nodes() {
			if n.Is("LayerNormalization") {
				norms++
			}
		}
		if norms != 1 {
			t.Errorf("%d normalizations are left of %d", norms, twins)
		}
		if err := agree(want, outputsOf(t, open, filepath.Join(dir, "fused.onnx"), m, in)); err != nil {
			t.Error(err)
		}
	}
}

// TestSharedWeightsNotCopied: weights that stay for another reader are not
// copied where that would grow the model beyond the limit.
func TestSharedWeightsNotCopied(t *testing.T) {
	for _, c := range []struct {
		growth int64
		copied bool
	}{{0, true}, {-1, false}} {
		l := newLayers(1, 2, 8)
		x, w := l.v, l.weights(-1, 1, 8, 8)
		l.on(x, "MatMul", one(w))
		y := l.op("Mul", one(l.weights(2, 3)))
		m := l.outputs(y, l.on(l.on(x, "Abs", nil), "MatMul", one(w)))
		log, err := fuse.Model(t.Context(), m, fuse.Options{MaxGrowth: c.growth})
		if err != nil {
			t.Fatal(err)
		}
		if got := firings(log, "matmul-mul") > 0; got != c.copied {
			t.Errorf("limit %d: copied %v, want %v (%s)", c.growth, got, c.copied, refusals(log, "matmul-mul"))
		}
	}
}

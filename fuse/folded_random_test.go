package fuse_test

import (
	"math/rand/v2"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// TestFoldedRandom fuses random stacks of layers, arithmetic with constants of
// every shape that broadcasts, pooling and padding; the interpreter computes the
// same in float64.
func TestFoldedRandom(t *testing.T) {
	fired := map[string]int{}
	for seed := range uint64(250) {
		m := randomStack(seed)
		in := randomInput(m)
		want, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		log, err := fuse.Model(t.Context(), m, fuse.Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("seed %d, fused: %v", seed, err)
		}
		if err := agree(want, got); err != nil {
			var rules []string
			for _, f := range log.Fired {
				rules = append(rules, f.Key)
			}
			t.Errorf("seed %d: %v after %v", seed, err, rules)
		}
		for _, f := range log.Fired {
			fired[f.Rule]++
		}
	}
	for _, rule := range []string{"conv-batchnorm", "conv-add", "conv-mul", "conv-input", "arithmetic-through", "batchnorm-through", "pad-conv", "pad-averagepool", "pad-maxpool", "conv-chain", "convtranspose-batchnorm", "concat-conv", "gemm-input"} {
		if fired[rule] < 3 {
			t.Errorf("%s fired %d times only", rule, fired[rule])
		}
	}
}

// stack is a random network of images [1, c, h, h].
type stack struct {
	*layers
	c, h int64
}

func randomStack(seed uint64) *onnx.Model {
	l := newLayers(1, 2, 6, 6)
	l.r = rand.New(rand.NewPCG(seed, 1))
	s := &stack{l, 2, 6}
	steps := []func(){s.randomConv, s.randomConv, s.arithmetic, s.arithmetic, s.arithmetic, s.normalize, s.pool, s.pad, s.transposed, s.parallel, s.relu}
	for range 4 + l.r.IntN(6) {
		if s.h > 12 || s.h < 3 {
			break
		}
		steps[l.r.IntN(len(steps))]()
		if l.r.IntN(12) == 0 { // another reader
			l.m.Graph.AddOutput(l.v)
			s.relu()
		}
	}
	if s.chance(2) {
		s.dense()
	}
	if !l.v.IsOutput() && !l.v.IsInput() {
		return l.outputs(l.v)
	}
	s.relu()
	return l.outputs(l.v)
}

func (s *stack) chance(n int) bool { return s.r.IntN(n) == 0 }

func (s *stack) randomConv() {
	k, group, out := int64(1+2*s.r.IntN(2)), int64(1), int64(1+s.r.IntN(4))
	pad := int64(s.r.IntN(2)) * (k / 2)
	if s.chance(3) {
		group, out = s.c, s.c*int64(1+s.r.IntN(2))
	}
	in := one(s.weights(-1, 1, out, s.c/group, k, k))
	if s.chance(2) {
		in = append(in, s.weights(-1, 1, out))
	}
	s.op("Conv", in, onnx.IntAttr("group", group), onnx.IntsAttr("pads", pad, pad, pad, pad))
	s.c, s.h = out, s.h+2*pad-k+1
}

// arithmetic meets the last value with a constant that varies along nothing, the
// channels, or the last axis, on either side.
func (s *stack) arithmetic() {
	shapes := [][]int64{{}, {1}, {s.c, 1, 1}, {1, s.c, 1, 1}, {s.h}, {1, 1, 1, 1}, {s.h, 1}}
	c := s.weights(0.5, 1.5, shapes[s.r.IntN(len(shapes))]...)
	op := []string{"Add", "Sub", "Mul", "Div"}[s.r.IntN(4)]
	if s.chance(3) && op != "Div" {
		s.on(c, op, one(s.v))
		return
	}
	s.op(op, one(c))
}

func (s *stack) normalize() { s.batchNorm(s.c) }

func (s *stack) relu() { s.op("Relu", nil) }

func (s *stack) pool() {
	op := []string{"MaxPool", "AveragePool", "GlobalAveragePool"}[min(s.r.IntN(7)/3, 2)]
	if op == "GlobalAveragePool" {
		s.op(op, nil)
		s.h = 1
		return
	}
	pad := int64(s.r.IntN(2))
	attrs := []*onnx.Attr{onnx.IntsAttr("kernel_shape", 3, 3), onnx.IntsAttr("pads", pad, pad, pad, pad)}
	if op == "AveragePool" && s.chance(2) {
		attrs = append(attrs, onnx.IntAttr("count_include_pad", 1))
	}
	s.op(op, nil, attrs...)
	s.h += 2*pad - 2
}

func (s *stack) pad() {
	in := one(s.ints(0, 0, 1, 1, 0, 0, 1, 1))
	if s.chance(3) {
		in = append(in, s.weights(-3.4028235e38, -3.4028235e38))
	}
	mode := "constant"
	if s.chance(4) {
		mode = "reflect"
	}
	s.op("Pad", in, onnx.StringAttr("mode", mode))
	s.h += 2
	if len(in) == 2 { // such numbers go no further than the largest of them
		s.op("MaxPool", nil, onnx.IntsAttr("kernel_shape", 3, 3))
		s.h -= 2
	}
}

func (s *stack) transposed() {
	group := int64(1)
	if s.chance(2) {
		group = s.c
	}
	out := int64(1 + s.r.IntN(2))
	s.op("ConvTranspose", one(s.weights(-1, 1, s.c, out, 2, 2)), onnx.IntAttr("group", group))
	s.c, s.h = out*group, s.h+1
	s.normalize()
}

// dense is a layer over all of the image, or over its means.
func (s *stack) dense() {
	if s.chance(2) {
		s.op("GlobalAveragePool", nil)
		s.h = 1
	}
	s.op("Flatten", nil)
	s.op("Gemm", one(s.weights(-1, 1, s.c*s.h*s.h, 3)))
}

// parallel is some Convs of one input, concatenated along the channels or the batch.
func (s *stack) parallel() {
	x, out := s.v, int64(1+s.r.IntN(2))
	var parts []*onnx.Value
	for range 2 {
		parts = append(parts, s.on(x, "Conv", one(s.weights(-1, 1, out, s.c, 1, 1))))
		if s.chance(3) {
			parts[len(parts)-1] = s.op("MaxPool", nil, onnx.IntsAttr("kernel_shape", 1, 1))
		}
		if s.chance(3) {
			parts[len(parts)-1] = s.on(s.on(parts[len(parts)-1], "Sigmoid", nil), "Mul", one(s.weights(0.5, 1.5, out, 1, 1)))
		}
	}
	s.on(parts[0], "Concat", parts[1:], onnx.IntAttr("axis", 1))
	s.c = 2 * out
}

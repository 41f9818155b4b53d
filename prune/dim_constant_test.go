package prune

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// constantChannelNet has eight channels, of which a normalization makes three
// constant: one above zero, one below, which the activation turns to zero, and one zero.
const constantChannelNet = `<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,6,6] x, float[8,3,3,3] w1, float[8] scale, float[8] shift, float[8] mean, float[8] var, float[4,8,%[1]d,%[1]d] w2, float[4] b2) => (float[1,4,%[2]d,%[2]d] y) {
  c = Conv <pads = [1,1,1,1]> (x, w1)
  n = BatchNormalization (c, scale, shift, mean, var)
  r = %[4]s (n)
  y = Conv <pads = [%[3]d,%[3]d,%[3]d,%[3]d]> (r, w2, b2)
}`

// TestConstantChannels: channels of constant value go with what they contribute
// in the reader's bias, and the outputs stay; where padding would show, only those go that
// become zero.
func TestConstantChannels(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	for _, c := range []struct {
		kernel, size, pad int
		act               string
		gone              int
	}{
		{1, 6, 0, "Relu", 3},
		{3, 4, 0, "Relu", 3},
		{3, 6, 1, "Relu", 2},
		{1, 6, 0, "LeakyRelu", 3},
		{3, 6, 1, "LeakyRelu", 1},
		{1, 6, 0, "Sigmoid", 0},
	} {
		name := fmt.Sprintf("%s, %d×%d, padding %d", c.act, c.kernel, c.kernel, c.pad)
		m := constantNet(t, fmt.Sprintf(constantChannelNet, c.kernel, c.size, c.pad, c.act))
		small := m.Clone()
		p := &structured{o: &StructureOptions{Pattern: Channels, Importance: ByL2}}
		if _, err := rewrite.Run(t.Context(), small, []rewrite.Pass{p}, nil, rewrite.Options{}); err != nil {
			t.Fatal(err)
		}
		left := int64(0)
		for n := range small.Graph.Nodes() {
			if n.Is("BatchNormalization") {
				left = n.Input(1).Constant().Shape[0]
			}
		}
		if left != int64(8-c.gone) {
			t.Errorf("%s: %d channels are left of 8, want %d to go", name, left, c.gone)
		}
		x := drawn(rand.New(rand.NewPCG(3, 4)), "x", []int64{1, 3, 6, 6})
		sameOutputs(t, open, m, small, map[string]*onnx.Tensor{"x": x})
	}
}

func constantNet(t *testing.T, text string) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("constants", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, v := range slices.Clone(m.Graph.Inputs()) {
		shape, _ := v.Type.Shape.Static()
		values, _ := drawn(r, v.Name(), shape).Float64s()
		values = slices.Clone(values)
		switch v.Name() {
		case "x":
			continue
		case "scale":
			values[1], values[4], values[6] = 0, 0, 0
		case "shift":
			values[1], values[4], values[6] = 0.7, -0.4, 0
		case "var":
			for i := range values {
				values[i] = 1 + values[i]*values[i]
			}
		}
		c, err := onnx.FromFloat64s(v.Name(), onnx.Float, shape, values)
		if err != nil {
			t.Fatal(err)
		}
		weight(t, m.Graph, v, c)
	}
	return m
}

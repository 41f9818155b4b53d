package gonnx

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

func TestConformance(t *testing.T) {
	sessiontest.Run(t, Opener(), sessiontest.Caps{Opset: 9, DTypes: []onnx.DType{onnx.Float}, Defaults: true})
}

// sample returns a tensor of normal numbers.
func sample(r *rand.Rand, name string, shape ...int64) *onnx.Tensor {
	n, _ := onnx.ElementCount(shape)
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return onnx.FromFloats(name, shape, v)
}

// one is a model of one node: inputs are given at run time, constants are
// initializers behind them.
type one struct {
	op     string
	opset  int64
	attrs  []*onnx.Attr
	inputs [][]int64
	consts []*onnx.Tensor
	refuse string // what the error says, "" if the node is computed
}

func (c one) model(r *rand.Rand) (*onnx.Model, map[string]*onnx.Tensor) {
	m := onnx.NewModel(c.opset)
	in := map[string]*onnx.Tensor{}
	var args []*onnx.Value
	for i, shape := range c.inputs {
		x := sample(r, fmt.Sprintf("x%d", i), shape...)
		in[x.Name] = x
		args = append(args, m.Graph.AddInput(x.Name, x.Type()))
	}
	for i, k := range c.consts {
		args = append(args, m.Graph.AddInitializer(k.Renamed(fmt.Sprintf("k%d", i))))
	}
	n := onnx.NewNode(c.op, args, "y")
	n.Name = "the_node"
	n.Attrs = c.attrs
	m.Graph.Append(n)
	n.Output(0).Type = onnx.TensorType(onnx.Float, nil)
	m.Graph.AddOutput(n.Output(0))
	return m, in
}

func cases(r *rand.Rand) map[string]one {
	k := func(shape ...int64) *onnx.Tensor { return sample(r, "k", shape...) }
	positive := func(t *onnx.Tensor) *onnx.Tensor {
		v, _ := t.Floats()
		for i := range v {
			v[i] = v[i]*v[i] + 0.1
		}
		return onnx.FromFloats("k", t.Shape, v)
	}
	kernel := onnx.IntsAttr("kernel_shape", 3, 3)
	img := []int64{2, 3, 9, 7}
	tensors := func(t ...*onnx.Tensor) []*onnx.Tensor { return t }
	out := map[string]one{
		"add vector":        {"Add", 13, nil, [][]int64{{3, 4}}, tensors(k(4)), ""},
		"add square":        {"Add", 13, nil, [][]int64{{4, 4}}, tensors(k(4)), "wrong axis"},
		"add channels":      {"Add", 7, nil, [][]int64{img}, tensors(k(3, 1, 1)), ""},
		"sub row":           {"Sub", 7, nil, [][]int64{{3, 4}}, tensors(k(1, 4)), ""},
		"div column":        {"Div", 14, nil, [][]int64{{3, 4}}, tensors(positive(k(3, 1))), ""},
		"mul both":          {"Mul", 14, nil, [][]int64{{3, 1}, {1, 4}}, nil, "wrong axis"},
		"add old":           {"Add", 6, nil, [][]int64{{3, 4}, {3, 4}}, nil, "opset 7"},
		"matmul":            {"MatMul", 13, nil, [][]int64{{3, 4}, {4, 5}}, nil, ""},
		"matmul stack":      {"MatMul", 13, nil, [][]int64{{2, 3, 4}, {4, 5}}, nil, "matrices only"},
		"gemm":              {"Gemm", 13, []*onnx.Attr{onnx.FloatAttr("alpha", 0.5), onnx.FloatAttr("beta", 2), onnx.IntAttr("transB", 1)}, [][]int64{{3, 4}}, tensors(k(5, 4), k(5)), ""},
		"gemm transA":       {"Gemm", 11, []*onnx.Attr{onnx.IntAttr("transA", 1)}, [][]int64{{4, 3}}, tensors(k(4, 5), k(3, 5)), ""},
		"gemm one row":      {"Gemm", 9, nil, [][]int64{{1, 4}}, tensors(k(4, 5), k(5)), ""},
		"gemm column":       {"Gemm", 9, nil, [][]int64{{3, 4}}, tensors(k(4, 5), k(3, 1)), "does not stretch"},
		"gemm two":          {"Gemm", 11, nil, [][]int64{{3, 4}}, tensors(k(4, 5)), "2 inputs"},
		"conv":              {"Conv", 11, []*onnx.Attr{kernel}, [][]int64{img}, tensors(k(4, 3, 3, 3), k(4)), ""},
		"conv padded":       {"Conv", 11, []*onnx.Attr{kernel, onnx.IntsAttr("pads", 1, 1, 1, 1), onnx.IntsAttr("strides", 2, 2)}, [][]int64{img}, tensors(k(4, 3, 3, 3)), ""},
		"conv strides":      {"Conv", 11, []*onnx.Attr{kernel, onnx.IntsAttr("strides", 1, 2)}, [][]int64{img}, tensors(k(4, 3, 3, 3)), ""},
		"conv same":         {"Conv", 1, []*onnx.Attr{kernel, onnx.StringAttr("auto_pad", "SAME_UPPER")}, [][]int64{img}, tensors(k(4, 3, 3, 3)), ""},
		"conv valid":        {"Conv", 1, []*onnx.Attr{kernel, onnx.StringAttr("auto_pad", "VALID")}, [][]int64{img}, tensors(k(4, 3, 3, 3)), ""},
		"conv begin":        {"Conv", 11, []*onnx.Attr{kernel, onnx.IntsAttr("pads", 1, 1, 0, 0)}, [][]int64{img}, tensors(k(4, 3, 3, 3)), "four sides"},
		"conv rows":         {"Conv", 11, []*onnx.Attr{kernel, onnx.IntsAttr("pads", 1, 0, 1, 0)}, [][]int64{img}, tensors(k(4, 3, 3, 3)), "four sides"},
		"conv groups":       {"Conv", 11, []*onnx.Attr{kernel, onnx.IntAttr("group", 3)}, [][]int64{img}, tensors(k(3, 1, 3, 3)), "group=3"},
		"conv dilated":      {"Conv", 11, []*onnx.Attr{kernel, onnx.IntsAttr("dilations", 2, 2)}, [][]int64{img}, tensors(k(4, 3, 3, 3)), "dilations"},
		"maxpool":           {"MaxPool", 8, []*onnx.Attr{kernel, onnx.IntsAttr("strides", 2, 2)}, [][]int64{img}, nil, ""},
		"maxpool padded":    {"MaxPool", 8, []*onnx.Attr{kernel, onnx.IntsAttr("pads", 1, 1, 1, 1)}, [][]int64{img}, nil, "does not pad"},
		"maxpool ceil":      {"MaxPool", 10, []*onnx.Attr{kernel, onnx.IntAttr("ceil_mode", 1)}, [][]int64{img}, nil, "ceil_mode"},
		"global pool":       {"GlobalAveragePool", 1, nil, [][]int64{img}, nil, ""},
		"batchnorm":         {"BatchNormalization", 9, []*onnx.Attr{onnx.FloatAttr("epsilon", 0.01)}, [][]int64{img}, tensors(k(3), k(3), k(3), positive(k(3))), ""},
		"batchnorm single":  {"BatchNormalization", 15, nil, [][]int64{{1, 3, 4, 5}}, tensors(k(3), k(3), k(3), positive(k(3))), ""},
		"softmax":           {"Softmax", 13, nil, [][]int64{{3, 4}}, nil, ""},
		"softmax one row":   {"Softmax", 9, nil, [][]int64{{1, 4}}, nil, ""},
		"softmax old 4d":    {"Softmax", 9, nil, [][]int64{{2, 3, 1, 1}}, nil, ""},
		"softmax rows":      {"Softmax", 13, []*onnx.Attr{onnx.IntAttr("axis", 0)}, [][]int64{{3, 4}}, nil, "axis 0"},
		"softmax last":      {"Softmax", 13, []*onnx.Attr{onnx.IntAttr("axis", 2)}, [][]int64{{2, 3, 4}}, nil, ""},
		"softmax middle":    {"Softmax", 13, []*onnx.Attr{onnx.IntAttr("axis", 1)}, [][]int64{{2, 3, 4}}, nil, "axis 1"},
		"flatten":           {"Flatten", 9, nil, [][]int64{img}, nil, ""},
		"flatten from end":  {"Flatten", 11, []*onnx.Attr{onnx.IntAttr("axis", -1)}, [][]int64{img}, nil, "axis -1"},
		"reshape":           {"Reshape", 5, nil, [][]int64{{2, 6}}, tensors(onnx.FromInts("k", []int64{3}, []int64{0, -1, 2})), ""},
		"concat":            {"Concat", 4, []*onnx.Attr{onnx.IntAttr("axis", 1)}, [][]int64{{2, 3, 4, 4}, {2, 2, 4, 4}}, nil, ""},
		"transpose":         {"Transpose", 1, []*onnx.Attr{onnx.IntsAttr("perm", 2, 0, 1)}, [][]int64{{2, 3, 4}}, nil, ""},
		"transpose default": {"Transpose", 1, nil, [][]int64{{2, 3}}, nil, "perm"},
		"dropout":           {"Dropout", 10, []*onnx.Attr{onnx.FloatAttr("ratio", 0.5)}, [][]int64{{2, 3}}, nil, ""},
		"dropout new":       {"Dropout", 12, nil, [][]int64{{2, 3}}, nil, "opset"},
		"leaky relu":        {"LeakyRelu", 9, nil, [][]int64{{2, 3}}, nil, "no such operator"},
		"unknown attribute": {"Relu", 9, []*onnx.Attr{onnx.FloatAttr("threshold", 1)}, [][]int64{{2, 3}}, nil, `"threshold"`},
		"log softmax":       {"LogSoftmax", 9, nil, [][]int64{{2, 3}}, nil, "no such operator"},
	}
	for _, op := range []string{"Abs", "Exp", "Neg", "Relu", "Sigmoid", "Tanh", "Identity"} {
		out[strings.ToLower(op)] = one{op, 13, nil, [][]int64{{3, 5}}, nil, ""}
	}
	for _, op := range []string{"Log", "Sqrt"} {
		out[strings.ToLower(op)] = one{op, 13, nil, nil, tensors(positive(k(3, 5))), ""}
	}
	return out
}

// TestRules runs every form that is accepted against this project's own
// interpreter, or ONNX Runtime where that has no such operator, and checks that every form that is not is refused by name.
func TestRules(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, c := range cases(r) {
		t.Run(name, func(t *testing.T) {
			m, in := c.model(r)
			s, err := Opener()(t.Context(), sessiontest.Write(t, m), session.Options{})
			if c.refuse != "" {
				if err == nil {
					s.Close()
				}
				for _, want := range []string{c.refuse, `"the_node" (` + c.op + ")"} {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v does not say %s", err, want)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			want := reference(t, m, in)
			for range 2 { // the second run shows what the first one changed
				got, err := s.Run(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				close32(t, got.Outputs["y"], want)
			}
		})
	}
}

// reference computes the output y of m by another engine.
func reference(t *testing.T, m *onnx.Model, in map[string]*onnx.Tensor) *onnx.Tensor {
	t.Helper()
	out, err := eval.Graph(t.Context(), m, in, eval.Options{})
	if err == nil {
		return out["y"]
	}
	var beyond *eval.UnsupportedError
	if !errors.As(err, &beyond) {
		t.Fatal(err)
	}
	return byRuntime(t, sessiontest.Write(t, m), in)["y"]
}

// byRuntime runs a model with ONNX Runtime.
func byRuntime(t *testing.T, path string, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	s, err := ort.Opener(zootest.Library(t))(t.Context(), path, session.Options{})
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

// close32 compares float32 results: each element to 1e-4 of the largest.
func close32(t *testing.T, got, want *onnx.Tensor) {
	t.Helper()
	if !slices.Equal(got.Shape, want.Shape) {
		t.Errorf("shape %v, want %v", got.Shape, want.Shape)
		return
	}
	g, err := got.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	w, err := want.Float64s()
	if err != nil {
		t.Fatal(err)
	}
	most := 0.0
	for _, x := range w {
		most = max(most, math.Abs(x))
	}
	for i := range w {
		if !(math.Abs(g[i]-w[i]) <= 1e-4*most) {
			t.Errorf("element %d is %v, want %v", i, g[i], w[i])
			return
		}
	}
}

// TestZoo opens every model of the zoo: those that run agree with ONNX
// Runtime, the others are refused with a reason.
func TestZoo(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join(zootest.Dir(t), "models", "*.onnx"))
	runs := map[string]bool{"mnist-8.onnx": true, "iris-mlp.onnx": true, "squeezenet1.1.onnx": true}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			s, err := Opener()(t.Context(), path, session.Options{})
			if !runs[filepath.Base(path)] {
				if err == nil {
					s.Close()
					t.Error("the model opens; list it in this test")
				} else if !strings.Contains(err.Error(), filepath.Base(path)) {
					t.Errorf("error %q does not name the model", err)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			r := rand.New(rand.NewPCG(3, 4))
			in := map[string]*onnx.Tensor{}
			for _, p := range s.Inputs() {
				var shape []int64
				for _, d := range p.Type.Shape {
					shape = append(shape, max(d.Value, 1))
				}
				in[p.Name] = sample(r, p.Name, shape...)
			}
			want := byRuntime(t, path, in)
			for range 2 {
				got, err := s.Run(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				for name, w := range want {
					close32(t, got.Outputs[name], w)
				}
			}
		})
	}
}

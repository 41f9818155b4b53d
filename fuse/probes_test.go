package fuse_test

import (
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/eval"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// weightProbes are the probes of the corpus whose arithmetic belongs into
// weights, one pattern each, with the operators that are left between their first
// and last node; and those that look like it and must stay.
var weightProbes = map[string]string{
	"conv1x1_conv1x1_linear":       "Conv=1",
	"conv_avgpool_bn":              "AveragePool=1 Conv=1",
	"conv_bn":                      "Conv=1",
	"conv_bn_opset22":              "Conv=1",
	"conv_bn_two_consumers":        "BatchNormalization=1 Conv=1 Relu=1", // a second Conv would cost more
	"conv_div":                     "Conv=1",
	"conv_group_bn":                "Conv=1",
	"conv_mul_c11":                 "Conv=1",
	"conv_mul_lastaxis_MUST_NOT":   "Conv=1 Mul=1",
	"conv_mul_scalar":              "Conv=1",
	"conv_nobias_bn":               "Conv=1",
	"convtranspose_group2_bn":      "ConvTranspose=1",
	"layernorm_gamma_into_matmul":  "LayerNormalization=1 MatMul=1", // ones in place of the scale save nothing
	"matmul_add_2d":                "Gemm=1",
	"matmul_add_3d":                "Add=1 MatMul=1", // engines look for these two
	"matmul_matmul_const":          "MatMul=1",
	"matmul_mul_scalar":            "MatMul=1",
	"mul_c11_conv_const_first":     "Conv=1",
	"mul_then_conv":                "Conv=1",
	"normalize_sub_div_conv_nopad": "Conv=1",
	"qkv_three_matmul":             "MatMul=3", // one and a Split is slower on CPUs
}

// TestWeightProbes fuses the probes and computes original and result in float64.
func TestWeightProbes(t *testing.T) {
	files := unzip(t, filepath.Join(corpus(t), "probes.zip"))
	seen := 0
	for path, b := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".onnx")
		want, ok := weightProbes[name]
		if !ok {
			continue
		}
		seen++
		m, err := onnxfile.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]*onnx.Tensor{}
		for _, v := range m.Graph.Inputs() {
			in[v.Name()] = randomFor(v)
		}
		results, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := fuse.Model(t.Context(), m, fuse.Options{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := betweenEnds(m); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		again, err := eval.Graph(t.Context(), m, in, eval.Options{Wide: true})
		if err == nil {
			err = agree(results, again)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if seen != len(weightProbes) {
		t.Errorf("%d of %d probes were found", seen, len(weightProbes))
	}
}

// betweenEnds counts the operators of m but for those that probes begin and end with.
func betweenEnds(m *onnx.Model) string {
	count := map[string]int{}
	for n := range m.Graph.Nodes() {
		if !strings.HasPrefix(n.Name, "head") && !strings.HasPrefix(n.Name, "tail") {
			count[n.Op]++
		}
	}
	var out []string
	for op, n := range count {
		out = append(out, op+"="+strconv.Itoa(n))
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

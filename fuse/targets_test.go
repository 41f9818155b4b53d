package fuse

import (
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// TestTargets holds the table of targets to the names there are, and what it says
// of operators to those that exist.
func TestTargets(t *testing.T) {
	if len(runtimes) != len(TargetNames) {
		t.Errorf("%d targets in the table, %d names", len(runtimes), len(TargetNames))
	}
	for _, name := range TargetNames {
		r, ok := runtimes[name]
		if !ok || r.title == "" {
			t.Errorf("the target %s is not in the table", name)
		}
		for _, op := range r.lacks {
			if opset.Lookup("", op, 99) == nil {
				t.Errorf("%s: there is no operator %s", name, op)
			}
		}
		for op := range r.types {
			if opset.Lookup("", op, 99) == nil {
				t.Errorf("%s: there is no operator %s", name, op)
			}
		}
	}
	if (&Target{}).Own() || (&Target{}).GPU() || !(&Target{Name: "ort-cuda"}).GPU() || !(&Target{Name: "tensorrt"}).GPU() || (&Target{Name: "openvino"}).GPU() {
		t.Error("which targets are GPUs has changed")
	}
}

// TestTargetHas asks for operators that TensorRT and OpenVINO are documented to
// have and to lack.
func TestTargetHas(t *testing.T) {
	for _, c := range []struct {
		target, op string
		elem       onnx.DType
		why        string // "" where it has it
	}{
		{"tensorrt", "LayerNormalization", onnx.Float16, ""},
		{"tensorrt", "InstanceNormalization", onnx.Float, ""},
		{"tensorrt", "GroupNormalization", onnx.Float, ""},
		{"tensorrt", "Gelu", onnx.Float, ""},
		{"tensorrt", "Mish", onnx.Float16, ""},
		{"tensorrt", "Mish", onnx.BFloat16, "TensorRT has no Mish for bfloat16"},
		{"tensorrt", "RMSNormalization", onnx.Float, "RMSNormalization came after opset 20"},
		{"tensorrt", "Attention", onnx.Float, "Attention came after opset 20"},
		{"tensorrt", "SequenceAt", onnx.Float, "TensorRT has no SequenceAt"},
		{"openvino", "Attention", onnx.Float, ""},
		{"openvino", "HardSwish", onnx.Float, ""},
		{"openvino", "MeanVarianceNormalization", onnx.Float, ""},
		{"openvino", "SoftmaxCrossEntropyLoss", onnx.Float, ""},
		{"openvino", "Swish", onnx.Float, "Swish came after opset 23"},
		{"openvino", "LpPool", onnx.Float, "OpenVINO has no LpPool"},
		{"portable", "Swish", onnx.Float, ""},
	} {
		err := runtimes[c.target].has("", c.op, c.elem)
		if (err == nil) != (c.why == "") || err != nil && !strings.HasPrefix(err.Error(), c.why) {
			t.Errorf("%s, %s of %v: %v, want %q", c.target, c.op, c.elem, err, c.why)
		}
	}
}

// TestTargetNotices: what the runtime does not have and the model needs is told.
func TestTargetNotices(t *testing.T) {
	const text = `<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
main (float[2,3] x) => (float[2,3] y, int32[2,2] z) <float s = {0.5}, uint8 z8 = {3}, int8 z1 = {1}, int8 z0 = {0}> {
  a = QuantizeLinear (x, s, z8)
  b = DequantizeLinear (a, s, z8)
  c = QuantizeLinear (b, s, z1)
  d = DequantizeLinear (c, s, z1)
  e = QuantizeLinear (d, s, z0)
  f = DequantizeLinear (e, s, z0)
  y = com.microsoft.QuickGelu (f)
  g = Transpose (e)
  z = MatMulInteger (e, g)
}`
	for target, want := range map[string][]string{
		"portable": nil,
		"openvino": nil,
		"tensorrt": {
			"the model is of opset 21, and TensorRT documents those up to 20",
			`TensorRT has no MatMulInteger: node producing "z" (MatMulInteger)`,
			`TensorRT has no com.microsoft.QuickGelu: node producing "y" (com.microsoft.QuickGelu)`,
			`TensorRT has no quantization to uint8: node producing "a" (QuantizeLinear) and 1 more`,
			`TensorRT has no quantization with zero points other than 0: node producing "c" (QuantizeLinear) and 1 more`,
		},
	} {
		m, err := onnxtext.Parse("notices", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Target: Target{Name: target}}
		o.Rewrite.Only = []string{"identity"}
		log, err := Model(t.Context(), m, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(log.Notices, "\n"); got != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", target, got, strings.Join(want, "\n"))
		}
	}
}

// TestTargetOpset refuses to raise a model above what the runtime reads.
func TestTargetOpset(t *testing.T) {
	for opset, ok := range map[int64]bool{20: true, 21: false} {
		m, err := onnxtext.Parse("opset", []byte(`<ir_version: 8, opset_import: ["" : 17]> main (float[2] x) => (float[2] y) { y = Relu (x) }`))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Model(t.Context(), m, Options{Target: Target{Name: "tensorrt"}, Opset: opset})
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "--opset 20 or less") {
			t.Errorf("opset %d: %v", opset, err)
		}
	}
}

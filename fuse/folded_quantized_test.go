package fuse_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// TestQuantizedGraphsKept: rules that fold into weights change no quantized
// number of a real quantized graph, take no QuantizeLinear or DequantizeLinear
// away, and leave what is quantized where it was made.
func TestQuantizedGraphsKept(t *testing.T) {
	dir, seen := corpus(t), 0
	for _, archive := range []string{"ort-transform", "ort-regress", "ort-testdata", "polygraphy"} {
		for name, b := range unzip(t, filepath.Join(dir, archive+".zip")) {
			if !strings.HasSuffix(name, ".onnx") {
				continue
			}
			m, err := onnxfile.Decode(b)
			if err != nil {
				continue
			}
			before := quantization(m)
			if len(before) == 0 {
				continue
			}
			if _, err := m.Repair(); err != nil || m.Check() != nil {
				continue
			}
			seen++
			if _, err := fuse.Model(t.Context(), m, fuse.Options{Rewrite: rewrite.Options{Only: []string{"fold-weights"}}}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if diff := cmp.Diff(before, quantization(m)); diff != "" {
				t.Errorf("%s (-before +after):\n%s", name, diff)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d quantized graphs were found", seen)
	}
}

// quantization describes each QuantizeLinear and DequantizeLinear of m: the
// operator that makes what it reads, or the content of the constant.
func quantization(m *onnx.Model) []string {
	var out []string
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if n.Op != "QuantizeLinear" && n.Op != "DequantizeLinear" {
				continue
			}
			line := n.Op
			for _, v := range n.Inputs() {
				line += " " + made(v)
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

func made(v *onnx.Value) string {
	switch {
	case v == nil:
		return "-"
	case v.Constant() != nil:
		b, _ := v.Constant().Bytes()
		return fmt.Sprintf("%v%v=%x", v.Constant().DType, v.Constant().Shape, b[:min(len(b), 64)])
	case v.Producer() != nil:
		return v.Producer().Op
	}
	return v.Name()
}

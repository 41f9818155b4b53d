package quantize_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestEmbedding: rows of a table are coded, each by a scale of its own unless one
// is asked for, and differ by half a step at most.
func TestEmbedding(t *testing.T) {
	open := opener(t)
	const rows, width = 300, 32
	table := make([]float32, rows*width)
	for i := range table {
		table[i] = float32(math.Sin(float64(i))) * float32(1+i/width)
	}
	indices := onnx.FromInts("i", []int64{2, 2}, []int64{0, 299, -1, 7})
	for _, c := range []struct {
		name, more, reason string
		perTensor          bool
		weights            string
	}{
		{name: "a scale for each row, in uint8", weights: "uint8"},
		{name: "one scale, in uint8", perTensor: true, weights: "uint8"},
		{name: "a scale for each row"},
		{name: "one scale", perTensor: true},
		{name: "read by a product too", more: "t = Transpose <perm = [1, 0]> (w) p = MatMul (y, t)", reason: "reads its table too"},
	} {
		text := `<ir_version: 8, opset_import: ["" : 17]> main (int64[A,B] i) => (float[A,B,32] y) { y = Gather (w, i) ` + c.more + ` }`
		m, err := onnxtext.Parse(c.name, []byte(strings.Replace(text, "{ y", "<float[1] w = {0}> { y", 1)))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.Graph.Initializers() {
			v.Const = onnx.FromFloats("w", []int64{rows, width}, table)
			v.Type = v.Const.Type()
		}
		dir := t.TempDir()
		src, dst := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx")
		if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		r, err := quantize.File(context.Background(), dst, src, quantize.Options{Dynamic: true, PerTensor: c.perTensor, CodeOptions: quantize.CodeOptions{Weights: c.weights}})
		if c.reason != "" {
			var nothing *quantize.Nothing
			if !errors.As(err, &nothing) || !strings.Contains(nothing.Reason, c.reason) {
				t.Errorf("%s: %v, want a refusal that says %q", c.name, err, c.reason)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Quantized != 1 || r.Output.Bytes > r.Input.Bytes/2 {
			t.Errorf("%s: %d quantized, %d bytes of %d", c.name, r.Quantized, r.Output.Bytes, r.Input.Bytes)
		}
		s, err := open(context.Background(), dst, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		out, err := s.Run(context.Background(), map[string]*onnx.Tensor{"i": indices})
		if err != nil {
			t.Fatal(err)
		}
		got, err := out.Outputs["y"].Floats()
		if err != nil {
			t.Fatal(err)
		}
		for k, row := range []int{0, 299, 299, 7} {
			half := float64(1+row) / 254 * 1.001
			if c.perTensor {
				half = rows / 254. * 1.001
			}
			for j := range width {
				if d := math.Abs(float64(got[k*width+j] - table[row*width+j])); d > half {
					t.Fatalf("%s: row %d differs by %v at %d, more than %v", c.name, row, d, j, half)
				}
			}
		}
	}
}

package quantize_test

import (
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestLinear: schemes without data, of twice as many nodes, allocate about twice as much.
func TestLinear(t *testing.T) {
	for name, o := range map[string]quantize.Options{
		"dynamic": {},
		"fp16":    {To: quantize.Float16},
		"int4":    {To: quantize.Int4, WeightOptions: quantize.WeightOptions{Form: "dequantize"}},
	} {
		for _, net := range []string{"deep", "fan", "branches"} {
			if net == "branches" && name != "fp16" {
				continue // it has no products
			}
			var got []growth.Allocated
			for _, nodes := range []int{600, 1200} {
				dir := t.TempDir()
				src := filepath.Join(dir, "model.onnx")
				if err := nets.Write(src, net, nets.Options{Nodes: nodes}, onnxfile.WriteOptions{}); err != nil {
					t.Fatal(err)
				}
				got = append(got, growth.Allocations(func() {
					if _, err := quantize.File(t.Context(), filepath.Join(dir, "out.onnx"), src, o); err != nil {
						t.Errorf("%s of %s: %v", name, net, err)
					}
				}))
			}
			if !got[0].Linear(got[1]) {
				t.Errorf("%s of %s: %+v for 600 nodes, %+v for 1200", name, net, got[0], got[1])
			}
		}
	}
}

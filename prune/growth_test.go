package prune_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/growth"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/prune"
)

// TestLinear: masks of all patterns, and the analysis of what goes together, of twice as many nodes allocate about
// twice as much.
func TestLinear(t *testing.T) {
	masks := func(pattern string) func(dst, src string) error {
		return func(dst, src string) error {
			o := prune.Options{Sparsity: 0.5}
			o.Pattern = pattern
			_, err := prune.File(t.Context(), dst, src, o)
			return err
		}
	}
	units := func(dst, src string) error {
		_, err := prune.Shrink(t.Context(), dst, src, prune.ShrinkOptions{StructureOptions: prune.StructureOptions{Pattern: prune.Neurons, Sparsity: 0.25}})
		var nothing *prune.Nothing
		if errors.As(err, &nothing) { // the connections around layers hold all of them together
			return nil
		}
		return err
	}
	for name, c := range map[string]struct {
		net string
		run func(dst, src string) error
	}{
		"unstructured of a deep model":  {"deep", masks("unstructured")},
		"2:4 of a deep model":           {"deep", masks("2:4")},
		"unstructured of many branches": {"fan", masks("unstructured")},
		"blocks of many branches":       {"fan", masks("block:4x1")},
		"units of a deep model":         {"deep", units},
		"units of many branches":        {"fan", units},
	} {
		var got []growth.Allocated
		for _, nodes := range []int{600, 1200} {
			dir := t.TempDir()
			src := filepath.Join(dir, "model.onnx")
			if err := nets.Write(src, c.net, nets.Options{Nodes: nodes}, onnxfile.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			got = append(got, growth.Allocations(func() {
				if err := c.run(filepath.Join(dir, "out.onnx"), src); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}))
		}
		if !got[0].Linear(got[1]) {
			t.Errorf("%s: %+v for 600 nodes, %+v for 1200", name, got[0], got[1])
		}
	}
}

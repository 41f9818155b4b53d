package prune

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// FuzzPrune prunes arbitrary graphs, weights by magnitude and whole units, without
// data and without an engine: nothing panics or loops, and a result is a valid model.
func FuzzPrune(f *testing.F) {
	for i, b := range randgraph.Seeds(30) {
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		m := randgraph.Model(data)
		if _, err := m.Repair(); err != nil || m.Check() != nil {
			return
		}
		transform, done := transforms(t, int(which))
		defer done()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := transform(ctx, m, rewrite.Options{}); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("it takes more than a minute")
			}
			return
		}
		if err := m.Check(); err != nil {
			t.Fatalf("the result is not valid: %v", err)
		}
		if _, err := onnxfile.Encode(m); err != nil {
			t.Fatalf("the result cannot be written: %v", err)
		}
	})
}

// transforms returns one of the ways to prune that need neither data nor an engine.
func transforms(t *testing.T, which int) (produce.Transform, func()) {
	t.Helper()
	units := Units()[:4] // Layers is measured
	masks := []string{"unstructured", "2:4", "block:2x2"}
	which %= len(units) + len(masks)
	if which < len(masks) {
		o := Options{Sparsity: 0.5, MaskOptions: MaskOptions{Pattern: masks[which]}}
		if which > 0 {
			o.Sparsity = 0
		}
		if masks[which] == "block:2x2" {
			o.Sparsity = 0.5
		}
		transform, _, done, err := Transform(o)
		if err != nil {
			t.Fatal(err)
		}
		return transform, done
	}
	o := ShrinkOptions{StructureOptions: StructureOptions{Pattern: units[which-len(masks)], Sparsity: 0.4}}
	transform, _, done, err := ShrinkTransform(o)
	if err != nil {
		t.Fatal(err)
	}
	return transform, done
}

package opset_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/meaning"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// FuzzFacts changes small models a little, and computes all of their values: whatever inference says of one is so.
func FuzzFacts(f *testing.F) {
	meaning.NewBases(f, "../../fuse/testdata/*.txtar", "../../fuse/testdata/*/*.txtar").Fuzz(f, func(t *testing.T, m *onnx.Model, how uint8) {
		if err := factsHold(t.Context(), m, uint64(how)); err != nil {
			t.Fatalf("%v\n%s", err, meaning.Text(m))
		}
	})
}

// factsHold computes m and compares what is known of its values.
func factsHold(ctx context.Context, m *onnx.Model, seed uint64) error {
	for n := range m.Graph.Nodes() {
		for _, v := range n.Outputs() {
			if v != nil && !v.IsOutput() {
				m.Graph.AddOutput(v)
			}
		}
	}
	x, ok := meaning.Of(ctx, m, seed)
	if !ok {
		return nil
	}
	facts, err := opset.Infer(m, opset.Options{IgnoreValueInfo: true})
	if err != nil {
		return fmt.Errorf("it can be computed, and inference says %w", err)
	}
	sizes := map[string]int64{} // of symbols, as they were first seen
	for _, v := range m.Graph.Inputs() {
		if t := x.In(v.Name()); t != nil {
			if err := shapeHolds(v, v.Type.Shape, t.Shape, sizes); err != nil {
				return err
			}
		}
	}
	for _, v := range m.Graph.Outputs() {
		if err := valueHolds(facts, v, x.Out(v.Name()), sizes); err != nil {
			return err
		}
	}
	return nil
}

func valueHolds(facts *opset.Facts, v *onnx.Value, t *onnx.Tensor, sizes map[string]int64) error {
	if t == nil {
		return nil
	}
	if d := facts.DType(v); d != onnx.Undefined && d != t.DType {
		return fmt.Errorf("%q is %v, and known as %v", v.Name(), t.DType, d)
	}
	if err := shapeHolds(v, facts.Shape(v), t.Shape, sizes); err != nil {
		return err
	}
	ints, ok := facts.Ints(v)
	if !ok || !t.DType.IsInt() {
		return nil
	}
	have, err := t.Ints()
	if err != nil {
		return err
	}
	if len(have) != len(ints) {
		return fmt.Errorf("%q has %d elements, and %d are known", v.Name(), len(have), len(ints))
	}
	for i, e := range ints {
		if e.Known && e.Value != have[i] {
			return fmt.Errorf("element %d of %q is %d, and known as %d", i, v.Name(), have[i], e.Value)
		}
	}
	return nil
}

// shapeHolds compares a shape with what is known of it; a symbol is one size wherever it stands.
func shapeHolds(v *onnx.Value, known onnx.Shape, have []int64, sizes map[string]int64) error {
	if known == nil {
		return nil
	}
	if len(known) != len(have) {
		return fmt.Errorf("%q has shape %v, and known is %v", v.Name(), have, known)
	}
	for i, d := range known {
		switch {
		case d.Known() && d.Value != have[i]:
			return fmt.Errorf("%q has shape %v, and known is %v", v.Name(), have, known)
		case !d.Known() && opset.Named(d):
			if n, ok := sizes[d.String()]; ok && n != have[i] {
				return fmt.Errorf("%q has shape %v, and known is %v, where %v is %d", v.Name(), have, known, d, n)
			}
			sizes[d.String()] = have[i]
		}
	}
	return nil
}

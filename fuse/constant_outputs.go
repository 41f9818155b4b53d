package fuse

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// constantOutputs returns the names of the outputs of m that are constants.
func constantOutputs(m *onnx.Model) []string {
	var out []string
	for _, v := range m.Graph.Outputs() {
		if v.Constant() != nil || fixedByIdentity(v) {
			out = append(out, v.Name())
		}
	}
	return out
}

// fixedByIdentity reports whether v copies a constant, as an output must that
// shares one with another reader.
func fixedByIdentity(v *onnx.Value) bool {
	n := v.Producer()
	return n.Is("Identity") && n.Input(0).Constant() != nil
}

// noteConstantOutputs tells of outputs that do not depend on any input.
func noteConstantOutputs(m *onnx.Model, log *rewrite.Log) {
	for _, name := range constantOutputs(m) {
		log.Notice("output %q does not depend on any input; remove it with --drop-constant-outputs", name)
	}
}

// dropConstantOutputs removes the outputs of m that fusing shows to be constant.
func dropConstantOutputs(ctx context.Context, m *onnx.Model, o Options) ([]string, error) {
	trial := m.Clone()
	o.Rewrite = rewrite.Options{}
	if _, err := Model(ctx, trial, o); err != nil {
		return nil, err
	}
	names := constantOutputs(trial)
	if len(names) == 0 {
		return nil, nil
	}
	var kept []*onnx.Value
	for _, v := range m.Graph.Outputs() {
		if !slices.Contains(names, v.Name()) {
			kept = append(kept, v)
		}
	}
	if len(kept) == 0 {
		return nil, errors.New("no output depends on any input; nothing would be left without them")
	}
	m.Graph.SetOutputs(kept)
	m.Graph.Sweep()
	var said []string
	for _, n := range names {
		said = append(said, fmt.Sprintf("output %q, which does not depend on any input, was removed", n))
	}
	return said, nil
}

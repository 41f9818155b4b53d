package fuse

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// mostDynamic is how many sources of dynamic sizes are named.
const mostDynamic = 10

// reportDynamic notes what keeps shapes dynamic in a model that was to be
// specialized: inputs with dimensions that were not given, and nodes that make
// a size of something other than sizes.
func reportDynamic(m *onnx.Model, log *rewrite.Log) error {
	facts, err := opset.Infer(m, opset.Options{ReadOnly: true, IgnoreValueInfo: true})
	if err != nil {
		return err
	}
	var why []string
	for _, v := range m.Graph.Inputs() {
		if _, static := v.Shape().Static(); !static && (v.Type == nil || v.Type.IsTensor()) {
			why = append(why, fmt.Sprintf("input %q keeps the shape %v", v.Name(), v.Shape()))
		}
	}
	for n := range m.Graph.Nodes() {
		for i, v := range n.Outputs() {
			if reason := madeDynamic(facts, n, v); reason != "" {
				why = append(why, fmt.Sprintf("output %d of %v is %v: %s", i, n, facts.Shape(v), reason))
			}
		}
	}
	for i, line := range why {
		if i == mostDynamic {
			log.Notice("still dynamic: %d more", len(why)-i)
			break
		}
		log.Notice("still dynamic: %s", line)
	}
	return nil
}

// dataSized are operators whose output sizes depend on the content of an input.
var dataSized = map[string]bool{"NonZero": true, "NonMaxSuppression": true, "Unique": true, "Compress": true, "StringSplit": true,
	"Loop": true, "Scan": true, "SplitToSequence": true}

// madeDynamic returns why output v of n is dynamic though its inputs are not;
// "" where it is static or only follows its inputs.
func madeDynamic(facts *opset.Facts, n *onnx.Node, v *onnx.Value) string {
	t := facts.Type(v)
	if v == nil || v.Dead() || t != nil && !t.IsTensor() {
		return ""
	}
	if _, static := facts.Shape(v).Static(); static {
		return ""
	}
	for _, in := range n.Inputs() {
		if in == nil {
			continue
		}
		if _, static := facts.Shape(in).Static(); !static {
			return ""
		}
	}
	switch {
	case dataSized[n.Op]:
		return "it depends on data"
	case opset.Lookup(n.Domain, n.Op, n.OpsetVersion(n.Domain)) == nil:
		return "the operator is not known"
	}
	for _, in := range n.Inputs() {
		if in != nil && in.Constant() == nil && facts.DType(in).IsInt() {
			return fmt.Sprintf("its size is computed from the content of %q", in.Name())
		}
	}
	return "its shape is not known"
}

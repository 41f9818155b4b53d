package prune

import (
	"fmt"
	"path"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// weightSlots gives, per operator, the inputs that are weights.
var weightSlots = map[string][]int{
	"Conv": {1}, "ConvTranspose": {1}, "MatMul": {0, 1}, "Gemm": {0, 1},
	"LSTM": {1, 2}, "GRU": {1, 2}, "RNN": {1, 2},
	"com.microsoft.FusedConv": {1}, "com.microsoft.FusedGemm": {0, 1}, "com.microsoft.FusedMatMul": {0, 1},
}

// candidate is a constant that may be pruned.
type candidate struct {
	value *onnx.Value
	node  *onnx.Node
}

// candidates returns the weights of m that may be pruned, in order; where a
// constant stands in a weight slot and may not, it says why in the name of rule.
func candidates(m *onnx.Model, o *Options, rule string, e *rewrite.Env) []candidate {
	var out []candidate
	seen := map[*onnx.Value]bool{}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for n := range g.Nodes() {
			for _, slot := range weightSlots[opName(n)] {
				v := n.Input(slot)
				if v == nil || v.Const == nil && v.Constant() == nil || seen[v] {
					continue
				}
				seen[v] = true
				if why := refuse(v, n, o); why != "" {
					e.Decline(rule, n, "%s", why)
					continue
				}
				out = append(out, candidate{v, n})
			}
		}
	}
	return out
}

// refuse says why v, read by n, must not be pruned; "" if it may.
func refuse(v *onnx.Value, n *onnx.Node, o *Options) string {
	t := v.Constant()
	switch {
	case t == nil:
		return fmt.Sprintf("%q is an input with a default, which a caller may override; freeze it with fuse", v.Name())
	case len(t.Shape) < 2:
		return fmt.Sprintf("%q is no matrix of weights", v.Name())
	case t.DType != onnx.Float && t.DType != onnx.Float16 && t.DType != onnx.BFloat16 && t.DType != onnx.Double:
		return fmt.Sprintf("%q has elements of type %v", v.Name(), t.DType)
	case v.IsOutput():
		return fmt.Sprintf("%q is an output of the graph", v.Name())
	case len(o.Include) > 0 && !matches(o.Include, v, n):
		return "not among --include"
	case matches(o.Exclude, v, n):
		return "excluded"
	}
	for _, u := range v.Uses() {
		if !isSlot(u) {
			return fmt.Sprintf("%q is also read by %v, not as a weight", v.Name(), u.Node)
		}
	}
	return ""
}

func isSlot(u onnx.Use) bool {
	for _, slot := range weightSlots[opName(u.Node)] {
		if slot == u.Index {
			return true
		}
	}
	return false
}

func opName(n *onnx.Node) string {
	if d := onnx.NormalDomain(n.Domain); d != "" {
		return d + "." + n.Op
	}
	return n.Op
}

// matches reports whether a pattern fits the operator, the node or the weight.
func matches(patterns []string, v *onnx.Value, n *onnx.Node) bool {
	for _, p := range patterns {
		for _, name := range []string{n.Op, n.Name, v.Name()} {
			if ok, _ := path.Match(p, name); ok || p == name {
				return true
			}
		}
	}
	return false
}

func checkPatterns(list []string) error {
	for _, p := range list {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("pattern %q is malformed: %v", p, err)
		}
	}
	return nil
}

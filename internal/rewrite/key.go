package rewrite

import (
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// keys names firings, the same way in every run of the same rewrites.
//
// A rule can fire several times at nodes of one name. Those firings are told
// apart by what they match, and only where that is the same by how often it
// fired: leaving one out must not give its key to another.
type keys struct {
	found map[string][]string // by rule and name: what was matched there, in order
	fired map[string]int      // by match: how often it fired
}

// key names a firing of rule at the place called label; what tells it from
// others there.
func (k *keys) key(rule, label string, what ...string) string {
	base, m := rule+" at "+label, match(rule, label, what...)
	m += " #" + strconv.Itoa(k.fired[m])
	i := slices.Index(k.found[base], m)
	if i < 0 {
		i = len(k.found[base])
		k.found[base] = append(k.found[base], m)
	}
	if i == 0 {
		return base
	}
	return base + " #" + strconv.Itoa(i+1)
}

// match says what a firing of rule at the place called label is about.
func match(rule, label string, what ...string) string {
	return rule + " at " + label + " " + strings.Join(what, " ")
}

// nodeLabel names n by its first output, which is unique, else by its name.
func nodeLabel(n *onnx.Node) string {
	for _, v := range n.Outputs() {
		if v != nil {
			return v.Name()
		}
	}
	return n.Name
}

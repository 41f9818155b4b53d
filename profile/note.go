package profile

import (
	"fmt"
	"slices"
)

// notes collects what the numbers rest on, one sentence for all nodes of an
// operator that share a reason.
type notes struct {
	order  []string
	groups map[string]*noteGroup
}

type noteGroup struct {
	format, op, first string
	count             int
}

// add keeps a sentence, once.
func (n *notes) add(format string, args ...any) {
	n.entry(fmt.Sprintf(format, args...))
}

// group counts a node of operator op, called label in the place path, under a
// sentence whose %s stands for the nodes.
func (n *notes) group(format, op, path, label string) {
	g := n.entry(format + op)
	if g.count++; g.count == 1 {
		g.format, g.op, g.first = format, op, label
		if path != "" {
			g.first = path + "/" + label
		}
	}
}

func (n *notes) entry(key string) *noteGroup {
	if n.groups == nil {
		n.groups = map[string]*noteGroup{}
	}
	if !slices.Contains(n.order, key) {
		n.order = append(n.order, key)
		n.groups[key] = &noteGroup{}
	}
	return n.groups[key]
}

// list returns the sentences in the order in which they came up.
func (n *notes) list() []string {
	var out []string
	for _, key := range n.order {
		switch g := n.groups[key]; {
		case g.count == 0:
			out = append(out, key)
		case g.count == 1:
			out = append(out, fmt.Sprintf(g.format, fmt.Sprintf("%s (%s)", g.first, g.op)))
		default:
			out = append(out, fmt.Sprintf(g.format, fmt.Sprintf("%d %s nodes, such as %s,", g.count, g.op, g.first)))
		}
	}
	return out
}

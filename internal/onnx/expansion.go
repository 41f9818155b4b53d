package onnx

import (
	"errors"
	"fmt"
)

// maxExpansion bounds the nodes of a model with its local functions written out, as
// engines write them out: a function that calls another one twice, and so on, has
// no end that anybody lives to see.
const maxExpansion = 1 << 23

// Expands returns an error where the local functions of m come to too many nodes
// once they are written out. Functions that call themselves are left to [Model.Check].
func (m *Model) Expands() error {
	c := &checker{m: m}
	if c.recursion(); len(c.found) > 0 || m.Graph == nil {
		return nil
	}
	c.expansion()
	return errors.Join(c.found...)
}

// expansion reports a model whose local functions, which do not call themselves,
// come to too many nodes.
func (c *checker) expansion() {
	if len(c.m.Functions) == 0 {
		return
	}
	sizes := map[*Function]int64{}
	for _, f := range c.m.Functions {
		c.expand(f, sizes)
	}
	if n := c.written(c.m.Graph, sizes); n > maxExpansion {
		c.found = append(c.found, Problem{"model", fmt.Sprintf("with its local functions written out it has more than %d nodes", maxExpansion)})
	}
}

// expand finds the size of root and of all that it calls, callees first.
func (c *checker) expand(root *Function, sizes map[*Function]int64) {
	for stack := []*Function{root}; len(stack) > 0; {
		f := stack[len(stack)-1]
		if _, done := sizes[f]; done {
			stack = stack[:len(stack)-1]
			continue
		}
		waits := false
		for _, callee := range c.m.calledIn(f) {
			if _, done := sizes[callee]; !done {
				stack, waits = append(stack, callee), true
			}
		}
		if !waits {
			sizes[f] = c.written(f.Body, sizes)
			stack = stack[:len(stack)-1]
		}
	}
}

// written counts the nodes of g and its bodies, calls as what they call; up to a
// little above the bound.
func (c *checker) written(g *Graph, sizes map[*Function]int64) (n int64) {
	if g == nil {
		return 0
	}
	for work := []*Graph{g}; len(work) > 0; {
		h := work[len(work)-1]
		work = work[:len(work)-1]
		for x := h.first; x != nil; x = x.next {
			n++
			if callee := c.m.FindFunction(x); callee != nil {
				n += sizes[callee]
			}
			if n > maxExpansion {
				return maxExpansion + 1
			}
			work = append(work, x.Subgraphs()...)
		}
	}
	return n
}

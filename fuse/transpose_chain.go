package fuse

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// permOf returns the order of axes of a Transpose: output axis i is input axis
// perm[i]. Without the attribute the axes are reversed, which needs the rank.
func permOf(m *rewrite.Match, n *onnx.Node) ([]int64, error) {
	perm := n.Ints("perm", nil)
	if perm == nil {
		s := m.Facts.Shape(n.Input(0))
		if s == nil {
			return nil, rewrite.Decline("%v reverses the axes of a value of unknown rank", n)
		}
		perm = make([]int64, len(s))
		for i := range perm {
			perm[i] = int64(len(s) - 1 - i)
		}
	}
	if !isPerm(perm) {
		return nil, rewrite.Decline("%v has the order of axes %v", n, perm)
	}
	return perm, nil
}

// isPerm reports whether perm names each axis once, counted from the front.
func isPerm(perm []int64) bool {
	seen := make([]bool, len(perm))
	for _, a := range perm {
		if a < 0 || a >= int64(len(perm)) || seen[a] {
			return false
		}
		seen[a] = true
	}
	return true
}

// inverse returns the order of axes that takes perm back.
func inverse(perm []int64) []int64 {
	out := make([]int64, len(perm))
	for i, a := range perm {
		out[a] = int64(i)
	}
	return out
}

// compose returns the order of axes of a Transpose by first and then by second.
func compose(first, second []int64) []int64 {
	out := make([]int64, len(second))
	for i, a := range second {
		out[i] = first[a]
	}
	return out
}

// inOrder reports whether perm leaves every axis where it is.
func inOrder(perm []int64) bool {
	for i, a := range perm {
		if int64(i) != a {
			return false
		}
	}
	return true
}

var transposeChain = rewrite.Rule{
	Name: "transpose-chain", Doc: "makes one Transpose, or none, of two in a row",
	Pattern: "outer=Transpose(inner=Transpose(x))",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		first, err := permOf(m, m.Node("inner"))
		if err != nil {
			return err
		}
		second, err := permOf(m, m.Node("outer"))
		if err != nil {
			return err
		}
		if len(first) != len(second) {
			return rewrite.Decline("the orders of axes %v and %v do not fit", first, second)
		}
		both := compose(first, second)
		if inOrder(both) {
			p.Swap(m.Root.Output(0), m.Value("x"))
			return nil
		}
		p.Swap(m.Root.Output(0), p.Add("Transpose", []*onnx.Value{m.Value("x")}, onnx.IntsAttr("perm", both...)))
		return nil
	},
}

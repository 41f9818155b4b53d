package quantize

import (
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// For TensorRT, pairs stand in front of what computes on codes and nowhere else: it
// moves them through pooling, copies, activations and Concat by itself, and adds
// biases in floating point, so that these have none. Where a convolution's result is
// added to a shortcut it computes both in one kernel, whose result has the type
// of the shortcut: that has a pair, and the convolution's result, which never
// leaves the kernel, has none ("Q/DQ Layer-Placement Recommendations" in
// NVIDIA's TensorRT documentation).

// leastWidth is the least number of rows and of columns of a matrix from which on
// TensorRT's int8 kernels are taken (modelopt's rule).
const leastWidth = 16

// refuseTensorRT says why TensorRT would gain nothing from codes in front of n.
func (p *plan) refuseTensorRT(n *onnx.Node) string {
	if n.Is("Conv") {
		return ""
	}
	if place(n) == anchor {
		l, ok := linearOf(n)
		if !ok {
			return "its weight is a batch of matrices"
		}
		if l.in < leastWidth || l.out < leastWidth {
			return fmt.Sprintf("its matrix is %d by %d, and TensorRT multiplies in int8 from %d by %d on", l.in, l.out, leastWidth, leastWidth)
		}
		if p.oneRow(n) {
			return "it multiplies a single row, which TensorRT does in floating point"
		}
		return ""
	}
	if !n.Is("Add") {
		return "TensorRT computes it in the type of what is around it, without a pair"
	}
	branch, ok := p.shortcut(n)
	if !ok {
		return "it adds no convolution's result to a shortcut"
	}
	if p.branch == nil {
		p.branch = map[*onnx.Node]int{}
	}
	p.branch[n] = branch
	return ""
}

// oneRow reports whether a product has a single row for sure.
func (p *plan) oneRow(n *onnx.Node) bool {
	dims, ok := p.facts.Shape(n.Output(0)).Static()
	if !ok || len(dims) == 0 {
		return false
	}
	for _, d := range dims[:len(dims)-1] {
		if d != 1 {
			return false
		}
	}
	return true
}

// shortcut returns the input of an Add that passes by the convolution whose result
// the other one is. Where both are of convolutions, it is the one with fewer of
// them behind it, the first if they have as many.
func (p *plan) shortcut(n *onnx.Node) (input int, ok bool) {
	a, b := n.Input(0), n.Input(1)
	if a == nil || b == nil || a == b || a.Constant() != nil || b.Constant() != nil {
		return 0, false
	}
	x, y := depth(a), depth(b)
	switch {
	case x == 0 && y == 0:
		return 0, false
	case y == 0 || x > 0 && y < x:
		return 1, true
	}
	return 0, true
}

// depth counts the convolutions that end in v, alone on their way: up to the first
// value that others read too.
func depth(v *onnx.Value) int {
	if !v.Producer().Is("Conv") || len(v.Uses()) != 1 || v.IsOutput() {
		return 0
	}
	count := 0
	for v != nil && len(v.Uses()) == 1 && v.Producer() != nil {
		if v.Producer().Is("Conv") {
			count++
		}
		v = v.Producer().Input(0)
	}
	return count
}

// dropShortcuts takes out Adds behind whose convolutions no codes stand any more.
func (p *plan) dropShortcuts() {
	for n, branch := range p.branch {
		if p.chosen[n] && !p.chosen[n.Input(1-branch).Producer()] {
			delete(p.chosen, n)
			p.reasons[n] = "the convolution whose result it adds stays in floating point"
		}
	}
}

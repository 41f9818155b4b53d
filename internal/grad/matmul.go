package grad

import (
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// matmulRules are the products of matrices and their generalisation.
func matmulRules() []rule {
	return []rule{
		{name: "MatMul", do: func(c *call) { c.product(c.dy(), 0, 1, c.x(0), c.x(1)) }},
		{name: "Gemm", do: gemm},
		{name: "Einsum", do: einsum},
	}
}

// product gives the gradients of the matrix product a·b, which are those of inputs i and j: dy·bᵀ and aᵀ·dy. Vectors count as
// a row on the left and a column on the right, and axes in front are broadcast, as in MatMul.
func (c *call) product(dy *onnx.Value, i, j int, a, b *onnx.Value) {
	ra, rb := c.rank(a), c.rank(b)
	if ra == 0 || rb == 0 {
		c.fail("a scalar cannot be multiplied as a matrix")
	}
	row, column := a, b
	if rb == 1 {
		column = c.op("Unsqueeze", b, c.ints(1))
		dy = c.op("Unsqueeze", dy, c.ints(-1))
	}
	if ra == 1 {
		row = c.op("Unsqueeze", a, c.ints(0))
		dy = c.op("Unsqueeze", dy, c.ints(-2))
	}
	if c.wants(i) {
		c.give(i, c.reshapeIf(ra == 1, c.sumTo(c.matmul(dy, c.swapped(column)), row), a))
	}
	if c.wants(j) {
		c.give(j, c.reshapeIf(rb == 1, c.sumTo(c.matmul(c.swapped(row), dy), column), b))
	}
}

func (c *call) reshapeIf(is bool, g, like *onnx.Value) *onnx.Value {
	if is {
		return c.reshapeLike(g, like)
	}
	return g
}

// gemm is alpha·A'·B' + beta·C, where A' and B' may be transposed.
func gemm(c *call) {
	alpha, beta := c.float("alpha", 1), c.float("beta", 1)
	ta, tb := c.n.Int("transA", 0) != 0, c.n.Int("transB", 0) != 0
	dy := c.dy()
	if c.wants(2) {
		c.giveSum(2, c.scale(dy, beta))
	}
	product := func(x, y *onnx.Value, tx, ty bool) *onnx.Value {
		return c.opWith("Gemm", attrs{"alpha": float32(alpha), "transA": bit(tx), "transB": bit(ty)}, x, y)
	}
	if c.wants(0) {
		if ta {
			c.give(0, product(c.x(1), dy, tb, true))
		} else {
			c.give(0, product(dy, c.x(1), false, !tb))
		}
	}
	if c.wants(1) {
		if tb {
			c.give(1, product(dy, c.x(0), true, ta))
		} else {
			c.give(1, product(c.x(0), dy, !ta, false))
		}
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// einsum exchanges the operand with the result: what is summed for an operand is the product of the others with the gradient.
func einsum(c *call) {
	in, out, explicit := strings.Cut(strings.ReplaceAll(c.n.Str("equation", ""), " ", ""), "->")
	terms := strings.Split(in, ",")
	if strings.Contains(in, ".") || len(terms) != len(c.n.Inputs()) {
		c.fail("no gradient is known for the equation %q", c.n.Str("equation", ""))
	}
	if !explicit {
		out = implied(in)
	}
	for i, term := range terms {
		if !c.wants(i) {
			continue
		}
		operands, letters := []*onnx.Value{c.dy()}, []string{out}
		for k, other := range terms {
			if k != i {
				operands, letters = append(operands, c.x(k)), append(letters, other)
			}
		}
		all := strings.Join(letters, "")
		for _, letter := range term {
			if strings.Count(term, string(letter)) > 1 || !strings.ContainsRune(all, letter) {
				c.fail("no gradient is known for the equation %q: index %q stands in one operand only, or twice in it", c.n.Str("equation", ""), letter)
			}
		}
		c.give(i, c.opWith("Einsum", attrs{"equation": strings.Join(letters, ",") + "->" + term}, operands...))
	}
}

// implied returns the indices of the result where the equation has none: those that occur once, in order.
func implied(in string) string {
	var out []byte
	for _, letter := range []byte(in) {
		if letter != ',' && strings.Count(in, string(letter)) == 1 {
			out = append(out, letter)
		}
	}
	slices.Sort(out)
	return string(out)
}

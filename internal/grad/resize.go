package grad

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// resizeRules are the interpolations.
func resizeRules() []rule {
	return []rule{{name: "Resize", do: resize}}
}

// resize works axis by axis: along each it is a product with a matrix, and so is its gradient, with the matrix transposed. The
// matrix is what the operator makes of the unit matrix.
func resize(c *call) {
	x, g, rank := c.x(0), c.dy(), c.rank(c.x(0))
	if mode := c.n.Str("coordinate_transformation_mode", "half_pixel"); mode == "tf_crop_and_resize" {
		c.fail("no gradient is known for coordinate_transformation_mode %q", mode)
	}
	if policy := c.n.Str("keep_aspect_ratio_policy", "stretch"); policy != "stretch" {
		c.fail("no gradient is known for keep_aspect_ratio_policy %q", policy)
	}
	axes := upTo(rank)
	if list := c.n.Ints("axes", nil); len(list) > 0 {
		axes = slices.Clone(list)
	}
	for i, a := range axes {
		axis := c.axis(a, rank)
		if c.facts.Shape(x)[axis].Same(c.facts.Shape(c.y())[axis]) && c.unscaled(i) {
			continue
		}
		matrix := c.resized(i, axis)
		switch axis {
		case rank - 1:
			g = c.matmul(g, c.swapped(matrix))
		case rank - 2:
			g = c.matmul(matrix, g)
		default:
			perm := upTo(rank)
			perm[axis], perm[rank-1] = perm[rank-1], perm[axis]
			g = c.transpose(c.matmul(c.transpose(g, perm...), c.swapped(matrix)), perm...)
		}
	}
	c.give(0, c.reshapeLike(g, x))
}

// unscaled reports whether element i of the scales, where they are given, is known to be 1: an axis may keep its size and still
// be interpolated.
func (c *call) unscaled(i int) bool {
	scales := c.n.Input(2)
	if scales == nil {
		return true
	}
	t := scales.Constant()
	if t == nil {
		return false
	}
	v, err := t.Float64s()
	return err == nil && (len(v) == 0 || i < len(v) && v[i] == 1)
}

// resized returns what the operator makes of the unit matrix along one axis, that of element i of its scales or sizes:
// [in, out], the transpose of the matrix by which it multiplies.
func (c *call) resized(i, axis int) *onnx.Value {
	x := c.x(0)
	n := c.sizesOf(x, axis, axis+1)
	d := c.elem(x)
	square := c.op("Expand", c.scalar(d, 0), c.value(c.joined(n, n)))
	unit := c.op("Reshape", c.op("EyeLike", square), c.value(c.joined(fixed(1), n, n, fixed(1)))) // [1, in, in, 1]
	in := []*onnx.Value{unit, nil, nil, nil}
	if scales := c.n.Input(2); scales != nil && c.rank(scales) == 1 && !c.empty(scales) {
		one := c.op("Expand", c.num(scales, 1), c.ints(1))
		in[2] = c.opWith("Concat", attrs{"axis": 0}, one, one, c.op("Gather", scales, c.ints(int64(i))), one)
	} else {
		in[3] = c.value(c.joined(fixed(1), n, c.sizesOf(c.y(), axis, axis+1), fixed(1)))
	}
	matrix := c.again(in, "grad_resized")[0]
	matrix.Producer().DeleteAttr("axes") // which says to which axes the scales or sizes belong
	c.facts.Infer(matrix.Producer())
	return c.op("Reshape", matrix, c.value(c.joined(n, c.sizesOf(c.y(), axis, axis+1))))
}

// empty reports whether v is known to have no elements.
func (b *builder) empty(v *onnx.Value) bool {
	dims, ok := b.facts.Shape(v).Static()
	n, _ := onnx.ElementCount(dims)
	return ok && n == 0
}

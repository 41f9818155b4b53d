package fuse

import (
	"maps"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// indexForm is an integer tensor each element of which is a sum: multiples of its own
// indices, plus a number, plus sizes, plus or minus an element of a vector.
type indexForm struct {
	rank  int
	index map[int]int64    // what the index along an axis, counted from the last, is multiplied by
	fixed int64            // the number
	sizes map[string]int64 // sizes that are expressions, with their factors
	per   *onnx.Value      // the vector, nil if none
	along int              // the axis of the vector, counted from the last
	sign  int64            // 1 or -1: how the vector counts
}

// plus returns f + k·g, and false where both have a vector.
func (f indexForm) plus(g indexForm, k int64) (indexForm, bool) {
	out := indexForm{rank: max(f.rank, g.rank), index: maps.Clone(f.index), sizes: maps.Clone(f.sizes),
		fixed: f.fixed + k*g.fixed, per: f.per, along: f.along, sign: f.sign}
	addInto(&out.index, g.index, k)
	addInto(&out.sizes, g.sizes, k)
	if g.per != nil {
		if f.per != nil {
			return indexForm{}, false
		}
		out.per, out.along, out.sign = g.per, g.along, k*g.sign
	}
	return out, true
}

// addInto adds k·b to *a and drops what cancels.
func addInto[K comparable](a *map[K]int64, b map[K]int64, k int64) {
	if *a == nil {
		*a = map[K]int64{}
	}
	for x, n := range b {
		if (*a)[x] += k * n; (*a)[x] == 0 {
			delete(*a, x)
		}
	}
}

// formOf reads v as a form.
func formOf(facts *opset.Facts, v *onnx.Value) (indexForm, bool) { return formIn(facts, v, 16) }

func formIn(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, bool) {
	f, ok := readForm(facts, v, depth)
	return f.within(facts.Shape(v)), ok
}

// within is f without the indices along axes of length 1, which are 0: whoever reads
// a value of shape s along more rows than it has reads the same for all of them.
func (f indexForm) within(s onnx.Shape) indexForm {
	index := maps.Clone(f.index)
	for i, d := range s {
		if d.Known() && d.Value == 1 {
			delete(index, len(s)-1-i)
		}
	}
	f.index = index
	return f
}

func readForm(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, bool) {
	if v == nil || depth == 0 || !facts.DType(v).IsInt() {
		return indexForm{}, false
	}
	rank := len(facts.Shape(v))
	if t := v.Constant(); t != nil {
		return constForm(t)
	}
	if f, ok := sizeForm(facts, v); ok {
		return f, true
	}
	if n := v.Producer(); n != nil && onnx.NormalDomain(n.Domain) == "" {
		if f, ok := opForm(facts, n, rank, depth); ok {
			return f, true
		}
	}
	if rank != 1 {
		return indexForm{}, false
	}
	f := indexForm{rank: 1, per: v, sign: 1}
	if d := facts.Shape(v)[0]; d.Known() && d.Value == 1 {
		f.along = anyAxis
	}
	return f, true
}

// anyAxis is the axis of a vector of one element.
const anyAxis = -1

// sizeForm reads a single size that shape arithmetic knows.
func sizeForm(facts *opset.Facts, v *onnx.Value) (indexForm, bool) {
	ints, ok := facts.Ints(v)
	if !ok || len(ints) != 1 || !ints[0].Known && ints[0].Expr == "" {
		return indexForm{}, false
	}
	f := indexForm{rank: len(facts.Shape(v))}
	if ints[0].Known {
		f.fixed = ints[0].Value
	} else {
		f.sizes = map[string]int64{ints[0].Expr: 1}
	}
	return f, true
}

func opForm(facts *opset.Facts, n *onnx.Node, rank, depth int) (indexForm, bool) {
	switch n.Op {
	case "Cast", "Identity":
		return formIn(facts, n.Input(0), depth-1)
	case "Add", "Sub":
		a, ok1 := formIn(facts, n.Input(0), depth-1)
		b, ok2 := formIn(facts, n.Input(1), depth-1)
		if !ok1 || !ok2 {
			return indexForm{}, false
		}
		if n.Op == "Sub" {
			return a.plus(b, -1)
		}
		return a.plus(b, 1)
	case "Range":
		return rangeForm(facts, n, depth)
	case "Unsqueeze", "Squeeze", "Reshape":
		f, ok := formIn(facts, n.Input(0), depth-1)
		if !ok {
			return indexForm{}, false
		}
		return f.reshaped(facts.Shape(n.Input(0)), facts.Shape(n.Output(0)))
	case "Expand":
		f, ok := formIn(facts, n.Input(0), depth-1)
		f.rank = rank
		return f, ok
	case "Slice":
		f, ok := formIn(facts, n.Input(0), depth-1)
		if !ok {
			return indexForm{}, false
		}
		return f.sliced(facts, n)
	}
	return indexForm{}, false
}

// rangeForm is a Range that counts up by one.
func rangeForm(facts *opset.Facts, n *onnx.Node, depth int) (indexForm, bool) {
	f, ok := formIn(facts, n.Input(0), depth-1)
	step, known := numberOf(facts, n.Input(2))
	if !ok || !known || step != 1 || f.per != nil || len(f.index) > 0 {
		return indexForm{}, false
	}
	f.rank, f.index = 1, map[int]int64{0: 1}
	return f, true
}

// reshaped moves f, of shape in, to shape out, which differs in axes of length 1 only.
func (f indexForm) reshaped(in, out onnx.Shape) (indexForm, bool) {
	if !in.Ranked() || !out.Ranked() {
		return indexForm{}, false
	}
	wide := func(s onnx.Shape) []int {
		var axes []int
		for i, d := range s {
			if !d.Known() || d.Value != 1 {
				axes = append(axes, len(s)-1-i)
			}
		}
		return axes
	}
	a, b := wide(in), wide(out)
	if len(a) != len(b) {
		return indexForm{}, false
	}
	to := map[int]int{}
	for i := range a {
		if !in[len(in)-1-a[i]].Same(out[len(out)-1-b[i]]) && len(a) != 1 {
			return indexForm{}, false
		}
		to[a[i]] = b[i]
	}
	g := f
	g.rank, g.index = len(out), map[int]int64{}
	for axis, k := range f.index {
		if t, ok := to[axis]; ok {
			g.index[t] = k
		}
	}
	if f.per != nil && f.along != anyAxis {
		t, ok := to[f.along]
		if !ok {
			t = anyAxis
		}
		g.along = t
	}
	return g, true
}

// constForm reads a constant whose elements grow evenly along each axis.
func constForm(t *onnx.Tensor) (indexForm, bool) {
	if n, ok := t.Elements(); !ok || n == 0 || n > maxInspected || !t.DType.IsInt() {
		return indexForm{}, false
	}
	x, err := t.Ints()
	if err != nil {
		return indexForm{}, false
	}
	f := indexForm{rank: len(t.Shape), fixed: x[0], index: map[int]int64{}}
	stride := 1
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] > 1 {
			if k := x[stride] - x[0]; k != 0 {
				f.index[len(t.Shape)-1-i] = k
			}
		}
		stride *= int(t.Shape[i])
	}
	for i := range x {
		want, rest := f.fixed, i
		for a := len(t.Shape) - 1; a >= 0; a-- {
			want += f.index[len(t.Shape)-1-a] * int64(rest%int(t.Shape[a]))
			rest /= int(t.Shape[a])
		}
		if x[i] != want {
			return indexForm{}, false
		}
	}
	return f, true
}

// conditionForm reads a Bool value that is true exactly where a form is above 0.
func conditionForm(facts *opset.Facts, v *onnx.Value) (indexForm, bool) {
	return conditionFormIn(facts, v, 12)
}

func conditionFormIn(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, bool) {
	f, ok := readCondition(facts, v, depth)
	return f.within(facts.Shape(v)), ok
}

func readCondition(facts *opset.Facts, v *onnx.Value, depth int) (indexForm, bool) {
	if v == nil || depth == 0 {
		return indexForm{}, false
	}
	if t := v.Constant(); t != nil {
		return constCondition(t)
	}
	n := v.Producer()
	if n == nil || onnx.NormalDomain(n.Domain) != "" {
		return indexForm{}, false
	}
	switch n.Op {
	case "Cast", "Identity":
		return conditionFormIn(facts, n.Input(0), depth-1)
	case "Unsqueeze", "Squeeze", "Reshape":
		f, ok := conditionFormIn(facts, n.Input(0), depth-1)
		if !ok {
			return indexForm{}, false
		}
		return f.reshaped(facts.Shape(n.Input(0)), facts.Shape(v))
	case "Expand":
		f, ok := conditionFormIn(facts, n.Input(0), depth-1)
		f.rank = len(facts.Shape(v))
		return f, ok
	case "Not":
		f, ok := conditionFormIn(facts, n.Input(0), depth-1)
		return f.negated(), ok
	case "Trilu":
		return triluCondition(facts, n)
	case "Slice":
		f, ok := conditionFormIn(facts, n.Input(0), depth-1)
		if !ok {
			return indexForm{}, false
		}
		return f.sliced(facts, n)
	}
	return comparison(facts, n, depth)
}

// negated is above 0 exactly where f is not.
func (f indexForm) negated() indexForm {
	g, _ := indexForm{fixed: 1}.plus(f, -1)
	g.rank = f.rank
	return g
}

// comparison reads a < b and its like.
func comparison(facts *opset.Facts, n *onnx.Node, depth int) (indexForm, bool) {
	less := map[string]bool{"Less": true, "LessOrEqual": true, "Greater": false, "GreaterOrEqual": false}
	isLess, ok := less[n.Op]
	if !ok {
		return indexForm{}, false
	}
	a, ok1 := formIn(facts, n.Input(0), depth-1)
	b, ok2 := formIn(facts, n.Input(1), depth-1)
	if !ok1 || !ok2 {
		return indexForm{}, false
	}
	if !isLess {
		a, b = b, a
	}
	d, ok := b.plus(a, -1)
	if n.Op == "LessOrEqual" || n.Op == "GreaterOrEqual" {
		d.fixed++
	}
	return d, ok
}

// triluCondition reads Trilu of what is true everywhere.
func triluCondition(facts *opset.Facts, n *onnx.Node) (indexForm, bool) {
	if x, ok := filledWith(facts, n.Input(0)); !ok || x == 0 {
		return indexForm{}, false
	}
	return triluForm(facts, n)
}

// triluForm is above 0 where Trilu keeps its input: with upper, where column −
// row ≥ k, else where column − row ≤ k.
func triluForm(facts *opset.Facts, n *onnx.Node) (indexForm, bool) {
	if !settledNode(n) {
		return indexForm{}, false
	}
	k := indexForm{}
	if v := n.Input(1); v != nil {
		var ok bool
		if k, ok = formOf(facts, v); !ok || k.per != nil || len(k.index) > 0 {
			return indexForm{}, false
		}
	}
	col := indexForm{rank: len(facts.Shape(n.Output(0))), index: map[int]int64{0: 1, 1: -1}}
	d, ok := col.plus(k, -1)
	if n.Int("upper", 1) == 0 {
		d, ok = indexForm{rank: col.rank}.plus(d, -1)
	}
	d.fixed++
	return d, ok
}

// sliced is f as the Slice n cuts it: indices along a sliced axis start later.
// Axes and steps must be constant, steps 1.
func (f indexForm) sliced(facts *opset.Facts, n *onnx.Node) (indexForm, bool) {
	if f.per != nil || len(n.Inputs()) < 4 {
		return indexForm{}, false
	}
	rank := len(facts.Shape(n.Input(0)))
	axes, ok1 := facts.Ints(n.Input(3))
	starts, ok2 := facts.Ints(n.Input(1))
	if !ok1 || !ok2 || len(axes) != len(starts) || rank == 0 {
		return indexForm{}, false
	}
	if n.Input(4) != nil {
		if steps, ok := filledWith(facts, n.Input(4)); !ok || steps != 1 {
			return indexForm{}, false
		}
	}
	for i, a := range axes {
		if !a.Known {
			return indexForm{}, false
		}
		axis := a.Value
		if axis < 0 {
			axis += int64(rank)
		}
		k := f.index[rank-1-int(axis)]
		switch {
		case starts[i].Known && starts[i].Value >= 0:
			f.fixed += k * starts[i].Value
		case !starts[i].Known && starts[i].Expr != "":
			sizes := map[string]int64{}
			addInto(&sizes, f.sizes, 1)
			addInto(&sizes, map[string]int64{starts[i].Expr: k}, 1)
			f.sizes = sizes
		default:
			return indexForm{}, false
		}
	}
	f.rank = rank
	return f, true
}

// constCondition reads a constant matrix that is true exactly on one side of a diagonal.
func constCondition(t *onnx.Tensor) (indexForm, bool) {
	x, rows, cols := constMatrix(t)
	if x == nil {
		return indexForm{}, false
	}
	for _, above := range []bool{true, false} {
		if k, ok := diagonalOf(rows, cols, func(i, j int) bool { return (x[i*cols+j] != 0) == above }); ok {
			// column − row > k − 1 where above holds.
			f := indexForm{rank: len(t.Shape), index: map[int]int64{0: 1, 1: -1}, fixed: int64(1 - k)}
			if !above {
				f = f.negated()
			}
			return f, true
		}
	}
	return indexForm{}, false
}

// constMatrix returns the elements of a constant whose leading axes have length 1.
func constMatrix(t *onnx.Tensor) (x []float64, rows, cols int) {
	n := len(t.Shape)
	if e, ok := t.Elements(); !ok || e == 0 || e > maxInspected || n < 2 || t.DType == onnx.String {
		return nil, 0, 0
	}
	for _, d := range t.Shape[:n-2] {
		if d != 1 {
			return nil, 0, 0
		}
	}
	x, err := t.Float64s()
	if err != nil {
		return nil, 0, 0
	}
	return x, int(t.Shape[n-2]), int(t.Shape[n-1])
}

// diagonalOf returns the least k such that set(i, j) holds exactly where j − i ≥ k,
// and false where the set is not of that form or is empty or everything, which
// tell no k.
func diagonalOf(rows, cols int, set func(i, j int) bool) (int, bool) {
	k, some, all := 0, false, true
	for i := range rows {
		for j := range cols {
			if !set(i, j) {
				all = false
				continue
			}
			if !some || j-i < k {
				k, some = j-i, true
			}
		}
	}
	if !some || all {
		return 0, false
	}
	for i := range rows {
		for j := range cols {
			if set(i, j) != (j-i >= k) {
				return 0, false
			}
		}
	}
	return k, true
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// foldForward is the Rewrite of rules whose root is an operator with weights
// behind an affine map.
func foldForward(t *Target, into func(f *folder, x *onnx.Value, a affine) (*onnx.Value, error)) func(*rewrite.Match, *rewrite.Patch) error {
	return func(m *rewrite.Match, p *rewrite.Patch) error {
		f := folder{m: m, p: p, t: t}
		index := 0
		if m.Root.Is("MatMul") && m.Root.Input(0).Constant() != nil {
			index = 1
		}
		x, a, err := f.strip(m.Root.Input(index))
		if err != nil {
			return err
		}
		y, err := into(&f, x, a)
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), y)
		return nil
	}
}

// strip returns x and a such that v is a of x, taking one affine node away. It
// goes through operators that a commutes with.
func (f *folder) strip(v *onnx.Value) (*onnx.Value, affine, error) {
	n := v.Producer()
	if f.steps++; n == nil || n.Graph() != f.m.Root.Graph() || onnx.NormalDomain(n.Domain) != "" || f.steps > maxSteps {
		return nil, affine{}, rewrite.ErrNotHere
	}
	switch n.Op {
	case "Add", "Sub", "Mul", "Div", "Neg", "BatchNormalization":
		return f.stripNode(n)
	case "Concat":
		return f.stripConcat(n)
	case "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "GlobalAveragePool", "AveragePool", "MaxPool":
	default:
		return nil, affine{}, rewrite.ErrNotHere
	}
	x, a, err := f.strip(n.Input(0))
	if err != nil {
		return nil, a, err
	}
	if err := soleUse(n); err != nil {
		return nil, a, err
	}
	if a, err = f.after(n, a); err != nil {
		return nil, a, err
	}
	in := append([]*onnx.Value(nil), n.Inputs()...)
	in[0] = x
	return f.p.Add(n.Op, in, n.Attrs...), a, nil
}

// after returns what a of the first input of n is of its result.
func (f *folder) after(n *onnx.Node, a affine) (affine, error) {
	switch {
	case n.Op == "MaxPool" || n.Op == "AveragePool" || n.Op == "GlobalAveragePool":
		return a, f.commutesWithPool(n, a)
	case a.uniform():
		return a, nil
	case n.Op == "Transpose":
		perm, rank := n.Ints("perm", nil), rankOf(n.Input(0), f.m.Facts)
		if perm == nil || len(perm) != rank {
			return a, rewrite.Decline("%v reverses the axes, or their number is not known", n)
		}
		a.after = rank - 1 - slices.Index(perm, int64(rank-1-a.after))
		return a, nil
	}
	return f.afterReshape(n, a)
}

// afterReshape finds the axis of the result of a reshape that the channels
// become: one of the same size, or the last, of which each channel makes a run.
func (f *folder) afterReshape(n *onnx.Node, a affine) (affine, error) {
	in, out := f.m.Facts.Shape(n.Input(0)), f.m.Facts.Shape(n.Output(0))
	if len(in) <= a.after || len(out) == 0 {
		return a, rewrite.Decline("%v goes from %v to %v", n, in, out)
	}
	tail, channels := in[len(in)-a.after:], int64(len(a.scale))
	for axis := len(out) - 1; axis >= 0; axis-- {
		if out[axis].Known() && out[axis].Value == channels && sameCount(out[axis+1:], tail) {
			a.after = len(out) - 1 - axis
			return a, nil
		}
	}
	run, ok := tail.Static()
	last := out[len(out)-1]
	if !ok || !last.Known() || last.Value != channels*int64(product(run)) || last.Value > maxChannels {
		return a, rewrite.Decline("%v from %v to %v does not keep the axis of the channels", n, in, out)
	}
	return affine{scale: runs(a.scale, product(run)), shift: runs(a.shift, product(run))}, nil
}

// runs returns each element of v n times.
func runs(v []float64, n int) []float64 {
	var out []float64
	for _, x := range v {
		out = append(out, slices.Repeat([]float64{x}, n)...)
	}
	return out
}

// stripConcat takes the affine nodes away that make some inputs of Concat.
func (f *folder) stripConcat(n *onnx.Node) (*onnx.Value, affine, error) {
	shape := f.m.Facts.Shape(n.Output(0))
	axis := int(n.Int("axis", 1))
	if axis < 0 {
		axis += len(shape)
	}
	if axis < 0 || axis >= len(shape) {
		return nil, affine{}, rewrite.Decline("the rank of %v is not known", n)
	}
	if err := soleUse(n); err != nil {
		return nil, affine{}, err
	}
	all, found := affine{after: len(shape) - 1 - axis}, 0
	in := append([]*onnx.Value(nil), n.Inputs()...)
	for i, v := range in {
		d := f.m.Facts.Shape(v)
		if len(d) != len(shape) || !d[axis].Known() || d[axis].Value > maxChannels {
			return nil, all, rewrite.Decline("the channels of input %d of %v are not known", i, n)
		}
		one := affine{scale: []float64{1}, shift: []float64{0}}
		x, a, err := f.strip(v)
		if err == nil {
			a, err = a.along(all.after, d[axis].Value)
		}
		if err == nil {
			in[i], one, found = x, a, found+1
		} else if one, err = one.along(all.after, d[axis].Value); err != nil {
			return nil, all, err
		}
		all.scale, all.shift = append(all.scale, one.scale...), append(all.shift, one.shift...)
	}
	if found == 0 {
		return nil, all, rewrite.ErrNotHere
	}
	return f.p.Add("Concat", in, n.Attrs...), all, nil
}

// maxReaders bounds the readers of one value that are looked at together, so
// that time stays linear in the size of the graph.
const maxReaders = 64

// stripNode takes the affine node n away, whose readers must all have weights:
// else it stays, and nothing is gained.
func (f *folder) stripNode(n *onnx.Node) (*onnx.Value, affine, error) {
	x, a, err := affineNode(n, f.m.Facts)
	if err != nil {
		return nil, a, err
	}
	if n.Output(0).IsOutput() {
		return nil, a, rewrite.Decline("the result of %v is an output", n)
	}
	if k := len(n.Output(0).Uses()); k > maxReaders {
		return nil, a, rewrite.Decline("%d nodes read the result of %v", k, n)
	}
	for _, u := range n.Output(0).Uses() {
		if !hasWeights(u.Node, u.Index) {
			return nil, a, rewrite.Decline("%v reads the result of %v too", u.Node, n)
		}
	}
	if !a.uniform() {
		s := f.m.Facts.Shape(x)
		if axis := len(s) - 1 - a.after; axis < 0 || !s[axis].Known() || s[axis].Value != int64(len(a.scale)) {
			return nil, a, rewrite.Decline("%q of shape %v may be broadcast to the %d channels", x.Name(), s, len(a.scale))
		}
	}
	if endsNorm(x) {
		return nil, a, rewrite.Decline("%v may scale or shift a normalization, which engines fuse with it", n)
	}
	if endsGelu(x) {
		return nil, a, rewrite.Decline("%v halves a GELU, which engines look for as a whole", n)
	}
	return x, a, nil
}

// hasWeights reports whether input i of n meets constant weights, or goes on to
// such a node alone.
func hasWeights(n *onnx.Node, i int) bool {
	switch {
	case n.Is("Conv"), n.Is("ConvTranspose"), n.Is("Gemm"):
		return i == 0 && n.Input(1).Constant() != nil
	case n.Is("MatMul"):
		return n.Input(1-i).Constant() != nil
	case n.Is("Concat"), i == 0 && slices.Contains([]string{"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "GlobalAveragePool", "AveragePool", "MaxPool"}, n.Op):
		uses := n.Output(0).Uses()
		return len(uses) == 1 && !n.Output(0).IsOutput() && hasWeights(uses[0].Node, uses[0].Index)
	}
	return false
}

// endsNorm reports whether v is what a normalization that is spelled out makes
// before its scale and shift: something over a root, or times one over it.
func endsNorm(v *onnx.Value) bool {
	for range 4 { // x, or x·scale, cast in between
		n := v.Producer()
		if n == nil {
			return false
		}
		if n.Is("Cast") {
			v = n.Input(0)
			continue
		}
		if n.Is("Div") || n.Is("Mul") {
			for _, in := range n.Inputs() {
				if isRoot(in, 3) {
					return true
				}
			}
		}
		next := n.Input(0)
		if !n.Is("Mul") && !n.Is("Add") || next == nil {
			return false
		}
		if next.Constant() != nil {
			next = n.Input(1)
		}
		v = next
	}
	return false
}

// endsGelu reports whether v is x·(1 + erf(…)) or x·(1 + tanh(…)): a GELU but for its half.
func endsGelu(v *onnx.Value) bool {
	n := v.Producer()
	if n == nil || !n.Is("Mul") {
		return false
	}
	for _, in := range n.Inputs() {
		if add := in.Producer(); add != nil && add.Is("Add") {
			for _, e := range add.Inputs() {
				if p := e.Producer(); p != nil && (p.Is("Erf") || p.Is("Tanh")) {
					return true
				}
			}
		}
	}
	return false
}

// isRoot reports whether v is a square root or one over it, at most depth steps back.
func isRoot(v *onnx.Value, depth int) bool {
	n := v.Producer()
	if n == nil || depth == 0 {
		return false
	}
	switch n.Op {
	case "Sqrt", "Pow":
		return true
	case "Reciprocal", "Cast", "Expand", "Identity":
		return isRoot(n.Input(0), depth-1)
	case "Div":
		return isRoot(n.Input(1), depth-1)
	}
	return false
}

// convOf proposes the Conv or ConvTranspose at the root for the input x, with a
// folded into its filters. A shift is the same everywhere only where nothing is padded.
func convOf(f *folder, x *onnx.Value, a affine) (*onnx.Value, error) {
	n := f.m.Root
	w, err := f.filtersOf(n)
	if err != nil {
		return nil, err
	}
	if a, err = a.along(w.rank-2, w.inputs); err != nil {
		return nil, err
	}
	if !a.pure() && (padded(n) || n.Op == "ConvTranspose") {
		return nil, rewrite.Decline("a shift is folded only where nothing is padded")
	}
	w2, err := f.scaleWeight(w.weight, a.scale, -1, w.input)
	if err != nil {
		return nil, err
	}
	b, err := f.shiftThrough(w.weight, a.shift, w.outputs, w.input, w.output)
	if err != nil {
		return nil, err
	}
	b2, err := f.foldBias(n.Input(2), w.weight, b)
	if err != nil {
		return nil, err
	}
	return f.p.Add(n.Op, []*onnx.Value{x, w2, b2}, n.Attrs...), nil
}

// shiftThrough returns what a shift of the input channels adds to each output
// channel: the sum over the weights that read them.
func (f *folder) shiftThrough(w weight, shift []float64, outputs int64, input, output func(int) int) (affine, error) {
	b := affine{scale: slices.Repeat([]float64{1}, int(outputs)), shift: make([]float64, outputs)}
	if all(shift, 0) {
		return b, nil
	}
	t, err := constant(w.value, "the weight")
	if err != nil {
		return b, err
	}
	if !isReal(t.DType) {
		return b, rewrite.Decline("the weights are %v", t.DType)
	}
	return b, eachElement(t, func(i int, x float64) { b.shift[output(i)] += x * shift[input(i)] })
}

// matrixOf is convOf for MatMul.
func matrixOf(f *folder, x *onnx.Value, a affine) (*onnx.Value, error) {
	n := f.m.Root
	i := 1
	if n.Input(0).Constant() != nil {
		i = 0
	}
	s, err := f.sideOf(n, i)
	if err != nil {
		return nil, err
	}
	if a, err = a.along(s.after, s.reads); err != nil {
		return nil, err
	}
	w2, err := f.scaleWeight(s.weight, a.scale, -1, s.read)
	if err != nil {
		return nil, err
	}
	in := []*onnx.Value{x, w2}
	if i == 0 {
		in = []*onnx.Value{w2, x}
	}
	if a.pure() {
		return f.p.Add("MatMul", in, n.Attrs...), nil
	}
	if len(s.shape) != 2 {
		return nil, rewrite.Decline("the weights have shape %s, so the shift is another in each", dims(s.shape))
	}
	b, err := f.shiftThrough(s.weight, a.shift, s.channels, s.read, s.channel)
	if err != nil {
		return nil, err
	}
	shape := []int64{s.channels, 1}[:1+s.after]
	t, err := floatTensor(s.name()+"_bias", s.dtype, shape, b.shift)
	if err != nil {
		return nil, err
	}
	if gemmFactors(f.m, n.Input(0), n.Input(1)) == nil {
		return f.p.Add("Gemm", append(in, f.p.Const(t))), nil
	}
	if !shiftedAfter(n) {
		return nil, rewrite.Decline("MatMul has no bias for the shift to go to")
	}
	return f.p.Add("Add", []*onnx.Value{f.p.Add("MatMul", in, n.Attrs...), f.p.Const(t)}), nil
}

// shiftedAfter reports whether the only reader of n adds a constant, which takes
// up another one.
func shiftedAfter(n *onnx.Node) bool {
	uses := n.Output(0).Uses()
	if n.Output(0).IsOutput() || len(uses) != 1 || !uses[0].Node.Is("Add") {
		return false
	}
	return uses[0].Node.Input(1-uses[0].Index).Constant() != nil
}

// gemmOf is convOf for Gemm.
func gemmOf(f *folder, x *onnx.Value, a affine) (*onnx.Value, error) {
	n := f.m.Root
	w, err := weightOf(f.m, n.Input(1))
	if err != nil {
		return nil, err
	}
	if len(w.shape) != 2 || n.OpsetVersion("") < 7 || product(w.shape) == 0 {
		return nil, rewrite.Decline("the weights have shape %v", w.shape)
	}
	rows, columns, width := w.shape[0], w.shape[1], int(w.shape[1])
	row, column := func(i int) int { return i / width }, func(i int) int { return i % width }
	if n.Int("transB", 0) != 0 {
		rows, columns, row, column = columns, rows, column, row
	}
	after := 0
	if n.Int("transA", 0) != 0 {
		after = 1
	}
	if a, err = a.along(after, rows); err != nil {
		return nil, err
	}
	w2, err := f.scaleWeight(w, a.scale, -1, row)
	if err != nil {
		return nil, err
	}
	b, err := f.shiftThrough(w, a.shift, columns, row, column)
	if err != nil {
		return nil, err
	}
	alpha := float64(n.Float("alpha", 1))
	for i := range b.shift {
		b.shift[i] *= alpha
	}
	return f.gemmWithBias(n, x, w, w2, b)
}

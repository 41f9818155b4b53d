package quantize

import (
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Attention masks are constants such as −1e9 that a softmax turns into zeros. Any
// number that is far below the scores does the same: in a sum half of the range of
// float16, so that a score below zero does not make an infinity of it, of which a
// row that is masked as a whole would make NaN; where it only replaces scores all
// of the range. Where a mask is computed, from such a constant and what is kept, that
// stays in float32, and who reads it in 16 bits gets it cut there.

// maskOps are the operators through which a mask goes on its way to a softmax.
var maskOps = opsOf("Add", "Sub", "Mul", "Where", "ConstantOfShape", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Cast",
	"Identity", "Concat", "Gather", "Max", "Trilu", "Tile")

// masked are the values that hold a mask, and what stands for its elements.
type masked struct {
	t      *halfType
	values map[*onnx.Value]bool // that hold a mask, alone or with scores
	pure   map[*onnx.Value]bool // that are computed and hold a mask alone
	fits   func(t *onnx.Tensor) *fitness
}

// findMasks follows constants below the range of t to where a softmax reads them.
func findMasks(m *onnx.Model, t *halfType, fits func(t *onnx.Tensor) *fitness) *masked {
	k := &masked{t: t, values: map[*onnx.Value]bool{}, pure: map[*onnx.Value]bool{}, fits: fits}
	for _, g := range m.Graphs() {
		if g.InFunction() {
			continue
		}
		for v := range g.Values() {
			if k.below(v.Constant()) || v.Producer().Is("ConstantOfShape") && k.filled(v.Producer()) {
				k.follow(v)
			}
		}
	}
	for _, g := range m.Graphs() {
		for n := range g.Nodes() {
			if v := n.Output(0); v != nil && k.values[v] && v.Constant() == nil && k.alone(n) {
				k.pure[v] = true
			}
		}
	}
	return k
}

// alone reports whether n, whose output holds a mask, makes it of masks only.
func (k *masked) alone(n *onnx.Node) bool {
	in := n.Inputs()
	switch n.Op {
	case "ConstantOfShape":
		return true
	case "Mul":
		return slices.ContainsFunc(in, k.holds)
	case "Where":
		in = in[1:]
	case "Add", "Sub", "Max", "Concat":
	default:
		in = in[:1]
	}
	for _, v := range in {
		if v.Constant() == nil && !k.pure[v] {
			return false
		}
	}
	return true
}

// holds reports whether v is a mask alone.
func (k *masked) holds(v *onnx.Value) bool {
	return k.pure[v] || v.Constant() != nil && k.values[v]
}

// cutAt returns what the elements of v, a computed mask, are cut at.
func (k *masked) cutAt(v *onnx.Value) float32 {
	s := toLargest
	if k.summed(v) {
		s = half32k
	}
	return k.t.round(-math.MaxFloat32, s)
}

// cut puts a node behind v that cuts it at least.
func cut(v *onnx.Value, least float32) *onnx.Value {
	g := v.Graph()
	n := onnx.NewNode("Clip", []*onnx.Value{v}, g.Model().Fresh(v.Name()+"_cut"))
	n.Name = n.Output(0).Name()
	n.Output(0).Type = onnx.TensorType(onnx.Float, v.Shape())
	g.InsertAfter(n, v.Producer())
	if n.OpsetVersion("") < 11 {
		n.Attrs = []*onnx.Attr{onnx.FloatAttr("min", least)}
		return n.Output(0)
	}
	n.SetInput(1, g.NewConst(onnx.FromFloats(v.Name()+"_least", []int64{}, []float32{least})))
	return n.Output(0)
}

// below reports whether the elements of t beyond the range are all below it.
func (k *masked) below(t *onnx.Tensor) bool {
	if t == nil || t.DType != onnx.Float {
		return false
	}
	f := k.fits(t)
	return f != nil && f.over > 0 && !f.positive
}

func (k *masked) filled(n *onnx.Node) bool {
	a := n.Attr("value")
	return a != nil && k.below(a.T)
}

// follow marks v and what is made of it where all of that leads to a softmax.
func (k *masked) follow(v *onnx.Value) {
	found := map[*onnx.Value]bool{}
	ends := 0
	for work := []*onnx.Value{v}; len(work) > 0; {
		x := work[len(work)-1]
		work = work[:len(work)-1]
		if x == nil || found[x] {
			continue
		}
		found[x] = true
		if x.IsOutput() { // who reads it there is not followed
			return
		}
		for _, u := range x.Uses() {
			switch {
			case u.Node.Is("Softmax"):
				ends++
			case onnx.NormalDomain(u.Node.Domain) == "" && maskOps[u.Node.Op] && !u.Node.Is("Sub"), u.Node.Is("Sub") && u.Index == 0:
				work = append(work, u.Node.Output(0))
			default:
				return
			}
		}
	}
	if ends == 0 || len(found) == 0 {
		return
	}
	for x := range found {
		k.values[x] = true
	}
}

// standFor returns what constants of n beyond the range become; false where they
// may not be there.
func (k *masked) standFor(n *onnx.Node, v *onnx.Value, f *fitness) (standIn, bool) {
	switch {
	case n.Is("Clip") && v != n.Input(0):
		return infinite, true
	case !k.values[v], f.positive:
		return toLargest, false
	case n.Is("Add"), n.Is("Sub"), k.summed(n.Output(0)):
		return half32k, true
	}
	return toLargest, true
}

// stand is standFor of v as it is.
func (k *masked) stand(n *onnx.Node, v *onnx.Value) standIn {
	t := v.Constant()
	if t == nil {
		return toLargest
	}
	f := k.fits(t)
	if f == nil || f.over == 0 {
		return toLargest
	}
	s, _ := k.standFor(n, v, f)
	return s
}

// summed reports whether something is added to the mask v on its way.
func (k *masked) summed(v *onnx.Value) bool {
	seen := map[*onnx.Value]bool{}
	for work := []*onnx.Value{v}; len(work) > 0; {
		x := work[len(work)-1]
		work = work[:len(work)-1]
		if x == nil || seen[x] {
			continue
		}
		seen[x] = true
		for _, u := range x.Uses() {
			if u.Node.Is("Add") || u.Node.Is("Sub") {
				return true
			}
			if maskOps[u.Node.Op] && k.values[u.Node.Output(0)] {
				work = append(work, u.Node.Output(0))
			}
		}
	}
	return false
}

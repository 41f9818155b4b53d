package quantize

import (
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// Attention masks are constants such as −1e9 that a softmax turns into zeros. Any
// number that is far below the scores does the same: in a sum half of the range of
// float16, so that a score below zero does not make an infinity of it, of which a
// row that is masked as a whole would make NaN; where it only replaces scores all
// of the range.

// maskOps are the operators through which a mask goes on its way to a softmax.
var maskOps = setOf("Add", "Sub", "Mul", "Where", "ConstantOfShape", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Cast",
	"Identity", "Concat", "Gather", "Max", "Trilu", "Tile")

// masked are the values that hold a mask, and what stands for its elements.
type masked struct {
	t      *halfType
	values map[*onnx.Value]bool
	fits   func(t *onnx.Tensor) *fitness
}

// findMasks follows constants below the range of t to where a softmax reads them.
func findMasks(m *onnx.Model, t *halfType, fits func(t *onnx.Tensor) *fitness) *masked {
	k := &masked{t: t, values: map[*onnx.Value]bool{}, fits: fits}
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
	return k
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
		if x.IsOutput() && x.Graph().Owner() == nil {
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
	case v != nil && !k.values[v], v == nil && !k.values[n.Output(0)], f.positive:
		return largest, false
	case k.summed(v), k.summed(n.Output(0)):
		return half32k, true
	}
	return largest, true
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

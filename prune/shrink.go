package prune

import (
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
)

// shrinker takes positions out of a model: weights lose slices, attributes and
// constant shapes follow.
type shrinker struct {
	d    *dims
	keep map[opset.Axis][]int // the positions that stay, of axes that lose some
}

// mismatch is a node that does not fit what was taken away around it.
type mismatch struct {
	node *onnx.Node
	why  string
}

func (m *mismatch) Error() string { return fmt.Sprintf("%v: %s", m.node, m.why) }

// shrink takes the classes of removed out of d's model. Where a node cannot follow, the
// error is a *mismatch and the model is no longer whole.
func (d *dims) shrink(removed map[int32]bool) error {
	s := &shrinker{d: d, keep: map[opset.Axis][]int{}}
	for _, a := range d.axes {
		if a.Value == nil {
			continue
		}
		if keep := s.kept(a, removed); len(keep) < a.size {
			s.keep[a.Axis] = keep
		}
	}
	var shuffled []*onnx.Node
	for n := range d.nodes() {
		if d.shuffles[n] != nil {
			shuffled = append(shuffled, n)
			continue
		}
		if f := fixers[n.Op]; f != nil && s.touches(n) {
			if err := f(s, n); err != nil {
				return err
			}
		}
	}
	for _, n := range shuffled { // last, since they make new values
		if err := s.fixShuffle(n, d.shuffles[n]); err != nil {
			return err
		}
	}
	for _, a := range d.axes {
		if a.Value != nil && s.first(a.Axis) {
			s.value(a.Value)
		}
	}
	return s.compare()
}

// first reports whether a is the first labelled axis of its value.
func (s *shrinker) first(a opset.Axis) bool {
	for i := range a.Axis {
		if _, ok := s.d.index[opset.Axis{Value: a.Value, Axis: i}]; ok {
			return false
		}
	}
	return true
}

func (s *shrinker) kept(a axis, removed map[int32]bool) []int {
	keep := make([]int, 0, a.size)
	for k := range a.size {
		if !removed[s.d.find(int32(a.base+k))] {
			keep = append(keep, k)
		}
	}
	return keep
}

// of returns the positions of an axis that stay, and whether others go.
func (s *shrinker) of(v *onnx.Value, axis int) ([]int, bool) {
	if v == nil {
		return nil, false
	}
	k, ok := s.keep[opset.Axis{Value: v, Axis: axis}]
	return k, ok
}

// loses reports whether v loses positions along some axis.
func (s *shrinker) loses(v *onnx.Value) bool {
	for i := range s.d.facts.Shape(v) {
		if _, ok := s.of(v, i); ok {
			return true
		}
	}
	return false
}

// value gives a constant its slices and any other value its new type.
func (s *shrinker) value(v *onnx.Value) {
	switch {
	case !s.loses(v):
	case v.Constant() != nil:
		s.constant(v)
	case v.Type.IsTensor() && v.Type.Shape != nil:
		t := *v.Type
		t.Shape = slices.Clone(t.Shape)
		for i := range t.Shape {
			if keep, ok := s.of(v, i); ok && t.Shape[i].Known() {
				t.Shape[i] = onnx.Fixed(int64(len(keep)))
			}
		}
		v.Type = &t
	}
}

// constant replaces v's tensor by its slices.
func (s *shrinker) constant(v *onnx.Value) {
	t := v.Constant()
	for i := range t.Shape {
		if keep, ok := s.of(v, i); ok {
			t = pick(t, i, keep)
		}
	}
	v.SetConst(t)
}

// compare infers the shapes of the shrunken model and compares them with what
// they should be: a size that does not follow from sizes around it, such as one
// computed from a number that nobody renewed, shows here.
func (s *shrinker) compare() error {
	s.d.model.Graph.Sweep()
	f, err := opset.Infer(s.d.model, opset.Options{Dims: s.d.sizes, IgnoreValueInfo: true, ReadOnly: true})
	if err != nil {
		return err
	}
	for n := range s.d.nodes() {
		for _, v := range n.Outputs() {
			if v == nil {
				continue
			}
			got, was := f.Shape(v), s.d.facts.Shape(v)
			if got == nil || !s.d.known(v) {
				continue
			}
			if len(got) != len(was) {
				return &mismatch{n, "the rank of its output changes"}
			}
			for i := range got {
				want := was[i]
				if keep, loses := s.of(v, i); loses {
					want = onnx.Fixed(int64(len(keep)))
				}
				if want.Known() && got[i].Known() && got[i].Value != want.Value {
					return &mismatch{n, fmt.Sprintf("axis %d of its output would be %v and not %v", i, got[i], want)}
				}
			}
		}
	}
	before := map[*onnx.Value]bool{} // of the model as it came
	for _, c := range s.d.facts.Contradictions {
		before[c.Value] = true
	}
	for _, c := range f.Contradictions {
		if n := c.Value.Producer(); n != nil && !before[c.Value] {
			return &mismatch{n, "its output would contradict its declared shape"}
		}
	}
	return nil
}

// known reports whether v has a place in the analysis.
func (d *dims) known(v *onnx.Value) bool {
	for i := range d.facts.Shape(v) {
		if _, ok := d.index[opset.Axis{Value: v, Axis: i}]; ok {
			return true
		}
	}
	return false
}

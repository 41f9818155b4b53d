package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// elementsOf returns the tensors of the sequence v in order where they are
// known: what SequenceConstruct lists, SequenceInsert adds at the end of such a
// sequence, or SequenceErase leaves of one.
func elementsOf(m *rewrite.Match, v *onnx.Value, depth int) ([]*onnx.Value, error) {
	n := v.Producer()
	switch {
	case n == nil || n.Graph() == nil || depth > 64:
	case n.Is("SequenceConstruct"):
		return n.Inputs(), nil
	case n.Is("SequenceEmpty"):
		return []*onnx.Value{}, nil
	case n.Is("Identity"):
		return elementsOf(m, n.Input(0), depth+1)
	case n.Is("SequenceInsert"), n.Is("SequenceErase"):
		list, err := elementsOf(m, n.Input(0), depth+1)
		if err != nil {
			return nil, err
		}
		return edited(m, n, list)
	}
	return nil, rewrite.Decline("the elements of sequence %q are not known", v.Name())
}

// edited returns list as SequenceInsert or SequenceErase changes it.
func edited(m *rewrite.Match, n *onnx.Node, list []*onnx.Value) ([]*onnx.Value, error) {
	insert := n.Is("SequenceInsert")
	pos, at := n.Input(1), len(list)-1
	if insert {
		pos, at = n.Input(2), len(list)
	}
	if pos != nil {
		i, ok := knownInts(m.Facts, pos)
		if !ok || len(i) != 1 {
			return nil, rewrite.Decline("the position of %v is not constant", n)
		}
		if at = int(i[0]); at < 0 {
			at += len(list)
		}
	}
	switch {
	case at < 0 || at > len(list) || !insert && at == len(list):
		return nil, rewrite.Decline("the position of %v is out of range", n)
	case insert:
		return slices.Insert(slices.Clone(list), at, n.Input(1)), nil
	}
	return slices.Delete(slices.Clone(list), at, at+1), nil
}

// sequenceAt: the element of a sequence whose elements are known.
var sequenceAt = rewrite.Rule{
	Name: "sequence-at", Doc: "takes an element of a known sequence directly, or of SplitToSequence by Slice",
	Pattern: "SequenceAt(s, i)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		i, ok := knownInts(m.Facts, m.Value("i"))
		if !ok || len(i) != 1 {
			return rewrite.Decline("the position is not constant")
		}
		if n := producerOf(m.Value("s"), "SplitToSequence"); n != nil {
			return splitElement(m, p, n, i[0])
		}
		list, err := elementsOf(m, m.Value("s"), 0)
		if err != nil {
			return err
		}
		at := i[0]
		if at < 0 {
			at += int64(len(list))
		}
		if at < 0 || at >= int64(len(list)) {
			return rewrite.Decline("there is no element %d of %d", i[0], len(list))
		}
		p.Swap(m.Root.Output(0), list[at])
		return nil
	},
}

// splitElement takes element i of what SplitToSequence makes: one row without
// split, else the part of constant size.
func splitElement(m *rewrite.Match, p *rewrite.Patch, n *onnx.Node, i int64) error {
	x := n.Input(0)
	axis, err := axisAttr(m, n, x, 0)
	if err != nil {
		return err
	}
	shape := m.Facts.Shape(x)
	if axis >= int64(len(shape)) || !shape[axis].Known() {
		return rewrite.Decline("the size that %v cuts is not known", n)
	}
	parts, err := splitParts(m, n, shape[axis].Value)
	if err != nil {
		return err
	}
	if i < 0 {
		i += int64(len(parts))
	}
	if i < 0 || i >= int64(len(parts)) {
		return rewrite.Decline("there are %d parts", len(parts))
	}
	y := addSlice(m, p, x, []cut{{axis, parts[i][0], parts[i][1], 1}})
	if n.Input(1) == nil && n.Int("keepdims", 1) == 0 {
		y = withAxes(m, p, "Squeeze", 13, y, []int64{axis})
	}
	p.Swap(m.Root.Output(0), y)
	return nil
}

// splitParts returns the start and end of each part that SplitToSequence makes
// of size elements.
func splitParts(m *rewrite.Match, n *onnx.Node, size int64) ([][2]int64, error) {
	sizes, step := []int64(nil), int64(1)
	if v := n.Input(1); v != nil {
		given, ok := knownInts(m.Facts, v)
		if !ok || len(given) == 0 || m.Facts.Shape(v) == nil {
			return nil, rewrite.Decline("the sizes of the parts are not constant")
		}
		if len(m.Facts.Shape(v)) == 0 {
			step = given[0]
		} else {
			sizes = given
		}
	}
	if sizes == nil {
		if step < 1 || size/step > 1<<16 {
			return nil, rewrite.Decline("parts of size %d", step)
		}
		for at := int64(0); at < size; at += step {
			sizes = append(sizes, min(step, size-at))
		}
	}
	var parts [][2]int64
	at := int64(0)
	for _, n := range sizes {
		parts = append(parts, [2]int64{at, at + n})
		at += n
	}
	if at != size {
		return nil, rewrite.Decline("the parts do not add up to %d", size)
	}
	return parts, nil
}

// sequenceLength: the number of elements of a known sequence.
var sequenceLength = rewrite.Rule{
	Name: "sequence-length", Doc: "counts the elements of a known sequence",
	Pattern: "SequenceLength(s)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		list, err := elementsOf(m, m.Value("s"), 0)
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Const(onnx.FromInts("length", []int64{}, []int64{int64(len(list))})))
		return nil
	},
}

// concatFromSequence: joining a known sequence is Concat.
var concatFromSequence = rewrite.Rule{
	Name: "concat-from-sequence", Doc: "turns ConcatFromSequence of a known sequence into Concat",
	Pattern: "ConcatFromSequence(s)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		axis := m.Root.Attr("axis")
		if axis == nil || axis.Type != onnx.AttrInt {
			return rewrite.Decline("it has no axis")
		}
		if n := producerOf(m.Value("s"), "SplitToSequence"); n != nil {
			return joinedAgain(m, p, n)
		}
		list, err := elementsOf(m, m.Value("s"), 0)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return rewrite.Decline("the sequence is empty")
		}
		in := slices.Clone(list)
		if m.Root.Int("new_axis", 0) != 0 {
			for i, v := range in {
				in[i] = withAxes(m, p, "Unsqueeze", 13, v, []int64{axis.I})
			}
		}
		p.Swap(m.Root.Output(0), p.Add("Concat", in, onnx.IntAttr("axis", axis.I)))
		return nil
	},
}

// joinedAgain removes SplitToSequence and ConcatFromSequence along one axis.
func joinedAgain(m *rewrite.Match, p *rewrite.Patch, n *onnx.Node) error {
	x := n.Input(0)
	shape := m.Facts.Shape(x)
	a, err := axisAttr(m, n, x, 0)
	if err != nil {
		return err
	}
	b := m.Root.Int("axis", 0)
	if b < 0 {
		b += int64(len(shape))
	}
	dropped := n.Input(1) == nil && n.Int("keepdims", 1) == 0
	if shape == nil || a != b || dropped != (m.Root.Int("new_axis", 0) != 0) {
		return rewrite.Decline("%v cuts otherwise than it is joined", n)
	}
	if !m.Facts.Positive(shape[a]) {
		return rewrite.Decline("the sequence may be empty")
	}
	p.Swap(m.Root.Output(0), x)
	return nil
}

// optionalElement: what was put into an optional.
var optionalElement = rewrite.Rule{
	Name: "optional-element", Doc: "takes the element of an Optional directly",
	Pattern: "OptionalGetElement(x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		if n := producerOf(x, "Optional"); n != nil && n.Input(0) != nil {
			p.Swap(m.Root.Output(0), n.Input(0))
			return nil
		}
		if t := m.Facts.Type(x); t != nil && (t.Kind == onnx.KindTensor || t.Kind == onnx.KindSequence) {
			p.Swap(m.Root.Output(0), x)
			return nil
		}
		return rewrite.Decline("%q is not certainly there", x.Name())
	},
}

// optionalHas: whether an optional holds something, where that is certain.
var optionalHas = rewrite.Rule{
	Name: "optional-has", Doc: "answers OptionalHasElement where the answer is certain",
	Pattern: "OptionalHasElement(?x)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		has := 0.0
		if x != nil {
			t := m.Facts.Type(x)
			n := producerOf(x, "Optional")
			switch {
			case n != nil && n.Input(0) != nil, t != nil && (t.Kind == onnx.KindTensor || t.Kind == onnx.KindSequence):
				has = 1
			case n == nil:
				return rewrite.Decline("it is not known whether %q holds anything", x.Name())
			}
		}
		t, err := onnx.FromFloat64s("has_element", onnx.Bool, []int64{}, []float64{has})
		if err != nil {
			return err
		}
		p.Swap(m.Root.Output(0), p.Const(t))
		return nil
	},
}

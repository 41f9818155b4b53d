package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

const reductions = "ReduceMean|ReduceSum|ReduceMax|ReduceMin|ReduceProd|ReduceL1|ReduceL2|ReduceSumSquare|ReduceLogSum|ReduceLogSumExp|ArgMax|ArgMin"

// reduceUnsqueeze: axes that a reduction drops and the next node puts back, or
// keeps and the next node drops.
var reduceUnsqueeze = rewrite.Rule{
	Name: "reduce-unsqueeze", Doc: "lets a reduction keep, or drop, its axes instead of Unsqueeze, Squeeze, Flatten or Reshape behind it",
	Pattern: "outer=Unsqueeze|Squeeze|Flatten|Reshape(r=" + reductions + "(x, ?a1), ?a2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		r, outer := m.Node("r"), m.Node("outer")
		if err := soleUse(r); err != nil {
			return err
		}
		keep := r.Int("keepdims", 1) != 0
		if byAxes := outer.Is("Unsqueeze") || outer.Is("Squeeze"); byAxes && keep == outer.Is("Unsqueeze") {
			return rewrite.Decline("keepdims is %v already", keep)
		}
		shape := m.Facts.Shape(m.Value("x"))
		if shape == nil {
			return rewrite.Decline("the rank is not known")
		}
		reduced, err := reducedAxes(m, r, len(shape))
		if err != nil {
			return err
		}
		if err := samePlaces(m, outer, r, shape, reduced, !keep); err != nil {
			return err
		}
		n := p.AddNode("", r.Op, r.Inputs(), 1, append(withoutAttr(r, "keepdims"), onnx.IntAttr("keepdims", boolInt(!keep)))...)
		p.Swap(m.Root.Output(0), n.Output(0))
		return nil
	},
}

// samePlaces declines unless outer drops, or puts back, the axes that r reduces
// of a value of some shape.
func samePlaces(m *rewrite.Match, outer, r *onnx.Node, shape onnx.Shape, reduced []int64, keep bool) error {
	if outer.Is("Flatten") || outer.Is("Reshape") {
		want := onnx.Shape{}
		for i, d := range shape {
			switch {
			case !slices.Contains(reduced, int64(i)):
				want = append(want, d)
			case keep:
				want = append(want, onnx.Fixed(1))
			}
		}
		if got := m.Facts.Shape(outer.Output(0)); !got.Equal(want) {
			return rewrite.Decline("%v gives the shape %v, the reduction alone would give %v", outer, got, want)
		}
		return nil
	}
	axes, given, err := axesArg(m, outer)
	if err != nil {
		return err
	}
	axes, ok := normalAxes(axes, len(shape))
	if !given || !ok || !slices.Equal(axes, reduced) {
		return rewrite.Decline("the axes are %v, those of %v %v", axes, r, reduced)
	}
	return nil
}

// reducedAxes returns the axes that a reduction works along, in order.
func reducedAxes(m *rewrite.Match, r *onnx.Node, rank int) ([]int64, error) {
	axes, given := []int64{r.Int("axis", 0)}, true
	if r.Op != "ArgMax" && r.Op != "ArgMin" {
		var err error
		if axes, given, err = axesArg(m, r); err != nil {
			return nil, err
		}
	}
	if !given || len(axes) == 0 {
		if r.Int("noop_with_empty_axes", 0) != 0 {
			return nil, rewrite.Decline("%v reduces nothing", r)
		}
		axes = nil
		for i := range rank {
			axes = append(axes, int64(i))
		}
	}
	axes, ok := normalAxes(axes, rank)
	if !ok {
		return nil, rewrite.Decline("%v has the axes %v", r, axes)
	}
	return axes, nil
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

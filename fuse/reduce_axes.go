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
	Name: "reduce-unsqueeze", Doc: "lets a reduction keep, or drop, its axes instead of Unsqueeze, or Squeeze, behind it",
	Pattern: "outer=Unsqueeze|Squeeze(r=" + reductions + "(x, ?a1), ?a2)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		r, outer := m.Node("r"), m.Node("outer")
		if err := soleUse(r); err != nil {
			return err
		}
		keep := r.Int("keepdims", 1) != 0
		if keep == outer.Is("Unsqueeze") {
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
		axes, given, err := axesArg(m, outer)
		if err != nil {
			return err
		}
		axes, ok := normalAxes(axes, len(shape))
		if !given || !ok || !slices.Equal(axes, reduced) {
			return rewrite.Decline("the axes are %v, those of %v %v", axes, r, reduced)
		}
		n := p.AddNode("", r.Op, r.Inputs(), 1, append(withoutAttr(r, "keepdims"), onnx.IntAttr("keepdims", boolInt(!keep)))...)
		p.Swap(m.Root.Output(0), n.Output(0))
		return nil
	},
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

// imageMean: the mean over height and width of what a convolution made is
// GlobalAveragePool, which engines compute in the layout of the convolution.
var imageMean = rewrite.Rule{
	Name: "image-mean", Doc: "turns ReduceMean over height and width into GlobalAveragePool where only it reads what a convolution made, whose blocked layout it takes",
	Pattern: "r=ReduceMean(x, ?axes)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		shape := m.Facts.Shape(x)
		if len(shape) != 4 || m.Facts.DType(x) != onnx.Float {
			return rewrite.Decline("%v%v is not an image of float32", m.Facts.DType(x), shape)
		}
		if m.Root.Int("keepdims", 1) == 0 {
			return rewrite.Decline("the axes are dropped")
		}
		axes, err := reducedAxes(m, m.Root, 4)
		if err != nil {
			return err
		}
		if !slices.Equal(axes, []int64{2, 3}) {
			return rewrite.Decline("the axes are %v", axes)
		}
		if x.IsOutput() || len(x.Uses()) != 1 {
			return rewrite.Decline("%q is read elsewhere too, in the plain layout", x.Name())
		}
		if !convBefore(x) {
			return rewrite.Decline("no convolution comes before it, so that the layout stays the same")
		}
		p.Swap(m.Root.Output(0), p.Add("GlobalAveragePool", []*onnx.Value{x}))
		return nil
	},
}

// convBefore reports whether v is a convolution's result, perhaps activated,
// added to another, or multiplied.
func convBefore(v *onnx.Value) bool {
	for range 8 {
		n := v.Producer()
		switch {
		case n == nil || n.Graph() == nil:
			return false
		case n.Is("Conv"):
			return true
		case n.Is("Relu"), n.Is("Clip"), n.Is("LeakyRelu"), n.Is("HardSwish"), n.Is("Sigmoid"), n.Is("Add"), n.Is("Mul"), n.Is("BatchNormalization"):
			v = n.Input(0)
		default:
			return false
		}
	}
	return false
}

package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// imageMean: the mean over height and width of what a convolution made is
// GlobalAveragePool, which engines compute in the layout of the convolution.
var imageMean = rewrite.Rule{
	Name: "image-mean", Doc: "turns ReduceMean over height and width into GlobalAveragePool behind a convolution, whose blocked layout it takes, where no other reader needs the plain one",
	Pattern: "r=ReduceMean(x, ?axes)",
	Rewrite: func(m *rewrite.Match, p *rewrite.Patch) error {
		x := m.Value("x")
		shape := m.Facts.Shape(x)
		if len(shape) != 4 || m.Facts.DType(x) != onnx.Float {
			return rewrite.Decline("%v%v is not an image of float32", m.Facts.DType(x), shape)
		}
		if m.Root.Int("keepdims", 1) == 0 {
			return rewrite.Decline("the axes are dropped, and Flatten behind GlobalAveragePool takes what that gains")
		}
		axes, err := reducedAxes(m, m.Root, 4)
		if err != nil {
			return err
		}
		if !slices.Equal(axes, []int64{2, 3}) {
			return rewrite.Decline("the axes are %v", axes)
		}
		if n := plainReader(x, m.Root); n != nil || x.IsOutput() {
			return rewrite.Decline("%q is read elsewhere too, in the plain layout", x.Name())
		}
		if !convBefore(x, m.Root.Graph()) {
			return rewrite.Decline("no convolution comes before it, so that the layout stays the same")
		}
		p.Swap(m.Root.Output(0), p.Add("GlobalAveragePool", []*onnx.Value{x}))
		return nil
	},
}

// convBefore reports whether v is the result of a convolution in g, perhaps activated,
// added to another, or multiplied.
func convBefore(v *onnx.Value, g *onnx.Graph) bool {
	for range 8 {
		n := v.Producer()
		switch {
		case n == nil || n.Graph() != g:
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

// plainReader returns a node besides n that reads v in the plain layout, nil if
// none: a convolution takes the blocked one, and the product with weights of
// channels, which are made of the mean itself, keeps it.
func plainReader(v *onnx.Value, n *onnx.Node) *onnx.Node {
	for _, u := range v.Uses() {
		if u.Node != n && (u.Node.Graph() != n.Graph() || !u.Node.Is("Conv") && !u.Node.Is("Mul")) {
			return u.Node
		}
	}
	return nil
}

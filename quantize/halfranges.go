package quantize

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
)

// peak returns the largest magnitude seen.
func peak(s *calibrate.Stats) float64 {
	return math.Max(math.Abs(float64(s.Min)), math.Abs(float64(s.Max)))
}

// halfWants returns the float32 values of the main graph that nodes which may
// compute in 16 bits read and write: their extremes are measured.
func halfWants(m *onnx.Model, facts *opset.Facts) []calibrate.Want {
	var list []calibrate.Want
	seen := map[*onnx.Value]bool{}
	for n := range m.Graph.Nodes() {
		if halfPart(n) == none {
			continue
		}
		for _, values := range [][]*onnx.Value{n.Inputs(), n.Outputs()} {
			for _, v := range values {
				if v == nil || seen[v] || v.Dead() || v.Const != nil || v.Constant() != nil || v.Graph() != m.Graph || facts.DType(v) != onnx.Float {
					continue
				}
				seen[v] = true
				dims, static := facts.Shape(v).Static()
				count, _ := onnx.ElementCount(dims)
				list = append(list, calibrate.Want{Tensor: v.Name(), Extremes: true, MaybeEmpty: !static || count == 0})
			}
		}
	}
	return list
}

// probeOpset is the version of the standard operators from which extremes are measured.
const probeOpset = 13

// measureHalf measures a copy of m, whose shapes are those of the first sample.
func measureHalf(ctx context.Context, o *Options, m *onnx.Model, facts *opset.Facts) (*calibrate.Result, error) {
	wants := halfWants(m, facts)
	if len(wants) == 0 {
		return &calibrate.Result{}, nil
	}
	c := m.Clone()
	if _, err := upgrade.To(c, probeOpset); err != nil {
		c = m.Clone() // whose reductions the engine may know all the same
	}
	there := map[string]bool{}
	for v := range c.Graph.Values() {
		there[v.Name()] = true
	}
	wants = slices.DeleteFunc(wants, func(w calibrate.Want) bool { return !there[w.Tensor] })
	return measure(ctx, o, c, wants, false)
}

// sampleFacts infers the shapes that m has on the first calibration sample; without
// data those that it declares.
func sampleFacts(ctx context.Context, o *Options, m *onnx.Model) (*opset.Facts, error) {
	plain := opset.Options{Dims: o.Rewrite.Dims, IgnoreValueInfo: true, ReadOnly: true}
	if o.Calibration == nil {
		return opset.Infer(m, plain)
	}
	with := plain
	with.InputShapes = map[string]onnx.Shape{}
	for b, err := range calibrate.Over(ctx, o.Calibration, o.Batch).Batches {
		if err != nil {
			return nil, fmt.Errorf("calibration data: %w", err)
		}
		in, err := b.Inputs()
		if err != nil {
			return nil, err
		}
		for _, v := range m.Graph.Inputs() {
			if t := in[v.Name()]; t != nil && v.Type.IsTensor() {
				with.InputShapes[v.Name()] = onnx.ShapeOf(t.Shape...)
			}
		}
		break
	}
	if facts, err := opset.Infer(m, with); err == nil {
		return facts, nil
	}
	return opset.Infer(m, plain)
}

// ranges says which value of n may leave the range; "" if none was seen to.
func (p *halfPlan) ranges(n *onnx.Node) string {
	for i, v := range append(append([]*onnx.Value(nil), n.Inputs()...), n.Outputs()...) {
		if v == nil || i < len(n.Inputs()) && pinned(n, i) {
			continue
		}
		s := p.stats[v.Name()]
		if s == nil || v.Graph() != p.m.Graph || s.Runs == 0 {
			continue
		}
		a := peak(s)
		if p.masks.values[v] {
			a = float64(s.Max)
		}
		switch k := p.margin(); {
		case a*k > p.t.max:
			return fmt.Sprintf("%q reached %.4g on the data, and %g times as much is beyond the %.6g of %v", v.Name(), a, k, p.t.max, p.t)
		case s.Invalid == 0 && a > 0 && a < p.t.least:
			return fmt.Sprintf("%q stayed below %.2g on the data, where %v has fewer bits", v.Name(), a, p.t)
		}
	}
	return ""
}

func (p *halfPlan) margin() float64 {
	if p.o.HalfMargin > 0 {
		return p.o.HalfMargin
	}
	return rangeMargin
}

// reduction says why n sums too much; "" if it does not.
func (p *halfPlan) reduction(n *onnx.Node) string {
	axes, count, ok := p.reduced(n)
	switch {
	case axes == nil:
		return ""
	case !ok:
		return "it sums over a dimension of unknown size"
	case count > p.t.sum:
		return fmt.Sprintf("it sums over %d elements, more than %d", count, p.t.sum)
	}
	s := p.stats[outputName(n)]
	if s == nil || s.Runs == 0 || n.Is("ReduceSum") || n.Is("Softmax") || n.Is("LogSoftmax") {
		return ""
	}
	if x := peak(s) * float64(count); x*p.margin() > p.t.max {
		return fmt.Sprintf("it divides a sum of %d elements that reached %.4g on the data, and %g times as much is beyond the %.6g of %v", count, x, p.margin(), p.t.max, p.t)
	}
	return ""
}

// reduced returns over which axes n sums, nil where it does not sum, and how many
// elements, if known.
func (p *halfPlan) reduced(n *onnx.Node) (axes []int64, count int64, ok bool) {
	dims := p.facts.Shape(n.Input(0))
	switch n.Op {
	case "ReduceMean", "ReduceSum":
		axes = n.Ints("axes", nil)
		if v := n.Input(1); v != nil {
			list, known := p.facts.Ints(v)
			for _, x := range list {
				known = known && x.Known
				axes = append(axes, x.Value)
			}
			if !known {
				return []int64{0}, 0, false
			}
		}
		if len(axes) == 0 && n.Int("noop_with_empty_axes", 0) == 0 {
			axes = []int64{}
			for i := range dims {
				axes = append(axes, int64(i))
			}
		}
	case "Softmax", "LogSoftmax":
		axes = softmaxAxes(n, len(dims))
	case "GlobalAveragePool":
		axes = []int64{}
		for i := 2; i < len(dims); i++ {
			axes = append(axes, int64(i))
		}
	case "AveragePool":
		count = 1
		for _, k := range n.Ints("kernel_shape", nil) {
			count *= k
		}
		return []int64{}, count, true
	default:
		return nil, 0, true
	}
	if dims == nil {
		return []int64{}, 0, false
	}
	count = 1
	for _, a := range axes {
		if a < 0 {
			a += int64(len(dims))
		}
		if a < 0 || a >= int64(len(dims)) || !dims[a].Known() {
			return axes, 0, false
		}
		count *= dims[a].Value
	}
	return axes, count, true
}

// softmaxAxes returns the axes of n over an input of that rank: before opset 13 all
// from axis on.
func softmaxAxes(n *onnx.Node, rank int) []int64 {
	if n.OpsetVersion("") >= 13 {
		return []int64{n.Int("axis", -1)}
	}
	first := n.Int("axis", 1)
	if first < 0 {
		first += int64(rank)
	}
	axes := []int64{}
	for i := first; i < int64(rank); i++ {
		axes = append(axes, i)
	}
	return axes
}

// sums says why the partial sums of a product may leave the range; "" if they do
// not, or nothing was measured. Partial sums of L products with signs as of random
// are of the size of √L times the root mean squares of both sides, and four times
// that once in ten thousand times. Where only the largest magnitude is known it is
// taken to be four times the root mean square.
func (p *halfPlan) sums(n *onnx.Node) string {
	if !n.Is("Conv") && !n.Is("MatMul") && !n.Is("Gemm") {
		return ""
	}
	a, b := p.size(n.Input(0)), p.size(n.Input(1))
	length, ok := p.length(n)
	if !ok {
		return ""
	}
	if x := 4 * math.Sqrt(float64(length)) * a * b; x > p.t.max {
		return fmt.Sprintf("it accumulates %d products of about %.3g and %.3g: partial sums may reach %.3g", length, a, b, x)
	}
	return ""
}

// size returns the root mean square of v, 0 where nothing is known.
func (p *halfPlan) size(v *onnx.Value) float64 {
	if v == nil {
		return 0
	}
	if t := v.Constant(); t != nil {
		if f := p.fits(t); f != nil && t.DType == onnx.Float && f.count > 0 {
			return math.Sqrt(f.squares / float64(f.count))
		}
		return 0
	}
	if s := p.stats[v.Name()]; s != nil && s.Runs > 0 && v.Graph() == p.m.Graph {
		return peak(s) / 4
	}
	return 0
}

// length returns how many products an element of n's output sums: C/groups·kh·kw of
// a convolution, K of a matrix product.
func (p *halfPlan) length(n *onnx.Node) (int64, bool) {
	w := p.facts.Shape(n.Input(1))
	if n.Is("Conv") {
		dims, ok := w.Static()
		if !ok || len(dims) < 2 {
			return 0, false
		}
		count, ok := onnx.ElementCount(dims[1:])
		return count, ok
	}
	if len(w) == 0 {
		return 0, false
	}
	d := w[max(len(w)-2, 0)]
	if n.Is("Gemm") && n.Int("transB", 0) != 0 {
		d = w[len(w)-1]
	}
	return d.Value, d.Known()
}

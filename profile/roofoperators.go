package profile

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/kernels"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// OpRate is the time of one operator of one size on all threads.
type OpRate struct {
	Class   string  `json:"class" schema:"conv|pointwise|depthwise|matmul|product|code|decode"` // conv: 3×3; pointwise: 1×1; product: one row; code, decode: to 8 bits and back
	Variant string  `json:"variant" schema:"float32|int8|dynamic-int8|int4"`                    // what it computes in
	Op      string  `json:"op"`                                                                 // operator
	MACs    int64   `json:"macs" schema:"count"`                                                // multiply-accumulates
	Count   int64   `json:"elements" schema:"count"`                                            // elements of the output
	US      float64 `json:"us"`                                                                 // microseconds
}

// Half is what the engine makes of one operator in float16.
type Half struct {
	Op     string `json:"op"`                                      // operator
	Answer string `json:"answer" schema:"native|borrowed|refused"` // borrowed: it computes in float32 between casts
}

// The variants of operators.
const (
	variantFloat   = "float32"
	variantInt8    = "int8"
	variantDynamic = "dynamic-int8"
	variantInt4    = "int4"
)

// peakSizes are rows and columns of the products that peaks are sought among.
var peakSizes = []int64{256, 512, 1024, 1536}

func productsFloat32() *specimen {
	s := newSpecimen()
	for _, n := range peakSizes {
		s.product(variantFloat, gauge{name: fmt.Sprintf("matmul%d", n), macs: n * n * n, size: n}, n, n, n)
	}
	return s
}

func productsInt8() *specimen {
	s := newSpecimen()
	for _, n := range peakSizes {
		g := gauge{name: fmt.Sprintf("integer%d", n), op: "MatMulInteger", macs: n * n * n, size: n}
		s.add(g, "", onnx.Int32, []int64{n, n}, []*onnx.Value{s.input(onnx.Uint8, n, n), s.constant(onnx.Int8, n, n)})
		s.product(variantInt8, gauge{name: fmt.Sprintf("linear%d", n), macs: n * n * n, size: n}, n, n, n)
	}
	return s
}

// product adds a matrix product of rows×k with k×n in one variant.
func (s *specimen) product(variant string, g gauge, rows, k, n int64) {
	shape := []int64{rows, n}
	switch variant {
	case variantFloat:
		g.op = "MatMul"
		s.add(g, "", onnx.Float, shape, []*onnx.Value{s.input(onnx.Float, rows, k), s.constant(onnx.Float, k, n)})
	case variantInt8:
		g.op = "QLinearMatMul"
		s.add(g, "", onnx.Uint8, shape, []*onnx.Value{s.input(onnx.Uint8, rows, k), s.scale(), s.zero(onnx.Uint8, 128),
			s.constant(onnx.Int8, k, n), s.scale(), s.zero(onnx.Int8, 0), s.scale(), s.zero(onnx.Uint8, 128)})
	case variantDynamic:
		g.op = "DynamicQuantizeMatMul"
		s.add(g, microsoft, onnx.Float, shape, []*onnx.Value{s.input(onnx.Float, rows, k), s.constant(onnx.Int8, k, n), s.scale(), s.zero(onnx.Int8, 0)})
	case variantInt4:
		g.op = "MatMulNBits"
		const block = 32
		blocks := (k + block - 1) / block
		s.add(g, microsoft, onnx.Float, shape, []*onnx.Value{s.input(onnx.Float, rows, k), s.constant(onnx.Uint8, n, blocks, block/2), s.constant(onnx.Float, n*blocks)},
			onnx.IntAttr("K", k), onnx.IntAttr("N", n), onnx.IntAttr("bits", 4), onnx.IntAttr("block_size", block))
	}
}

// conv adds a convolution of a side×side picture, padded to its size.
func (s *specimen) conv(variant string, g gauge, channels, groups, kernel, side int64) {
	in := []int64{1, channels, side, side}
	g.macs = side * side * channels * channels / groups * kernel * kernel
	attrs := []*onnx.Attr{onnx.IntsAttr("kernel_shape", kernel, kernel), onnx.IntAttr("group", groups),
		onnx.IntsAttr("pads", kernel/2, kernel/2, kernel/2, kernel/2)}
	w := []int64{channels, channels / groups, kernel, kernel}
	if variant == variantFloat {
		g.op = "Conv"
		s.add(g, "", onnx.Float, in, []*onnx.Value{s.input(onnx.Float, in...), s.constant(onnx.Float, w...)}, attrs...)
		return
	}
	g.op = "QLinearConv"
	s.add(g, "", onnx.Uint8, in, []*onnx.Value{s.input(onnx.Uint8, in...), s.scale(), s.zero(onnx.Uint8, 128),
		s.constant(onnx.Int8, w...), s.scale(), s.zero(onnx.Int8, 0), s.scale(), s.zero(onnx.Uint8, 128)}, attrs...)
}

// variants builds the operators of one variant, each class in two sizes or three.
func variants(variant string) *specimen {
	s := newSpecimen()
	name := func(class string, i int) gauge { return gauge{name: fmt.Sprintf("%s%d", class, i), class: class} }
	if variant == variantFloat || variant == variantInt8 {
		for i, x := range [][2]int64{{32, 7}, {32, 28}, {64, 56}} {
			s.conv(variant, name("conv", i), x[0], 1, 3, x[1])
			s.conv(variant, name("depthwise", i), 2*x[0], 2*x[0], 3, x[1])
			s.conv(variant, name("pointwise", i), 2*x[0], 1, 1, x[1])
		}
	}
	for i, x := range [][3]int64{{16, 64, 64}, {64, 256, 256}, {128, 1024, 1024}} {
		g := name("matmul", i)
		g.macs = x[0] * x[1] * x[2]
		s.product(variant, g, x[0], x[1], x[2])
	}
	for i, x := range []int64{64, 512, 2048} {
		g := name("product", i)
		g.macs = x * x
		s.product(variant, g, 1, x, x)
	}
	if variant == variantInt8 {
		for i, n := range []int64{1 << 10, 1 << 15, 1 << 20} {
			g := name("code", i)
			g.op = "QuantizeLinear"
			s.add(g, "", onnx.Uint8, []int64{n}, []*onnx.Value{s.input(onnx.Float, n), s.scale(), s.zero(onnx.Uint8, 128)})
			g = name("decode", i)
			g.op = "DequantizeLinear"
			s.add(g, "", onnx.Float, []int64{n}, []*onnx.Value{s.input(onnx.Uint8, n), s.scale(), s.zero(onnx.Uint8, 128)})
		}
	}
	if variant == variantFloat {
		s.steps(32)
	}
	return s
}

// steps adds a chain of nodes that have next to nothing to do.
func (s *specimen) steps(n int) {
	t := s.input(onnx.Float, 1)
	v := t
	for i := range n {
		op := []string{"Add", "Mul"}[i%2]
		v = s.add(gauge{name: fmt.Sprintf("step%d", i), op: op, class: "step"}, "", onnx.Float, []int64{1}, []*onnx.Value{v, t})
	}
}

// operators measures single operators and the overhead of a node.
func (o PeakOptions) operators(ctx context.Context, p *Peaks) error {
	var overhead []float64
	for _, variant := range []string{variantFloat, variantInt8, variantDynamic, variantInt4} {
		s := variants(variant)
		times, err := s.time(ctx, o, p.Threads, 12)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && variant == variantFloat:
			return err
		case err != nil:
			continue // the engine lacks them, and nothing is predicted of them
		}
		for _, g := range s.gauges {
			t := times[g.name]
			switch {
			case t == nil:
			case g.class == "step":
				overhead = append(overhead, t.low)
			default:
				p.Operators = append(p.Operators, OpRate{Class: g.class, Variant: variant, Op: g.op, MACs: g.macs, Count: g.elements, US: 1e6 * t.low})
			}
		}
	}
	if len(overhead) == 0 {
		return fmt.Errorf("the engine's trace has no time of a small node")
	}
	for _, t := range overhead {
		p.OverheadUS += 1e6 * t / float64(len(overhead))
	}
	p.OverheadUS = max(p.OverheadUS, 0.05) // the trace counts whole microseconds
	return nil
}

// askHalf loads operators in float16, one by one.
func askHalf(ctx context.Context, o PeakOptions) []Half {
	k := &kernels.Prober{Open: o.Open, Session: o.Session}
	half := func(rank int) *onnx.Type {
		s := make(onnx.Shape, rank)
		for i := range s {
			s[i] = onnx.Symbol("")
		}
		return onnx.TensorType(onnx.Float16, s)
	}
	var out []Half
	for _, x := range []struct {
		op   string
		rank int
	}{{"Conv", 4}, {"MatMul", 2}, {"Gemm", 2}, {"LSTM", 3}} {
		a := k.Ask(ctx, x.op, func() *onnx.Model {
			m := onnx.NewModel(specimenOpset)
			m.IRVersion = 8
			in := []*onnx.Value{m.Graph.AddInput("x", half(x.rank)), m.Graph.AddInput("w", half(x.rank))}
			n := onnx.NewNode(x.op, in, "y")
			if x.op == "LSTM" {
				n = onnx.NewNode(x.op, append(in, m.Graph.AddInput("r", half(3))), "y")
				n.Attrs = []*onnx.Attr{onnx.IntAttr("hidden_size", 8)}
			}
			m.Graph.Append(n)
			rank := x.rank
			if x.op == "LSTM" {
				rank = 4
			}
			n.Output(0).Type = half(rank)
			m.Graph.AddOutput(n.Output(0))
			return m
		})
		out = append(out, Half{Op: x.op, Answer: [...]string{kernels.Refused: "refused", kernels.Borrowed: "borrowed", kernels.Native: "native"}[a]})
	}
	return out
}

// ratio predicts the time of an operator of so many multiply-accumulates in a
// variant over that in float32: between the measured sizes in proportion, by the
// logarithm; false where it was not measured.
func (p *Peaks) ratio(class, variant string, macs int64) (float64, bool) {
	type point struct{ x, ratio float64 }
	var points []point
	for _, a := range p.Operators {
		if a.Class != class || a.Variant != variantFloat {
			continue
		}
		for _, b := range p.Operators {
			if b.Class == class && b.Variant == variant && b.MACs == a.MACs && a.US > 0 {
				points = append(points, point{math.Log(float64(max(1, a.MACs))), b.US / a.US})
			}
		}
	}
	if len(points) == 0 {
		return 0, false
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	x := math.Log(float64(max(1, macs)))
	if x <= points[0].x {
		return points[0].ratio, true
	}
	for i := 1; i < len(points); i++ {
		if a, b := points[i-1], points[i]; x <= b.x {
			w := (x - a.x) / (b.x - a.x)
			return math.Exp((1-w)*math.Log(a.ratio) + w*math.Log(b.ratio)), true
		}
	}
	return points[len(points)-1].ratio, true
}

// convert predicts the seconds of coding or decoding so many elements: between
// the measured sizes in proportion, never less than the smallest took.
func (p *Peaks) convert(class string, elements int64) float64 {
	low, high := OpRate{US: p.OverheadUS}, OpRate{}
	for _, r := range p.Operators {
		switch {
		case r.Class != class:
		case r.Count <= elements && r.Count >= low.Count:
			low = r
		case r.Count > elements && (high.Count == 0 || r.Count < high.Count):
			high = r
		}
	}
	switch {
	case low.Count == 0 && high.Count > 0:
		return high.US / 1e6
	case low.Count == 0:
		return low.US / 1e6
	case high.Count == 0:
		return low.US / 1e6 * float64(elements) / float64(low.Count)
	}
	w := float64(elements-low.Count) / float64(high.Count-low.Count)
	return ((1-w)*low.US + w*high.US) / 1e6
}

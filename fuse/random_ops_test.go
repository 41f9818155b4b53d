package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// draw adds one node.
func (g *randomGraph) draw() {
	x, size := g.pick()
	rank := len(size)
	switch g.r.IntN(18) {
	case 0:
		g.add([]string{"Relu", "Neg", "Abs", "Sigmoid", "Identity"}[g.r.IntN(5)], size, []*onnx.Value{x})
	case 1, 2:
		in := []*onnx.Value{x, g.constant(size)}
		op := []string{"Add", "Sub", "Mul", "Div", "Min", "Max"}[g.r.IntN(6)]
		if op != "Div" && g.r.IntN(3) == 0 {
			in[0], in[1] = in[1], in[0]
		}
		g.add(op, size, in)
	case 3:
		y, other := g.pick()
		if slices.Equal(size, other) {
			g.add([]string{"Add", "Sub", "Mul"}[g.r.IntN(3)], size, []*onnx.Value{x, y})
		}
	case 4, 5, 6:
		g.transpose(x, size)
	case 7, 8:
		g.reshape(x, size)
	case 9:
		at := g.r.IntN(rank + 1)
		g.add("Unsqueeze", slices.Insert(slices.Clone(size), at, 1), []*onnx.Value{x, g.ints(int64(at))})
	case 10:
		if at := slices.Index(size, 1); at >= 0 {
			g.add("Squeeze", without1(size, at), []*onnx.Value{x, g.ints(int64(at - rank))})
		}
	case 11:
		g.slice(x, size)
	case 12:
		g.concat(x, size)
	case 13:
		g.split(x, size)
	case 14:
		g.reduce(x, size)
	case 15:
		g.bound(x, size)
	case 16:
		g.product(x, size)
	case 17:
		if rank > 0 {
			at, written := g.axis(rank)
			g.add("Gather", without1(size, at), []*onnx.Value{x, g.m.Graph.NewConst(onnx.FromInts("i", []int64{}, []int64{g.r.Int64N(size[at]) - size[at]}))}, onnx.IntAttr("axis", written))
		}
	}
}

// product multiplies a matrix by a constant one, from either side, sometimes
// with Gemm or as Einsum, and sometimes transposed.
func (g *randomGraph) product(x *onnx.Value, size []int64) {
	if len(size) != 2 {
		return
	}
	v := make([]float32, size[1]*3)
	for i := range v {
		v[i] = float32(i%5) - 2
	}
	if g.r.IntN(2) == 0 {
		g.add("Transpose", []int64{size[1], size[0]}, []*onnx.Value{x})
		x, size = g.values[len(g.values)-1], []int64{size[1], size[0]}
		v = make([]float32, size[1]*3)
		for i := range v {
			v[i] = float32(i%7) - 3
		}
	}
	w := g.m.Graph.NewConst(onnx.FromFloats("w", []int64{size[1], 3}, v))
	now := []int64{size[0], 3}
	switch g.r.IntN(3) {
	case 0:
		g.add("MatMul", now, []*onnx.Value{x, w})
	case 1:
		g.add("Gemm", now, []*onnx.Value{x, w})
		g.add("Transpose", []int64{3, size[0]}, []*onnx.Value{g.values[len(g.values)-1]}, onnx.IntsAttr("perm", 1, 0))
	case 2:
		g.add("Einsum", []int64{3, size[0]}, []*onnx.Value{x, w}, onnx.StringAttr("equation", "ij,jk->ki"))
	}
}

func (g *randomGraph) transpose(x *onnx.Value, size []int64) {
	perm, now := []int64{}, []int64{}
	for _, a := range g.r.Perm(len(size)) {
		perm, now = append(perm, int64(a)), append(now, size[a])
	}
	if len(perm) == 2 && g.r.IntN(2) == 0 {
		g.add("Transpose", []int64{size[1], size[0]}, []*onnx.Value{x})
		return
	}
	g.add("Transpose", now, []*onnx.Value{x}, onnx.IntsAttr("perm", perm...))
}

// reshape joins two axes, or takes one apart, written in one of several ways.
func (g *randomGraph) reshape(x *onnx.Value, size []int64) {
	now := slices.Clone(size)
	if at := g.r.IntN(max(1, len(size))); len(size) > 1 && at+1 < len(size) && g.r.IntN(2) == 0 {
		now = slices.Replace(now, at, at+2, size[at]*size[at+1])
	} else if len(size) > 0 && size[at]%2 == 0 {
		now = slices.Replace(now, at, at+1, 2, size[at]/2)
	}
	if len(now) == 0 || len(now) > 5 {
		return
	}
	shape := slices.Clone(now)
	for i := range shape {
		if i < len(size) && size[i] == now[i] && g.r.IntN(2) == 0 {
			shape[i] = 0
		}
	}
	if g.r.IntN(2) == 0 {
		shape[g.r.IntN(len(shape))] = -1
	}
	g.add("Reshape", now, []*onnx.Value{x, g.ints(shape...)})
}

func (g *randomGraph) slice(x *onnx.Value, size []int64) {
	if len(size) == 0 {
		return
	}
	at, written := g.axis(len(size))
	n := size[at]
	start := g.r.Int64N(n)
	end := start + 1 + g.r.Int64N(n-start)
	step := 1 + g.r.Int64N(2)
	now := with(size, at, (end-start+step-1)/step)
	if g.r.IntN(2) == 0 {
		start -= n
	}
	if end == n && g.r.IntN(2) == 0 {
		end = 1 << 40
	}
	g.add("Slice", now, []*onnx.Value{x, g.ints(start), g.ints(end), g.ints(written), g.ints(step)})
}

func (g *randomGraph) concat(x *onnx.Value, size []int64) {
	if len(size) == 0 {
		return
	}
	at, written := g.axis(len(size))
	in, total := []*onnx.Value{x}, size[at]
	for range 1 + g.r.IntN(2) {
		if y, other := g.pick(); slices.Equal(with(size, at, 0), withOrNil(other, at, len(size))) {
			in, total = append(in, y), total+other[at]
		}
	}
	if total <= 24 {
		g.add("Concat", with(size, at, total), in, onnx.IntAttr("axis", written))
	}
}

func withOrNil(size []int64, at, rank int) []int64 {
	if len(size) != rank {
		return nil
	}
	return with(size, at, 0)
}

// split cuts and sometimes joins again.
func (g *randomGraph) split(x *onnx.Value, size []int64) {
	if len(size) == 0 {
		return
	}
	at, written := g.axis(len(size))
	if size[at] < 2 {
		return
	}
	first := 1 + g.r.Int64N(size[at]-1)
	n := onnx.NewNode("Split", []*onnx.Value{x, g.ints(first, size[at]-first)}, g.m.Fresh("split"), g.m.Fresh("split"))
	n.Attrs = []*onnx.Attr{onnx.IntAttr("axis", written)}
	g.m.Graph.Append(n)
	g.note(n.Output(0), with(size, at, first))
	g.note(n.Output(1), with(size, at, size[at]-first))
	if g.r.IntN(2) == 0 {
		g.add("Concat", size, []*onnx.Value{n.Output(0), n.Output(1)}, onnx.IntAttr("axis", int64(at)))
	}
}

func (g *randomGraph) reduce(x *onnx.Value, size []int64) {
	if len(size) == 0 {
		return
	}
	at, written := g.axis(len(size))
	if g.r.IntN(3) == 0 {
		g.add("Softmax", size, []*onnx.Value{x}, onnx.IntAttr("axis", written))
		return
	}
	op := []string{"ReduceMean", "ReduceMax", "ReduceSum"}[g.r.IntN(3)]
	keep := int64(g.r.IntN(2))
	now := with(size, at, 1)
	if keep == 0 {
		now = without1(size, at)
	}
	if op == "ReduceSum" {
		g.add(op, now, []*onnx.Value{x, g.ints(written)}, onnx.IntAttr("keepdims", keep))
		return
	}
	g.add(op, now, []*onnx.Value{x}, onnx.IntAttr("keepdims", keep), onnx.IntsAttr("axes", written))
}

// bound adds Clip, Expand, Pad or Where.
func (g *randomGraph) bound(x *onnx.Value, size []int64) {
	switch g.r.IntN(4) {
	case 0:
		lo := g.m.Graph.NewConst(onnx.FromFloats("lo", []int64{}, []float32{float32(g.r.IntN(3)) - 1}))
		hi := g.m.Graph.NewConst(onnx.FromFloats("hi", []int64{}, []float32{2}))
		g.add("Clip", size, []*onnx.Value{x, lo, hi})
	case 1:
		if at := slices.Index(size, 1); at >= 0 {
			now := with(size, at, 3)
			g.add("Expand", now, []*onnx.Value{x, g.ints(now...)})
			g.add("Mul", now, []*onnx.Value{g.values[len(g.values)-1], g.constant(now)})
		}
	case 2:
		if len(size) > 0 {
			at := g.r.IntN(len(size))
			pads := make([]int64, 2*len(size))
			pads[at], pads[at+len(size)] = 1, int64(g.r.IntN(2))
			g.add("Pad", with(size, at, size[at]+1+pads[at+len(size)]), []*onnx.Value{x, g.ints(pads...)})
		}
	case 3:
		y, other := g.pick()
		if slices.Equal(size, other) {
			t, _ := onnx.FromFloat64s("cond", onnx.Bool, []int64{}, []float64{float64(g.r.IntN(2))})
			g.add("Where", size, []*onnx.Value{g.m.Graph.NewConst(t), x, y})
		}
	}
}

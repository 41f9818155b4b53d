package prune

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// readerOf returns a use of a weight of a shape by an operator.
func readerOf(op string, slot int, shape []int64, attrs ...*onnx.Attr) onnx.Use {
	g := onnx.NewModel(17).Graph
	w := g.AddDangling("w")
	x := g.AddInput("x", onnx.TensorType(onnx.Float, nil))
	in := []*onnx.Value{x, x, x}
	in[slot] = w
	n := onnx.NewNode(op, in[:max(2, slot+1)], "y")
	n.Attrs = attrs
	g.Append(n)
	return onnx.Use{Node: n, Index: slot}
}

// TestViewsAreBijections checks that every element has one place.
func TestViewsAreBijections(t *testing.T) {
	group := onnx.IntAttr("group", 2)
	for _, c := range []struct {
		u          onnx.Use
		shape      []int64
		rows, cols int
		seg, parts int
	}{
		{readerOf("Conv", 1, nil, group), []int64{6, 4, 3, 2}, 6, 24, 4, 2},
		{readerOf("ConvTranspose", 1, nil, group), []int64{6, 4, 3, 2}, 48, 3, 3, 2},
		{readerOf("MatMul", 1, nil), []int64{5, 7}, 7, 5, 5, 1},
		{readerOf("MatMul", 0, nil), []int64{5, 7}, 5, 7, 7, 1},
		{readerOf("MatMul", 1, nil), []int64{2, 3, 5, 7}, 42, 5, 5, 6},
		{readerOf("Gemm", 1, nil, onnx.IntAttr("transB", 1)), []int64{5, 7}, 5, 7, 7, 1},
		{readerOf("Gemm", 0, nil, onnx.IntAttr("transA", 1)), []int64{5, 7}, 7, 5, 5, 1},
		{readerOf("LSTM", 1, nil), []int64{2, 12, 5}, 24, 5, 5, 1},
	} {
		v, ok := viewOf(c.u, c.shape)
		if !ok || v.rows != c.rows || v.cols != c.cols || v.seg != c.seg || v.parts != c.parts {
			t.Errorf("%v %v: view %+v, %v", c.u.Node, c.shape, v, ok)
			continue
		}
		seen := newMask(v.rows * v.cols)
		for r := range v.rows {
			for k := range v.cols {
				seen.set(v.index(r, k))
			}
		}
		if seen.count() != int64(v.rows*v.cols) {
			t.Errorf("%v %v: %d of %d elements have a place", c.u.Node, c.shape, seen.count(), v.rows*v.cols)
		}
	}
	for _, shape := range [][]int64{{4}, {0, 4}, {5, 4, 1}} {
		if _, ok := viewOf(readerOf("Conv", 1, nil, group), shape); ok {
			t.Errorf("a convolution in two groups with weights %v was taken", shape)
		}
	}
}

// TestGroupsRunAlongChannels checks on which elements 1:2 looks together.
func TestGroupsRunAlongChannels(t *testing.T) {
	// [1, 4, 2]: elements are channel·2 + tap. Channels 0 and 1 of tap 0 are
	// elements 0 and 2, those of tap 1 elements 1 and 3, and so on.
	v, _ := viewOf(readerOf("Conv", 1, nil), []int64{1, 4, 2})
	w := []float64{1, 8, 2, 7, 6, 3, 5, 4}
	mask := maskPattern{n: 1, m: 2}.choose(v, magnitudes(byRows(w, v)), false, 0).stored(v)
	for i, want := range []bool{true, false, false, true, false, true, true, false} {
		if mask.has(i) != want {
			t.Errorf("element %d is removed: %v", i, mask.has(i))
		}
	}
	// [K=3, N=1] with a tail of one: it may stay.
	v, _ = viewOf(readerOf("MatMul", 1, nil), []int64{3, 1})
	mask = maskPattern{n: 1, m: 2}.choose(v, []float32{2, 1, 0.5}, false, 0)
	if mask.has(0) || !mask.has(1) || mask.has(2) {
		t.Errorf("of a group and a tail %v, %v, %v were removed", mask.has(0), mask.has(1), mask.has(2))
	}
}

// TestChoose compares choices with their definitions.
func TestChoose(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	v := productView([]int{30, 21}, false)
	scores := make([]float32, 30*21)
	for i := range scores {
		scores[i] = float32(math.Abs(r.NormFloat64()))
		if r.IntN(8) == 0 {
			scores[i] = 0.5 // ties
		}
	}
	for _, p := range []maskPattern{{n: 2, m: 4}, {n: 4, m: 8}, {n: 1, m: 7}} {
		mask := p.choose(v, scores, false, 0.1)
		for row := range v.rows {
			v.groups(p.m, func(c0, c1 int) {
				kept, least, most := 0, float32(math.Inf(1)), float32(0)
				for c := c0; c < c1; c++ {
					s := scores[row*v.cols+c]
					if mask.has(row*v.cols + c) {
						most = max(most, s)
					} else {
						kept, least = kept+1, min(least, s)
					}
				}
				if kept != min(p.n, c1-c0) || most > least {
					t.Fatalf("%v: %d of %d kept, the least %g, one of %g removed", p, kept, c1-c0, least, most)
				}
			})
		}
	}
	for _, byRow := range []bool{false, true} {
		mask := maskPattern{}.choose(v, scores, byRow, 0.4)
		if want := int64(0.4 * 630); mask.count() != want {
			t.Errorf("by row %v: %d removed, want %d", byRow, mask.count(), want)
		}
	}
	p := maskPattern{rows: 4, cols: 5}
	mask := p.choose(v, scores, false, 0.5)
	a := Audited{}
	p.audit(v, mask.stored(v), &a)
	if a.Invalid != 0 || a.Groups != 8*5 {
		t.Errorf("%d of %d blocks are zero in part", a.Invalid, a.Groups)
	}
	if n := mask.count(); n < 630/2-20 || n > 630/2 {
		t.Errorf("%d of 630 weights are removed in half of the blocks", n)
	}
}

func TestParseMask(t *testing.T) {
	for text, want := range map[string]string{"": "unstructured", "unstructured": "unstructured", "2:4": "2:4", "4:8": "4:8", "block:4x1": "block:4x1"} {
		if p, err := parseMask(text); err != nil || p.String() != want {
			t.Errorf("%q is %v, %v", text, p, err)
		}
	}
	for _, text := range []string{"4:4", "0:4", "2:", "a:b", "block:0x4", "block:4", "2:5000", "channelz", "-1:4"} {
		if p, err := parseMask(text); err == nil {
			t.Errorf("%q is %v", text, p)
		}
	}
}

package calibrate

import (
	"math"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// direct computes a convolution by its definition, [groups·per outputs] at each
// position, for weights that are a function of output, channel and tap.
func direct(x []float32, c, h, w int, p *Patches, weight func(o, ch, ky, kx int) float64, outs int) [][]float64 {
	kh, kw := int(p.Kernel[0]), int(p.Kernel[1])
	sh, sw, dh, dw := int(one(p.Strides, 0)), int(one(p.Strides, 1)), int(one(p.Dilations, 0)), int(one(p.Dilations, 1))
	var pt, pl, pb, pr int
	if len(p.Pads) == 4 {
		pt, pl, pb, pr = int(p.Pads[0]), int(p.Pads[1]), int(p.Pads[2]), int(p.Pads[3])
	}
	groups := max(p.Groups, 1)
	per := c / groups
	var out [][]float64
	for y := 0; y+dh*(kh-1) < h+pt+pb; y += sh {
		for z := 0; z+dw*(kw-1) < w+pl+pr; z += sw {
			row := make([]float64, outs)
			for o := range outs {
				g := o / (outs / groups)
				for ch := range per {
					for ky := range kh {
						for kx := range kw {
							a, b := y+ky*dh-pt, z+kx*dw-pl
							if a >= 0 && a < h && b >= 0 && b < w {
								row[o] += weight(o, ch, ky, kx) * float64(x[((g*per+ch)*h+a)*w+b])
							}
						}
					}
				}
			}
			out = append(out, row)
		}
	}
	return out
}

// TestPatches multiplies patches with weights and compares with a convolution.
func TestPatches(t *testing.T) {
	const c, h, w, outs = 4, 5, 6, 4
	x := make([]float32, c*h*w)
	for i := range x {
		x[i] = float32(math.Sin(float64(i) * 1.3))
	}
	weight := func(o, ch, ky, kx int) float64 { return math.Cos(float64(o + 3*ch + 7*ky + 11*kx)) }
	for _, p := range []*Patches{
		{Kernel: []int64{1, 1}},
		{Kernel: []int64{3, 2}, Pads: []int64{1, 0, 1, 1}},
		{Kernel: []int64{2, 3}, Strides: []int64{2, 1}, Dilations: []int64{1, 2}, Pads: []int64{0, 2, 1, 2}, Groups: 2},
		{Kernel: []int64{3, 3}, Groups: 4},
	} {
		b, err := onnx.FromFloats("x", []int64{1, c, h, w}, x).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		rows, width := p.rows(b, []int64{1, c, h, w}, 0)
		got, err := onnx.NewTensor("rows", onnx.Float, []int64{int64(len(rows) / 4 / width), int64(width)}, rows)
		if err != nil {
			t.Fatal(err)
		}
		f, _ := got.Floats()
		groups := max(p.Groups, 1)
		per, taps, kw := c/groups, int(p.Kernel[0]*p.Kernel[1]), int(p.Kernel[1])
		want := direct(x, c, h, w, p, weight, outs)
		if len(want)*width != len(f) {
			t.Fatalf("%+v: %d rows of %d, want %d", p, len(f)/width, width, len(want))
		}
		for i, row := range want {
			for o := range outs {
				sum := 0.0
				for tap := range taps {
					for ch := range per {
						g := o / (outs / groups)
						sum += weight(o, ch, tap/kw, tap%kw) * float64(f[i*width+(g*taps+tap)*per+ch])
					}
				}
				if math.Abs(sum-row[o]) > 1e-5 {
					t.Fatalf("%+v: output %d at %d is %g, want %g", p, o, i, sum, row[o])
				}
			}
		}
	}
}

// TestPatchesUnfit declines shapes and counts, and thins out many positions.
func TestPatchesUnfit(t *testing.T) {
	p := &Patches{Kernel: []int64{3, 3}, Groups: 3}
	for _, shape := range [][]int64{{9}, {1, 4, 8, 8}, {1, 3, 2, 8}} {
		n := int64(4)
		for _, d := range shape {
			n *= d
		}
		if _, width := p.rows(make([]byte, n), shape, 0); width != 0 {
			t.Errorf("shape %v was taken", shape)
		}
	}
	for _, auto := range []string{"SAME_UPPER", "SAME_LOWER"} {
		q := &Patches{Kernel: []int64{3}, Strides: []int64{2}, AutoPad: auto}
		rows, width := q.rows(make([]byte, 4*7), []int64{1, 1, 7}, 0)
		if width != 3 || len(rows) != 4*3*4 {
			t.Errorf("%s: %d bytes in rows of %d, want 4 rows of 3", auto, len(rows), width)
		}
	}
	q := &Patches{Kernel: []int64{1}}
	if rows, width := q.rows(make([]byte, 4*5000), []int64{1, 1, 5000}, 3); width != 1 || len(rows) != 4*mostPatches {
		t.Errorf("%d bytes of rows, want %d rows", len(rows), mostPatches)
	}
}

// TestDiagonal sums the squares and the totals of columns, by parts and apart.
func TestDiagonal(t *testing.T) {
	x := onnx.FromFloats("x", []int64{1, 2, 3}, []float32{1, 2, 3, 4, 5, 6})
	for _, diag := range []bool{true, false} {
		var s, all Stats
		w := Want{Gram: true, Extremes: true, HoldEvery: 2, Diagonal: diag, Patches: &Patches{Kernel: []int64{1}, Groups: 2}}
		if err := s.whole(x, w, 0, nil); err != nil {
			t.Fatal(err)
		}
		all.Merge(&s)
		m := all.Gram.Fit
		if m.Rows != 3 || m.Sum[0] != 14 || m.Sum[1] != 77 || m.Total[0] != 6 || m.Total[1] != 15 {
			t.Errorf("diagonal %v: rows %d, sums %v, totals %v", diag, m.Rows, m.Sum, m.Total)
		}
		m.Mean()
		if m.Total[1] != 5 {
			t.Errorf("mean %v, want 5", m.Total[1])
		}
	}
}

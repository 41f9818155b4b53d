package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// similarityChart draws the rank correlation between the noise floor and 1.
func similarityChart(e *Explanation, gates []Gate) template.HTML {
	if e.Spearman == nil {
		return ""
	}
	const w, h, mid = 720, 124, 46
	values := []float64{*e.Spearman, 1, 0}
	if e.NoiseFloor != nil {
		values = append(values, *e.NoiseFloor)
	}
	if e.CI95 != nil {
		values = append(values, e.CI95[0], e.CI95[1])
	}
	s := draw.NewScale(20, w-20, 0.06, values...)
	s.Hi = 1.02
	d := draw.New("similarity", w, h, "Rank correlation of the attribution maps of the two models", "Median "+estimate(UnitNone, e.Spearman, e.CI95)+".")
	d.Axis(s, mid, 6, labelled(UnitNone))
	if e.NoiseFloor != nil {
		x := s.At(*e.NoiseFloor)
		d.Line("floor", x, mid-14, x, mid+28)
		d.Text("small", "middle", min(max(x, 60), w-64), mid+42, "noise floor "+value(UnitNone, e.NoiseFloor))
	}
	for i := range gates {
		if gates[i].Metric == "explanation.spearman" {
			x := s.At(gates[i].Threshold)
			d.Line("limit", x, mid-14, x, mid+46)
			d.Text("small", "middle", min(max(x, 40), w-44), mid+60, "limit "+FormatLimit(UnitNone, gates[i].Threshold))
			break
		}
	}
	if e.CI95 != nil {
		d.Interval("c-candidate", s.At(e.CI95[0]), s.At(e.CI95[1]), mid)
	}
	x := s.At(*e.Spearman)
	d.Circle("dot c-candidate", x, mid, 5)
	d.Text("label", "middle", min(max(x, 108), w-108), mid-22, "median "+estimate(UnitNone, e.Spearman, e.CI95))
	return d.HTML()
}

// panels of a map, from left to right or from top to bottom.
var panels = []string{"baseline", "candidate", "candidate − baseline"}

// mapChart draws the two attribution maps and their difference on one scale: one colour for support, another, with a bar in
// each cell, for contradiction. Maps of one row are drawn as strips below each other.
func mapChart(i int, m *Map) template.HTML {
	n := m.Rows * m.Cols
	if m.Rows < 1 || m.Cols < 1 || m.Rows > 64 || m.Cols > 1024 || len(m.Baseline) != n || len(m.Candidate) != n {
		return ""
	}
	diff := make([]float64, n)
	var most, apart float64
	for j := range diff {
		diff[j] = m.Candidate[j] - m.Baseline[j]
		apart = max(apart, math.Abs(diff[j]))
		most = max(most, math.Abs(m.Baseline[j]), math.Abs(m.Candidate[j]), apart)
	}
	if most == 0 || !isFinite(most) {
		return ""
	}
	const side, gap, strip = 176.0, 20.0, 26.0
	cw, ch := side/float64(max(m.Rows, m.Cols)), side/float64(max(m.Rows, m.Cols))
	at := func(k int) (x, y float64) { return float64(k) * (side + gap), 18 }
	w, h := 3*side+2*gap, ch*float64(m.Rows)+20
	if m.Rows == 1 {
		w = 3*side + 2*gap
		cw, ch = w/float64(m.Cols), strip
		at = func(k int) (x, y float64) { return 0, 18 + float64(k)*(strip+24) }
		h = 3*(strip+24) - 4
	}
	name := "Mean attribution map over the samples"
	if m.ID != "" {
		name = "Attribution map of sample " + m.ID
	}
	d := draw.New("map"+strconv.Itoa(i), w, h, name, fmt.Sprintf("Baseline, candidate and their difference, %d by %d cells. The largest difference of a cell is %s of the strongest cell.",
		m.Rows, m.Cols, FormatValue(UnitFraction, apart/most)))
	for k, vs := range [][]float64{m.Baseline, m.Candidate, diff} {
		x, y := at(k)
		d.Text("small", "start", x, y-6, panels[k])
		d.Rect("frame", x, y, cw*float64(m.Cols), ch*float64(m.Rows))
		for j, v := range vs {
			cell(d, x+cw*float64(j%m.Cols), y+ch*float64(j/m.Cols), cw, ch, v/most)
		}
	}
	return d.HTML()
}

// cell draws one cell of a map; share is between −1 and 1.
func cell(d *draw.Drawing, x, y, w, h, share float64) {
	if math.Abs(share) < 0.02 {
		return
	}
	class := "pos"
	if share < 0 {
		class = "neg"
	}
	d.Shade(class, x+0.5, y+0.5, max(w-1, 0.5), max(h-1, 0.5), math.Abs(share))
	if share < -0.1 && w > 6 {
		d.Line("minus", x+w*0.3, y+h/2, x+w*0.7, y+h/2)
	}
}

// mapLegend draws the scale of the maps.
func mapLegend() template.HTML {
	const w, steps, size = 568.0, 21, 16.0
	x0 := (w - steps*size) / 2
	d := draw.New("maplegend", w, 40, "Scale of the attribution maps", "From minus the strongest cell, which speaks against the prediction, to plus the strongest cell, which supports it.")
	d.Rect("frame", x0, 2, steps*size, size)
	for i := range steps {
		cell(d, x0+float64(i)*size, 2, size, size, float64(i-steps/2)/float64(steps/2))
	}
	d.Text("small", "end", x0-8, 15, "speaks against")
	d.Text("small", "start", x0+steps*size+8, 15, "supports")
	d.Text("small", "middle", x0, 36, "− strongest")
	d.Text("small", "middle", w/2, 36, "0")
	d.Text("small", "middle", x0+steps*size, 36, "+ strongest")
	return d.HTML()
}

package report

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// gateChart draws a gate's estimate and interval against its limit on a line whose good side is shaded.
func gateChart(id string, g *Gate) template.HTML {
	if g.Observed == nil || !isFinite(*g.Observed) || !isFinite(g.Threshold) {
		return ""
	}
	const w, h, mid = 240, 40, 15
	values := []float64{*g.Observed, g.Threshold}
	if g.CI95 != nil {
		values = append(values, g.CI95[0], g.CI95[1])
	}
	s := draw.NewScale(4, w-4, 0.18, values...)
	d := draw.New(id, w, h, g.Name+": "+string(g.Verdict), "Observed "+g.observation()+" against the limit "+FormatLimit(g.Unit, g.Threshold)+". The shaded side is the good one.")
	limit := s.At(g.Threshold)
	if strings.HasPrefix(g.Operator, "<") {
		d.Rect("good", s.From, mid-9, limit-s.From, 18)
	} else {
		d.Rect("good", limit, mid-9, s.To-limit, 18)
	}
	d.Line("axis", s.From, mid, s.To, mid)
	d.Line("limit", limit, mid-12, limit, mid+12)
	if g.CI95 != nil {
		d.Interval("v-"+verdictClass(g.Verdict), s.At(g.CI95[0]), s.At(g.CI95[1]), mid)
	}
	d.Circle("dot v-"+verdictClass(g.Verdict), s.At(*g.Observed), mid, 4.5)
	text := "limit " + FormatLimit(g.Unit, g.Threshold)
	half := float64(len([]rune(text))) * 3.1
	d.Text("small", "middle", min(max(limit, half), w-half), h-2, text)
	return d.HTML()
}

// ratiosChart draws quantities as candidate / baseline on a logarithmic axis; the side on which the candidate takes less is shaded.
func ratiosChart(lines []ratioLine) template.HTML {
	if len(lines) == 0 {
		return ""
	}
	const w, row, left, right, top = 720, 25.0, 182.0, 548.0, 8.0
	values := []float64{1, 0.8, 1.25}
	var desc strings.Builder
	for _, l := range lines {
		values = append(values, l.ratio)
		if l.ci != nil {
			values = append(values, l.ci[0], l.ci[1])
		}
		fmt.Fprintf(&desc, "%s: %s. ", l.name, estimate(UnitRatio, &l.ratio, l.ci))
	}
	bottom := top + row*float64(len(lines))
	s := draw.NewLogScale(left, right, 0.06, values...)
	d := draw.New("ratios", w, bottom+44, "What the candidate takes of what the baseline takes", desc.String())
	d.Rect("good", left, top, s.At(1)-left, bottom-top)
	for _, t := range s.Ticks(7) {
		d.Line("grid", s.At(t), top, s.At(t), bottom)
		d.Text("small", "middle", s.At(t), bottom+16, dropZeros(significant(t, 2))+"×")
	}
	d.Line("zero", s.At(1), top, s.At(1), bottom)
	d.Text("small", "end", s.At(1)-8, bottom+36, "← the candidate takes less")
	if s.At(1) < right-120 {
		d.Text("small", "start", s.At(1)+8, bottom+36, "it takes more →")
	}
	for i, l := range lines {
		y := top + row*(float64(i)+0.5)
		d.Text("label", "end", left-12, y+4, l.name)
		d.Line("stem", s.At(1), y, s.At(l.ratio), y)
		if l.ci != nil && l.ci[0] > 0 {
			d.Interval("c-candidate", s.At(l.ci[0]), s.At(l.ci[1]), y)
		}
		d.Circle("dot c-candidate", s.At(l.ratio), y, 5)
		d.Text("label", "start", right+12, y+4, estimate(UnitRatio, &l.ratio, l.ci))
	}
	return d.HTML()
}

// tickLabel writes a tick with as many digits as its neighbours need.
func tickLabel(unit string, v float64) string {
	switch unit {
	case UnitDifference, UnitFraction:
		v *= 100
	}
	return dropZeros(trim(v, 4))
}

// labelled returns tickLabel for one unit.
func labelled(unit string) func(float64) string {
	return func(v float64) string { return tickLabel(unit, v) }
}

func axisUnit(unit string) string {
	switch unit {
	case UnitDifference:
		return "points"
	case UnitFraction:
		return "%"
	case UnitRatio:
		return "candidate / baseline"
	}
	return unit
}

package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// slicesChart draws the change of each of some slices with its interval, one line per slice.
func slicesChart(a *Accuracy, shown []Slice) template.HTML {
	values := []float64{0}
	for _, s := range shown {
		if s.Delta == nil || s.CI95 == nil {
			return ""
		}
		values = append(values, *s.Delta, s.CI95[0], s.CI95[1])
	}
	if len(shown) == 0 {
		return ""
	}
	const w, row, left, right, top = 720, 24.0, 190.0, 525.0, 22.0
	bottom := top + row*float64(len(shown))
	_, unit := a.units()
	s := draw.NewScale(left, right, 0.05, values...)
	d := draw.New("slices", w, bottom+40, "Change of "+a.Metric+" within each slice", "Point: candidate minus baseline. Line: 95 % interval of that slice alone. The table below holds the same numbers.")
	for _, t := range s.Ticks(6) {
		class := "grid"
		if math.Abs(t) < 1e-12 {
			class = "zero"
		}
		d.Line(class, s.At(t), top-6, s.At(t), bottom)
		d.Text("small", "middle", s.At(t), bottom+16, tickLabel(unit, t))
	}
	d.Text("small", "start", right+14, top-10, "change [95 %]")
	d.Text("small", "middle", (left+right)/2, bottom+35, strings.TrimSuffix("candidate − baseline, "+axisUnit(unit), ", "))
	for i, sl := range shown {
		y := top + row*(float64(i)+0.5)
		d.Text("label", "end", left-12, y+4, cut(clean(sl.Name), 26))
		class := a.sideOf(&sl)
		d.Interval(class, s.At(sl.CI95[0]), s.At(sl.CI95[1]), y)
		d.Circle("dot "+class, s.At(*sl.Delta), y, 4)
		d.Text("small", "start", right+14, y+4, signed(unit, sl.Delta, sl.CI95))
	}
	return d.HTML()
}

// sideOf returns the class of a slice: whether its whole interval is a loss, a gain, or neither.
func (a *Accuracy) sideOf(s *Slice) string {
	switch _, loss := drop(a.Better, s.Delta, s.CI95); {
	case loss == nil:
	case loss[0] > 0:
		return "v-fail"
	case loss[1] < 0:
		return "v-pass"
	}
	return "v-neutral"
}

// flipsChart draws how many samples changed from right to wrong and back.
func flipsChart(f *Flips) template.HTML {
	if f.RightToWrong == nil || f.WrongToRight == nil {
		return ""
	}
	type bar struct {
		name, class string
		n           int
	}
	bars := []bar{{rightToWrong, "v-fail", *f.RightToWrong}, {wrongToRight, "v-pass", *f.WrongToRight}}
	if f.WrongToOther != nil {
		bars = append(bars, bar{wrongToOther, "v-neutral", *f.WrongToOther})
	}
	const w, row, left = 720, 26.0, 182.0
	most := 1
	desc := ""
	for _, b := range bars {
		most = max(most, b.n)
		desc += fmt.Sprintf("%s: %d. ", b.name, b.n)
	}
	d := draw.New("flips", w, row*float64(len(bars))+4, "Samples whose prediction changed", desc)
	for i, b := range bars {
		y := row*float64(i) + 4
		long := float64(b.n) / float64(most) * (w - left - 70)
		d.Text("label", "end", left-12, y+13, b.name)
		d.Rect("bar "+b.class, left, y, long, 17)
		d.Text("label", "start", left+long+8, y+13, FormatCount(b.n))
	}
	return d.HTML()
}

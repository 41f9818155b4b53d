package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strings"
)

// drawing builds one inline SVG. Colours are classes that the page's style sheet resolves, so a drawing follows the reader's theme.
// Every text goes through escaping; coordinates are in user units that the page scales to its width.
type drawing struct {
	b             strings.Builder
	width, height float64
}

// newDrawing starts a drawing whose title and description a screen reader speaks. The id must be unique within the page.
func newDrawing(id string, width, height float64, title, desc string) *drawing {
	d := &drawing{width: width, height: height}
	fmt.Fprintf(&d.b, `<svg viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		px(width), px(height), id, id, id, html.EscapeString(clean(title)), id, html.EscapeString(clean(desc)))
	return d
}

func (d *drawing) html() template.HTML { return template.HTML(d.b.String() + "</svg>") }

func (d *drawing) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, px(x), px(y), px(max(w, 0)), px(max(h, 0)))
}

// shade is rect with an opacity between 0 and 1.
func (d *drawing) shade(class string, x, y, w, h, opacity float64) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" fill-opacity="%.2f"/>`, class, px(x), px(y), px(w), px(h), opacity)
}

func (d *drawing) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&d.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, px(x1), px(y1), px(x2), px(y2))
}

func (d *drawing) circle(class string, x, y, r float64) {
	fmt.Fprintf(&d.b, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`, class, px(x), px(y), px(r))
}

// axis draws a horizontal axis at y with about n ticks and their labels below.
func (d *drawing) axis(s scale, y float64, n int, unit string) {
	d.line("axis", s.from, y, s.to, y)
	for _, t := range s.ticks(n) {
		d.line("axis", s.at(t), y, s.at(t), y+5)
		d.text("small", "middle", s.at(t), y+18, tickLabel(unit, t))
	}
}

// interval draws a horizontal interval with an upright mark at both ends.
func (d *drawing) interval(class string, x1, x2, y float64) {
	d.line("ci "+class, x1, y, x2, y)
	d.line("cap "+class, x1, y-6, x1, y+6)
	d.line("cap "+class, x2, y-6, x2, y+6)
}

// text writes s with its anchor (start, middle or end) at x and its base line at y.
func (d *drawing) text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&d.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, px(x), px(y), html.EscapeString(clean(s)))
}

// px returns a coordinate with at most two decimals. Coordinates that are not finite become 0.
func px(v float64) string {
	if !isFinite(v) {
		v = 0
	}
	return dropZeros(trim(v, 2))
}

// scale maps values to coordinates linearly.
type scale struct{ lo, hi, from, to float64 }

// newScale covers the values with a margin of the given share on both sides.
func newScale(from, to, margin float64, values ...float64) scale {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	pad := (hi - lo) * margin
	if pad == 0 {
		pad = max(math.Abs(lo)*0.1, 1e-9)
	}
	return scale{lo - pad, hi + pad, from, to}
}

func (s scale) at(v float64) float64 {
	if s.hi == s.lo {
		return s.from
	}
	return s.from + (min(max(v, s.lo), s.hi)-s.lo)/(s.hi-s.lo)*(s.to-s.from)
}

// ticks returns about n round values within the scale.
func (s scale) ticks(n int) []float64 {
	step := (s.hi - s.lo) / float64(n)
	if step <= 0 || !isFinite(step) {
		return nil
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*power >= step {
			step = m * power
			break
		}
	}
	var out []float64
	for i := math.Ceil(s.lo / step); i*step <= s.hi && len(out) < 4*n; i++ {
		out = append(out, i*step)
	}
	return out
}

// tickLabel writes a tick with as many digits as its neighbours need.
func tickLabel(unit string, v float64) string {
	switch unit {
	case UnitDifference, UnitFraction:
		v *= 100
	}
	return dropZeros(trim(v, 4))
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

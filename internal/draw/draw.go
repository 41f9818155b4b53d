// Package draw draws inline SVG for pages that need nothing from elsewhere, and holds the style sheet of these pages.
//
// Colours are classes that the style sheet resolves, so a drawing follows the reader's theme, light or dark. Coordinates are in
// user units that the page scales to its width. The package knows nothing of what is drawn.
package draw

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Drawing is one inline SVG under construction. Every text that it is given is escaped.
type Drawing struct {
	b strings.Builder
}

// New starts a drawing whose title and description a screen reader speaks. The id must be unique within the page.
func New(id string, width, height float64, title, desc string) *Drawing {
	d := &Drawing{}
	fmt.Fprintf(&d.b, `<svg viewBox="0 0 %s %s" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		px(width), px(height), id, id, id, escape(title), id, escape(desc))
	return d
}

// HTML returns the finished drawing.
func (d *Drawing) HTML() template.HTML { return template.HTML(d.b.String() + "</svg>") }

// Rect draws a rectangle; a negative size counts as 0.
func (d *Drawing) Rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class, px(x), px(y), px(max(w, 0)), px(max(h, 0)))
}

// Bar is Rect with a text that shows where the pointer rests on it.
func (d *Drawing) Bar(class string, x, y, w, h float64, hint string) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"><title>%s</title></rect>`, class, px(x), px(y), px(max(w, 0)), px(max(h, 0)), escape(hint))
}

// Shade is Rect with an opacity between 0 and 1.
func (d *Drawing) Shade(class string, x, y, w, h, opacity float64) {
	fmt.Fprintf(&d.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s" fill-opacity="%.2f"/>`, class, px(x), px(y), px(w), px(h), opacity)
}

// Line draws a straight line.
func (d *Drawing) Line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&d.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, px(x1), px(y1), px(x2), px(y2))
}

// Circle draws a disc.
func (d *Drawing) Circle(class string, x, y, r float64) {
	fmt.Fprintf(&d.b, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`, class, px(x), px(y), px(r))
}

// Dot is Circle with a text that shows where the pointer rests on it.
func (d *Drawing) Dot(class string, x, y, r float64, hint string) {
	fmt.Fprintf(&d.b, `<circle class="%s" cx="%s" cy="%s" r="%s"><title>%s</title></circle>`, class, px(x), px(y), px(r), escape(hint))
}

// Path draws a line through points, given as x and y in turn.
func (d *Drawing) Path(class string, xy ...float64) {
	fmt.Fprintf(&d.b, `<polyline class="%s" points="%s"/>`, class, points(xy))
}

// Area fills the polygon through points, given as x and y in turn.
func (d *Drawing) Area(class string, xy ...float64) {
	fmt.Fprintf(&d.b, `<polygon class="%s" points="%s"/>`, class, points(xy))
}

func points(xy []float64) string {
	var b strings.Builder
	for i := 0; i+1 < len(xy); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(px(xy[i]) + "," + px(xy[i+1]))
	}
	return b.String()
}

// Axis draws a horizontal axis at y with about n ticks and their labels below.
func (d *Drawing) Axis(s Scale, y float64, n int, label func(float64) string) {
	d.Line("axis", s.From, y, s.To, y)
	for _, t := range s.Ticks(n) {
		d.Line("axis", s.At(t), y, s.At(t), y+5)
		d.Text("small", "middle", s.At(t), y+18, label(t))
	}
}

// Grid draws level lines from x1 to x2 at about n ticks of a vertical scale, with their labels to the left.
func (d *Drawing) Grid(s Scale, x1, x2 float64, n int, label func(float64) string) {
	for _, t := range s.Ticks(n) {
		d.Line("grid", x1, s.At(t), x2, s.At(t))
		d.Text("small", "end", x1-6, s.At(t)+4, label(t))
	}
}

// Interval draws a horizontal interval with an upright mark at both ends.
func (d *Drawing) Interval(class string, x1, x2, y float64) {
	d.Line("ci "+class, x1, y, x2, y)
	d.Line("cap "+class, x1, y-6, x1, y+6)
	d.Line("cap "+class, x2, y-6, x2, y+6)
}

// Whisker draws a vertical interval with a level mark at both ends.
func (d *Drawing) Whisker(class string, x, y1, y2 float64) {
	d.Line("whisker "+class, x, y1, x, y2)
	d.Line("whisker "+class, x-4, y1, x+4, y1)
	d.Line("whisker "+class, x-4, y2, x+4, y2)
}

// Text writes s with its anchor (start, middle or end) at x and its base line at y.
func (d *Drawing) Text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&d.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, px(x), px(y), escape(s))
}

// TurnedText is Text that reads upwards.
func (d *Drawing) TurnedText(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&d.b, `<text class="%s" text-anchor="%s" transform="translate(%s %s) rotate(-90)">%s</text>`, class, anchor, px(x), px(y), escape(s))
}

func escape(s string) string { return html.EscapeString(Clean(s)) }

// px returns a coordinate with at most two decimals. Coordinates that are not finite become 0.
func px(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	s := strings.TrimRight(strings.TrimRight(strconv.FormatFloat(v, 'f', 2, 64), "0"), ".")
	if s == "-0" {
		return "0"
	}
	return s
}

// maxText bounds one string in a page, in characters.
const maxText = 400

// Clean makes a string of unknown origin fit for display on one line: invalid UTF-8, control characters, line and paragraph
// separators and characters that reorder text become spaces or U+FFFD, and the length is bounded.
func Clean(s string) string { return Cut(Plain(s), maxText) }

// Plain is Clean without a bound.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case unicode.IsControl(r), r == '\ufeff', r == '\ufffe', r == '\uffff',
			r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069', r == '\u200e', r == '\u200f', r == '\u061c':
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// Cut shortens s to n characters.
func Cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

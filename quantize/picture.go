package quantize

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Size of the picture and of the room for its axes, in pixels.
const (
	pictureWidth, pictureHeight = 640, 400
	pictureLeft, pictureBottom  = 64, 48
)

// Picture draws the models that were timed, latency against noise, as SVG: the
// front as a line, what keeps the budget filled, the chosen one ringed.
func (s *Search) Picture() []byte {
	var timed []Point
	for _, p := range s.Points {
		if p.Ratio > 0 && !math.IsInf(p.Quality.SQNR, 0) {
			timed = append(timed, p)
		}
	}
	slices.SortFunc(timed, func(a, b Point) int { return int(math.Copysign(1, a.Ratio-b.Ratio)) })
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui,sans-serif" font-size="12">`+"\n", pictureWidth, pictureHeight)
	fmt.Fprintf(&b, "<title>Int8 and float32 mixed: %s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", html.EscapeString(s.Budget))
	c := newChart(timed)
	c.axes(&b)
	var line []string
	for _, p := range timed {
		if p.Front {
			line = append(line, fmt.Sprintf("%.1f,%.1f", c.x(p.Ratio), c.y(p.Quality.SQNR)))
		}
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#2563eb" stroke-width="1.5"/>`+"\n", strings.Join(line, " "))
	for _, p := range timed {
		c.point(&b, p)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// chart maps latency ratios and decibels to the picture.
type chart struct{ x0, x1, y0, y1 float64 }

func newChart(points []Point) *chart {
	c := &chart{x0: 1, x1: 1, y0: math.Inf(1), y1: math.Inf(-1)}
	for _, p := range points {
		c.x0, c.x1 = min(c.x0, p.Ratio), max(c.x1, p.Ratio)
		c.y0, c.y1 = min(c.y0, p.Quality.SQNR), max(c.y1, p.Quality.SQNR)
	}
	if len(points) == 0 {
		c.y0, c.y1 = 0, 1
	}
	dx, dy := max(c.x1-c.x0, 0.1)*0.08, max(c.y1-c.y0, 1)*0.08
	return &chart{c.x0 - dx, c.x1 + dx, c.y0 - dy, c.y1 + dy}
}

func (c *chart) x(v float64) float64 {
	return pictureLeft + (v-c.x0)/(c.x1-c.x0)*(pictureWidth-pictureLeft-16)
}

func (c *chart) y(v float64) float64 {
	return 16 + (c.y1-v)/(c.y1-c.y0)*(pictureHeight-pictureBottom-16)
}

func (c *chart) axes(b *strings.Builder) {
	bottom, right := float64(pictureHeight-pictureBottom), float64(pictureWidth-16)
	fmt.Fprintf(b, `<path d="M%d 16V%.0fH%.0f" fill="none" stroke="#94a3b8"/>`+"\n", pictureLeft, bottom, right)
	for i := range 5 {
		x := c.x0 + (c.x1-c.x0)*float64(i)/4
		y := c.y0 + (c.y1-c.y0)*float64(i)/4
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f" text-anchor="middle" fill="#475569">%.2f</text>`+"\n", c.x(x), bottom+18, x)
		fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end" fill="#475569">%.1f</text>`+"\n", pictureLeft-8, c.y(y)+4, y)
	}
	fmt.Fprintf(b, `<text x="%.0f" y="%d" text-anchor="middle" fill="#0f172a">time of a run, 1 is the original's</text>`+"\n", (pictureLeft+right)/2, pictureHeight-10)
	fmt.Fprintf(b, `<text transform="translate(16 %.0f) rotate(-90)" text-anchor="middle" fill="#0f172a">signal to noise, dB</text>`+"\n", bottom/2)
	if c.x0 < 1 && c.x1 > 1 {
		fmt.Fprintf(b, `<path d="M%.1f 16V%.0f" stroke="#94a3b8" stroke-dasharray="4 4"/>`+"\n", c.x(1), bottom)
	}
}

func (c *chart) point(b *strings.Builder, p Point) {
	fill := "#fff"
	if p.Met {
		fill = "#2563eb"
	}
	x, y := c.x(p.Ratio), c.y(p.Quality.SQNR)
	if p.Chosen {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="9" fill="none" stroke="#ea580c" stroke-width="2"/>`+"\n", x, y)
	}
	fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4.5" fill="%s" stroke="#2563eb"><title>%d layers in float32, %.1f dB, %.2f of the time</title></circle>`+"\n",
		x, y, fill, len(p.Float), p.Quality.SQNR, p.Ratio)
}

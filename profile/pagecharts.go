package profile

import (
	"fmt"
	"html/template"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
	"github.com/lapidary-ml/lapidary/internal/measure"
)

const (
	chartWidth = 860.0
	chartLeft  = 64.0 // room for the labels of the vertical axis
	mostDots   = 2000
)

// runsChart draws every timed run in the order of measurement: nothing is left
// out, so a stall shows where it was.
func runsChart(t *TimedProfile) template.HTML {
	var all []float64
	for _, s := range t.Series {
		for _, v := range s {
			all = append(all, 1e3*v)
		}
	}
	if len(all) < 2 {
		return ""
	}
	const h, top, bottom = 230.0, 12.0, 196.0
	s := draw.NewScale(bottom, top, 0.06, all...)
	if lo, hi := slices.Min(all), slices.Max(all); lo > 0 && hi > 4*lo {
		s = draw.NewLogScale(bottom, top, 0.04, all...)
	}
	x := draw.Scale{Lo: 0, Hi: float64(len(all) - 1), From: chartLeft + 6, To: chartWidth - 8}
	middle := measure.Median(all)
	d := draw.New("runs", chartWidth, h, "Time of every run in the order of measurement",
		fmt.Sprintf("%d runs in %d sessions; median %s, slowest %s.", len(all), len(t.Series), duration(middle), duration(slices.Max(all))))
	at := 0
	for i, series := range t.Series {
		from, to := x.At(float64(at)), x.At(float64(at+max(len(series)-1, 0)))
		if i%2 == 1 {
			d.Rect("stripe", from, top, to-from, bottom-top)
		}
		d.Text("small", "middle", (from+to)/2, bottom+18, fmt.Sprintf("session %d", i+1))
		at += len(series)
	}
	d.Grid(s, chartLeft, chartWidth-4, 4, duration)
	d.Line("median", chartLeft, s.At(middle), chartWidth-4, s.At(middle))
	step := (len(all) + mostDots - 1) / mostDots
	for i := 0; i < len(all); i += step { // of a stretch, the extremes
		part := all[i:min(i+step, len(all))]
		lo, hi := slices.Min(part), slices.Max(part)
		if hi > lo {
			d.Line("pair", x.At(float64(i)), s.At(lo), x.At(float64(i)), s.At(hi))
		}
		d.Circle("pair", x.At(float64(i)), s.At(hi), 1.8)
	}
	return d.HTML()
}

// coldChart draws the way to the first result as one bar.
func coldChart(c *Cold) template.HTML {
	type part struct {
		name, class string
		ms          float64
	}
	var parts []part
	if c.StartMS != nil && c.ReadMS != nil && c.CreateMS != nil {
		parts = []part{{"start the process", "c1", *c.StartMS}, {"read the file", "c2", *c.ReadMS}, {"create the session", "c3", *c.CreateMS}}
	} else {
		parts = []part{{"open", "c1", c.OpenMS}}
	}
	parts = append(parts, part{"first run", "c4", c.FirstRunMS})
	total := 0.0
	var words []string
	for _, p := range parts {
		total += p.ms
		words = append(words, p.name+" "+duration(p.ms))
	}
	if total <= 0 {
		return ""
	}
	const h = 62.0
	d := draw.New("cold", chartWidth, h, "The way to the first result", strings.Join(words, ", ")+".")
	at, label := 0.0, 0.0
	for i, p := range parts {
		w := p.ms / total * chartWidth
		d.Bar(p.class, at, 4, max(w-1.5, 0.5), 24, words[i])
		d.Rect(p.class, label, 42, 10, 10)
		d.Text("label", "start", label+15, 52, words[i])
		label += 34 + 7*float64(len(words[i]))
		at += w
	}
	return d.HTML()
}

// operatorChart draws the time of each operator as the engine ran it.
func operatorChart(list []GroupTime) template.HTML {
	if len(list) == 0 {
		return ""
	}
	const row, left, most = 25.0, 190.0, 14
	shown := slices.Clone(list[:min(len(list), most)])
	if rest := list[len(shown):]; len(rest) > 0 {
		g := GroupTime{Name: fmt.Sprintf("%d others", len(rest))}
		for _, r := range rest {
			g.Nodes, g.MS, g.Share = g.Nodes+r.Nodes, g.MS+r.MS, g.Share+r.Share
		}
		shown = append(shown, g)
	}
	longest := 0.0
	for _, g := range shown {
		longest = max(longest, g.MS)
	}
	d := draw.New("operators", chartWidth, row*float64(len(shown))+4, "Time per inference by operator",
		fmt.Sprintf("%s takes the most: %.1f %%.", shown[0].Name, 100*shown[0].Share))
	for i, g := range shown {
		y := row*float64(i) + 4
		w := 0.0
		if longest > 0 {
			w = g.MS / longest * (chartWidth - left - 210)
		}
		text := fmt.Sprintf("%s · %.1f %% · %d nodes", duration(g.MS), 100*g.Share, g.Nodes)
		if g.Nodes == 1 {
			text = strings.TrimSuffix(text, "s")
		}
		d.Text("label", "end", left-10, y+13, draw.Cut(g.Name, 24))
		d.Bar("c1", left, y, max(w, 1), 17, g.Name+": "+text)
		d.Text("small", "start", left+w+8, y+13, text)
	}
	return d.HTML()
}

// byteUnit returns the binary unit in which a size is a small number.
func byteUnit(size float64) (unit float64, name string) {
	unit, name = 1, "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 2*unit*1024 {
			break
		}
		unit, name = unit*1024, next
	}
	return unit, name
}

// memoryFigure draws the activations alive while each node runs.
func memoryFigure(s *StaticProfile) *pageFigure {
	var live []float64
	peak := 0
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if n.Runs == 0 {
			continue
		}
		if len(live) == 0 || float64(n.LiveBytes) > live[peak] {
			peak = len(live)
		}
		live = append(live, float64(n.LiveBytes))
	}
	if len(live) < 2 || live[peak] == 0 {
		return nil
	}
	const h, top, bottom = 230.0, 26.0, 196.0
	unit, name := byteUnit(live[peak])
	y := draw.Scale{Lo: 0, Hi: live[peak] / unit, From: bottom, To: top}
	x := draw.Scale{Lo: 0, Hi: float64(len(live)), From: chartLeft + 6, To: chartWidth - 8}
	d := draw.New("memory", chartWidth, h, "Activations alive while each node runs",
		fmt.Sprintf("%d nodes in execution order; at most %s, while %s runs.", len(live), bytesText(int64(live[peak])), s.Activations.NodeName))
	d.Grid(y, chartLeft, chartWidth-4, 4, func(v float64) string { return plainNumber(v) + " " + name })
	line := []float64{}
	step := (len(live) + mostDots - 1) / mostDots
	for i := 0; i < len(live); i += step {
		end := min(i+step, len(live))
		v := y.At(slices.Max(live[i:end]) / unit)
		line = append(line, x.At(float64(i)), v, x.At(float64(end)), v)
	}
	area := append([]float64{x.From, bottom}, line...)
	d.Area("band", append(area, x.At(float64(len(live))), bottom)...)
	d.Path("curve k1", line...)
	px := x.At(float64(peak) + 0.5)
	d.Circle("dot c-candidate", px, top, 4.5)
	anchor, dx := "start", 8.0
	if px > chartWidth*0.6 {
		anchor, dx = "end", -8
	}
	d.Text("label", anchor, px+dx, top-8, bytesText(int64(live[peak]))+" at "+draw.Cut(s.Activations.NodeName, 48))
	d.Line("axis", chartLeft, bottom, chartWidth-4, bottom)
	d.Text("small", "end", chartWidth-8, h-12, "nodes in the order of execution")
	return &pageFigure{d.HTML(), "A tensor counts from the node that computes it to the last that reads it, as if every buffer were given back at once. Weights, " +
		bytesText(s.Weights.Bytes) + ", lie beside it."}
}

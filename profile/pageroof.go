package profile

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// roofPoint is a node in the chart.
type roofPoint struct {
	*NodeRoof
	intensity, rate float64 // operations per byte; 10^9 operations per second
}

// pageRoofline is the section of the page.
type pageRoofline struct {
	Chart   template.HTML
	Text    string
	Skipped string
	Bounds  [][]string
}

func (v *page) roofline(r *Roofline) {
	switch {
	case r == nil:
		return
	case r.Skipped != "" || r.Peaks == nil || len(r.Peaks.Memory) == 0:
		v.Roofline = &pageRoofline{Skipped: r.Skipped}
		return
	}
	v.Roofline = &pageRoofline{Chart: roofChart(r), Text: fmt.Sprintf("Were every node at its roof, a run would take %.0f %% of its time.", 100*r.Attained)}
	for _, b := range r.Bounds {
		v.Roofline.Bounds = append(v.Roofline.Bounds, []string{b.Bound, fmt.Sprint(b.Nodes), duration(b.MS), fmt.Sprintf("%.1f %%", 100*b.Share)})
	}
	v.tile("Of the roof", fmt.Sprintf("%.0f %%", 100*r.Attained), "least possible over measured time")
}

// roofChart draws nodes by their arithmetic per byte and the rate at which they
// ran, under the machine's peaks.
func roofChart(r *Roofline) template.HTML {
	var shown []roofPoint
	var xs, ys []float64
	longest := 0.0
	for i := range r.Nodes {
		if n := &r.Nodes[i]; n.FLOPs > 0 && n.Bytes > 0 && n.MS > 0 {
			p := roofPoint{n, float64(n.FLOPs) / float64(n.Bytes), float64(n.FLOPs) / n.MS / 1e6}
			shown = append(shown, p)
			xs, ys = append(xs, p.intensity), append(ys, p.rate)
			longest = max(longest, n.MS)
		}
	}
	compute, memory := r.roofs()
	if len(shown) == 0 || len(compute) == 0 {
		return ""
	}
	for _, c := range compute {
		ys = append(ys, c.rate)
		xs = append(xs, c.rate/memory[len(memory)-1].rate) // where the roof bends
	}
	const h, top, bottom = 420.0, 18.0, 372.0
	x := draw.NewLogScale(chartLeft, chartWidth-16, 0.06, xs...)
	y := draw.NewLogScale(bottom, top, 0.06, ys...)
	d := draw.New("roofline", chartWidth, h, "Each node against the machine's peaks",
		fmt.Sprintf("%d nodes; the model reaches %.0f %% of its roof.", len(shown), 100*r.Attained))
	d.Grid(y, chartLeft, chartWidth-16, 6, plainTick)
	d.Axis(x, bottom, 8, plainTick)
	d.Text("small", "end", chartWidth-16, h-6, "operations per byte")
	d.TurnedText("small", "middle", 14, (top+bottom)/2, "10⁹ operations per second")
	roofLines(d, x, y, compute, memory)
	slices.SortStableFunc(shown, func(a, b roofPoint) int { return cmp.Compare(b.MS, a.MS) })
	for _, n := range shown {
		d.Dot("node b-"+boundClass(n.Bound), x.At(n.intensity), y.At(n.rate), 2.5+9*math.Sqrt(n.MS/longest),
			fmt.Sprintf("%s (%s): %s, %s operations per byte, %.0f %% of its roof, bound by %s", n.Name, n.Op, duration(n.MS), significant(n.intensity), 100*n.Attained, n.Bound))
	}
	return d.HTML()
}

func boundClass(bound string) string {
	switch bound {
	case "compute", "memory", "overhead":
		return bound
	}
	return "unknown"
}

func plainTick(v float64) string { return plainNumber(v) }

type roof struct {
	name string
	rate float64
}

// roofs returns the peaks of arithmetic, and of memory: nearest first, main memory last.
func (r *Roofline) roofs() (compute, memory []roof) {
	if f := r.Peaks.Float32; f != nil && f.All > 0 {
		compute = append(compute, roof{"float32", f.All})
	}
	if i := r.Peaks.Int8; i != nil && i.All > 0 {
		compute = append(compute, roof{"int8", i.All})
	}
	list := r.Peaks.Memory
	if len(list) > 1 {
		memory = append(memory, roof{bytesText(list[0].Bytes) + " in cache", list[0].All.best()})
	}
	return compute, append(memory, roof{"main memory", list[len(list)-1].All.best()})
}

// roofLines draws the peaks; each line of memory ends at the highest of arithmetic.
func roofLines(d *draw.Drawing, x, y draw.Scale, compute, memory []roof) {
	highest := 0.0
	for _, c := range compute {
		highest = max(highest, c.rate)
		from := max(x.Lo, c.rate/memory[0].rate)
		d.Line("roof", x.At(from), y.At(c.rate), x.To, y.At(c.rate))
		d.Text("small", "end", x.At(from)-8, y.At(c.rate)+4, fmt.Sprintf("%s: %s", c.name, significant(c.rate)))
	}
	for i, m := range memory {
		from, to := max(x.Lo, y.Lo/m.rate), min(x.Hi, highest/m.rate)
		if to <= from {
			continue
		}
		class, anchor, dx, dy := "roof", "start", 8.0, 14.0 // the label of main memory below its line
		if i < len(memory)-1 {
			class, anchor, dx, dy = "roof far", "end", -8, -4
		}
		d.Line(class, x.At(from), y.At(from*m.rate), x.At(to), y.At(to*m.rate))
		at := math.Exp(math.Log(from) + 0.45*(math.Log(to)-math.Log(from)))
		d.Text("small", anchor, x.At(at)+dx, y.At(at*m.rate)+dy, fmt.Sprintf("%s: %s GB/s", m.name, significant(m.rate)))
	}
}

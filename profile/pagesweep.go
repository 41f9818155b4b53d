package profile

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// sweepRows is the table beside the curves.
func sweepRows(s *Sweep) [][]string {
	best := map[int][]string{}
	for _, b := range s.Best {
		best[b.Point] = append(best[b.Point], "best "+b.For)
	}
	var out [][]string
	for i, p := range s.Points {
		if p.Failed != "" {
			out = append(out, []string{values(p.Settings), "–", "", "–", "", "failed: " + p.Failed})
			continue
		}
		row := []string{values(p.Settings), duration(p.MS), "", significant(p.PerSecond), "1", strings.Join(best[i], ", ")}
		if p.CI95 != nil {
			row[2] = fmt.Sprintf("[%s, %s]", duration(p.CI95[0]), duration(p.CI95[1]))
		}
		if p.Ratio != nil && p.RatioCI95 != nil {
			row[4] = fmt.Sprintf("%s [%s, %s]", significant(*p.Ratio), significant(p.RatioCI95[0]), significant(p.RatioCI95[1]))
		}
		out = append(out, row)
	}
	return out
}

// sweepBests words what is best, how sure that is, and how to set it.
func sweepBests(s *Sweep) []pageTile {
	var out []pageTile
	for _, b := range s.Best {
		p := &s.Points[b.Point]
		text := b.result(p)
		for _, w := range b.Where {
			text += fmt.Sprintf(", %s = %s", strings.TrimPrefix(w.Name, dimPrefix), w.Value)
		}
		if b.Ratio != nil && b.RatioCI95 != nil {
			text += fmt.Sprintf(", %s times the first setting's time [%s, %s]", significant(*b.Ratio), significant(b.RatioCI95[0]), significant(b.RatioCI95[1]))
		}
		if n := len(b.Within); n > 0 {
			text += fmt.Sprintf("; %d others cannot be told apart from it", n)
		}
		out = append(out, pageTile{"Best " + b.For + ":", text + ". Set it by", b.Flags})
	}
	return out
}

// sweepFigures draws curves over the setting that takes most numbers, one for
// each combination of the others; where none is a number, the points themselves.
func sweepFigures(s *Sweep) []pageFigure {
	along := -1
	for i, a := range s.Axes {
		_, err := strconv.ParseFloat(a.Values[0], 64)
		if err == nil && len(a.Values) > 1 && (along < 0 || len(a.Values) > len(s.Axes[along].Values)) {
			along = i
		}
	}
	if along < 0 {
		return []pageFigure{{sweepDots(s), "Median time per sample with its 95 % interval over fresh processes, shortest ringed."}}
	}
	curves := sweepCurves(s, along)
	out := []pageFigure{{curveChart("sweep-time", "Time of a run", s.Axes[along].Name, curves, duration,
		func(p *SweepPoint) (v, lo, hi float64) { return p.MS, p.CI95[0], p.CI95[1] }),
		"Median time of a run with its 95 % interval over fresh processes. All settings took turns, so that drift of the machine hits all alike."}}
	if slices.ContainsFunc(s.Axes, func(a SweepAxis) bool { return a.Name == "batch" && len(a.Values) > 1 }) {
		out = append(out, pageFigure{curveChart("sweep-rate", "Samples per second", s.Axes[along].Name, curves, rateTick,
			func(p *SweepPoint) (v, lo, hi float64) {
				n := 1e3 * float64(p.Batch)
				return n / p.MS, n / p.CI95[1], n / p.CI95[0]
			}), "Samples per second at that time."})
	}
	return out
}

// rateTick is a round number of samples per second.
func rateTick(v float64) string {
	if v == 0 {
		return "0"
	}
	return scaled(v, 1000, []string{"", "k", "M", "G"})
}

// curve is one combination of the settings that a chart does not run along.
type curve struct {
	name   string
	points []*SweepPoint
	at     []float64
}

// mostCurves is how many curves have a colour of their own.
const mostCurves = 6

func sweepCurves(s *Sweep, along int) []curve {
	index, out := map[string]int{}, []curve{}
	for i := range s.Points {
		p := &s.Points[i]
		x, err := strconv.ParseFloat(p.Settings[along].Value, 64)
		if p.Failed != "" || p.CI95 == nil || err != nil || x <= 0 {
			continue
		}
		var rest []string
		for k, set := range p.Settings {
			if k != along {
				rest = append(rest, set.Name+" "+set.Value)
			}
		}
		name := strings.Join(rest, ", ")
		k, seen := index[name]
		if !seen {
			if k = len(out); k == mostCurves {
				continue
			}
			index[name] = k
			out = append(out, curve{name: name})
		}
		out[k].points, out[k].at = append(out[k].points, p), append(out[k].at, x)
	}
	for _, c := range out {
		slices.SortStableFunc(c.points, func(a, b *SweepPoint) int { return compareText(a.Settings[along].Value, b.Settings[along].Value) })
		slices.Sort(c.at)
	}
	return out
}

func compareText(a, b string) int {
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	return cmp.Compare(x, y)
}

// curveChart draws curves with whiskers over a logarithmic horizontal scale.
func curveChart(id, title, along string, curves []curve, label func(float64) string, read func(*SweepPoint) (v, lo, hi float64)) template.HTML {
	var xs, ys []float64
	for _, c := range curves {
		xs = append(xs, c.at...)
		for _, p := range c.points {
			v, lo, hi := read(p)
			ys = append(ys, v, lo, hi)
		}
	}
	if len(xs) == 0 {
		return ""
	}
	const top, bottom = 18.0, 216.0
	const columns = 4 // of the legend
	h := 268.0 + 20*float64((len(curves)+columns-1)/columns)
	x := draw.NewLogScale(chartLeft+10, chartWidth-24, 0.05, xs...)
	y := draw.NewScale(bottom, top, 0.08, append(ys, 0)...)
	y.Lo = 0
	d := draw.New(id, chartWidth, h, title+" over "+along, fmt.Sprintf("%d curves, %d points.", len(curves), len(xs)))
	d.Grid(y, chartLeft, chartWidth-8, 5, label)
	d.Line("axis", chartLeft, bottom, chartWidth-8, bottom)
	slices.Sort(xs)
	for _, v := range slices.Compact(xs) {
		d.Line("axis", x.At(v), bottom, x.At(v), bottom+5)
		d.Text("small", "middle", x.At(v), bottom+19, plainTick(v))
	}
	d.Text("small", "end", chartWidth-8, bottom+36, along)
	for k, c := range curves {
		class := fmt.Sprintf("k%d", k+1)
		var line []float64
		for i, p := range c.points {
			v, lo, hi := read(p)
			line = append(line, x.At(c.at[i]), y.At(v))
			d.Whisker(class, x.At(c.at[i]), y.At(lo), y.At(hi))
		}
		d.Path("curve "+class, line...)
		for i, p := range c.points {
			v, lo, hi := read(p)
			d.Dot("dot c"+strconv.Itoa(k+1), x.At(c.at[i]), y.At(v), 4, fmt.Sprintf("%s: %s [%s, %s]", flags(p.Settings), label(v), label(lo), label(hi)))
		}
		if c.name != "" {
			lx, ly := chartLeft+float64(k%columns)*198, h-8-20*float64((len(curves)-1)/columns-k/columns)
			d.Rect("c"+strconv.Itoa(k+1), lx, ly-10, 10, 10)
			d.Text("label", "start", lx+16, ly, draw.Cut(c.name, 26))
		}
	}
	return d.HTML()
}

// sweepDots draws each setting's time per sample on a line of its own.
func sweepDots(s *Sweep) template.HTML {
	var all []float64
	var shown []*SweepPoint
	best := math.Inf(1)
	for i := range s.Points {
		if p := &s.Points[i]; p.Failed == "" && p.CI95 != nil {
			n := float64(p.Batch)
			shown = append(shown, p)
			all = append(all, p.MS/n, p.CI95[0]/n, p.CI95[1]/n)
			best = min(best, p.MS/n)
		}
	}
	if len(shown) == 0 {
		return ""
	}
	const row, left = 26.0, 280.0
	h := row*float64(len(shown)) + 44
	x := draw.NewScale(left, chartWidth-90, 0.05, all...)
	d := draw.New("sweep", chartWidth, h, "Time per sample of each setting", fmt.Sprintf("%d settings.", len(shown)))
	for i, p := range shown {
		y, n := row*float64(i)+14, float64(p.Batch)
		d.Line("grid", left, y, chartWidth-90, y)
		d.Text("label", "end", left-14, y+4, draw.Cut(flags(p.Settings), 42))
		d.Interval("v-neutral", x.At(p.CI95[0]/n), x.At(p.CI95[1]/n), y)
		class := "dot c-candidate"
		if p.MS/n == best {
			d.Circle("ring", x.At(p.MS/n), y, 8)
		}
		d.Dot(class, x.At(p.MS/n), y, 4.5, flags(p.Settings)+": "+duration(p.MS/n))
		d.Text("small", "start", chartWidth-78, y+4, duration(p.MS/n))
	}
	d.Axis(x, h-34, 6, duration)
	return d.HTML()
}

// loadFigure draws latency over the rate of arrivals.
func loadFigure(l *Load) *pageFigure {
	trials := slices.DeleteFunc(slices.Clone(l.Trials), func(t LoadTrial) bool { return t.P50 == nil || t.Unstable })
	slices.SortStableFunc(trials, func(a, b LoadTrial) int { return cmp.Compare(a.Rate, b.Rate) })
	if len(trials) < 2 {
		return nil
	}
	series := []struct {
		name string
		get  func(*LoadTrial) *Quantile
	}{{"median", func(t *LoadTrial) *Quantile { return t.P50 }}, {"90th percentile", func(t *LoadTrial) *Quantile { return t.P90 }}, {"99th percentile", func(t *LoadTrial) *Quantile { return t.P99 }}}
	xs, ys := []float64{0, l.Capacity}, []float64{l.ServiceMS}
	for i := range trials {
		xs = append(xs, trials[i].Rate)
		for _, s := range series {
			if q := s.get(&trials[i]); q != nil {
				ys = append(ys, q.MS, q.CI95[0], q.CI95[1])
			}
		}
	}
	if l.Objective != nil {
		ys = append(ys, l.Objective.MS)
	}
	const h, top, bottom = 300.0, 22.0, 236.0
	x, y := draw.NewScale(chartLeft+10, chartWidth-24, 0.02, xs...), draw.NewLogScale(bottom, top, 0.06, ys...)
	x.Lo = 0
	d := draw.New("load", chartWidth, h, "Latency over the rate of arrivals", fmt.Sprintf("%d rates.", len(trials)))
	if r := l.Highest; r != nil {
		to := l.Capacity
		if r.Fails != nil {
			to = *r.Fails
		}
		d.Rect("band", x.At(r.Holds), top, max(x.At(to)-x.At(r.Holds), 2), bottom-top)
	}
	d.Grid(y, chartLeft, chartWidth-8, 6, duration)
	d.Axis(x, bottom, 8, plainTick)
	d.Line("limit", x.At(l.Capacity), top, x.At(l.Capacity), bottom)
	d.Text("small", "end", x.At(l.Capacity)-5, top-6, "capacity "+significant(l.Capacity)+"/s")
	if o := l.Objective; o != nil {
		d.Line("median", chartLeft, y.At(o.MS), chartWidth-8, y.At(o.MS))
		d.Text("small", "start", chartLeft+14, y.At(o.MS)-5, fmt.Sprintf("objective: %s %% within %s", trimmed(100*o.Quantile), duration(o.MS)))
	}
	for k, s := range series {
		class := strconv.Itoa(k + 1)
		var line []float64
		for i := range trials {
			if q := s.get(&trials[i]); q != nil {
				line = append(line, x.At(trials[i].Rate), y.At(q.MS))
				d.Whisker("k"+class, x.At(trials[i].Rate), y.At(q.CI95[0]), y.At(q.CI95[1]))
			}
		}
		d.Path("curve k"+class, line...)
		for i := 0; i+1 < len(line); i += 2 {
			d.Circle("dot c"+class, line[i], line[i+1], 4)
		}
		d.Rect("c"+class, chartLeft+float64(k)*180, h-18, 10, 10)
		d.Text("label", "start", chartLeft+16+float64(k)*180, h-8, s.name)
	}
	d.Text("small", "end", chartWidth-8, h-8, "requests per second")
	return &pageFigure{d.HTML(), "Latency counts from the intended arrival, so time in the queue is in it. The band is where the rate that just keeps the objective lies."}
}

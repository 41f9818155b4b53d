package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
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
	label := min(max(limit, 46), w-46)
	d.Text("small", "middle", label, h-2, "limit "+FormatLimit(g.Unit, g.Threshold))
	return d.HTML()
}

// verdictClass returns the class of a verdict; anything unknown looks like a failure.
func verdictClass(v Verdict) string {
	switch v {
	case Pass, Inconclusive:
		return string(v)
	}
	return string(Fail)
}

// latencyChart draws the distributions of run times on one axis: the baseline's upwards, the candidate's downwards.
func latencyChart(l *Latency) template.HTML {
	h := l.Histogram
	if h == nil && l.Series != nil {
		h = NewHistogram(l.Series.BaselineMS, l.Series.CandidateMS, 40)
	}
	if h == nil || len(h.EdgesMS) < 2 || len(h.Baseline) != len(h.EdgesMS)-1 || len(h.Candidate) != len(h.Baseline) || len(h.Baseline) > 500 {
		return ""
	}
	const w, height, half, mid = 760, 292, 112, 130
	s := draw.Scale{Lo: h.EdgesMS[0], Hi: h.EdgesMS[len(h.EdgesMS)-1], From: 12, To: w - 12}
	desc := fmt.Sprintf("Baseline: median %s. Candidate: median %s. Runs beyond the right end: %d of the baseline, %d of the candidate.",
		value(UnitMS, l.BaselineMS), value(UnitMS, l.CandidateMS), h.BaselineAbove, h.CandidateAbove)
	d := draw.New("latency", w, height, "Distribution of run times of both models", desc)
	most := 1
	for i := range h.Baseline {
		most = max(most, h.Baseline[i], h.Candidate[i])
	}
	for i := range h.Baseline {
		x, next := s.At(h.EdgesMS[i]), s.At(h.EdgesMS[i+1])
		if n := float64(h.Baseline[i]) / float64(most) * half; n > 0 {
			d.Rect("baseline", x+0.5, mid-n, next-x-1, n)
		}
		if n := float64(h.Candidate[i]) / float64(most) * half; n > 0 {
			d.Rect("candidate", x+0.5, mid+1, next-x-1, n)
		}
	}
	d.Line("axis", s.From, mid, s.To, mid)
	median := func(v *float64, name string, y, to, textY float64) {
		if v == nil {
			return
		}
		x := s.At(*v)
		d.Line("median", x, y, x, to)
		anchor, dx := "start", 6.0
		if x > w*0.7 {
			anchor, dx = "end", -6.0
		}
		d.Text("label", anchor, x+dx, textY, name+", median "+value(UnitMS, v))
	}
	median(l.BaselineMS, "baseline", mid, 6, 15)
	median(l.CandidateMS, "candidate", mid, mid+half+12, mid+half+11)
	d.Axis(s, height-32, 9, labelled(UnitMS))
	d.Text("small", "end", w-12, height-2, "milliseconds per inference")
	return d.HTML()
}

// pairsChart draws the ratio of every pair in the order of measurement: a drift of the machine would show as a slope.
func pairsChart(l *Latency, gates []Gate) template.HTML {
	if l.Series == nil || l.Ratio == nil || l.CI95 == nil {
		return ""
	}
	b, c := l.Series.BaselineMS, l.Series.CandidateMS
	n := min(len(b), len(c), 2000)
	var ratios []float64
	for i := range n {
		if b[i] > 0 && isFinite(c[i]/b[i]) {
			ratios = append(ratios, c[i]/b[i])
		}
	}
	if len(ratios) < 2 {
		return ""
	}
	const w, h, left = 760, 176, 52
	values := append([]float64{l.CI95[0], l.CI95[1]}, ratios...)
	limit := slices.IndexFunc(gates, func(g Gate) bool { return g.Metric == "latency.ratio" })
	if limit >= 0 {
		values = append(values, gates[limit].Threshold)
	}
	s := draw.NewScale(h-26, 20, 0.06, values...)
	x := draw.Scale{Lo: 0, Hi: float64(len(ratios) - 1), From: left + 8, To: w - 12}
	d := draw.New("pairs", w, h, "Ratio of every pair in the order of measurement",
		fmt.Sprintf("%d pairs; the band is the 95 %% interval of the median ratio %s.", len(ratios), estimate(UnitRatio, l.Ratio, l.CI95)))
	for _, t := range s.Ticks(4) {
		d.Line("grid", left, s.At(t), w-4, s.At(t))
		d.Text("small", "end", left-6, s.At(t)+4, tickLabel(UnitRatio, t)+"×")
	}
	if limit >= 0 {
		y := s.At(gates[limit].Threshold)
		d.Line("limit", left, y, w-4, y)
		d.Text("small", "end", w-4, y-5, "limit "+FormatLimit(UnitRatio, gates[limit].Threshold))
	}
	d.Rect("band", left, s.At(l.CI95[1]), w-4-left, max(s.At(l.CI95[0])-s.At(l.CI95[1]), 1))
	for i, r := range ratios {
		d.Circle("pair", x.At(float64(i)), s.At(r), 2.6)
	}
	d.Text("small", "end", w-4, h-6, "pairs in the order of measurement")
	return d.HTML()
}

// slicesChart draws each slice's change with its interval, one line per slice.
func slicesChart(a *Accuracy, limit int) template.HTML {
	shown := a.Slices[:min(limit, len(a.Slices))]
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
	const w, row, left, right = 760, 24.0, 210.0, 640.0
	h := row*float64(len(shown)) + 44
	_, unit := a.units()
	s := draw.NewScale(left, right, 0.05, values...)
	d := draw.New("slices", w, h, "Change of "+a.Metric+" within each slice", "Point: candidate minus baseline. Line: 95 % interval of that slice alone.")
	for _, t := range s.Ticks(6) {
		class := "grid"
		if math.Abs(t) < 1e-12 {
			class = "zero"
		}
		d.Line(class, s.At(t), 4, s.At(t), h-38)
		d.Text("small", "middle", s.At(t), h-22, tickLabel(unit, t))
	}
	d.Text("small", "end", right, h-5, "candidate − baseline, "+axisUnit(unit))
	for i, sl := range shown {
		y := row*float64(i) + 16
		d.Text("label", "end", left-10, y+4, cut(clean(sl.Name), 28))
		class := "v-neutral"
		switch {
		case sl.CI95[1] < 0 && a.Better == BetterHigher, sl.CI95[0] > 0 && a.Better == BetterLower:
			class = "v-fail"
		case sl.CI95[0] > 0 && a.Better == BetterHigher, sl.CI95[1] < 0 && a.Better == BetterLower:
			class = "v-pass"
		}
		d.Interval(class, s.At(sl.CI95[0]), s.At(sl.CI95[1]), y)
		d.Circle("dot "+class, s.At(*sl.Delta), y, 4)
		d.Text("small", "start", right+14, y+4, signed(unit, sl.Delta, nil))
	}
	return d.HTML()
}

// flipsChart draws how many samples changed from right to wrong and back.
func flipsChart(f *Flips) template.HTML {
	if f.RightToWrong == nil || f.WrongToRight == nil {
		return ""
	}
	bars := []struct {
		name, class string
		n           int
	}{{"right to wrong", "v-fail", *f.RightToWrong}, {"wrong to right", "v-pass", *f.WrongToRight}}
	if f.WrongToOther != nil {
		bars = append(bars, struct {
			name, class string
			n           int
		}{"wrong to another wrong", "v-neutral", *f.WrongToOther})
	}
	const w, row, left = 760, 24.0, 190.0
	most := 1
	desc := ""
	for _, b := range bars {
		most = max(most, b.n)
		desc += fmt.Sprintf("%s: %d. ", b.name, b.n)
	}
	d := draw.New("flips", w, row*float64(len(bars))+4, "Samples whose prediction changed", desc)
	for i, b := range bars {
		y := row*float64(i) + 4
		d.Text("label", "end", left-10, y+12, b.name)
		d.Rect("bar "+b.class, left, y, float64(b.n)/float64(most)*(w-left-70), 15)
		d.Text("label", "start", left+float64(b.n)/float64(most)*(w-left-70)+8, y+12, FormatCount(b.n))
	}
	return d.HTML()
}

// similarityChart draws the rank correlation between the noise floor and 1.
func similarityChart(e *Explanation, gates []Gate) template.HTML {
	if e.Spearman == nil {
		return ""
	}
	const w, h, mid = 760, 100, 44
	values := []float64{*e.Spearman, 1}
	if e.NoiseFloor != nil {
		values = append(values, *e.NoiseFloor)
	}
	if e.CI95 != nil {
		values = append(values, e.CI95[0], e.CI95[1])
	}
	s := draw.NewScale(20, w-20, 0.06, append(values, 0)...)
	s.Hi = 1.02
	d := draw.New("similarity", w, h, "Rank correlation of the attribution maps of the two models", "Median "+estimate(UnitNone, e.Spearman, e.CI95)+".")
	d.Axis(s, mid, 6, labelled(UnitNone))
	if e.NoiseFloor != nil {
		x := s.At(*e.NoiseFloor)
		d.Line("floor", x, mid-14, x, mid+24)
		d.Text("small", "middle", x, mid+40, "noise floor "+value(UnitNone, e.NoiseFloor))
	}
	for i := range gates {
		if gates[i].Metric == "explanation.spearman" {
			x := s.At(gates[i].Threshold)
			d.Line("limit", x, mid-14, x, mid+24)
			d.Text("small", "middle", min(x, w-60), mid+40, "limit "+FormatLimit(UnitNone, gates[i].Threshold))
			break
		}
	}
	if e.CI95 != nil {
		d.Interval("c-candidate", s.At(e.CI95[0]), s.At(e.CI95[1]), mid)
	}
	x := s.At(*e.Spearman)
	d.Circle("dot c-candidate", x, mid, 5)
	d.Text("label", "middle", min(x, w-108), mid-20, "median "+estimate(UnitNone, e.Spearman, e.CI95))
	return d.HTML()
}

// mapChart draws the two attribution maps side by side on one scale: one colour for support, another for contradiction.
func mapChart(i int, m *Map) template.HTML {
	if m.Rows < 1 || m.Cols < 1 || m.Rows > 64 || m.Cols > 64 || len(m.Baseline) != m.Rows*m.Cols || len(m.Candidate) != m.Rows*m.Cols {
		return ""
	}
	var most float64
	for j := range m.Baseline {
		most = max(most, math.Abs(m.Baseline[j]), math.Abs(m.Candidate[j]))
	}
	if most == 0 || !isFinite(most) {
		return ""
	}
	const side, gap = 200.0, 40.0
	cell := side / float64(max(m.Rows, m.Cols))
	name := "Mean attribution map over the samples"
	if m.ID != "" {
		name = "Attribution map of sample " + m.ID
	}
	d := draw.New("map"+strconv.Itoa(i), 2*side+gap, cell*float64(m.Rows)+24, name, "Left: baseline. Right: candidate. Green cells support the prediction, red cells speak against it; stronger colour is a larger share.")
	for k, vs := range [][]float64{m.Baseline, m.Candidate} {
		x0 := float64(k) * (side + gap)
		d.Rect("frame", x0, 0, cell*float64(m.Cols), cell*float64(m.Rows))
		for j, v := range vs {
			class := "pos"
			if v < 0 {
				class = "neg"
			}
			if a := math.Abs(v) / most; a >= 0.02 {
				d.Shade(class, x0+cell*float64(j%m.Cols)+0.5, cell*float64(j/m.Cols)+0.5, cell-1, cell-1, a)
			}
		}
		d.Text("small", "start", x0, cell*float64(m.Rows)+17, [2]string{"baseline", "candidate"}[k])
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

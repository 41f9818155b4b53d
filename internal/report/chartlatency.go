package report

import (
	"fmt"
	"html/template"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

// maxPairs bounds the pairs that are drawn.
const maxPairs = 2000

// latencyChart draws the distributions of run times on one axis: the baseline's upwards, the candidate's downwards.
func latencyChart(l *Latency) template.HTML {
	h := l.Histogram
	if h == nil && l.Series != nil {
		h = NewHistogram(l.Series.BaselineMS, l.Series.CandidateMS, 40)
	}
	if h == nil || len(h.EdgesMS) < 2 || len(h.Baseline) != len(h.EdgesMS)-1 || len(h.Candidate) != len(h.Baseline) || len(h.Baseline) > 500 {
		return ""
	}
	const w, height, half, mid = 720, 306, 112, 130
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
	d.Axis(s, height-46, 9, labelled(UnitMS))
	if above := h.BaselineAbove + h.CandidateAbove; above > 0 {
		d.Text("small", "start", 12, height-2, fmt.Sprintf("%s of the baseline's and %s of the candidate's runs took longer than this axis", FormatCount(h.BaselineAbove), FormatCount(h.CandidateAbove)))
	}
	d.Text("small", "end", w-12, height-2, "milliseconds per inference")
	return d.HTML()
}

// pairsChart draws the ratio of every pair in the order of measurement: a drift of the machine would show as a slope.
func pairsChart(l *Latency, gates []Gate) template.HTML {
	if l.Series == nil || l.Ratio == nil || l.CI95 == nil {
		return ""
	}
	b, c := l.Series.BaselineMS, l.Series.CandidateMS
	n := min(len(b), len(c), maxPairs)
	var ratios []float64
	for i := range n {
		if b[i] > 0 && isFinite(c[i]/b[i]) {
			ratios = append(ratios, c[i]/b[i])
		}
	}
	if len(ratios) < 2 {
		return ""
	}
	const w, h, left = 720, 190, 52
	values := append([]float64{l.CI95[0], l.CI95[1], 1}, ratios...)
	limit := slices.IndexFunc(gates, func(g Gate) bool { return g.Metric == "latency.ratio" })
	if limit >= 0 {
		values = append(values, gates[limit].Threshold)
	}
	s := draw.NewScale(h-30, 20, 0.06, values...)
	x := draw.Scale{Lo: 0, Hi: float64(len(ratios) - 1), From: left + 8, To: w - 12}
	d := draw.New("pairs", w, h, "Ratio of every pair in the order of measurement",
		fmt.Sprintf("%d pairs; the band is the 95 %% interval of the median ratio %s.", len(ratios), estimate(UnitRatio, l.Ratio, l.CI95)))
	for _, t := range s.Ticks(4) {
		d.Line("grid", left, s.At(t), w-4, s.At(t))
		d.Text("small", "end", left-6, s.At(t)+4, tickLabel(UnitRatio, t)+"×")
	}
	d.Line("floor", left, s.At(1), w-4, s.At(1))
	d.Text("small", "start", left+4, s.At(1)+15, "1×: as fast as the baseline")
	if limit >= 0 {
		y := s.At(gates[limit].Threshold)
		d.Line("limit", left, y, w-4, y)
		d.Text("small", "end", w-4, y-5, "limit "+FormatLimit(UnitRatio, gates[limit].Threshold))
	}
	d.Rect("band", left, s.At(l.CI95[1]), w-4-left, max(s.At(l.CI95[0])-s.At(l.CI95[1]), 1))
	for i, r := range ratios {
		d.Circle("pair", x.At(float64(i)), s.At(r), 2.6)
	}
	d.Text("small", "end", w-4, h-8, "pairs in the order of measurement →")
	return d.HTML()
}

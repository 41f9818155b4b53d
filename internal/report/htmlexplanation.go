package report

import (
	"fmt"
	"html/template"
	"slices"
)

// maxMapCells bounds what the attribution maps of one page draw, in cells; a cell is some eighty bytes.
const maxMapCells = 30_000

// explanationView is the section that compares what the models look at.
type explanationView struct {
	Chart            template.HTML
	Facts            [][2]string
	Legend           template.HTML
	Maps, FlipMaps   []mapView
	MapsLeft         int // maps that are not drawn
	Flips, MoreFlips *table
}

type mapView struct {
	Name  string
	Chart template.HTML
}

func (r *Report) explanationView() *explanationView {
	e := r.Explanation
	v := &explanationView{Chart: similarityChart(e, r.Gates), Facts: e.facts()}
	changed := r.changedPredictions()
	flips := e.worstFlips()
	v.Flips, v.MoreFlips = flipTable(flips, changed).split(maxFirst)
	cells, drawn := 0, 0
	add := func(m *Map, name string, to *[]mapView) {
		if cells += 3 * len(m.Baseline); cells > maxMapCells {
			v.MapsLeft++
			return
		}
		if c := mapChart(drawn, m); c != "" {
			*to = append(*to, mapView{name, c})
			drawn++
		}
	}
	if e.MeanMap != nil {
		add(e.MeanMap, "Mean over the samples", &v.Maps)
	}
	shown := map[string]bool{}
	for i := range flips {
		if f := &flips[i]; f.Map != nil {
			shown[f.ID] = true
			add(f.Map, f.caption(changed[f.ID]), &v.FlipMaps)
		}
	}
	for i := range e.Maps {
		m := &e.Maps[i]
		what, flipped := changed[m.ID]
		switch {
		case !flipped || m.ID == "":
			add(m, "Sample "+clean(m.ID), &v.Maps)
		case !shown[m.ID]:
			add(m, "Sample "+clean(m.ID)+what, &v.FlipMaps)
		}
	}
	if drawn > 0 {
		v.Legend = mapLegend()
	}
	return v
}

// changedPredictions returns, for every sample that is known to have changed, what it became, such as ": cat → dog".
func (r *Report) changedPredictions() map[string]string {
	out := map[string]string{}
	for _, f := range r.Explanation.Flips {
		out[f.ID] = ""
		if f.Baseline != "" && f.Candidate != "" {
			out[f.ID] = ": " + clean(f.Baseline) + " → " + clean(f.Candidate)
		}
	}
	if a := r.Accuracy; a != nil && a.Flips != nil {
		for _, f := range a.Flips.Samples {
			out[f.ID] = ": " + clean(f.Baseline) + " → " + clean(f.Candidate)
		}
	}
	return out
}

// caption names a sample whose prediction changed, what it became, and how far the two maps agree.
func (f *ExplanationFlip) caption(what string) string {
	name := "Sample " + clean(f.ID) + what
	if f.Spearman != nil {
		name += ", rank correlation " + value(UnitNone, f.Spearman)
	}
	return name
}

// worstFlips returns the samples whose prediction changed, those first whose maps agree least.
func (e *Explanation) worstFlips() []ExplanationFlip {
	flips := slices.Clone(e.Flips)
	slices.SortStableFunc(flips, func(a, b ExplanationFlip) int {
		switch {
		case a.Spearman == nil || b.Spearman == nil:
			return 0
		case *a.Spearman < *b.Spearman:
			return -1
		case *a.Spearman > *b.Spearman:
			return 1
		}
		return 0
	})
	return flips
}

func flipTable(flips []ExplanationFlip, changed map[string]string) *table {
	var rows [][]string
	for _, f := range flips {
		what := changed[f.ID]
		if len(what) > 2 {
			what = what[2:]
		} else {
			what = "–"
		}
		rows = append(rows, []string{clean(f.ID), what, value(UnitNone, f.Spearman)})
	}
	return newTable(fmt.Sprintf("The %s samples whose prediction changed, kept apart from the figures above", FormatCount(len(flips))),
		[]string{"Sample", "Prediction", "Rank correlation of the two maps#"}, rows, maxRows)
}

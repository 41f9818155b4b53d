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
	v.Flips, v.MoreFlips = e.flipTable(changed).split(maxFirst)
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
	for i := range e.Maps {
		m := &e.Maps[i]
		if what, ok := changed[m.ID]; ok && m.ID != "" {
			add(m, "Sample "+clean(m.ID)+what, &v.FlipMaps)
		} else {
			add(m, "Sample "+clean(m.ID), &v.Maps)
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
	}
	if a := r.Accuracy; a != nil && a.Flips != nil {
		for _, f := range a.Flips.Samples {
			out[f.ID] = ": " + clean(f.Baseline) + " → " + clean(f.Candidate)
		}
	}
	return out
}

func (e *Explanation) flipTable(changed map[string]string) *table {
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

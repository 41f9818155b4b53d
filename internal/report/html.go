package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

//go:embed report.html.tmpl
var htmlTemplate string

// maxRows bounds each list in the HTML form; report.json holds all.
const maxRows = 200

// page is what the template shows beside the report itself.
type page struct {
	*Report
	Title, Headline, Metric string
	Rows                    []row
	Gates                   []gateView
	GatesLeft               int
	Warnings                []string
	Latency                 *latencyView
	Accuracy                *accuracyView
	Explanation             *explanationView
	DataFacts, EnvFacts     [][2]string
	Commands                []string
	Duration                string
	Max                     int
}

type gateView struct {
	Name, Requires, Observed, Reason, Class string
	Verdict                                 Verdict
	Chart                                   template.HTML
}

type latencyView struct {
	Chart, Pairs template.HTML
	Facts        [][2]string
	Quantiles    [][4]string
}

type accuracyView struct {
	*Accuracy
	FlipsChart, SlicesChart template.HTML
	Facts                   [][2]string
	SliceRows               [][5]string
	OutputRows              [][4]string
}

type explanationView struct {
	*Explanation
	Chart template.HTML
	Facts [][2]string
	Maps  []mapView
}

type mapView struct {
	Name  string
	Chart template.HTML
}

// HTML returns the report as one self-contained page: no script, no network, readable on paper, in a light and a dark theme,
// and by a screen reader.
func (r *Report) HTML() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"style": func() template.CSS { return draw.Style }, "clean": clean, "count": FormatCount[int],
		"bytes": func(n int64) string { return formatBytes(float64(n)) }, "join": func(s []string) string { return clean(strings.Join(s, " ")) },
		"first": firstN, "halves": halves, "digest": isDigest,
		"number": func(v *float64) string { return value(UnitNone, v) }, "verified": verifiedWord, "class": verdictClass, "title": titleCase,
	}).Parse(htmlTemplate)
	if err != nil {
		return nil, fmt.Errorf("parsing the HTML template: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r.page()); err != nil {
		return nil, fmt.Errorf("rendering the HTML report: %v", err)
	}
	return b.Bytes(), nil
}

// halves splits a digest where a narrow page may break it; elsewhere it stays in one piece for copying.
func halves(s string) []string {
	if s = clean(s); !isDigest(s) {
		return []string{s}
	}
	return []string{s[:32], s[32:]}
}

// isDigest reports whether s is a SHA-256 in hexadecimal.
func isDigest(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// firstN returns at most n elements of one of the report's lists.
func firstN(n int, list any) (any, error) {
	switch l := list.(type) {
	case []Flip:
		return l[:min(n, len(l))], nil
	case []ConfusionChange:
		return l[:min(n, len(l))], nil
	case []ExplanationFlip:
		return l[:min(n, len(l))], nil
	case []Step:
		return l[:min(n, len(l))], nil
	case []File:
		return l[:min(n, len(l))], nil
	case []string:
		return l[:min(n, len(l))], nil
	}
	return nil, fmt.Errorf("no list of %T is known", list)
}

func (r *Report) page() *page {
	p := &page{
		Report: r, Headline: r.headline(), Rows: r.rows(), Warnings: r.allWarnings(), EnvFacts: r.Environment.facts(), Commands: r.commands(), Max: maxRows,
		Title: fmt.Sprintf("%s: %s against %s", titleCase(string(r.Verdict)), clean(r.Candidate.Name), clean(r.Baseline.Name)),
	}
	if d := r.Finished.Sub(r.Started); d > 0 {
		p.Duration = d.Round(1e9).String()
	}
	for i := range r.Gates[:min(len(r.Gates), maxRows)] {
		g := &r.Gates[i]
		p.Gates = append(p.Gates, gateView{
			Name: clean(g.Name), Requires: g.requirement(), Observed: g.observation(), Reason: clean(g.Reason), Verdict: g.Verdict, Class: verdictClass(g.Verdict),
			Chart: gateChart(fmt.Sprintf("gate%d", i), g),
		})
	}
	p.GatesLeft = max(len(r.Gates)-maxRows, 0)
	if r.Data != nil {
		p.DataFacts = r.Data.facts()
	}
	if r.Latency != nil {
		p.Latency = r.latencyView()
	}
	if r.Accuracy != nil {
		p.Accuracy = r.Accuracy.view()
		p.Metric = clean(r.Accuracy.Metric)
	}
	if e := r.Explanation; e != nil {
		v := &explanationView{Explanation: e, Chart: similarityChart(e, r.Gates), Facts: e.facts()}
		add := func(m *Map, name string) {
			if c := mapChart(len(v.Maps), m); c != "" {
				v.Maps = append(v.Maps, mapView{name, c})
			}
		}
		if e.MeanMap != nil {
			add(e.MeanMap, "Mean over samples")
		}
		for i := range e.Maps[:min(len(e.Maps), 24)] {
			add(&e.Maps[i], "Sample "+clean(e.Maps[i].ID))
		}
		p.Explanation = v
	}
	return p
}

func (r *Report) latencyView() *latencyView {
	l := r.Latency
	v := &latencyView{Chart: latencyChart(l), Pairs: pairsChart(l, r.Gates), Facts: l.facts()}
	for _, q := range []struct {
		name string
		q    *Quantile
		need int
	}{{"median", l.P50, 6}, {"90th percentile", l.P90, 36}, {"95th percentile", l.P95, 72}, {"99th percentile", l.P99, 368}} {
		if q.q == nil {
			missing := fmt.Sprintf("not stated (needs %d runs)", q.need)
			v.Quantiles = append(v.Quantiles, [4]string{q.name, missing, missing, "–"})
			continue
		}
		v.Quantiles = append(v.Quantiles, [4]string{q.name, estimate(UnitMS, &q.q.BaselineMS, q.q.BaselineCI95), estimate(UnitMS, &q.q.CandidateMS, q.q.CandidateCI95), q.q.EarlyStopping.text()})
	}
	return v
}

func (a *Accuracy) view() *accuracyView {
	v := &accuracyView{Accuracy: a, Facts: a.facts(), SlicesChart: slicesChart(a, 40)}
	if a.Flips != nil {
		v.FlipsChart = flipsChart(a.Flips)
	}
	unit, diff := a.units()
	for _, s := range a.Slices[:min(len(a.Slices), maxRows)] {
		v.SliceRows = append(v.SliceRows, [5]string{clean(s.Name), FormatCount(s.N), value(unit, s.Baseline), value(unit, s.Candidate), signed(diff, s.Delta, s.CI95)})
	}
	for _, o := range a.Outputs[:min(len(a.Outputs), maxRows)] {
		row := [4]string{clean(o.Name), value(UnitNone, o.MaxAbs), value(UnitDecibel, o.SQNR), "–"}
		if o.Cosine != nil {
			row[3] = significant(*o.Cosine, 5)
		}
		if o.Identical {
			row[2] = "identical"
		}
		v.OutputRows = append(v.OutputRows, row)
	}
	return v
}

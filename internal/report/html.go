package report

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"github.com/lapidary-ml/lapidary/internal/draw"
)

//go:embed page/*.tmpl page/page.css
var pageFiles embed.FS

// Bounds of the lists in the HTML form; report.json holds all.
const (
	maxRows   = 200 // rows of one table
	maxFirst  = 12  // rows that are shown before a reader unfolds the others
	maxForest = 40  // slices in the forest plot
)

// HTML returns the report as one self-contained page: no script, no network, readable on paper, in a light and a dark theme,
// and by a screen reader.
func (r *Report) HTML() ([]byte, error) {
	css, err := pageFiles.ReadFile("page/page.css")
	if err != nil {
		return nil, fmt.Errorf("reading the page's style sheet: %v", err)
	}
	t, err := template.New("page.tmpl").Funcs(template.FuncMap{
		"style": func() template.CSS { return draw.Style + template.CSS(css) },
		"clean": clean, "count": FormatCount[int], "halves": halves, "digest": isDigest, "wide": isWide, "class": verdictClass, "symbol": verdictSymbol, "word": verdictWord,
		"bytes": func(n int64) string { return formatBytes(float64(n)) }, "join": func(s []string) string { return clean(strings.Join(s, " ")) },
	}).ParseFS(pageFiles, "page/*.tmpl")
	if err != nil {
		return nil, fmt.Errorf("parsing the HTML templates: %v", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r.page()); err != nil {
		return nil, fmt.Errorf("rendering the HTML report: %v", err)
	}
	return b.Bytes(), nil
}

// page is what the templates show beside the report itself.
type page struct {
	*Report
	Title, Headline string
	Reasons         []string // of the gates that did not pass, the first few
	ReasonsLeft     int
	Tiles           []tile
	Warnings        []string
	WarningsLeft    int
	NotMeasured     []Skip
	Contents        []link
	Gates           *gatesView
	Compare         *compareView
	Latency         *latencyView
	Accuracy        *accuracyView
	Explanation     *explanationView
	DataFacts       [][2]string
	EnvFacts        [][2]string
	Chains          []chainView
	PolicyFacts     [][2]string
	Commands        []string
	Terms           [][2]string
}

// tile is one of the figures that a reader sees first.
type tile struct{ Label, Value, Note string }

// link is an entry of the table of contents.
type link struct{ ID, Name string }

// column is a column of a table; numbers stand to the right.
type column struct {
	Name   string
	Number bool
}

// table is a table of the page. The first cell of a row is its heading.
type table struct {
	Caption string
	Head    []column
	Rows    [][]string
	Left    int // rows that are left out
}

// newTable returns a table of at most limit rows, or nil where there are none. A column's name ends in # where it holds numbers.
func newTable(caption string, head []string, rows [][]string, limit int) *table {
	if len(rows) == 0 {
		return nil
	}
	t := &table{Caption: caption, Rows: rows[:min(limit, len(rows))], Left: max(0, len(rows)-limit)}
	for _, h := range head {
		name, number := strings.CutSuffix(h, "#")
		t.Head = append(t.Head, column{name, number})
	}
	return t
}

// split returns the first n rows as one table and the others as a second, which a reader unfolds; nil where one is empty.
func (t *table) split(n int) (first, more *table) {
	if t == nil || len(t.Rows) <= n {
		return t, nil
	}
	return &table{Caption: t.Caption, Head: t.Head, Rows: t.Rows[:n]}, &table{Caption: t.Caption + ", continued", Head: t.Head, Rows: t.Rows[n:], Left: t.Left}
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

// isWide reports whether a fact needs a line of its own.
func isWide(s string) bool { return utf8.RuneCountInString(s) > 36 }

func (r *Report) page() *page {
	p := &page{
		Report: r, Headline: r.headline(), EnvFacts: r.environmentFacts(), Commands: r.commands(), Chains: r.chains(),
		Title: fmt.Sprintf("%s: %s against %s", verdictWord(r.Verdict), clean(r.Candidate.Name), clean(r.Baseline.Name)),
		Tiles: r.tiles(), Gates: r.gatesView(), Compare: r.compareView(), PolicyFacts: r.policyFacts(), NotMeasured: r.Skipped,
	}
	reasons := r.reasons()
	p.Reasons, p.ReasonsLeft = reasons[:min(5, len(reasons))], max(0, len(reasons)-5)
	warnings := r.allWarnings()
	p.Warnings, p.WarningsLeft = warnings[:min(maxRows, len(warnings))], max(0, len(warnings)-maxRows)
	if r.Latency != nil {
		p.Latency = r.latencyView()
	}
	if r.Accuracy != nil {
		p.Accuracy = r.Accuracy.view()
	}
	if r.Explanation != nil {
		p.Explanation = r.explanationView()
	}
	if r.Data != nil {
		p.DataFacts = r.Data.facts()
	}
	p.Terms = r.terms()
	p.Contents = p.contents()
	return p
}

// contents lists the sections that the page has.
func (p *page) contents() []link {
	out := []link{{"h-gates", "Requirements"}, {"h-compare", "Side by side"}}
	for _, s := range []struct {
		there bool
		link  link
	}{
		{p.Latency != nil, link{"h-latency", "Latency"}}, {p.Accuracy != nil, link{"h-accuracy", "Accuracy"}},
		{p.Explanation != nil, link{"h-explanation", "Explanations"}}, {p.DataFacts != nil, link{"h-data", "Data"}},
	} {
		if s.there {
			out = append(out, s.link)
		}
	}
	return append(out, link{"h-env", "Environment"}, link{"h-custody", "Chain of custody"}, link{"h-verify", "How to verify"}, link{"h-terms", "How to read this"})
}

// tiles returns the figures that a reader sees first: size, time, accuracy and explanations, as far as they are known.
func (r *Report) tiles() []tile {
	var out []tile
	if b, c := float64(r.Baseline.TotalBytes()), float64(r.Candidate.TotalBytes()); b > 0 {
		out = append(out, tile{"Size", ratioOf(b, c), formatBytes(b) + " → " + formatBytes(c)})
	}
	if l := r.Latency; l != nil && l.Ratio != nil {
		t := tile{"Run time", value(UnitRatio, l.Ratio), value(UnitMS, l.BaselineMS) + " → " + value(UnitMS, l.CandidateMS)}
		if l.CI95 != nil {
			t.Note += ", interval " + FormatInterval(UnitRatio, *l.CI95)
		}
		out = append(out, t)
	}
	if t := r.Accuracy.tile(); t != nil {
		out = append(out, *t)
	}
	if e := r.Explanation; e != nil && e.Spearman != nil {
		t := tile{"Same reasons", value(UnitNone, e.Spearman), "rank correlation of what both models look at"}
		if e.CI95 != nil {
			t.Note += ", interval " + FormatInterval(UnitNone, *e.CI95)
		}
		out = append(out, t)
	}
	return out
}

// tile returns the figure of the accuracy section that says most, or nil.
func (a *Accuracy) tile() *tile {
	switch {
	case a == nil:
		return nil
	case a.Delta != nil:
		unit, diff := a.units()
		t := &tile{"Change of " + clean(a.Metric), signed(diff, a.Delta, nil), value(unit, a.Baseline) + " → " + value(unit, a.Candidate)}
		if a.CI95 != nil {
			t.Note += ", interval " + FormatInterval(diff, *a.CI95)
		}
		return t
	case a.Identical:
		return &tile{"Outputs", "identical", "bit by bit, on " + FormatCount(a.N) + " samples"}
	case a.Agreement != nil:
		return &tile{"Same predictions", value(UnitFraction, a.Agreement), "of " + FormatCount(a.N) + " samples"}
	case a.SQNR != nil:
		return &tile{"Signal to noise", value(UnitDecibel, a.SQNR), "of the outputs on " + FormatCount(a.N) + " samples"}
	}
	return nil
}

package report

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/draw/drawtest"
	"golang.org/x/perf/benchfmt"
)

// pagePairs are the colours that meet on the page: text, and what carries meaning without being text.
func pagePairs() []drawtest.Pair {
	pairs := drawtest.Text("ink muted pass fail open", "paper panel")
	pairs = append(pairs, drawtest.Text("ink pass", "passbg")...)
	pairs = append(pairs, drawtest.Text("ink fail", "failbg")...)
	pairs = append(pairs, drawtest.Text("ink open", "openbg")...)
	pairs = append(pairs, drawtest.Graphic("baseline candidate mappos mapneg", "paper panel")...)
	return append(pairs, drawtest.Graphic("pass fail open ink candidate muted", "good")...)
}

// TestPageIsAccessible checks, without a browser, pages with everything, with nothing, with hostile names and with long lists.
func TestPageIsAccessible(t *testing.T) {
	for name, r := range map[string]*Report{
		"sample": sample(), "hostile": hostile(), "minimal": {}, "many": manyOf(1000), "strip": withStrips(), "passed": passed(),
	} {
		page, err := r.HTML()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, p := range drawtest.Problems(page) {
			t.Errorf("%s: %s", name, p)
		}
		for _, p := range drawtest.Contrast(page, pagePairs()) {
			t.Errorf("%s: %s", name, p)
		}
	}
}

// passed returns the sample with every gate met.
func passed() *Report {
	r := sample()
	r.Verdict, r.Warnings, r.Skipped, r.Latency.Noise.Warnings = Pass, nil, nil, nil
	for i := range r.Gates {
		g := &r.Gates[i]
		g.Verdict, g.Reason = Pass, "the whole interval is on the good side of the limit"
	}
	r.Gates[0].CI95, r.Gates[2].Threshold = CI(-0.002, 0.0085), 0.85
	return r
}

// withStrips returns the sample with attribution maps of one row, as models of tables and series have.
func withStrips() *Report {
	r := sample()
	m := &Map{ID: "0412", Rows: 1, Cols: 30}
	for i := range m.Cols {
		m.Baseline = append(m.Baseline, math.Sin(float64(i)/3))
		m.Candidate = append(m.Candidate, math.Sin(float64(i)/3+0.3))
	}
	r.Explanation.MeanMap = &Map{Rows: 1, Cols: 30, Baseline: m.Baseline, Candidate: m.Candidate}
	r.Explanation.Maps = []Map{*m}
	return r
}

// TestPageBoundsItsLists holds that a report with thousands of entries stays readable, and says what it leaves out.
func TestPageBoundsItsLists(t *testing.T) {
	r := manyOf(1000)
	for i := range 300 {
		m := Map{ID: r.Gates[i].Name, Rows: 64, Cols: 64, Baseline: make([]float64, 4096), Candidate: make([]float64, 4096)}
		for j := range m.Baseline {
			m.Baseline[j], m.Candidate[j] = 1, -1
		}
		r.Explanation.Maps = append(r.Explanation.Maps, m)
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if len(page) > 6<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	for _, want := range []string{
		"800 more are in report.json", "40 largest losses of 1,010 slices", "1 of 1,011 slices have too few samples", "more rows are in report.json", "more maps are in report.json", "803 more steps are in report.json", "more files are in report.json",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if _, first, _ := strings.Cut(string(page), `role="rowheader" scope="row">`); !strings.HasPrefix(first, "failing<") {
		t.Errorf("the gate that failed does not come first: %.60s", first)
	}
}

// TestPageLeavesOutWhatIsAbsent takes each optional part away in turn: its words go with it and nothing else breaks.
func TestPageLeavesOutWhatIsAbsent(t *testing.T) {
	for want, without := range map[string]func(*Report){
		`id="h-latency"`:                 func(r *Report) { r.Latency = nil },
		`id="h-accuracy"`:                func(r *Report) { r.Accuracy = nil },
		`id="h-explanation"`:             func(r *Report) { r.Explanation = nil },
		`id="h-data"`:                    func(r *Report) { r.Data = nil },
		"cold start":                     func(r *Report) { r.Latency.ColdStart = nil },
		"peak memory":                    func(r *Report) { r.Latency.Memory = nil },
		"energy per inference":           func(r *Report) { r.Latency.Energy = nil },
		"Pair by pair":                   func(r *Report) { r.Latency.Series = nil },
		"Calibration":                    func(r *Report) { r.Accuracy.ECE = nil },
		"Confusions that changed":        func(r *Report) { r.Accuracy.Confusion = nil },
		"Within each slice":              func(r *Report) { r.Accuracy.Slices = nil },
		"Distance of the outputs":        func(r *Report) { r.Accuracy.Outputs = nil },
		"noise floor 0.630":              func(r *Report) { r.Explanation.NoiseFloor = nil },
		"perfectly calibrated model":     func(r *Report) { r.Accuracy.ECE.Floor = nil },
		"Attribution map of sample 0412": func(r *Report) { r.Explanation.Flips[0].Map = nil },
		"rank correlation 0.440":         func(r *Report) { r.Explanation.Flips[0].Spearman = nil },
		"Scale of the attribution": func(r *Report) {
			r.Explanation.MeanMap, r.Explanation.Maps, r.Explanation.Flips = nil, nil, nil
		},
		"Requirements as they were":     func(r *Report) { r.Policy = nil },
		"which is the baseline of":      func(r *Report) { r.Candidate.History = nil },
		"The command that measured":     func(r *Report) { r.Tool.Command = "" },
		"Not measured: latency.through": func(r *Report) { r.Skipped = nil },
	} {
		with, err := sample().HTML()
		if err != nil || !strings.Contains(string(with), want) {
			t.Errorf("the page of the sample has no %q: %v", want, err)
		}
		r := sample()
		without(r)
		page, err := r.HTML()
		if err != nil || strings.Contains(string(page), want) {
			t.Errorf("%q is still there: %v", want, err)
		}
		for _, p := range drawtest.Problems(page) {
			t.Errorf("without %q: %s", want, p)
		}
	}
}

// TestPageInABrowser opens the page in headless Chromium in both themes and at two widths: it must ask the network for nothing, fit the
// window, and print in full. LAPIDARY_SCREENSHOTS names a folder that pictures are kept in.
func TestPageInABrowser(t *testing.T) {
	b := drawtest.FindBrowser(t)
	for name, r := range map[string]*Report{"report": sample(), "passed": passed(), "many": manyOf(300)} {
		page, err := r.HTML()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []drawtest.View{{Width: 1440, Height: 6000}, {Dark: true, Width: 1440, Height: 6000}, {Width: 360, Height: 9000}, {Dark: true, Width: 360, Height: 9000}} {
			img, asked := b.Screenshot(t, name, page, v)
			if len(asked) > 0 {
				t.Errorf("the page asked the network for %s", strings.Join(asked, ", "))
			}
			red, green, blue, _ := img.At(3, 3).RGBA()
			if bright := (red+green+blue)/3 > 0x8000; bright == v.Dark {
				t.Errorf("%s: the background is %x %x %x", v, red>>8, green>>8, blue>>8)
			}
			var size struct{ Content, Window float64 }
			b.Run(t, page, v, `done({Content: document.documentElement.scrollWidth, Window: innerWidth})`, &size)
			if size.Window != float64(v.Width) || size.Content > size.Window {
				t.Errorf("%s at %s: %v wide in a window of %v", name, v, size.Content, size.Window)
			}
		}
		pdf, pages := b.PDF(t, name, page)
		if len(pdf) < 20_000 || pages < 4 {
			t.Errorf("%s: a PDF of %d bytes and %d pages", name, len(pdf), pages)
		}
	}
	evil := []byte(`<!doctype html><html lang="en"><body><img src="http://example.invalid/x.png"><p>test</body></html>`)
	if _, asked := b.Screenshot(t, "evil", evil, drawtest.View{Width: 600, Height: 400}); len(asked) == 0 {
		t.Error("a page that loads a picture went unnoticed")
	}
}

// violation is what axe-core reports of one of its rules.
type violation struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML   string   `json:"html"`
		Target []string `json:"target"`
	}
}

// TestPageByAxe runs the accessibility rules of axe-core over the page, where LAPIDARY_AXE names its axe.min.js
// (npm pack axe-core).
func TestPageByAxe(t *testing.T) {
	path := os.Getenv("LAPIDARY_AXE")
	if path == "" {
		t.Skip("LAPIDARY_AXE=axe.min.js runs the rules of axe-core")
	}
	b := drawtest.FindBrowser(t)
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(axe), "</script") {
		t.Fatal("axe cannot be put into a page")
	}
	run := string(axe) + `;document.querySelectorAll('details').forEach(d=>d.open=true);axe.run(document,{resultTypes:['violations'],runOnly:{type:'tag',values:['wcag2a','wcag2aa','wcag21a','wcag21aa','wcag22aa','best-practice']}}).then(r=>done({Passes:r.passes.length,Violations:r.violations}),e=>done({Error:String(e)}))`
	for name, r := range map[string]*Report{"sample": sample(), "passed": passed(), "many": manyOf(60), "strip": withStrips(), "minimal": {}} {
		page, err := r.HTML()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []drawtest.View{{Width: 1440, Height: 6000}, {Dark: true, Width: 360, Height: 9000}} {
			var found struct {
				Passes     int
				Violations []violation
				Error      string
			}
			b.Run(t, page, v, run, &found)
			if found.Error != "" || found.Passes < 10 {
				t.Errorf("%s at %s: axe looked at %d rules: %s", name, v, found.Passes, found.Error)
			}
			for _, w := range found.Violations {
				where, _ := json.Marshal(w.Nodes[:min(3, len(w.Nodes))])
				t.Errorf("%s at %s: %s (%s): %s: %s", name, v, w.ID, w.Impact, w.Help, where)
			}
		}
	}
}

// TestPageTerms holds that the guide explains what it is asked to, once.
func TestPageTerms(t *testing.T) {
	page, err := sample().HTML()
	if err != nil {
		t.Fatal(err)
	}
	terms := regexp.MustCompile(`(?s)<dl class="terms">(.*?)</dl>`).FindSubmatch(page)
	if terms == nil || strings.Count(string(terms[1]), "<dt>") != len(sample().terms()) {
		t.Errorf("the guide: %s", terms)
	}
}

// FuzzForms renders whatever can be read as a report: no form may panic, the page must stay well formed, and benchstat reads the runs.
func FuzzForms(f *testing.F) {
	for _, r := range []*Report{sample(), hostile(), {}, withStrips()} {
		data, err := r.JSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := new(Report)
		if json.Unmarshal(data, r) != nil {
			return
		}
		for _, form := range Formats() {
			if _, err := form.Render(r, Options{}); err != nil && form.File != "report.json" {
				t.Errorf("%s: %v", form.File, err)
			}
		}
		r.Text()
		in := benchfmt.NewReader(bytes.NewReader(r.Bench()), "bench.txt")
		for in.Scan() {
			if err, bad := in.Result().(*benchfmt.SyntaxError); bad {
				t.Errorf("benchstat does not read it: %v", err)
			}
		}
	})
}

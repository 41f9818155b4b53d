package profile

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/draw/drawtest"
)

func TestPage(t *testing.T) {
	p := fullProfile(t)
	b, err := p.Page()
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{
		"Time of every run", "Time per inference by operator", "Activations alive", "Latency over the rate", "Time of a run over batch",
		"Samples per second over batch", "FusedConv", "not enough memory", "The way to the first result", "&lt;script&gt;",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://www", "src=", "@import", "url(", "NaN", "Infinity"} {
		if i := strings.Index(text, bad); i >= 0 {
			t.Errorf("the page has %q: …%s", bad, text[max(0, i-60):min(len(text), i+60)])
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("two elements have the id %s", m[1])
		}
		ids[m[1]] = true
	}
	for _, q := range []*Profile{New(nil, nil), New(p.Static, nil), New(nil, p.Timed)} {
		if _, err := q.Page(); err != nil {
			t.Error(err)
		}
	}
}

// TestRooflineChart draws the part of that name where a document has one.
func TestRooflineChart(t *testing.T) {
	var r Roofline
	err := json.Unmarshal([]byte(`{"attained":0.41,"peaks":{"float32":{"all_threads":180},"int8":{"all_threads":610},"operators":[],
		"memory":[{"bytes":32768,"all_threads":{"read":150,"copy":120,"triad":40}},{"bytes":268435456,"all_threads":{"read":17,"copy":15,"triad":14}}]},
		"bounds":[{"bound":"compute","nodes":1,"ms":2,"share":0.8}],
		"nodes":[{"name":"conv1","op":"Conv","bound":"compute","ms":2,"flops":220000000,"bytes":4000000,"attained":0.6},
		{"name":"relu","op":"Relu","bound":"memory","ms":0.3,"flops":800000,"bytes":6400000,"attained":0.9},
		{"name":"shape","op":"Shape","bound":"overhead","ms":0.01,"flops":0,"bytes":8,"attained":0}]}`), &r)
	if err != nil {
		t.Fatal(err)
	}
	v := &page{}
	v.roofline(&r)
	chart := string(v.Roofline.Chart)
	for _, want := range []string{"float32: 180", "int8: 610", "main memory: 17.0 GB/s", `class="node b-compute"`, `class="node b-memory"`, "conv1 (Conv): 2.00 ms"} {
		if !strings.Contains(chart, want) {
			t.Errorf("the chart has no %q:\n%s", want, chart)
		}
	}
	if strings.Count(chart, `class="node`) != 2 {
		t.Error("a node without arithmetic was drawn")
	}
}

// TestPageInABrowser opens the page in headless Chromium in both themes. It may
// load nothing.
func TestPageInABrowser(t *testing.T) {
	b := drawtest.FindBrowser(t)
	page, err := fullProfile(t).Page()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []drawtest.View{{Width: 1100, Height: 5600}, {Dark: true, Width: 1100, Height: 5600}} {
		img, asked := b.Screenshot(t, "profile", page, v)
		if len(asked) > 0 {
			t.Errorf("the page asked the network for %s", strings.Join(asked, ", "))
		}
		r, g, bl, _ := img.At(3, 3).RGBA()
		if bright := (r+g+bl)/3 > 0x8000; bright == v.Dark {
			t.Errorf("the background of %s is %x %x %x", v, r>>8, g>>8, bl>>8)
		}
	}
	// The proxy does see what a page loads.
	evil := []byte(`<!doctype html><img src="http://example.invalid/x.png"><p>test`)
	if _, asked := b.Screenshot(t, "evil", evil, drawtest.View{Width: 600, Height: 400}); len(asked) == 0 {
		t.Error("a page that loads a picture went unnoticed")
	}
}

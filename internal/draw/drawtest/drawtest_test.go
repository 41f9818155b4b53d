package drawtest

import (
	"strings"
	"testing"
)

const good = `<!doctype html><html lang="en"><head><title>t</title><style>:root{--ink:#000;--paper:#fff}
@media (prefers-color-scheme:dark){:root{--ink:#fff;--paper:#000}}
@media print{:root{--ink:#111;--paper:#fff}}</style></head><body><main><h1>a</h1><h2 id="x">b</h2>
<div class="scroll" tabindex="0" role="group" aria-label="t"><table><caption>c</caption><tr><th scope="col">h</th></tr><tr><td>1</td></tr></table></div>
<a href="#x">x</a><svg role="img" aria-labelledby="t1 t2"><title id="t1">n</title><desc id="t2">d</desc></svg></main></body></html>`

func TestProblems(t *testing.T) {
	if got := Problems([]byte(good)); got != nil {
		t.Errorf("a good page has %q", got)
	}
	for _, spoil := range [][2]string{
		{`<h2 id="x">b</h2>`, `<h3 id="x">b</h3>`}, {`<caption>c</caption>`, ``}, {` scope="col"`, ``}, {` tabindex="0"`, ``}, {`<td>1</td>`, `<td>1</td><td>2</td>`},
		{`href="#x"`, `href="#y"`}, {`href="#x"`, `href="https://example.com"`}, {`role="img"`, ``}, {`id="t2"`, `id="t1"`}, {`<h1>a</h1>`, ``}, {`<h1>a</h1>`, `<h1></h1>`},
		{` lang="en"`, ``}, {`</main>`, `<img src="x"/></main>`}, {`</main>`, `<script>1</script></main>`}, {`<title>t</title>`, ``},
	} {
		bad := strings.Replace(good, spoil[0], spoil[1], 1)
		if bad == good {
			t.Fatalf("%s does not spoil the page", spoil[0])
		}
		if Problems([]byte(bad)) == nil {
			t.Errorf("%q in place of %q went unnoticed", spoil[1], spoil[0])
		}
	}
}

func TestContrast(t *testing.T) {
	if got := Contrast([]byte(good), Text("ink", "paper")); got != nil {
		t.Errorf("black on white: %q", got)
	}
	for _, weak := range [][2]string{{"--ink:#000", "--ink:#888"}, {"--ink:#fff", "--ink:#666"}, {"--ink:#111", "--ink:#aaa"}, {"--ink:#000", "--ink:black"}} {
		if got := Contrast([]byte(strings.Replace(good, weak[0], weak[1], 1)), Text("ink", "paper")); len(got) != 1 {
			t.Errorf("%s: %q", weak[1], got)
		}
	}
	// From the table of the definition: #767676 on white is the weakest grey that passes.
	if got := Contrast([]byte(strings.Replace(good, "--ink:#000", "--ink:#767676", 1)), Text("ink", "paper")); got != nil {
		t.Errorf("#767676: %q", got)
	}
	if got := Contrast([]byte(strings.Replace(good, "--ink:#000", "--ink:#777777", 1)), Text("ink", "paper")); got == nil {
		t.Error("#777777 passes")
	}
}

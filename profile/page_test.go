package profile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
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

// TestPageInABrowser opens the page in headless Chromium in both themes. The
// page may load nothing: the browser's only way out is a proxy that counts.
func TestPageInABrowser(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skip("no Chromium in PATH: the page is not looked at in a browser")
	}
	b, err := fullProfile(t).Page()
	if err != nil {
		t.Fatal(err)
	}
	keep := os.Getenv("LAPIDARY_SCREENSHOTS") // a folder to keep them in
	for _, theme := range []string{"light", "dark"} {
		shot := filepath.Join(t.TempDir(), theme+".png")
		if keep != "" {
			shot = filepath.Join(keep, "profile-"+theme+".png")
		}
		if asked := screenshot(t, browser, b, theme == "dark", shot); len(asked) > 0 {
			t.Errorf("the page asked the network for %s", strings.Join(asked, ", "))
		}
		picture, err := os.ReadFile(shot)
		if err != nil {
			t.Fatalf("no screenshot: %v", err)
		}
		img, err := png.Decode(bytes.NewReader(picture))
		if err != nil {
			t.Fatal(err)
		}
		r, g, bl, _ := img.At(3, 3).RGBA()
		if bright := (r+g+bl)/3 > 0x8000; bright != (theme == "light") {
			t.Errorf("the background in the %s theme is %x %x %x", theme, r>>8, g>>8, bl>>8)
		}
	}
	// The proxy does see what a page loads.
	evil := []byte(`<!doctype html><img src="http://example.invalid/x.png"><p>test`)
	if asked := screenshot(t, browser, evil, false, filepath.Join(t.TempDir(), "evil.png")); len(asked) == 0 {
		t.Error("a page that loads a picture went unnoticed")
	}
}

// screenshot renders a page and returns what it asked the network for.
func screenshot(t *testing.T, browser string, page []byte, dark bool, file string) []string {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Browsers look for updates and the like by themselves.
		if !strings.Contains(r.Host, "google") && !strings.Contains(r.Host, "gvt1") {
			mu.Lock()
			asked = append(asked, r.Method+" "+r.Host+r.URL.Path)
			mu.Unlock()
		}
		http.Error(w, "no network", http.StatusForbidden)
	}))
	defer proxy.Close()
	dir := t.TempDir()
	path := filepath.Join(dir, "page.html")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := proxy.Listener.Addr().(*net.TCPAddr)
	args := []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir=" + filepath.Join(dir, "user"), "--window-size=1100,5600",
		fmt.Sprintf("--proxy-server=http://127.0.0.1:%d", addr.Port), "--proxy-bypass-list=<-loopback>", "--screenshot=" + file}
	if dark {
		args = append(args, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
	} else {
		args = append(args, "--blink-settings=preferredColorScheme=1")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, browser, append(args, "file://"+path)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", browser, err, out)
	}
	mu.Lock()
	defer mu.Unlock()
	return asked
}

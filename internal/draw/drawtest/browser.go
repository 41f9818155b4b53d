// Package drawtest checks pages as their readers meet them: by rules that need no browser, and in headless Chromium where there
// is one. Only tests import it.
package drawtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/png"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Browser is a headless Chromium whose only way out is a proxy that counts and refuses.
type Browser struct{ path string }

// FindBrowser returns the Chromium in PATH; the test skips where there is none.
func FindBrowser(t testing.TB) *Browser {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Browser{path}
		}
	}
	t.Skip("no Chromium in PATH: the page is not looked at in a browser")
	return nil
}

// View is how a page is looked at.
type View struct {
	Dark          bool
	Width, Height int // in CSS pixels
}

// name of the view in the names of kept files, such as 360-dark.
func (v View) String() string {
	theme := "light"
	if v.Dark {
		theme = "dark"
	}
	return strconv.Itoa(v.Width) + "-" + theme
}

// Screenshot returns a picture of the page and what the page asked the network for. LAPIDARY_SCREENSHOTS names a folder to keep
// the pictures in.
func (b *Browser) Screenshot(t testing.TB, name string, page []byte, v View) (image.Image, []string) {
	t.Helper()
	file := kept(t, name+"-"+v.String()+".png")
	_, asked := b.run(t, frame(t, page, v), v, "--screenshot="+file)
	picture, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no screenshot: %v", err)
	}
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	return img, asked
}

// PDF prints the page and returns the document and the number of its pages.
func (b *Browser) PDF(t testing.TB, name string, page []byte) ([]byte, int) {
	t.Helper()
	file := kept(t, name+".pdf")
	b.run(t, write(t, page), View{Width: 1024, Height: 800}, "--no-pdf-header-footer", "--print-to-pdf="+file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("the page was not printed: %v", err)
	}
	return data, len(regexp.MustCompile(`/Type\s*/Page\b[^s]`).FindAll(data, -1))
}

// Run opens the page, runs a script in it that hands its result to done(value), and decodes the result into out. The page's
// own policy, which forbids scripts, is taken off for it.
func (b *Browser) Run(t testing.TB, page []byte, v View, script string, out any) {
	t.Helper()
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)
	open := policy.ReplaceAll(page, nil)
	inner := fmt.Sprintf("<script>addEventListener('load',()=>{const done=v=>parent.postMessage(JSON.stringify(v),'*');%s})</script></body>", script)
	i := bytes.LastIndex(open, []byte("</body>"))
	if i < 0 {
		t.Fatal("the page has no end of its body")
	}
	open = append(append(open[:i:i], inner...), open[i+len("</body>"):]...)
	dom, _ := b.run(t, frame(t, open, v), v, "--virtual-time-budget=30000", "--dump-dom")
	m := regexp.MustCompile(`(?s)<pre id="result">(.*?)</pre>`).FindSubmatch(dom)
	if m == nil || len(m[1]) == 0 {
		t.Fatalf("the script gave no result: %s", dom)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), out); err != nil {
		t.Fatalf("the script's result: %v", err)
	}
}

// frame returns the path of a document that shows the page in a frame of the view's size: windows have a least width, frames have none.
func frame(t testing.TB, page []byte, v View) string {
	inner := write(t, page)
	outer := fmt.Sprintf(`<!doctype html><meta name="color-scheme" content="light dark"><title>frame</title><style>body{margin:0}iframe{border:0;display:block}pre{display:none}</style>
<iframe src="file://%s" width="%d" height="%d"></iframe><pre id="result"></pre><script>addEventListener('message',e=>{document.getElementById('result').textContent=e.data})</script>`,
		inner, v.Width, v.Height)
	return write(t, []byte(outer))
}

// write puts a page into a folder of its own.
func write(t testing.TB, page []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// kept returns where a picture goes.
func kept(t testing.TB, name string) string {
	if dir := os.Getenv("LAPIDARY_SCREENSHOTS"); dir != "" {
		return filepath.Join(dir, name)
	}
	return filepath.Join(t.TempDir(), name)
}

// run opens a document and returns what the browser printed and what was asked of the network.
func (b *Browser) run(t testing.TB, path string, v View, args ...string) ([]byte, []string) {
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
	scheme := "1"
	if v.Dark {
		scheme = "0"
	}
	args = append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--user-data-dir=" + filepath.Join(t.TempDir(), "user"),
		fmt.Sprintf("--window-size=%d,%d", max(v.Width, 500), v.Height), "--blink-settings=preferredColorScheme=" + scheme,
		fmt.Sprintf("--proxy-server=http://127.0.0.1:%d", proxy.Listener.Addr().(*net.TCPAddr).Port), "--proxy-bypass-list=<-loopback>"}, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, b.path, append(args, "file://"+path)...)
	var out, msg bytes.Buffer
	c.Stdout, c.Stderr = &out, &msg
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", b.path, err, msg.String())
	}
	mu.Lock()
	defer mu.Unlock()
	return out.Bytes(), asked
}

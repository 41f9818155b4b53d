package ortlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
)

// fakePackage is an npm package with libraries for two machines, and the pin that goes with it.
func fakePackage(t *testing.T) (archive []byte, pin Pin) {
	lib := fakeLibrary(Version)
	archive = tgz(t,
		entry{name: "package/package.json", data: []byte("{}")},
		entry{name: "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", data: fakeELF(183, apiSymbol, Version)},
		entry{name: "package/bin/napi-v6/linux/x64/libonnxruntime.so.1", data: lib},
		entry{name: "package/bin/napi-v6/linux/x64/onnxruntime_binding.node", data: fakeProvider()})
	return archive, Pin{Channel: NPM, Version: Version, Platform: linuxAMD64, Archive: digest(archive),
		Files: map[string]string{"libonnxruntime.so.1.30.0": digest(lib)}}
}

// fakeNPM puts an npm on the PATH that delivers an archive, and counts its runs in a file.
func fakeNPM(t *testing.T, bin string, archive []byte) (runs string) {
	if runtime.GOOS == "windows" {
		t.Skip("the fake clients are shell scripts")
	}
	file := put(t, filepath.Join(t.TempDir(), "p.tgz"), archive, 0o644)
	runs = filepath.Join(t.TempDir(), "runs")
	script(t, bin, "npm", fmt.Sprintf("PATH=/usr/bin:/bin\n[ \"$1 $2\" = \"pack onnxruntime-node@1.30.0\" ]\necho x >>%s\ncp %s .\n", runs, file))
	return runs
}

// visible lists everything in the cache but the lock.
func visible(t *testing.T, e Env) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(e.runtimeDir(), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != ".lock" {
			out = append(out, first(filepath.Rel(e.runtimeDir(), p)))
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

func TestInstallNPM(t *testing.T) {
	e, bin := env(t)
	archive, pin := fakePackage(t)
	runs := fakeNPM(t, bin, archive)
	var stages []string
	o := Options{Platform: linuxAMD64, Env: e, Progress: func(p Progress) { stages = append(stages, p.Stage) }}
	got, err := install(context.Background(), o, []Pin{pin})
	if err != nil {
		t.Fatal(err)
	}
	lib := fakeLibrary(Version)
	want := Manifest{Format: 1, Version: Version, API: 30, Channel: NPM, Source: "onnxruntime-node@1.30.0", Platform: linuxAMD64,
		Archive: pin.Archive, Pinned: true, Library: "libonnxruntime.so.1.30.0", Files: []File{
			{Name: "libonnxruntime.so.1.30.0", SHA256: digest(lib), Bytes: int64(len(lib))},
			{Name: "libonnxruntime.so.1", Link: "libonnxruntime.so.1.30.0"}}}
	ignore := cmpopts.IgnoreFields(Manifest{}, "Installed")
	if d := cmp.Diff(want, got.Manifest, ignore); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"npm", "unpack", "commit"}, stages); d != "" {
		t.Error(d)
	}
	if read, err := ReadManifest(got.Dir); err != nil || !cmp.Equal(*read, got.Manifest) {
		t.Errorf("manifest read back: %+v, %v", read, err)
	}
	again, err := install(context.Background(), o, []Pin{pin})
	if err != nil || !again.Already || again.Library != got.Library {
		t.Errorf("second installation: %+v, %v", again, err)
	}
	o.Force = true
	if forced, err := install(context.Background(), o, []Pin{pin}); err != nil || forced.Already {
		t.Errorf("forced installation: %+v, %v", forced, err)
	}
	if n, _ := os.ReadFile(runs); string(n) != "x\nx\n" {
		t.Errorf("npm ran %q, want twice", n)
	}
	which, err := Which(context.Background(), Search{Platform: linuxAMD64, Env: e})
	if err != nil || which.Path != got.Library {
		t.Errorf("which: %v, %v", which, err)
	}
	wantFiles := []string{"libonnxruntime.so.1", "libonnxruntime.so.1.30.0", "manifest.json"}
	for i := range wantFiles {
		wantFiles[i] = filepath.Join("1.30.0", "linux-amd64", wantFiles[i])
	}
	if d := cmp.Diff(wantFiles, visible(t, e)); d != "" {
		t.Error(d)
	}
}

func TestInstallConcurrent(t *testing.T) {
	e, bin := env(t)
	archive, pin := fakePackage(t)
	runs := fakeNPM(t, bin, archive)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := install(context.Background(), Options{Platform: linuxAMD64, Env: e}, []Pin{pin}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n, _ := os.ReadFile(runs); string(n) != "x\n" {
		t.Errorf("npm ran %q, want once", n)
	}
}

// TestInstallInterrupted: a cancelled installation leaves nothing, one killed leaves nothing visible, and the next one
// removes its remains.
func TestInstallInterrupted(t *testing.T) {
	e, bin := env(t)
	archive, pin := fakePackage(t)
	fakeNPM(t, bin, archive)
	for _, stage := range []string{"npm", "unpack"} {
		ctx, cancel := context.WithCancel(context.Background())
		o := Options{Platform: linuxAMD64, Env: e, Progress: func(p Progress) {
			if p.Stage == stage {
				cancel()
			}
		}}
		if _, err := install(ctx, o, []Pin{pin}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at %s: %v", stage, err)
		}
		if files := visible(t, e); len(files) > 0 {
			t.Errorf("cancelled at %s: left %q", stage, files)
		}
	}
	put(t, filepath.Join(e.runtimeDir(), ".staging-1", "root", "libonnxruntime.so.1.30.0"), fakeLibrary(Version), 0o644)
	put(t, filepath.Join(e.runtimeDir(), ".old-1", "libonnxruntime.so.1.30.0"), fakeLibrary(Version), 0o644)
	if got, err := Which(context.Background(), Search{Platform: linuxAMD64, Env: e, NoPython: true}); err == nil {
		t.Errorf("remains were found: %v", got)
	}
	if _, err := install(context.Background(), Options{Platform: linuxAMD64, Env: e}, []Pin{pin}); err != nil {
		t.Fatal(err)
	}
	for _, f := range visible(t, e) {
		if strings.HasPrefix(f, ".") {
			t.Errorf("remains: %s", f)
		}
	}
}

// TestInstallDigest: a file that is not the pinned one ends the installation, also where another channel would do.
func TestInstallDigest(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Pin, *Options)
		what   string
	}{
		{"archive", func(p *Pin, _ *Options) { p.Archive = digest(nil) }, "onnxruntime-node@1.30.0"},
		{"library", func(p *Pin, _ *Options) { p.Files = map[string]string{"libonnxruntime.so.1.30.0": digest(nil)} }, "the library in onnxruntime-node@1.30.0"},
		{"user", func(_ *Pin, o *Options) { o.SHA256 = digest(nil) }, "the library in onnxruntime-node@1.30.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, bin := env(t)
			archive, pin := fakePackage(t)
			fakeNPM(t, bin, archive)
			script(t, bin, "pip3", "echo pip was asked >&2; exit 1\n")
			o := Options{Platform: linuxAMD64, Env: e}
			tt.change(&pin, &o)
			_, err := install(context.Background(), o, []Pin{pin, {Channel: Pip, Version: Version, Platform: linuxAMD64}})
			var de *DigestError
			if !errors.As(err, &de) || de.What != tt.what || strings.Contains(err.Error(), "pip") {
				t.Errorf("got %v", err)
			}
			if files := visible(t, e); len(files) > 0 {
				t.Errorf("left %q", files)
			}
		})
	}
}

// TestInstallFallback: pip serves where there is no npm, the second pip where the first is broken.
func TestInstallFallback(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the fake clients are shell scripts")
	}
	e, bin := env(t)
	lib, shared := fakeLibrary(Version), fakeProvider()
	wheel := zipped(t,
		entry{name: "onnxruntime/capi/libonnxruntime.so.1.30.0", data: lib},
		entry{name: "onnxruntime/capi/libonnxruntime_providers_shared.so", data: shared},
		entry{name: "onnxruntime/capi/onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so", data: fakeProvider()},
		entry{name: "onnxruntime/__init__.py", data: []byte("raise SystemExit")})
	file := put(t, filepath.Join(t.TempDir(), "w.whl"), wheel, 0o644)
	script(t, bin, "pip3", "echo 'No module named pip' >&2\nexit 1\n")
	script(t, bin, "python3", `PATH=/usr/bin:/bin
[ "$1 $2 $3 $4" = "-m pip download onnxruntime==1.30.0" ]
while [ "$1" != --dest ]; do shift; done
cp `+file+` "$2"
`)
	pin := Pin{Channel: Pip, Version: Version, Platform: linuxAMD64, Archive: digest(wheel),
		Files: map[string]string{"libonnxruntime.so.1.30.0": digest(lib), "libonnxruntime_providers_shared.so": digest(shared)}}
	npm := Pin{Channel: NPM, Version: Version, Platform: linuxAMD64}
	got, err := install(context.Background(), Options{Platform: linuxAMD64, Env: e}, []Pin{npm, pin})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"channel npm: no npm on PATH"}, got.Notes); d != "" {
		t.Error(d)
	}
	if got.Manifest.Channel != Pip || len(got.Manifest.Files) != 3 {
		t.Errorf("got %+v", got.Manifest)
	}
	delete(pin.Files, "libonnxruntime_providers_shared.so")
	_, err = install(context.Background(), Options{Platform: linuxAMD64, Env: e, Force: true}, []Pin{pin})
	var de *DigestError
	if !errors.As(err, &de) || !strings.Contains(de.What, "providers_shared") {
		t.Errorf("an unpinned companion: %v", err)
	}
}

// TestInstallUnpinned: without a pin the library's digest must be given.
func TestInstallUnpinned(t *testing.T) {
	e, bin := env(t)
	archive, _ := fakePackage(t)
	fakeNPM(t, bin, archive)
	o := Options{Channel: NPM, Platform: linuxAMD64, Env: e}
	if _, err := install(context.Background(), o, nil); err == nil || !strings.Contains(err.Error(), "no digest is pinned for ONNX Runtime 1.30.0 on linux/amd64") {
		t.Errorf("without a digest: %v", err)
	}
	o.SHA256 = "sha256:" + strings.ToUpper(digest(fakeLibrary(Version)))
	got, err := install(context.Background(), o, nil)
	if err != nil || got.Manifest.Pinned || len(got.Notes) != 1 {
		t.Errorf("with a digest: %+v, %v", got, err)
	}
}

func TestInstallModule(t *testing.T) {
	dir := module(t)
	if runtime.GOOS == "windows" {
		t.Skip("the fake clients are shell scripts")
	}
	for p := range moduleFiles {
		e, bin := env(t)
		script(t, bin, "go", `[ "$1 $2 $3 $4" = "mod download -json github.com/yalue/onnxruntime_go@v1.27.0" ]
echo '{"Dir": "`+dir+`"}'
`)
		got, err := Install(context.Background(), Options{Platform: p, Env: e})
		if err != nil {
			t.Fatal(err)
		}
		if m := got.Manifest; m.Channel != Module || m.Version != moduleVersion || !m.Pinned || len(got.Notes) != 3 {
			t.Errorf("%s: %+v", p, got)
		}
		if again, err := Install(context.Background(), Options{Platform: p, Env: e}); err != nil || !again.Already || again.Library != got.Library {
			t.Errorf("%s: second installation: %+v, %v", p, again, err)
		}
		_, err = Install(context.Background(), Options{Platform: p, Env: e, Version: Version})
		if err == nil || !strings.Contains(err.Error(), "carries ONNX Runtime 1.24.1 only") {
			t.Errorf("%s: a version asked for: %v", p, err)
		}
		if c, err := Which(context.Background(), Search{Platform: p, Env: e}); err != nil || c.Path != got.Library {
			t.Errorf("%s: which: %v, %v", p, c, err)
		}
		if v, err := Verify(context.Background(), got.Dir); err != nil || !v.OK() || !v.Pinned {
			t.Errorf("%s: verify: %+v, %v", p, v, err)
		}
	}
}

func TestInstallFrom(t *testing.T) {
	lib, cuda := fakeLibrary("1.30.0"), fakeProvider()
	release := []entry{
		{name: "ort/lib/libonnxruntime.so", link: "libonnxruntime.so.1"},
		{name: "ort/lib/libonnxruntime.so.1", link: "libonnxruntime.so.1.30.0"},
		{name: "ort/lib/libonnxruntime.so.1.30.0", data: lib},
		{name: "ort/lib/libonnxruntime_providers_cuda.so", data: cuda},
		{name: "ort/include/onnxruntime_c_api.h", data: []byte("//")},
	}
	nuget := []entry{
		{name: "runtimes/linux-arm64/native/libonnxruntime.so", data: fakeELF(183, apiSymbol, "1.30.0")},
		{name: "runtimes/linux-x64/native/libonnxruntime.so", data: lib},
	}
	tests := []struct {
		name    string
		data    []byte
		variant string
		version string
		files   int
	}{
		{"release.tgz", tgz(t, release...), "cuda", "1.30.0", 3},
		{"release.zip", zipped(t, release...), "cuda", "1.30.0", 3},
		{"package.nupkg", zipped(t, nuget...), "", "1.30.0", 2},
		{"anything.so", lib, "", "1.30.0", 2},
		{"newer.so", fakeLibrary("1.31.0"), "", "1.31.0", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Write(tt.data)
			}))
			defer server.Close()
			file := put(t, filepath.Join(t.TempDir(), tt.name), tt.data, 0o644)
			for _, from := range []string{file, server.URL + "/" + tt.name + "?token=secret"} {
				e, _ := env(t)
				o := Options{From: from, SHA256: digest(tt.data), Platform: linuxAMD64, Env: e}
				got, err := Install(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				m := got.Manifest
				if m.Variant != tt.variant || m.Version != tt.version || len(m.Files) != tt.files || m.Pinned || m.Archive != digest(tt.data) {
					t.Errorf("got %+v", m)
				}
				if strings.Contains(m.Source, "secret") || strings.Contains(m.Source, filepath.Dir(file)) {
					t.Errorf("source %q", m.Source)
				}
				if v, err := Verify(context.Background(), got.Library); err != nil || !v.OK() {
					t.Errorf("verify: %+v, %v", v, err)
				}
				if again, err := Install(context.Background(), o); err != nil || !again.Already {
					t.Errorf("second installation: %+v, %v", again, err)
				}
			}
		})
	}
}

func TestInstallRefused(t *testing.T) {
	lib := fakeLibrary(Version)
	zeros := make([]byte, 1<<20)
	tests := []struct {
		name   string
		data   []byte
		limits Limits
		err    string
	}{
		{"slip.tgz", tgz(t, entry{name: "../../libonnxruntime.so.1.30.0", data: lib}), Limits{}, "leads out of the archive"},
		{"slip.zip", zipped(t, entry{name: "../../libonnxruntime.so.1.30.0", data: lib}), Limits{}, "leads out of the archive"},
		{"absolute.tgz", tgz(t, entry{name: "/tmp/libonnxruntime.so.1.30.0", data: lib}), Limits{}, "leads out of the archive"},
		{"backslash.zip", zipped(t, entry{name: `..\libonnxruntime.so`, data: lib}), Limits{}, "leads out of the archive"},
		{"link.tgz", tgz(t, entry{name: "lib/libonnxruntime.so.1.30.0", link: "/etc/passwd"}), Limits{}, "holds no ONNX Runtime library for linux/amd64"},
		{"link.zip", zipped(t, entry{name: "lib/libonnxruntime.so.1.30.0", link: "/etc/passwd"}), Limits{}, "holds no ONNX Runtime library for linux/amd64"},
		{"bomb.tgz", tgz(t, entry{name: "padding", data: zeros}, entry{name: "libonnxruntime.so", data: lib}), Limits{Unpacked: 1 << 16}, "more comes out of it than the limit allows"},
		{"bomb.zip", zipped(t, entry{name: "libonnxruntime.so", data: append(bytes.Clone(lib), zeros...)}), Limits{Unpacked: 1 << 16}, "more comes out of it than the limit allows"},
		{"many.tgz", tgz(t, entry{name: "a"}, entry{name: "b"}, entry{name: "c"}), Limits{Entries: 2}, "more than 2 entries"},
		{"large.so", lib, Limits{Archive: 100}, "more than the limit of 100"},
		{"twice.zip", zipped(t, entry{name: "libonnxruntime.so", data: lib}, entry{name: "libonnxruntime.so", data: lib}), Limits{}, "is there twice"},
		{"two.zip", zipped(t, entry{name: "a/libonnxruntime.so", data: lib}, entry{name: "b/libonnxruntime.so", data: fakeLibrary("1.29.0")}), Limits{}, "two different ONNX Runtime libraries"},
		{"other.zip", zipped(t, entry{name: "libonnxruntime.so", data: fakeProvider()}), Limits{}, "holds no ONNX Runtime library"},
		{"name.zip", zipped(t, entry{name: "lib/$(x).so", data: lib}), Limits{}, "characters other than"},
		{"old.so", fakeLibrary("1.20.0"), Limits{}, "serves API level 20, and level 24"},
		{"truncated.tgz", tgz(t, entry{name: "libonnxruntime.so", data: lib})[:120], Limits{}, "unexpected EOF"},
		{"text", []byte("<html>"), Limits{}, "not a .tar.gz or .zip archive"},
		{"empty", nil, Limits{}, "not a .tar.gz or .zip archive"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := env(t)
			file := put(t, filepath.Join(t.TempDir(), tt.name), tt.data, 0o644)
			o := Options{From: file, SHA256: digest(tt.data), Platform: linuxAMD64, Limits: tt.limits, Env: e}
			got, err := Install(context.Background(), o)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %+v, %v, want error %q", got, err, tt.err)
			}
			if files := visible(t, e); len(files) > 0 {
				t.Errorf("left %q", files)
			}
		})
	}
}

func TestInstallUsage(t *testing.T) {
	e, _ := env(t)
	file := put(t, filepath.Join(t.TempDir(), "x.so"), fakeLibrary(Version), 0o644)
	gone := httptest.NewServer(http.NotFoundHandler())
	defer gone.Close()
	tests := []struct {
		name string
		o    Options
		err  string
	}{
		{"no digest", Options{From: file, Env: e}, "needs --sha256"},
		{"bad digest", Options{From: file, SHA256: "abc", Env: e}, "not a SHA-256 digest"},
		{"wrong digest", Options{From: file, SHA256: digest(nil), Env: e}, "it was not installed"},
		{"channel and from", Options{From: file, Channel: NPM, SHA256: digest(nil), Env: e}, "exclude each other"},
		{"from without file", Options{Channel: From, Env: e}, "needs a file or URL"},
		{"unknown channel", Options{Channel: "apt", Env: e}, "unknown channel"},
		{"no cache", Options{}, "no cache folder"},
		{"variant", Options{Variant: "cuda", Env: e}, "name an archive of the cuda build"},
		{"old version", Options{Version: "1.20.0", Env: e}, "serves API level 20"},
		{"missing file", Options{From: file + "x", SHA256: digest(nil), Env: e}, "no such file"},
		{"404", Options{From: gone.URL + "/x", SHA256: digest(nil), Env: e}, "the server answers 404"},
		{"no clients", Options{Env: e}, "no npm on PATH; channel pip: no pip and no python3 on PATH"},
		{"platform", Options{Platform: Platform{"darwin", "amd64"}, Env: e}, "no digest is pinned for ONNX Runtime 1.30.0 on darwin/amd64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Platform == (Platform{}) {
				tt.o.Platform = linuxAMD64
			}
			if _, err := Install(context.Background(), tt.o); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	archive, pin := fakePackage(t)
	lib := fakeLibrary(Version)
	changed := bytes.Clone(lib)
	changed[len(changed)-1] ^= 1
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []string
	}{
		{"intact", func(*testing.T, string) {}, nil},
		{"flipped bit", func(t *testing.T, dir string) { put(t, dir+"/libonnxruntime.so.1.30.0", changed, 0o644) }, []string{"has SHA-256"}},
		{"truncated", func(t *testing.T, dir string) { put(t, dir+"/libonnxruntime.so.1.30.0", lib[:10], 0o644) }, []string{"has 10 bytes"}},
		{"missing", func(t *testing.T, dir string) { os.Remove(dir + "/libonnxruntime.so.1.30.0") }, []string{"is missing"}},
		{"link", func(t *testing.T, dir string) { os.Remove(dir + "/libonnxruntime.so.1") }, []string{"is not a link"}},
		{"stranger", func(t *testing.T, dir string) { put(t, dir+"/libonnxruntime_providers_cuda.so", lib, 0o644) }, []string{"was not installed with"}},
		{"library and manifest", func(t *testing.T, dir string) {
			put(t, dir+"/libonnxruntime.so.1.30.0", changed, 0o644)
			m, err := os.ReadFile(dir + "/manifest.json")
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir+"/manifest.json", bytes.ReplaceAll(m, []byte(digest(lib)), []byte(digest(changed))), 0o644)
		}, []string{"and the pin is"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, bin := env(t)
			fakeNPM(t, bin, archive)
			o := Options{Platform: linuxAMD64, Env: e}
			r, err := install(context.Background(), o, []Pin{pin})
			if err != nil {
				t.Fatal(err)
			}
			tt.damage(t, r.Dir)
			v, err := verify(context.Background(), r.Dir, []Pin{pin})
			if err != nil {
				t.Fatal(err)
			}
			if len(v.Problems) != len(tt.want) || v.Pinned && len(tt.want) > 0 && tt.name != "link" && tt.name != "stranger" {
				t.Fatalf("got %+v", v)
			}
			for i, w := range tt.want {
				if !strings.Contains(v.Problems[i], w) {
					t.Errorf("problem %q, want %q", v.Problems[i], w)
				}
			}
			// What does not verify is installed anew.
			again, err := install(context.Background(), o, []Pin{pin})
			if err != nil || again.Already != (tt.want == nil) {
				t.Errorf("installing again: %+v, %v", again, err)
			}
			if v, err := verify(context.Background(), r.Dir, []Pin{pin}); err != nil || !v.OK() || !v.Pinned {
				t.Errorf("after installing again: %+v, %v", v, err)
			}
		})
	}
	dir := t.TempDir()
	for name, manifest := range map[string]string{
		"escape": `{"format":1,"library":"x","files":[{"name":"x"},{"name":"../../x"}]}`,
		"format": `{"format":9}`,
		"absent": `{"format":1,"library":"x"}`,
		"json":   `{`,
	} {
		put(t, filepath.Join(dir, ManifestName), []byte(manifest), 0o644)
		if _, err := Verify(context.Background(), dir); err == nil {
			t.Errorf("%s: a bad manifest was accepted", name)
		}
	}
}

// TestReplaceByRenames installs over a library on a system where two folders cannot change places: the new one is there,
// and where it cannot be moved to its place the old one is.
func TestReplaceByRenames(t *testing.T) {
	e, _ := env(t)
	put1 := func(lib []byte) Options {
		return Options{From: put(t, filepath.Join(t.TempDir(), "lib.so"), lib, 0o644), SHA256: digest(lib), Platform: linuxAMD64, Force: true, Env: e}
	}
	old, fresh := fakeLibrary(Version), append(fakeLibrary(Version), 0)
	r, err := install(t.Context(), put1(old), nil)
	if err != nil {
		t.Fatal(err)
	}
	renames, fails := 0, 0
	atomicfile.Hook = func(op atomicfile.Op, path string) error {
		if op != atomicfile.OpRename || filepath.Base(filepath.Dir(path)) == "root" {
			return nil
		}
		if renames++; renames == 1 {
			return errors.ErrUnsupported
		} else if renames == fails {
			return syscall.EIO
		}
		return nil
	}
	t.Cleanup(func() { atomicfile.Hook = nil })
	for _, c := range []struct {
		fails int // which rename; the first is the exchange
		want  []byte
	}{{2, old}, {3, old}, {0, fresh}} {
		renames, fails = 0, c.fails
		if _, err := install(t.Context(), put1(fresh), nil); (err == nil) != (c.fails == 0) {
			t.Errorf("rename %d fails, and the error is %v", c.fails, err)
		}
		if b, err := os.ReadFile(r.Library); err != nil || !bytes.Equal(b, c.want) {
			t.Errorf("rename %d fails, and the library is another one (%v)", c.fails, err)
		}
		for _, f := range visible(t, e) {
			if strings.HasPrefix(f, ".") {
				t.Errorf("left behind: %s", f)
			}
		}
	}
}

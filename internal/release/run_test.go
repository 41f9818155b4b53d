package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/ort/ortlib"
)

// TestReleaseRuns runs the program of every archive of the release that LAPIDARY_RELEASE names: by itself, for linux/arm64 under
// qemu-aarch64, for Windows under Wine. What a machine has no such program for is skipped with what is missing.
func TestReleaseRuns(t *testing.T) {
	dist := os.Getenv("LAPIDARY_RELEASE")
	if dist == "" {
		t.Skip("runs the builds of a release; set LAPIDARY_RELEASE to its folder, or use make release-run")
	}
	models := map[string][sha256.Size]byte{} // of the first build: all write the same
	ran := 0
	for _, target := range targets {
		t.Run(target.String(), func(t *testing.T) {
			found, _ := filepath.Glob(filepath.Join(dist, target.name("*")+target.extension()))
			if len(found) != 1 {
				t.Skipf("%s has %d archives of this build", dist, len(found))
			}
			p := &program{dir: t.TempDir(), target: target}
			p.path = unpackProgram(t, found[0], p.dir, target.program())
			if why := p.prepare(t); why != "" {
				t.Skip(why)
			}
			ran++
			p.runAll(t, models)
		})
	}
	if ran == 0 {
		t.Error("nothing was run")
	}
}

// program is the program of an archive, and how it is run here.
type program struct {
	dir, path string
	target    target
	before    []string // what stands before the program on the command line
	env       []string
	folder    string // how the program sees dir
}

// call is a command line, the exit code that it has, and a part of what it says.
type call struct {
	line string
	code int
	want string
}

// plainCalls need no runtime; modelCalls run models.
var (
	plainCalls = []call{
		{"version", 0, "  commit   "},
		{"profile --static model.onnx", 0, "parameters   21.3 k"},
		{"fuse model.onnx -o fused.onnx --no-verify", 0, "13 → 7"},
		{"fuse model.onnx -o fused.onnx --no-verify", 0, "13 → 7"}, // replaces the one before
		{"fuse model.onnx -o model.onnx --no-verify", 1, "both input and output"},
		{"prune model.onnx -o pruned.onnx --sparsity 0.5 --no-verify", 0, "not verified"},
		{"quantize model.onnx -o half.onnx --to fp16 --no-verify", 0, "not verified"},
		{"quantize model.onnx -o int4.onnx --to int4 --no-verify", 0, "not verified"},
		{"diff model.onnx fused.onnx", 0, "BatchNormalization"},
		{"keygen owner --unencrypted", 0, "fingerprint"},
		{"keygen owner --unencrypted", 1, "owner.key"},
		{"sign fused.onnx --key owner.key -o model.sig", 0, "signed"},
		{"verify model.sig --key owner.pub --model fused.onnx", 0, "signature good"},
		{"verify model.sig --key owner.pub --model pruned.onnx", 5, "evidence rejected"},
		{"profile --static none.onnx", 1, "reading none.onnx"},
		{"fuse model.onnx -o nowhere/out.onnx --no-verify", 1, "writing nowhere/out.onnx"},
		{"fuse --frob", 2, "unknown flag"},
	}
	modelCalls = []call{
		{"doctor", 0, "ran a model in a process of its own"},
		{"fuse model.onnx -o checked.onnx --no-measure", 0, "verified on 4 synthetic samples"},
		{"validate model.onnx checked.onnx --data val.npz --no-latency --no-explain --max-bytes-ratio 1.0 --report report", 0, "PASS"},
		{"profile checked.onnx --data synthetic:4", 0, "parameters"},
	}
)

// runAll runs what the build can do.
func (p *program) runAll(t *testing.T, models map[string][sha256.Size]byte) {
	for from, to := range map[string]string{"tabular-mlp.onnx": "model.onnx", "tabular-val.npz": "val.npz"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "testdata", from))
		if err == nil {
			err = os.WriteFile(filepath.Join(p.dir, to), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	calls := plainCalls
	if p.target.cgo {
		calls = append(calls[:len(calls):len(calls)], modelCalls...)
	}
	for _, c := range calls {
		out, code := p.run(t, strings.Fields(c.line)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("lapidary %s: exit code %d, want %d and %q:\n%s", c.line, code, c.code, c.want, out)
		}
	}
	for _, name := range []string{"fused.onnx", "pruned.onnx", "half.onnx"} {
		b, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		first, is := models[name]
		models[name] = sha256.Sum256(b)
		if is && first != models[name] {
			t.Errorf("%s has other bytes than that of the build before", name)
		}
	}
	t.Logf("%d command lines", len(calls))
}

// run runs the program in its folder.
func (p *program) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	line := append(append(p.before[:len(p.before):len(p.before)], p.path), args...)
	c := exec.CommandContext(ctx, line[0], line[1:]...)
	c.Dir = p.dir
	out, err := p.output(c)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", line, err)
	}
	return out, c.ProcessState.ExitCode()
}

// output runs a command, and returns what it says. A file takes that, since the services of Wine outlive what starts them, and a pipe would
// be open as long.
func (p *program) output(c *exec.Cmd) (string, error) {
	f, err := os.Create(filepath.Join(p.dir, "output"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	c.Env = append(os.Environ(), p.env...)
	c.Stdout, c.Stderr = f, f
	ran := c.Run()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		return "", err
	}
	return string(b), ran
}

// prepare finds what runs the program, and brings the runtime that it loads; why says what is missing.
func (p *program) prepare(t *testing.T) (why string) {
	p.folder = p.dir
	p.env = []string{"XDG_CACHE_HOME=" + filepath.Join(p.dir, "cache")}
	switch {
	case p.target.os == runtime.GOOS && p.target.arch == runtime.GOARCH:
	case p.target.os == "linux" && p.target.arch == "arm64":
		why = p.emulated(t)
	case p.target.os == "windows" && p.target.arch == "amd64":
		why = p.wine(t)
	default:
		return "nothing here runs programs for " + p.target.os + "/" + p.target.arch
	}
	if why != "" || !p.target.cgo || p.target.embedded {
		return why
	}
	w, err := ortlib.FetchWheel(t.Context(), ortlib.Platform{OS: p.target.os, Arch: p.target.arch}, ortlib.Env{Vars: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	library := "libonnxruntime.so." + ortlib.Version
	if p.target.os == "windows" {
		library = "onnxruntime.dll"
	}
	if err := os.WriteFile(filepath.Join(p.dir, library), w.Library, 0o755); err != nil {
		t.Fatal(err)
	}
	p.env = append(p.env, "LAPIDARY_ORT_LIB="+p.folder+"/"+library)
	return ""
}

// libraries are those of arm64 where Debian's cross compilers have them.
const libraries = "/usr/aarch64-linux-gnu/lib"

// emulated has programs for linux/arm64 run by qemu-aarch64, those too that the program starts.
func (p *program) emulated(t *testing.T) (why string) {
	if _, err := exec.LookPath("qemu-aarch64"); err != nil {
		return "it needs qemu-aarch64 (Debian: qemu-user)"
	}
	for _, name := range []string{"ld-linux-aarch64.so.1", "libstdc++.so.6"} {
		if _, err := os.Stat(filepath.Join(libraries, name)); err != nil {
			return "it needs the libraries of arm64 in " + libraries + " (Debian: libc6-arm64-cross, libstdc++6-arm64-cross)"
		}
	}
	script, err := filepath.Abs(filepath.Join("testdata", "arm64.sh"))
	if err != nil {
		t.Fatal(err)
	}
	p.before = []string{"sh", script, t.TempDir(), libraries}
	if out, err := exec.CommandContext(t.Context(), "sh", script, t.TempDir(), libraries, p.path, "version").CombinedOutput(); err != nil {
		return fmt.Sprintf("it needs a kernel that lets everyone say what runs arm64 (unshare, binfmt_misc of Linux 6.7): %v: %s", err, out)
	}
	return ""
}

// wine makes a Windows of its own.
func (p *program) wine(t *testing.T) (why string) {
	if _, err := exec.LookPath("wine"); err != nil {
		return "it needs Wine (Debian: wine, wine64)"
	}
	prefix := filepath.Join(p.dir, "wine")
	p.before = []string{"wine"}
	p.env = append(p.env, "WINEPREFIX="+prefix, "WINEDEBUG=-all")
	p.folder = `Z:` + p.dir
	t.Cleanup(func() {
		stop := exec.Command("wineserver", "--kill", "--wait")
		stop.Env = append(os.Environ(), p.env...)
		stop.Run() // there may be none
	})
	if err := os.Mkdir(prefix, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{{"wineserver", "--persistent=300"}, {"wineboot", "--init"}} { // one server for all command lines
		if out, err := p.output(exec.CommandContext(t.Context(), line[0], line[1:]...)); err != nil {
			return fmt.Sprintf("%v: %v: %s", line, err, out)
		}
	}
	prng := filepath.Join(prefix, "drive_c", "windows", "system32", "bcryptprimitives.dll")
	if _, err := os.Stat(prng); err == nil {
		return ""
	}
	cc := crossCompilers["windows/amd64"]
	if _, err := exec.LookPath(cc); err != nil {
		return "this Wine has no bcryptprimitives.dll, and there is no " + cc + " to make one"
	}
	if out, err := exec.CommandContext(t.Context(), cc, "-shared", "-o", prng, filepath.Join("testdata", "bcryptprimitives.c"), "-ladvapi32").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return ""
}

// unpackProgram takes the program out of an archive, and returns where it is.
func unpackProgram(t *testing.T, archive, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	in, err := open(b, filepath.Ext(archive), name)
	if err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	to := filepath.Join(dir, name)
	data, err := io.ReadAll(in)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// open reads the file of that name in an archive.
func open(b []byte, ext, name string) (io.Reader, error) {
	if ext == ".zip" {
		r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		for _, f := range r.File {
			if path.Base(f.Name) == name {
				return f.Open()
			}
		}
		return nil, fmt.Errorf("it has no %s", name)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("it has no %s: %w", name, err)
		}
		if path.Base(h.Name) == name {
			return r, nil
		}
	}
}

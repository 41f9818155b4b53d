package ortlib

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name string
		data []byte
		want Info
		err  string
	}{
		{"amd64", fakeLibrary("1.30.0"), Info{[]Platform{{"linux", "amd64"}}, "1.30.0", 30}, ""},
		{"arm64", fakeELF(elf.EM_AARCH64, apiSymbol, "1.24.1"), Info{[]Platform{{"linux", "arm64"}}, "1.24.1", 24}, ""},
		{"odd version", fakeLibrary("main"), Info{Platforms: []Platform{{"linux", "amd64"}}}, ""},
		{"other library", fakeProvider(), Info{}, "does not export OrtGetApiBase"},
		{"text", []byte("#!/bin/sh\n"), Info{}, "not an ELF, Mach-O or PE"},
		{"empty", nil, Info{}, "not an ELF, Mach-O or PE"},
		{"truncated", fakeLibrary("1.30.0")[:200], Info{}, "not an ONNX Runtime library"},
		{"executable", append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00"), make([]byte, 64)...), Info{}, "not an ELF, Mach-O or PE"},
		{"java class", []byte{0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61, 1, 2, 3}, Info{}, "not an ELF, Mach-O or PE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := put(t, filepath.Join(dir, tt.name), tt.data, 0o644)
			got, err := Inspect(path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("folder: %v", err)
	}
}

// FuzzInspect looks for panics on damaged headers.
func FuzzInspect(f *testing.F) {
	f.Add(fakeLibrary("1.30.0"))
	f.Add([]byte{0xcf, 0xfa, 0xed, 0xfe, 12, 0, 0, 1, 0, 0, 0, 0, 6, 0, 0, 0})
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if info, err := inspect(strings.NewReader(string(b))); err == nil && len(info.Platforms) == 0 {
			t.Error("accepted a library for no platform")
		}
	})
}

// module is the folder of the bindings in the module cache.
func module(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-json", BindingModule)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("go list -m %s: %v", BindingModule, err)
	}
	var m struct{ Dir, Version string }
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	if m.Dir == "" {
		t.Skipf("%s is not in the module cache", BindingModule)
	}
	if m.Version != BindingVersion {
		t.Errorf("go.mod has %s %s, BindingVersion is %s", BindingModule, m.Version, BindingVersion)
	}
	return m.Dir
}

// TestBinding compares what is written here about the bindings with the bindings: version, API level, and the
// libraries of the three formats that they carry.
func TestBinding(t *testing.T) {
	dir := module(t)
	header, err := os.ReadFile(filepath.Join(dir, "onnxruntime_c_api.h"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^#define ORT_API_VERSION (\d+)`).FindSubmatch(header)
	if m == nil || string(m[1]) != "24" || BindingAPI != 24 {
		t.Errorf("ORT_API_VERSION is %q, BindingAPI is %d", m, BindingAPI)
	}
	for p, rel := range moduleFiles {
		path := filepath.Join(dir, rel)
		info, err := Inspect(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(Info{[]Platform{p}, moduleVersion, BindingAPI}, info); d != "" {
			t.Errorf("%s: %s", rel, d)
		}
		v, err := Verify(context.Background(), path)
		if err != nil || !v.Pinned || !v.OK() || v.Pin != "module 1.24.1 "+p.String() {
			t.Errorf("%s: %+v, %v", rel, v, err)
		}
	}
}

func TestPins(t *testing.T) {
	for _, p := range Pins() {
		if _, err := checkSHA256(p.library()); err != nil {
			t.Errorf("%s: library: %v", p, err)
		}
		for name, sum := range p.Files {
			if _, err := checkSHA256(sum); err != nil || !fileName.MatchString(name) {
				t.Errorf("%s: %s: %v", p, name, err)
			}
		}
		if _, err := checkSHA256(p.Archive); err != nil && p.Channel != Module {
			t.Errorf("%s: archive: %v", p, err)
		}
	}
}

func TestWhichOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the fake clients are shell scripts")
	}
	e, bin := env(t)
	s := Search{Platform: linuxAMD64, Env: e}
	site := t.TempDir()
	var notFound *NotFoundError
	if _, err := Which(context.Background(), s); !errors.As(err, &notFound) || len(notFound.Tried) != 5 {
		t.Fatalf("with nothing anywhere: %v", err)
	}
	// From the last step of the search to the first, each library hides those before.
	script(t, bin, "python3", "echo "+site+"\n")
	python := put(t, filepath.Join(site, "onnxruntime", "capi", "libonnxruntime.so.1.30.0"), fakeLibrary("1.30.0"), 0o644)
	put(t, filepath.Join(e.Root, "etc/ld.so.conf"), []byte("include ld.so.conf.d/*.conf\n"), 0o644)
	check := func(origin Origin, path string, passed int) {
		t.Helper()
		got, err := Which(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.Origin != origin || got.Path != real || len(got.Passed) != passed {
			t.Errorf("got %s with %d passed, want %s %s with %d", got.Candidate, len(got.Passed), origin, real, passed)
		}
		for _, p := range got.Passed {
			if p.Reason == "" {
				t.Errorf("%s was passed without a reason", p)
			}
		}
	}
	check(OriginPython, python, 4)
	put(t, filepath.Join(e.Root, "etc/ld.so.conf.d/ort.conf"), []byte("# ours\n/opt/ort/lib\n"), 0o644)
	old := put(t, filepath.Join(e.Root, "opt/ort/lib/libonnxruntime.so.1.19.2"), fakeLibrary("1.19.2"), 0o644)
	check(OriginPython, python, 4)
	system := put(t, filepath.Join(e.Root, "usr/lib/libonnxruntime.so"), fakeLibrary("1.26.0"), 0o644)
	check(OriginSystem, system, 4)
	cuda := put(t, filepath.Join(e.installDir("1.30.0", linuxAMD64, "cuda"), "libonnxruntime.so.1.30.0"), fakeLibrary("1.30.0"), 0o644)
	put(t, filepath.Join(filepath.Dir(cuda), "libonnxruntime_providers_cuda.so"), fakeProvider(), 0o644)
	check(OriginCache, cuda, 2)
	put(t, filepath.Join(e.installDir("1.29.0", linuxAMD64, ""), "libonnxruntime.so.1.29.0"), fakeLibrary("1.29.0"), 0o644)
	check(OriginCache, cuda, 2)
	cpu := put(t, filepath.Join(e.installDir("1.30.0", linuxAMD64, ""), "libonnxruntime.so.1.30.0"), fakeLibrary("1.30.0"), 0o644)
	check(OriginCache, cpu, 2)
	s.Variant = "cuda"
	check(OriginCache, cuda, 2)
	s.Env.Library = system
	check(OriginEnvironment, system, 1)
	s.Path = filepath.Dir(python)
	check(OriginFlag, python, 0)

	list, err := List(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, string(c.Origin)+" "+c.Version+" "+c.Variant+" "+strings.Join(c.Providers, ","))
		if c.Usable != (c.Path != old) {
			t.Errorf("%s: usable is %v", c, c.Usable)
		}
	}
	want := []string{"flag 1.30.0  ", "environment 1.26.0  ", "cache 1.30.0 cuda CUDAExecutionProvider",
		"cache 1.30.0  ", "cache 1.29.0  ", "system 1.19.2  "}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestWhichExplicit: a library that somebody named and that cannot be used is an error, though others are there.
func TestWhichExplicit(t *testing.T) {
	e, _ := env(t)
	put(t, filepath.Join(e.installDir("1.30.0", linuxAMD64, ""), "libonnxruntime.so.1.30.0"), fakeLibrary("1.30.0"), 0o644)
	dir := t.TempDir()
	old := put(t, filepath.Join(dir, "old.so"), fakeLibrary("1.19.2"), 0o644)
	arm := put(t, filepath.Join(dir, "arm.so"), fakeELF(elf.EM_AARCH64, apiSymbol, "1.30.0"), 0o644)
	newer := put(t, filepath.Join(dir, "new.so"), fakeLibrary("1.31.0"), 0o644)
	tests := []struct {
		name string
		s    Search
		err  string
	}{
		{"old", Search{Path: old}, "ONNX Runtime 1.19.2 serves API level 19, and level 24 (release 1.24 or later) is needed"},
		{"machine", Search{Path: arm}, "the library is for linux/arm64, and this is linux/amd64"},
		{"missing", Search{Path: filepath.Join(dir, "none.so")}, "no such file"},
		{"exact", Search{Path: newer, Exact: true}, "the library is ONNX Runtime 1.31.0, and 1.30.0 is asked for"},
		{"environment", Search{Env: Env{Library: old}}, "LAPIDARY_ORT_LIB="},
		{"variant", Search{Variant: "../x"}, "not a name of lower-case letters"},
		{"version", Search{Version: "1.30"}, "not of the form"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.Platform, tt.s.NoPython = linuxAMD64, true
			lib := tt.s.Env.Library
			tt.s.Env = e
			tt.s.Env.Library = lib
			got, err := Which(context.Background(), tt.s)
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, %v, want error %q", got, err, tt.err)
			}
		})
	}
	got, err := Which(context.Background(), Search{Path: newer, Platform: linuxAMD64, Env: e})
	if err != nil || !strings.Contains(got.Reason, "preferred version is 1.30.0") {
		t.Errorf("a newer library: %v, %v", got, err)
	}
}

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestVersions(t *testing.T) {
	for v, want := range map[string]bool{"v1.2.3": true, "v0.1.0-rc.1": true, "1.2.3": false, "v1.2": false, "v1.2.x": false, "": false, "v1.2.3/..": false, "v1.2.3-a/b": false} {
		if validVersion(v) != want {
			t.Errorf("%q: %v", v, !want)
		}
	}
}

func TestChoose(t *testing.T) {
	for text, want := range map[string]int{"": len(targets), "linux/amd64": 3, "linux/amd64+cgo": 1, "linux/arm64+embedded": 1, "linux/amd64-cgo,windows/amd64-cgo": 2, "plan9/amd64": 0, "linux/amd64,": 0} {
		got, err := choose(text)
		if len(got) != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %v (%v)", text, got, err)
		}
	}
	if _, why := (target{"darwin", "arm64", true, false}).environment(); why == "" {
		if _, err := exec.LookPath(crossCompilers["darwin/arm64"]); err != nil {
			t.Error("a build without its compiler is not left out")
		}
	}
}

// TestPack: the same files give the same bytes whatever their order, and can be taken out.
func TestPack(t *testing.T) {
	files := []file{{"lapidary", []byte("program"), 0o755}, {"man/a.1", []byte("page"), 0o644}, {"LICENSE", nil, 0o644}}
	at := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	for _, ext := range []string{".tar.gz", ".zip"} {
		var packed [2][]byte
		for i := range packed {
			path := filepath.Join(t.TempDir(), "a"+ext)
			slices.Reverse(files)
			if err := pack(path, "folder", files, at); err != nil {
				t.Fatal(err)
			}
			packed[i], _ = os.ReadFile(path)
		}
		if !bytes.Equal(packed[0], packed[1]) {
			t.Errorf("%s: other bytes for another order", ext)
		}
		var got map[string]string
		if ext == ".zip" {
			got = unzip(t, packed[0], at)
		} else {
			got = untar(t, packed[0], at)
		}
		want := map[string]string{"folder/lapidary": "program 755", "folder/man/a.1": "page 644", "folder/LICENSE": " 644"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", ext, d)
		}
	}
}

func untar(t *testing.T, b []byte, at time.Time) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	got, r := map[string]string{}, tar.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil || !h.ModTime.Equal(at) || h.Uid != 0 || h.Uname != "" {
			t.Fatalf("%+v (%v)", h, err)
		}
		text, _ := io.ReadAll(r)
		got[h.Name] = string(text) + " " + octal(h.FileInfo().Mode())
	}
}

func unzip(t *testing.T, b []byte, at time.Time) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range r.File {
		if !f.Modified.Equal(at) {
			t.Errorf("%s is of %v", f.Name, f.Modified)
		}
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(in)
		got[f.Name] = string(text) + " " + octal(f.Mode())
	}
	return got
}

func octal(m os.FileMode) string {
	if m.Perm() == 0o755 {
		return "755"
	}
	return "644"
}

// TestContents: the bill names every module of a program, the notices have the terms of each, and all of these are permissive.
func TestContents(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	modules, err := modulesOf(self)
	if err != nil || len(modules) < 2 || modules[0].Path != "std" || modules[0].Version == "" {
		t.Fatalf("modules %v (%v)", modules, err)
	}
	b, err := billOf("name", "v1.2.3", targets[0], modules, []byte("program"), nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := billOf("name", "v1.2.3", targets[0], modules, []byte("program"), nil)
	if !bytes.Equal(b, again) {
		t.Error("the same program has two bills")
	}
	var bill struct {
		SerialNumber string
		Components   []struct{ Name, PURL string }
	}
	if err := json.Unmarshal(b, &bill); err != nil || len(bill.Components) != len(modules) || len(bill.SerialNumber) != len("urn:uuid:")+36 {
		t.Errorf("%d components of %d modules, serial %q (%v)", len(bill.Components), len(modules), bill.SerialNumber, err)
	}
	notices, err := noticesOf(t.Context(), modules)
	if err != nil {
		t.Fatal(err)
	}
	permissive(t, notices)
	if _, err := noticesOf(t.Context(), []module{{Path: "example.com/nowhere", Version: "v1.0.0"}}); err == nil {
		t.Error("a module without its licence is accepted")
	}
}

// TestEveryModuleIsPermissive looks at the terms of all modules that the program is built of, by the list of its packages.
func TestEveryModuleIsPermissive(t *testing.T) {
	b, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "../../cmd/lapidary").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var modules []module
	for line := range strings.Lines(string(b)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path == "" || version == "" || seen[path] {
			continue
		}
		seen[path] = true
		modules = append(modules, module{Path: path, Version: version})
	}
	if len(modules) < 20 {
		t.Fatalf("only %d modules", len(modules))
	}
	notices, err := noticesOf(t.Context(), modules)
	if err != nil {
		t.Fatal(err)
	}
	permissive(t, notices)
}

func permissive(t *testing.T, notices []byte) {
	t.Helper()
	for _, part := range strings.Split(string(notices), strings.Repeat("=", 80))[1:] {
		name, terms, _ := strings.Cut(strings.TrimSpace(part), "\n")
		if len(termsIn(terms)) == 0 {
			t.Errorf("%s has other terms than those that are known to be permissive:\n%.300s", name, terms)
		}
	}
}

// licences are permissive terms, and a sentence of each.
var licences = []struct{ name, text string }{
	{"Apache-2.0", "Apache License"}, {"MIT", "Permission is hereby granted, free of charge"}, {"BSD", "Redistribution and use in source and binary forms"},
	{"ISC", "Permission to use, copy, modify, and/or distribute"}, {"MPL-2.0", "Mozilla Public License"},
}

// termsIn returns the names of the licences that a text has.
func termsIn(text string) []string {
	var out []string
	flat := strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, l := range licences {
		if strings.Contains(flat, strings.ToLower(l.text)) {
			out = append(out, l.name)
		}
	}
	slices.Sort(out)
	return out
}

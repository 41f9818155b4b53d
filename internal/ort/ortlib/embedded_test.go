package ortlib

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// carrying is a search by a program that carries a library, with the pin for it.
func carrying(t *testing.T) (Search, []byte) {
	e, _ := env(t)
	lib := fakeLibrary(Version)
	e.Embedded = string(lib)
	pin := Pin{Channel: Pip, Version: Version, Platform: linuxAMD64, Files: map[string]string{"libonnxruntime.so." + Version: digest(lib)}}
	return Search{Platform: linuxAMD64, Env: e, NoPython: true, pins: []Pin{pin}}, lib
}

// TestEmbedded unpacks the library that a program carries, once, and again where it was tampered with.
func TestEmbedded(t *testing.T) {
	s, lib := carrying(t)
	first, err := Which(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	if first.Origin != OriginEmbedded || first.Version != Version {
		t.Errorf("%+v", first)
	}
	got, err := os.ReadFile(first.Path)
	if err != nil || string(got) != string(lib) {
		t.Errorf("what was unpacked is not what is carried: %v", err)
	}
	for path, want := range map[string]fs.FileMode{filepath.Dir(first.Path): 0o700, first.Path: 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, st.Mode().Perm(), want)
		}
	}
	v, err := verify(context.Background(), first.Path, s.pins)
	if err != nil || !v.OK() || !v.Pinned || v.Manifest.Channel != Carry {
		t.Errorf("verification: %+v, %v", v, err)
	}
	before, err := os.Stat(first.Path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Which(context.Background(), s)
	if err != nil || again.Path != first.Path {
		t.Fatalf("%+v, %v", again, err)
	}
	if after, err := os.Stat(first.Path); err != nil || !os.SameFile(before, after) {
		t.Errorf("unpacked a second time: %v", err)
	}
	if err := os.WriteFile(first.Path, append(got, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Which(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(first.Path); err != nil || string(got) != string(lib) {
		t.Errorf("a changed library was used: %v", err)
	}
}

// TestEmbeddedRefused holds that bytes without a pin are not unpacked, and that a library which cannot be unpacked is
// named where no other is found.
func TestEmbeddedRefused(t *testing.T) {
	s, _ := carrying(t)
	s.Env.Embedded += "\x00"
	var notFound *NotFoundError
	if _, err := Which(context.Background(), s); !errors.As(err, &notFound) || !strings.Contains(err.Error(), "is not pinned for linux/amd64") {
		t.Errorf("bytes without a pin: %v", err)
	}
	if files := visible(t, s.Env); len(files) != 0 {
		t.Errorf("left behind: %v", files)
	}
	s, _ = carrying(t)
	s.Env.CacheDir = ""
	if _, err := Which(context.Background(), s); err == nil || !strings.Contains(err.Error(), "set HOME or XDG_CACHE_HOME") {
		t.Errorf("no cache: %v", err)
	}
}

// TestEmbeddedOrder holds that a library that somebody names goes before the embedded one, and a pinned one that is
// installed already is as good.
func TestEmbeddedOrder(t *testing.T) {
	s, lib := carrying(t)
	named := put(t, filepath.Join(t.TempDir(), "libonnxruntime.so"), fakeLibrary("1.26.0"), 0o644)
	s.Env.Library = named
	if got, err := Which(context.Background(), s); err != nil || got.Origin != OriginEnvironment {
		t.Errorf("LAPIDARY_ORT_LIB: %+v, %v", got, err)
	}
	s.Env.Library = ""
	archive := put(t, filepath.Join(t.TempDir(), "lib.so"), lib, 0o644)
	own := func() {
		t.Helper()
		if _, err := install(context.Background(), Options{From: archive, SHA256: digest(lib), Platform: linuxAMD64, Env: s.Env}, s.pins); err != nil {
			t.Fatal(err)
		}
	}
	own()
	got, err := Which(context.Background(), s)
	if err != nil || got.Origin != OriginEmbedded {
		t.Fatalf("%+v, %v", got, err)
	}
	if m, err := ReadManifest(filepath.Dir(got.Path)); err != nil || m.Channel != Carry {
		t.Errorf("what no pin vouches for was taken for the embedded library: %+v, %v", m, err)
	}
}

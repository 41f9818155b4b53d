package ortlib

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestFetchWheel takes library and licences from a wheel, and refuses a wheel or a library without a pin.
func TestFetchWheel(t *testing.T) {
	lib := fakeLibrary(Version)
	name := "libonnxruntime.so." + Version
	whole := []entry{{name: "onnxruntime/capi/" + name, data: lib}, {name: "onnxruntime/LICENSE", data: []byte("terms")}, {name: "onnxruntime/ThirdPartyNotices.txt", data: []byte("others")}}
	for _, c := range []struct {
		name    string
		entries []entry
		library string // digest in the pin
		archive string // "" for that of the wheel
		want    string // in the error
	}{
		{name: "whole", entries: whole, library: digest(lib)},
		{name: "another wheel", entries: whole, library: digest(lib), archive: strings.Repeat("0", 64), want: "has SHA-256"},
		{name: "another library", entries: whole, library: strings.Repeat("0", 64), want: "has SHA-256"},
		{name: "no notices", entries: whole[:2], library: digest(lib), want: "the wheel has no ThirdPartyNotices.txt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, bin := env(t)
			wheel := zipped(t, c.entries...)
			file := put(t, filepath.Join(t.TempDir(), "onnxruntime.whl"), wheel, 0o644)
			script(t, bin, "pip3", "PATH=/usr/bin:/bin\nwhile [ \"$1\" != --dest ]; do shift; done\ncp "+file+" \"$2/onnxruntime.whl\"\n")
			pin := Pin{Channel: Pip, Version: Version, Platform: linuxAMD64, Archive: c.archive, Files: map[string]string{name: c.library}}
			if pin.Archive == "" {
				pin.Archive = digest(wheel)
			}
			w, err := fetchWheel(context.Background(), linuxAMD64, e, []Pin{pin})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || string(w.Library) != string(lib) || w.SHA256 != digest(lib) || w.Licence != "terms" || w.Notices != "others" {
				t.Errorf("%+v, %v", w, err)
			}
		})
	}
	if _, err := fetchWheel(context.Background(), Platform{"plan9", "amd64"}, Env{}, nil); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("no pin: %v", err)
	}
}

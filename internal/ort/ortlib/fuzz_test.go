package ortlib

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
)

// FuzzUnpack takes libraries out of archives: files appear below the folder for them
// only, and no more comes out than the limit.
func FuzzUnpack(f *testing.F) {
	lib := fakeLibrary("1.30.0")
	f.Add(lib)
	for _, name := range []string{"lib/libonnxruntime.so.1.30.0", "../libonnxruntime.so", "/libonnxruntime.so", "a/../../libonnxruntime.so"} {
		var z, g bytes.Buffer
		zw := zip.NewWriter(&z)
		w, err := zw.Create(name)
		if err != nil {
			f.Fatal(err)
		}
		w.Write(lib)
		zw.Close()
		gz := gzip.NewWriter(&g)
		tw := tar.NewWriter(gz)
		tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(lib)), Mode: 0o777})
		tw.Write(lib)
		tw.WriteHeader(&tar.Header{Name: "libonnxruntime.so", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
		tw.Close()
		gz.Close()
		f.Add(z.Bytes())
		f.Add(g.Bytes())
	}
	limits := Limits{Archive: 1 << 20, Unpacked: 1 << 20, Entries: 100}
	f.Fuzz(func(t *testing.T, b []byte) {
		root := t.TempDir()
		dir, path := filepath.Join(root, "out"), filepath.Join(root, "archive")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		all, _ := unpack(t.Context(), path, "archive", Platform{"linux", "amd64"}, dir, limits)
		for _, u := range all {
			if filepath.Dir(u.file) != dir {
				t.Fatalf("%s is not in the folder", u.file)
			}
		}
		entries, err := os.ReadDir(root)
		if err != nil || len(entries) != 2 {
			t.Fatalf("beside the archive and the folder there is something else: %v (%v)", entries, err)
		}
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, e := range left {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() {
				t.Fatalf("%s is no file (%v)", e.Name(), err)
			}
			size += info.Size()
		}
		if size > limits.Unpacked {
			t.Fatalf("%d bytes came out", size)
		}
	})
}

// FuzzManifest reads the manifest of an installed library: it names files of its own folder only.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"format":1,"library":"libonnxruntime.so.1","files":[{"name":"libonnxruntime.so.1","sha256":"ab","bytes":1},{"name":"libonnxruntime.so","link":"libonnxruntime.so.1"}]}`))
	f.Add([]byte(`{"format":1,"library":"../x","files":[{"name":"../x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ManifestName), b, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := ReadManifest(dir)
		if err != nil {
			return
		}
		for _, x := range m.Files {
			if filepath.Base(x.Name) != x.Name || x.Link != "" && filepath.Base(x.Link) != x.Link {
				t.Fatalf("it names %+v", x)
			}
		}
		if filepath.Base(m.Library) != m.Library {
			t.Fatalf("its library is %q", m.Library)
		}
	})
}

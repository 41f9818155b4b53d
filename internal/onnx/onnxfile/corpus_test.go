package onnxfile

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// zoo returns the folder of the optional test corpus, or skips.
func zoo(t testing.TB) string {
	dir := os.Getenv("LAPIDARY_ZOO")
	if dir == "" {
		dir = "../../../../shared/zoo"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no test corpus at %s (set LAPIDARY_ZOO)", dir)
	}
	return dir
}

// eachModel calls f for every model of the corpus.
func eachModel(t *testing.T, f func(name string, b []byte)) {
	dir := zoo(t)
	zips, err := filepath.Glob(filepath.Join(dir, "corpus/*.zip"))
	if err != nil || len(zips) == 0 {
		t.Fatalf("no archives in %s/corpus: %v", dir, err)
	}
	for _, z := range zips {
		r, err := zip.OpenReader(z)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.File {
			if !strings.HasSuffix(e.Name, ".onnx") {
				continue
			}
			rc, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(rc)
			if err != nil {
				t.Fatal(err)
			}
			f(filepath.Base(z)+":"+e.Name, b)
		}
		r.Close()
	}
	files, _ := filepath.Glob(filepath.Join(dir, "models/*.onnx"))
	for _, p := range files {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f(filepath.Base(p), b)
	}
}

// TestCorpusRoundTrip decodes and encodes every model: what is written must
// read back to the same encoding, and what cannot be read must say why.
func TestCorpusRoundTrip(t *testing.T) {
	total, same, refused := 0, 0, map[string]string{}
	eachModel(t, func(name string, b []byte) {
		total++
		m, err := Decode(b)
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) || fe.Msg == "" {
				t.Errorf("%s: %v is no FormatError", name, err)
			}
			refused[name] = err.Error()
			return
		}
		once, err := Encode(m)
		if err != nil {
			refused[name] = err.Error()
			return
		}
		m2, err := Decode(once)
		if err != nil {
			t.Errorf("%s: reading back: %v", name, err)
			return
		}
		twice, err := Encode(m2)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s: second encoding differs (%v)", name, err)
		}
		if bytes.Equal(once, b) {
			same++
		}
	})
	t.Logf("%d models, %d byte-identical after a round trip, %d refused", total, same, len(refused))
	for name, why := range refused {
		t.Logf("refused %s: %s", name, why)
	}
	if diff := cmp.Diff(true, total > 1000); diff != "" {
		t.Errorf("only %d models in the corpus", total)
	}
}

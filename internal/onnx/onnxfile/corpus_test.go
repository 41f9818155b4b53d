package onnxfile

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// eachModel calls f for every model of the corpus.
func eachModel(t *testing.T, f func(name string, b []byte)) {
	for _, archive := range zootest.Archives(t) {
		files := zootest.Archive(t, archive)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if strings.HasSuffix(name, ".onnx") {
				f(archive+".zip:"+name, files[name])
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(zootest.Dir(t), "models/*.onnx"))
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

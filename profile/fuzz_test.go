package profile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// FuzzStatic counts arbitrary graphs, and writes what it finds: nothing panics or
// loops, and no count is negative.
func FuzzStatic(f *testing.F) {
	for _, b := range randgraph.Seeds(30) {
		f.Add(b, false)
	}
	for _, b := range zootest.Seeds(f, ".onnx", 16<<10) {
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, encoded bool) {
		m := randgraph.Model(data)
		if encoded {
			var err error
			if m, err = onnxfile.Decode(data); err != nil {
				return
			}
		}
		p, err := Static(m, StaticOptions{Dims: map[string]int64{"N": 3}, Sparsity: true})
		if err != nil {
			return
		}
		w := p.Work
		if w.MACs < 0 || w.FLOPs < 0 || w.BytesRead < 0 || w.BytesWritten < 0 || p.NodeCount < 0 || p.Weights.Parameters < 0 {
			t.Fatalf("negative counts: %d nodes, %d parameters, %+v", p.NodeCount, p.Weights.Parameters, w)
		}
		if _, err := New(p, nil).JSON(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDiff compares profiles as they were written by profile --format json, or not.
func FuzzDiff(f *testing.F) {
	for _, b := range randgraph.Seeds(4) {
		p, err := Static(randgraph.Model(b), StaticOptions{})
		if err != nil {
			continue
		}
		text, err := New(p, nil).JSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"schema":"` + SchemaURI + `","schema_version":"1.0","timed":{"nodes":[{"name":"a","ms":-1,"serves":"a","inside":"a","covers":["a","a"]}]}}`))
	f.Add([]byte(`{"schema":"` + SchemaURI + `","schema_version":"1.0","static":{},"timed":{}}`))
	f.Add([]byte(strings.Repeat(`{"static":`, 200)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, filepath.Base(t.TempDir()))
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		d, err := DiffFiles(path, path)
		if err != nil {
			return
		}
		for _, x := range d.Facts {
			if x.A != x.B {
				t.Fatalf("a profile differs from itself: %+v", x)
			}
		}
	})
}

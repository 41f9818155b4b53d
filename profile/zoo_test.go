package profile

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// unzip writes one file of an archive of the corpus into a folder of the test.
func unzip(t testing.TB, archive, name string) string {
	r, err := zip.OpenReader(filepath.Join(zootest.Dir(t), "corpus", archive))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := r.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPublishedFigures compares with what is published of these networks for
// inputs of 224×224: parameters of the reference implementations with the
// statistics of BatchNormalization, and their multiply-accumulates.
func TestPublishedFigures(t *testing.T) {
	tests := []struct {
		file             string
		parameters, macs int64
	}{
		{"light_bvlc_alexnet.onnx", 60_965_224, 654_560_384}, // grouped, 224×224
		{"light_squeezenet.onnx", 1_235_496, 349_151_936},    // version 1.1
		{"light_vgg19.onnx", 143_667_240, 19_632_062_464},
		{"light_resnet50.onnx", 25_557_032 + 53_120 + 1, 4_089_184_256}, // the file has a stray scalar
		{"light_densenet121.onnx", 7_978_856 + 2*83_648, 2_834_161_664},
		{"light_inception_v1.onnx", 6_998_552, 1_431_556_352},
	}
	for _, tt := range tests {
		t.Run(strings.TrimSuffix(tt.file, ".onnx"), func(t *testing.T) {
			s, err := StaticFile(unzip(t, "light.zip", tt.file), StaticOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if s.Weights.Parameters != tt.parameters {
				t.Errorf("%d parameters, want %d", s.Weights.Parameters, tt.parameters)
			}
			if s.Work.MACs != tt.macs {
				t.Errorf("%d MACs, want %d", s.Work.MACs, tt.macs)
			}
			if s.Work.FLOPs < 2*s.Work.MACs || s.Work.FLOPs > 2*s.Work.MACs+s.Work.MACs/10 {
				t.Errorf("%d FLOPs for %d MACs", s.Work.FLOPs, s.Work.MACs)
			}
			if s.Coverage.Counted != s.Coverage.Nodes {
				t.Errorf("coverage %+v, want everything", s.Coverage)
			}
		})
	}
}

// TestCorpus profiles every model of the corpus that opens, checks what must
// hold of any profile, and prints the coverage.
func TestCorpus(t *testing.T) {
	zips, err := filepath.Glob(filepath.Join(zootest.Dir(t), "corpus", "*.zip"))
	if err != nil || len(zips) == 0 {
		t.Fatalf("no archives in the corpus: %v", err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	var models, refused int
	var nodes, counted int64
	look := func(name, path string) {
		s, err := StaticFile(path, StaticOptions{})
		if err != nil {
			if _, bad := errors.AsType[*onnxfile.FormatError](err); !bad {
				t.Errorf("%s: %v", name, err)
			}
			refused++
			return
		}
		models++
		nodes += s.Coverage.Nodes
		counted += s.Coverage.Counted
		if err := sound(s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var b bytes.Buffer
		if err := New(s, nil).Table(&b, TableOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkWidth(t, name, b.String(), 80)
	}
	for _, z := range zips {
		r, err := zip.OpenReader(z)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			if !strings.HasSuffix(f.Name, ".onnx") {
				continue
			}
			b, err := fs.ReadFile(r, f.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			look(filepath.Base(z)+":"+f.Name, path)
		}
		r.Close()
	}
	for _, pattern := range []string{filepath.Join(zootest.Dir(t), "models", "*.onnx"), filepath.Join(zootest.Dir(t), "hostile", "*"), "../testdata/*.onnx"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				look(f, f)
			}
		}
	}
	t.Logf("%d models profiled, %d refused as broken files, %.1f %% of %d nodes counted", models, refused, 100*float64(counted)/float64(nodes), nodes)
	if models < 1900 || counted*100 < nodes*80 {
		t.Errorf("%d models and %d of %d nodes: fewer than before", models, counted, nodes)
	}
}

// sound reports what cannot hold of any model.
func sound(s *StaticProfile) error {
	var macs, live int64
	for i, n := range s.Nodes {
		macs = plus(macs, times(n.Work.MACs, n.Runs))
		live = max(live, n.LiveBytes)
		w := n.Work
		if w.MACs < 0 || w.FLOPs < 2*w.MACs && w.FLOPs < maxCount || w.BytesRead < 0 || w.BytesWritten < 0 || n.Parameters < 0 || n.Runs < 0 {
			return fmt.Errorf("node %d: %+v", i, n)
		}
	}
	switch {
	case macs != s.Work.MACs:
		return fmt.Errorf("MACs of nodes are %d, the sum says %d", macs, s.Work.MACs)
	case s.Activations.PeakBytes < live && s.Activations.Inside == 0:
		return fmt.Errorf("a node has %d bytes alive, the peak is %d", live, s.Activations.PeakBytes)
	case s.Coverage.Counted < 0 || s.Coverage.Nodes != int64(len(s.Nodes)):
		return fmt.Errorf("coverage %+v of %d nodes", s.Coverage, len(s.Nodes))
	}
	return nil
}

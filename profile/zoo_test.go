package profile

import (
	"archive/zip"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/opset"
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
		// These as onnx-tool counts them: products, and parameters without its integers of 64 bits.
		{"light_inception_v2.onnx", 11_234_792, 2_018_851_840},
		{"light_shufflenet.onnx", 1_420_152, 124_664_528},
		{"light_zfnet512.onnx", 87_250_537, 1_481_727_008},
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

// TestCorpus profiles every model of the corpus that opens, a fixed fifth by
// default, checks what must hold of any profile, and prints the coverage.
func TestCorpus(t *testing.T) {
	c := &staticCorpus{t: t, path: filepath.Join(t.TempDir(), "model.onnx")}
	for _, archive := range zootest.Archives(t) {
		for name, b := range zootest.Archive(t, archive) {
			if !strings.HasSuffix(name, ".onnx") || !zootest.Chosen(archive+"/"+name) {
				continue
			}
			if err := os.WriteFile(c.path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			c.look(archive+"/"+name, c.path)
		}
	}
	for _, pattern := range []string{filepath.Join(zootest.Dir(t), "models", "*.onnx"), filepath.Join(zootest.Dir(t), "hostile", "*"), "../testdata/*.onnx"} {
		files, _ := filepath.Glob(pattern)
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				c.look(f, f)
			}
		}
	}
	t.Logf("%d models profiled, %d refused as broken files; counted: %.1f %% of %d nodes, with %.1f %% of the traffic, all of %d models; %d with formulas",
		c.models, c.refused, 100*float64(c.counted)/float64(c.nodes), c.nodes, 100*c.known/c.traffic, c.whole, c.formulas)
	for _, k := range slices.SortedFunc(maps.Keys(c.unknown), func(a, b string) int {
		return cmp.Or(c.unknown[b]-c.unknown[a], strings.Compare(a, b))
	})[:min(10, len(c.unknown))] {
		t.Logf("not counted: %d x %s", c.unknown[k], k)
	}
	least := 300
	if zootest.All() {
		least = 1900
	}
	if c.models < least || c.counted*100 < c.nodes*80 {
		t.Errorf("%d models and %d of %d nodes: fewer than before", c.models, c.counted, c.nodes)
	}
}

// staticCorpus adds up what is found in the models of a corpus.
type staticCorpus struct {
	t                                *testing.T
	path                             string
	models, refused, whole, formulas int
	nodes, counted                   int64
	known, traffic                   float64
	unknown                          map[string]int
}

func (c *staticCorpus) look(name, path string) {
	s, err := StaticFile(path, StaticOptions{})
	if err != nil {
		if _, bad := errors.AsType[*onnxfile.FormatError](err); !bad {
			c.t.Errorf("%s: %v", name, err)
		}
		c.refused++
		return
	}
	c.models++
	c.nodes += s.Coverage.Nodes
	c.counted += s.Coverage.Counted
	if s.Coverage.Counted == s.Coverage.Nodes {
		c.whole++
	}
	for _, n := range s.Nodes {
		bytes := float64(n.Work.BytesRead) + float64(n.Work.BytesWritten)
		c.traffic += bytes
		if n.Unknown == "" {
			c.known += bytes
		}
	}
	if c.unknown == nil {
		c.unknown = map[string]int{}
	}
	for _, u := range s.Coverage.Unknown {
		c.unknown[u.Op+": "+u.Reason] += int(u.Count)
	}
	if err := sound(s); err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	if s.Formulas != nil {
		c.formulas++
		c.checkFormulas(name, path, s)
	}
	var b bytes.Buffer
	if err := New(s, nil).Table(&b, TableOptions{}); err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
	checkWidth(c.t, name, b.String(), 80)
}

// checkFormulas compares the formulas of a model with what is counted for other
// sizes of the open dimensions.
func (c *staticCorpus) checkFormulas(name, path string, s *StaticProfile) {
	sizes := map[string]int64{}
	for i, d := range s.Dims {
		sizes[d.Name] = int64(2 + i)
	}
	at, err := StaticFile(path, StaticOptions{Dims: sizes})
	if err != nil {
		return // a graph whose other inputs have fixed sizes
	}
	if at.Coverage.Counted != s.Coverage.Counted {
		return
	}
	macs, ok1 := formulaValue(s.Formulas.MACs, sizes)
	flops, ok2 := formulaValue(s.Formulas.FLOPs, sizes)
	if ok1 && macs != at.Work.MACs || ok2 && flops != at.Work.FLOPs {
		c.t.Errorf("%s: for %v the formulas %s and %s give %d MACs and %d FLOPs, counted are %d and %d", name, sizes, s.Formulas.MACs, s.Formulas.FLOPs, macs, flops, at.Work.MACs, at.Work.FLOPs)
	}
}

// formulaValue returns the value of a formula, as inference gives a dimension of that text.
func formulaValue(formula string, sizes map[string]int64) (int64, bool) {
	m := onnx.NewModel(17)
	used := map[string]int64{}
	for name, n := range sizes {
		m.Graph.AddInput("x"+name, onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol(name)}))
		used[name] = n
	}
	v := m.Graph.AddInput("y", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol(formula)}))
	if n, err := strconv.ParseInt(formula, 10, 64); err == nil {
		return n, true
	}
	facts, err := opset.Infer(m, opset.Options{Dims: used, ReadOnly: true})
	if err != nil || !facts.Shape(v)[0].Known() {
		return 0, false
	}
	return facts.Shape(v)[0].Value, true
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
	case s.Activations.ReusedBytes > s.Activations.PeakBytes || s.Activations.TotalBytes < s.Activations.PeakBytes-s.Activations.Inside:
		return fmt.Errorf("activations %+v", s.Activations)
	case s.Coverage.Counted < 0 || s.Coverage.Nodes != int64(len(s.Nodes)):
		return fmt.Errorf("coverage %+v of %d nodes", s.Coverage, len(s.Nodes))
	}
	return nil
}

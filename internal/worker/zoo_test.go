//go:build unix

package worker

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// zoo returns the files of a folder of the optional test corpus, or skips.
func zoo(t *testing.T, folder string) []string {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(zootest.Path(t, folder), "*.onnx"))
	return files
}

// TestMaps returns a sequence of maps as a matrix, with its keys beside it.
func TestMaps(t *testing.T) {
	open := Opener(onnxRuntime(t))
	x := onnx.FromFloats("X", []int64{2, 4}, []float32{5.1, 3.5, 1.4, 0.2, 6.3, 3.3, 6.0, 2.5})
	for _, path := range zoo(t, "models") {
		if filepath.Base(path) != "iris-forest.onnx" {
			continue
		}
		s, err := open(t.Context(), path, session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r, err := s.Run(t.Context(), map[string]*onnx.Tensor{s.Inputs()[0].Name: x})
		if err != nil {
			t.Fatal(err)
		}
		maps := s.Outputs()[1]
		p, keys := r.Outputs[maps.Name], r.Outputs[session.KeysName(maps.Name)]
		if p == nil || keys == nil {
			t.Fatalf("%s gives %v", path, r.Outputs)
		}
		if k, err := keys.Ints(); err != nil || !slices.Equal(k, []int64{0, 1, 2}) {
			t.Errorf("keys %v, %v", k, err)
		}
		v, err := p.Float64s()
		if err != nil || !slices.Equal(p.Shape, []int64{2, 3}) {
			t.Fatalf("%v, %v", p, err)
		}
		for row, class := range []int{0, 2} { // a setosa and a virginica of the data set
			if best := 3*row + class; v[best] < 0.5 {
				t.Errorf("%s: row %d has probabilities %v, want class %d", filepath.Base(path), row, v[3*row:3*row+3], class)
			}
		}
	}
}

// TestHostile opens broken files: each loads, or fails with an error that
// names it, and nothing is left behind.
func TestHostile(t *testing.T) {
	o := onnxRuntime(t)
	o.TempDir = t.TempDir()
	files := zoo(t, "hostile")
	whole, err := os.ReadFile(zoo(t, "models")[0])
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.onnx")
	if err := os.WriteFile(cut, whole[:len(whole)*2/3], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range append(files, cut) {
		s, err := Opener(o)(t.Context(), path, session.Options{SaveModel: filepath.Join(t.TempDir(), "saved.onnx")})
		if err == nil {
			if err := s.Close(); err != nil {
				t.Errorf("%s: Close: %v", path, err)
			}
			continue
		}
		if !strings.Contains(err.Error(), filepath.Base(path)) || strings.Contains(err.Error(), "/core/") {
			t.Errorf("%s gives %v", path, err)
		}
		t.Log(err)
	}
	if left, _ := os.ReadDir(o.TempDir); len(left) > 0 {
		t.Errorf("the workers left %v behind", left)
	}
}

package onnxfile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// weighted is a model whose one weight holds b many times.
func weighted(t *testing.T, b byte) *onnx.Model {
	t.Helper()
	m := onnx.NewModel(17)
	data := make([]byte, 4096)
	for i := range data {
		data[i] = b
	}
	w, err := onnx.NewTensor("w", onnx.Uint8, []int64{4096}, data)
	if err != nil {
		t.Fatal(err)
	}
	n := onnx.NewNode("Identity", []*onnx.Value{m.Graph.AddInitializer(w)}, "y")
	m.Graph.Append(n)
	m.Graph.AddOutput(n.Output(0))
	return m
}

// TestWriteFaults lets each operation of replacing a model with external data fail:
// the target is the old model or the new one, with its data, and no data is left
// that belongs to neither. Before, a folder that could not be synced took the data of
// the new model away.
func TestWriteFaults(t *testing.T) {
	t.Cleanup(func() { atomicfile.Hook = nil })
	for n := 1; ; n++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "m.onnx")
		if _, err := Write(path, weighted(t, 1), WriteOptions{External: ExternalAlways}); err != nil {
			t.Fatal(err)
		}
		seen, what := 0, ""
		atomicfile.Hook = func(op atomicfile.Op, path string) error {
			if seen++; seen == n {
				what = fmt.Sprintf("%s %s", op, filepath.Base(path))
				return syscall.EIO
			}
			return nil
		}
		_, writeErr := Write(path, weighted(t, 2), WriteOptions{External: ExternalAlways})
		atomicfile.Hook = nil
		m, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		b, err := initializers(m)[0].Bytes()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if b[0] != 2 && writeErr == nil {
			t.Errorf("%s: no error, and the old model", what)
		}
		m.Close()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		// Old data that cannot be removed stays, and so it does while a power failure may
		// bring the old model back.
		if len(files) != 2 && !strings.HasPrefix(what, "remove ") && what != "sync folder m.onnx" {
			t.Errorf("%s: the folder holds %v (%v)", what, files, writeErr)
		}
		if what == "" {
			if n < 15 {
				t.Errorf("only %d operations", n-1)
			}
			return
		}
	}
}

// TestStagedAtOnce stages two models with external data for one target and puts both
// in place: the second is refused, since its data would take the name, and with that
// the place, of the first one's.
func TestStagedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	var staged []*Staged
	for b := range 2 {
		s, err := Stage(path, weighted(t, byte(b+1)), WriteOptions{External: ExternalAlways})
		if err != nil {
			t.Fatal(err)
		}
		staged = append(staged, s)
	}
	if err := staged[0].Commit(); err != nil {
		t.Fatal(err)
	}
	if err := staged[1].Commit(); err == nil || !strings.Contains(err.Error(), "another program wrote "+path) {
		t.Errorf("the second: %v", err)
	}
	m, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if b, err := initializers(m)[0].Bytes(); err != nil || b[0] != 1 {
		t.Errorf("the first model has the weights of another (%v)", err)
	}
}

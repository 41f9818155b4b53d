package fuse_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// corpus is the folder of the optional test corpus, or skips.
func corpus(t testing.TB) string { return zootest.Path(t, "corpus") }

func runtimeOpener(t testing.TB) session.Opener { return ort.Opener(zootest.Library(t)) }

// tally counts models by what happened to them.
type tally struct{ verified, noLoad, noRun, refused, fired int }

// TestCorpus runs every model that has test data three times: as it is, written
// back unchanged, and fused. What loads must still load, and compute the same.
// A fifth of the models is taken, all with LAPIDARY_CORPUS=all.
func TestCorpus(t *testing.T) {
	dir, open := corpus(t), runtimeOpener(t)
	all := os.Getenv("LAPIDARY_CORPUS") == "all"
	var n tally
	for _, name := range []string{"onnx-node", "onnx-backend", "onnx-expanded"} {
		files := unzip(t, filepath.Join(dir, name+".zip"))
		var models []string
		for f := range files {
			if path.Base(f) == "model.onnx" && (all || chosen(f)) {
				models = append(models, f)
			}
		}
		slices.Sort(models)
		for _, f := range models {
			if err := oneModel(t, open, files, f, &n); err != nil {
				t.Errorf("%s:%s: %v", name, f, err)
			}
		}
	}
	t.Logf("%d verified (%d rewritten), %d do not load, %d do not run or are random, %d refused by this codec",
		n.verified, n.fired, n.noLoad, n.noRun, n.refused)
	if n.verified < 100 {
		t.Errorf("only %d models were verified", n.verified)
	}
}

// chosen reports whether name is in the part of the corpus that runs.
func chosen(name string) bool { return zootest.Chosen(name) }

// unzip returns the content of an archive of the corpus.
func unzip(t *testing.T, file string) map[string][]byte {
	t.Helper()
	return zootest.Archive(t, strings.TrimSuffix(filepath.Base(file), ".zip"))
}

func oneModel(t *testing.T, open session.Opener, files map[string][]byte, name string, n *tally) error {
	dir := t.TempDir()
	want, in, err := reference(t, open, dir, files, name)
	if err != nil {
		n.noLoad++
		return nil
	}
	if want == nil {
		n.noRun++
		return nil
	}
	m, err := onnxfile.Decode(files[name])
	if err != nil {
		n.refused++
		return nil
	}
	if err := sameResult(t, open, dir, m, in, want); err != nil {
		return fmt.Errorf("written back: %w", err)
	}
	if _, err := m.Repair(); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	if err := m.Check(); err != nil {
		n.refused++
		return nil
	}
	log, err := fuse.Model(t.Context(), m, fuse.Options{})
	if err != nil {
		return fmt.Errorf("fusing: %w", err)
	}
	if err := sameResult(t, open, dir, m, in, want); err != nil {
		return fmt.Errorf("fused: %w", err)
	}
	n.verified++
	if len(log.Fired) > 0 {
		n.fired++
	}
	return nil
}

// reference runs the original twice. It returns no outputs where it does not
// run, or not the same way each time; an error where it does not load.
func reference(t *testing.T, open session.Opener, dir string, files map[string][]byte, name string) (want, in map[string]*onnx.Tensor, err error) {
	file := filepath.Join(dir, "original.onnx")
	if err := os.WriteFile(file, files[name], 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), file, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	in = map[string]*onnx.Tensor{}
	for i, p := range s.Inputs() {
		b, ok := files[fmt.Sprintf("%s/test_data_set_0/input_%d.pb", path.Dir(name), i)]
		if !ok {
			return nil, nil, nil
		}
		if addInput(in, p, b) != nil {
			return nil, nil, nil
		}
	}
	first, err := s.Run(t.Context(), in)
	if err != nil {
		return nil, nil, nil
	}
	second, err := s.Run(t.Context(), in)
	if err != nil || agree(first.Outputs, second.Outputs) != nil {
		return nil, nil, nil
	}
	return first.Outputs, in, nil
}

func addInput(in map[string]*onnx.Tensor, p session.Port, b []byte) error {
	add := func(list []*onnx.Tensor) {
		for i, e := range list {
			in[session.ElementName(p.Name, i)] = e
		}
	}
	switch p.Type.Kind {
	case onnx.KindSequence:
		list, err := onnxfile.DecodeSequence(b)
		add(list)
		return err
	case onnx.KindOptional:
		o, err := onnxfile.DecodeOptional(b)
		if o.Tensor != nil {
			in[p.Name] = o.Tensor
		}
		add(o.Sequence)
		return err
	}
	e, err := onnxfile.DecodeTensor(b)
	in[p.Name] = e
	return err
}

func sameResult(t *testing.T, open session.Opener, dir string, m *onnx.Model, in, want map[string]*onnx.Tensor) error {
	b, err := onnxfile.Encode(m)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "result.onnx")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), file, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		return fmt.Errorf("it no longer loads: %w", err)
	}
	defer s.Close()
	needed := map[string]*onnx.Tensor{}
	for _, p := range s.Inputs() {
		for name, v := range in {
			if name == p.Name || strings.HasPrefix(name, p.Name+"[") {
				needed[name] = v
			}
		}
	}
	r, err := s.Run(t.Context(), needed)
	if err != nil {
		return fmt.Errorf("it no longer runs: %w", err)
	}
	return agree(want, r.Outputs)
}

func agree(want, got map[string]*onnx.Tensor) error {
	if len(want) != len(got) {
		return fmt.Errorf("%d outputs instead of %d", len(got), len(want))
	}
	for name, w := range want {
		g := got[name]
		if g == nil {
			return fmt.Errorf("output %q is missing", name)
		}
		d, err := compare.Tensors(w, g, compare.ClassFor(w.DType))
		if err != nil {
			return fmt.Errorf("output %q: %w", name, err)
		}
		if !d.OK {
			return fmt.Errorf("output %q: %s", name, d.Reason)
		}
	}
	return nil
}

// outputsOf writes m to path and runs it with the engine's optimizations off.
func outputsOf(t *testing.T, open session.Opener, path string, m *onnx.Model, in map[string]*onnx.Tensor) map[string]*onnx.Tensor {
	t.Helper()
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), path, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Run(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return r.Outputs
}

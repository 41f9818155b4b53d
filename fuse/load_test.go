package fuse_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// withData are the archives whose models come with data, by which [TestCorpus]
// compares them. Random numbers, as for the length of a signal, are no substitute.
var withData = []string{"onnx-node", "onnx-backend", "onnx-expanded"}

// rolledBack are the models in which the check leaves a rewrite out, and why.
var rolledBack = map[string]string{
	"gemm_transpose_2outputs_from_transpose.onnx":           "at level all the runtime loses an output of the result, by its own fusion of Gemm and Transpose",
	"gemm_transpose_2outputs_from_transpose_to_2gemms.onnx": "as above",
	"layout_transform_reshape.onnx":                         "terms that cancel each other round otherwise",
	"needs_constraints.onnx":                                "as above: it adds and takes away large numbers",
	"fuse_sibling_casts_float_float16.onnx":                 "the runtime computes float16 in float32, and rounds only what is stored as float16",
}

// TestLoadRate: every model of every archive that the runtime loads is loaded,
// fused and written, and the runtime loads the result; where it runs the
// original on generated inputs, the result computes the same.
func TestLoadRate(t *testing.T) {
	archives := zootest.Archives(t)
	open := ort.Opener(zootest.Library(t))
	var n struct{ loaded, verified, unloadable, repaired, rolledBack int }
	for _, name := range archives {
		dir := extract(t, name)
		for _, file := range models(t, dir) {
			rel, _ := filepath.Rel(dir, file)
			if !zootest.Chosen(rel) {
				continue
			}
			s, err := open(t.Context(), file, session.Options{Level: session.LevelOff, Threads: 1})
			if err != nil {
				n.unloadable++
				continue
			}
			s.Close()
			n.loaded++
			r, err := fuseLoadable(t, open, file, !slices.Contains(withData, name))
			if err != nil {
				t.Errorf("%s:%s: %v", name, rel, err)
				continue
			}
			if r.Checked != nil {
				n.verified++
			}
			n.rolledBack += len(r.RolledBack)
			for _, b := range r.RolledBack {
				if why := rolledBack[filepath.Base(rel)]; why == "" {
					t.Errorf("%s:%s: %s makes a difference: %s", name, rel, b.Firing.Key, b.Reason)
				}
			}
			n.repaired += len(r.Log.Notices)
		}
	}
	t.Logf("%d that the runtime loads are fused and load, %d of them verified by running; %d that it does not load; %d notices, %d rewrites left out", n.loaded, n.verified, n.unloadable, n.repaired, n.rolledBack)
	if n.loaded < 100 {
		t.Errorf("only %d models were loaded", n.loaded)
	}
}

// fuseLoadable fuses file with verification, or where the original does not run
// on generated inputs without, and then only loads the result.
func fuseLoadable(t *testing.T, open session.Opener, file string, run bool) (*fuse.Result, error) {
	dst := filepath.Join(t.TempDir(), "fused.onnx")
	if !run {
		return loadable(t, open, file, dst)
	}
	o := fuse.Options{Verify: &produce.Verify{Open: open, Session: session.Options{Threads: 1}, Samples: 1}}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // a generated number of iterations may be any
	defer cancel()
	r, err := fuse.File(ctx, dst, file, o)
	if err == nil || ctx.Err() == nil && !strings.Contains(err.Error(), "cannot be verified") {
		return r, err
	}
	return loadable(t, open, file, dst)
}

// loadable fuses file without verification and loads the result.
func loadable(t *testing.T, open session.Opener, file, dst string) (*fuse.Result, error) {
	r, err := fuse.File(t.Context(), dst, file, fuse.Options{})
	if err != nil {
		return nil, err
	}
	s, err := open(t.Context(), dst, session.Options{Level: session.LevelOff, Threads: 1})
	if err != nil {
		return nil, errors.Join(errors.New("the result does not load"), err)
	}
	return r, s.Close()
}

// extract writes an archive into a folder, for models with external data.
func extract(t *testing.T, name string) string {
	dir := t.TempDir()
	for file, b := range zootest.Archive(t, name) {
		if strings.HasSuffix(file, "/") {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(file))
		if !strings.HasPrefix(path, dir+string(filepath.Separator)) {
			t.Fatalf("%s: %q leaves the archive", name, file)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// models returns the model files below dir.
func models(t *testing.T, dir string) []string {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".onnx") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

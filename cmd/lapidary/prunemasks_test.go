package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/prune"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestMasksSurvive fuses and quantizes pruned models, and holds the weights of
// each result against the pattern.
func TestMasksSurvive(t *testing.T) {
	open := ort.Opener(zootest.Library(t))
	src := filepath.Join("..", "..", "testdata", "digits-cnn.onnx")
	in, out, err := modelPorts(src)
	if err != nil {
		t.Fatal(err)
	}
	set, err := dataset.Open(filepath.Join("..", "..", "testdata", "digits-calib.npz"), dataset.Options{Inputs: in, Outputs: out, Limit: 40})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	for _, pattern := range []string{"unstructured", "2:4", "block:4x1"} {
		t.Run(pattern, func(t *testing.T) {
			dir, ctx := t.TempDir(), context.Background()
			pruned, fused, coded := filepath.Join(dir, "p.onnx"), filepath.Join(dir, "f.onnx"), filepath.Join(dir, "q.onnx")
			verify := &produce.Verify{Open: open, Data: set}
			o := prune.Options{Sparsity: 0.5, Verify: verify}
			o.Pattern, o.Importance, o.Calibration, o.Open = pattern, prune.SparseGPT, set, open
			if _, err := prune.File(ctx, pruned, src, o); err != nil {
				t.Fatal(err)
			}
			if _, err := fuse.File(ctx, fused, pruned, fuse.Options{Verify: verify}); err != nil {
				t.Fatal(err)
			}
			q := quantize.Options{To: quantize.Int8, Calibration: set, Open: open, Verify: verify}
			q.Recover = "none"
			if _, err := quantize.File(ctx, coded, fused, q); err != nil {
				t.Fatal(err)
			}
			zeros := share(0, 0)
			for _, path := range []string{pruned, fused, coded} {
				list, err := prune.Audit(path, pattern)
				if err != nil || len(list) == 0 {
					t.Fatalf("%s: %d weights, %v", filepath.Base(path), len(list), err)
				}
				gone, all := int64(0), int64(0)
				for _, a := range list {
					gone, all = gone+a.Zeros, all+a.Elements
					if !a.Valid && path != coded {
						t.Errorf("%s: %s has %d of %d groups that are not %s", filepath.Base(path), a.Name, a.Invalid, a.Groups, pattern)
					}
					if !a.Valid && pattern == "2:4" {
						t.Errorf("%s: %s is not 2:4", filepath.Base(path), a.Name)
					}
				}
				now := share(gone, all)
				t.Logf("%s: %d weights, %.2f %% zeros", filepath.Base(path), len(list), now)
				if now < zeros-0.5 || now < 30 {
					t.Errorf("%s: %.2f %% zeros, %.2f %% before", filepath.Base(path), now, zeros)
				}
				zeros = now
			}
		})
	}
}

package fuse_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
	"github.com/lapidary-ml/lapidary/internal/upgrade"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestUpgradeCorpus raises every model of an older opset that has test data to
// the latest one: the runtime computes the same, or the operator whose meaning
// cannot be kept is named.
func TestUpgradeCorpus(t *testing.T) {
	zootest.Dir(t)
	open := ort.Opener(zootest.Library(t))
	var same, refused, noKernel int
	for _, name := range []string{"onnx-node", "onnx-backend", "onnx-expanded"} {
		files := zootest.Archive(t, name)
		var list []string
		for f := range files {
			if path.Base(f) == "model.onnx" && zootest.Chosen(f) {
				list = append(list, f)
			}
		}
		slices.Sort(list)
		for _, f := range list {
			dir := t.TempDir()
			want, in, err := reference(t, open, dir, files, f)
			if err != nil || want == nil {
				continue
			}
			m := raised(t, files[f], f, &refused)
			if m == nil {
				continue
			}
			err = sameResult(t, open, dir, m, in, want)
			switch {
			case err == nil:
				same++
			case strings.Contains(err.Error(), "NOT_IMPLEMENTED"), strings.Contains(err.Error(), "no longer loads"):
				noKernel++
				t.Logf("%s:%s: the runtime lacks an operator of opset %d: %v", name, f, upgrade.Latest, err)
			default:
				t.Errorf("%s:%s: %v", name, f, err)
			}
		}
	}
	t.Logf("%d raised and equal, %d refused, %d beyond the runtime", same, refused, noKernel)
	if same < 50 {
		t.Errorf("only %d models were raised", same)
	}
}

// raised returns the model of an older opset brought to the latest, nil where
// it is not older or is refused with a reason.
func raised(t *testing.T, b []byte, name string, refused *int) *onnx.Model {
	m, err := onnxfile.Decode(b)
	if err != nil {
		return nil
	}
	if _, err := m.Repair(); err != nil || m.Check() != nil || m.OpsetVersion("") >= upgrade.Latest {
		return nil
	}
	_, err = fuse.Model(t.Context(), m, fuse.Options{Opset: upgrade.Latest,
		Rewrite: rewrite.Options{Only: []string{"opset"}}})
	if err != nil {
		*refused++
		t.Logf("%s: %v", name, err)
		if !strings.Contains(err.Error(), "raised to opset") && !strings.Contains(err.Error(), "cannot be raised") {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	}
	return m
}

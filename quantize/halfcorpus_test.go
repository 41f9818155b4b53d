package quantize_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"github.com/lapidary-ml/lapidary/quantize"
)

// TestHalfCorpus: graphs of all kinds become float16 and bfloat16 ones that load and
// are right on their test data or on generated data, or are refused in a sentence. One in forty is
// taken, all with LAPIDARY_CORPUS=all.
func TestHalfCorpus(t *testing.T) {
	open := opener(t)
	tried, written := 0, 0
	for _, archive := range zootest.Archives(t) {
		if archive == "light" { // whole networks of many seconds each
			continue
		}
		files := zootest.Archive(t, archive)
		var names []string
		for name := range files {
			if strings.HasSuffix(name, ".onnx") && len(files[name]) < 4<<20 {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		for i, name := range names {
			if !zootest.All() && (!zootest.Chosen(name) || i%8 != 0) {
				continue
			}
			tried++
			to := []quantize.Target{quantize.Float16, quantize.BFloat16}[tried%2]
			src := filepath.Join(t.TempDir(), "model.onnx")
			if err := os.WriteFile(src, files[name], 0o644); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			limit := session.Options{Deadline: 5 * time.Second} // a generated number of turns may be any
			o := quantize.Options{To: to, Session: limit, Verify: &produce.Verify{Open: open, Session: limit}}
			if set := dataFor(t, src, path.Dir(name), files); set != nil {
				o.Open, o.Calibration, o.Synthetic, o.Verify.Data = open, set, true, set
			}
			dst := filepath.Join(t.TempDir(), "half.onnx")
			r, err := quantize.File(ctx, dst, src, o)
			cancel()
			if err != nil {
				if strings.Contains(err.Error(), "not valid") && strings.Contains(err.Error(), "rewritten") || strings.Contains(err.Error(), "rewrites change the result") {
					t.Errorf("%s/%s to %s: %v", archive, name, to, err)
				} else if !strings.Contains(err.Error(), "cannot be verified") {
					t.Logf("%s/%s to %s: %v", archive, name, to, err)
				}
				continue
			}
			written++
			for _, b := range r.RolledBack {
				t.Errorf("%s/%s to %s: rolled back %s: %s", archive, name, to, b.What(), b.Reason)
			}
			m, err := onnxfile.Open(dst, onnxfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			before, err := onnxfile.Open(src, onnxfile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if was := len(idleCasts(before)); len(idleCasts(m)) > was {
				t.Errorf("%s/%s to %s: %v", archive, name, to, idleCasts(m))
			}
			m.Close()
			before.Close()
		}
	}
	t.Logf("%d graphs, %d written", tried, written)
}

// dataFor returns the test data of a model, else generated data; nil where there is none.
func dataFor(t *testing.T, src, folder string, files map[string][]byte) *dataset.Set {
	m, err := onnxfile.Open(src, onnxfile.Options{})
	if err != nil {
		return nil
	}
	defer m.Close()
	o, spec := dataset.Options{Seed: 1}, "synthetic:2"
	for i, v := range m.Graph.Inputs() {
		if v.Const == nil {
			o.Inputs = append(o.Inputs, dataset.Port{Name: v.Name(), Type: v.Type})
		}
		file := fmt.Sprintf("input_%d.pb", i)
		if b := files[folder+"/test_data_set_0/"+file]; b != nil {
			spec = filepath.Join(filepath.Dir(src), "test_data_set_0")
			if os.MkdirAll(spec, 0o755) != nil || os.WriteFile(filepath.Join(spec, file), b, 0o644) != nil {
				t.Fatalf("no data in %s", spec)
			}
		}
	}
	set, err := dataset.Open(spec, o)
	if err != nil {
		return nil
	}
	return set
}

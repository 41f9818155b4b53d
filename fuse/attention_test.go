package fuse_test

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// transformers are the networks with attention, in every style.
var transformers = []string{"bert", "gpt2", "gpt2-past", "llama", "vit", "whisper-encoder"}

// TestTransformers fuses networks as exporters write them: every block of
// attention is found, and ONNX Runtime computes the same.
func TestTransformers(t *testing.T) {
	for _, name := range transformers {
		for _, s := range nets.StylesOf(name) {
			for _, spelled := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, s, spelled), func(t *testing.T) {
					o := nets.Options{Style: s, Opset: 23, Spelled: spelled}
					m, err := nets.Build(name, o)
					if err != nil {
						t.Fatal(err)
					}
					truth, err := nets.Truth(name, o)
					if err != nil {
						t.Fatal(err)
					}
					log := fuseAndCompare(t, m, fuse.Options{InlineFunctions: true})
					for kind, rule := range map[nets.Kind]string{nets.Attention: "attention", nets.Rotary: "rotary-embedding"} {
						if n := firings(log, rule); n != truth[kind] {
							t.Errorf("%d of %d found by %s; refusals: %s", n, truth[kind], rule, refusals(log, rule))
						}
					}
				})
			}
		}
	}
}

// TestTransformersOwn fuses the same networks for ONNX Runtime's own operators,
// which its CPU kernels compute too.
func TestTransformersOwn(t *testing.T) {
	want := map[string]string{"bert": "multi-head-attention", "vit": "multi-head-attention", "whisper-encoder": "multi-head-attention",
		"gpt2": "group-query-attention", "gpt2-past": "group-query-attention", "llama": "group-query-attention"}
	for _, name := range transformers {
		for _, s := range nets.StylesOf(name) {
			t.Run(fmt.Sprintf("%s/%s", name, s), func(t *testing.T) {
				o := nets.Options{Style: s}
				m, err := nets.Build(name, o)
				if err != nil {
					t.Fatal(err)
				}
				truth, err := nets.Truth(name, o)
				if err != nil {
					t.Fatal(err)
				}
				log := fuseAndCompare(t, m, fuse.Options{InlineFunctions: true, Target: fuse.Target{Name: "ort-cuda"}})
				found := 0
				for _, rule := range []string{"attention", "multi-head-attention", "group-query-attention"} {
					found += firings(log, rule)
				}
				if found != truth[nets.Attention] {
					t.Errorf("%d of %d blocks of attention found; refusals: %s; %s", found, truth[nets.Attention], refusals(log, want[name]), refusals(log, "multi-head-attention"))
				}
				if n := firings(log, "rotary-embedding"); n != truth[nets.Rotary] {
					t.Errorf("%d of %d rotary embeddings found", n, truth[nets.Rotary])
				}
			})
		}
	}
}

// fuseAndCompare fuses m, and runs original and result on the inputs that the network wants.
func fuseAndCompare(t *testing.T, m *onnx.Model, o fuse.Options) *rewrite.Log {
	t.Helper()
	open := runtimeOpener(t)
	in, err := nets.Inputs(m, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	want := outputsOf(t, open, filepath.Join(dir, "original.onnx"), m, in)
	log, err := fuse.Model(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree(want, outputsOf(t, open, filepath.Join(dir, "fused.onnx"), m, in)); err != nil {
		t.Error(err)
	}
	return log
}

func firings(log *rewrite.Log, rule string) int {
	n := 0
	for _, f := range log.Fired {
		if f.Rule == rule {
			n++
		}
	}
	return n
}

func refusals(log *rewrite.Log, rule string) string {
	var out []string
	for _, d := range log.Declined {
		if d.Rule == rule && !slices.Contains(out, d.Reason) {
			out = append(out, d.Reason)
		}
	}
	return strings.Join(out, "; ")
}

// TestExpandedAttention collapses the bodies of attention and rotary embeddings
// that the operator tests spell out, each into the one operator that it is of.
func TestExpandedAttention(t *testing.T) {
	files := unzip(t, filepath.Join(corpus(t), "onnx-expanded.zip"))
	one := map[string]int{}
	all := map[string]int{}
	for f := range files {
		name, family := path.Dir(f), ""
		for _, k := range []string{"test_attention", "test_flexattention", "test_rotary_embedding"} {
			if strings.HasPrefix(name, k) && strings.Contains(name, "_expanded") && path.Base(f) == "model.onnx" {
				family = k
			}
		}
		if family == "" {
			continue
		}
		m, err := onnxfile.Decode(files[f])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fuse.Model(t.Context(), m, fuse.Options{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[family]++
		if m.Graph.Len() == 1 {
			one[family]++
		} else {
			t.Logf("%s: %d nodes", name, m.Graph.Len())
		}
	}
	// What stays is a mask shorter than the keys, which the runtime's kernel
	// refuses, and masked scores that are read, which it clips.
	for family, least := range map[string]int{"test_attention": 32, "test_flexattention": 6, "test_rotary_embedding": 4} {
		if one[family] < least || all[family] == 0 {
			t.Errorf("%s: %d of %d are one node, want %d", family, one[family], all[family], least)
		}
	}
}

package fuse_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/session"
	"golang.org/x/tools/txtar"
)

// TestSpellings: of what the spelling rules write, ONNX Runtime makes the fused
// operator when it loads the model, and of what they found it does not. What they
// leave because it is recognised is.
func TestSpellings(t *testing.T) {
	open := runtimeOpener(t)
	for rule, op := range map[string]string{
		"gelu-spelling":      "com.microsoft:Gelu",
		"gelu-tanh-spelling": "com.microsoft:FastGelu",
		"swish-spelling":     "com.microsoft:QuickGelu",
		"layernorm-spelling": "LayerNormalization",
		"rmsnorm-spelling":   "SimplifiedLayerNormalization",
	} {
		a, err := txtar.ParseFile(filepath.Join("testdata", rule+".txtar"))
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		for i, f := range a.Files {
			name, in := strings.CutSuffix(f.Name, "/in")
			switch {
			case in && strings.HasPrefix(name, "recognised"):
				if optimized(t, open, read(t, f.Data))[op] == 0 {
					t.Errorf("%s: of %s the runtime makes no %s", rule, name, op)
				}
			case in && i+1 < len(a.Files) && a.Files[i+1].Name == name+"/out":
				written++
				before, after := optimized(t, open, read(t, f.Data)), optimized(t, open, read(t, a.Files[i+1].Data))
				if op := fusedName(name, op); before[op] != 0 || after[op] != 1 {
					t.Errorf("%s: of %s the runtime makes %v, of the result %v", rule, name, before, after)
				}
				whole := read(t, f.Data)
				if _, err := fuse.Model(t.Context(), whole, fuse.Options{}); err != nil {
					t.Fatal(err)
				}
				if got := optimized(t, open, whole); got[fusedName(name, op)] != 1 {
					t.Errorf("%s: of %s the runtime makes %v after all rules", rule, name, got)
				}
			}
		}
		if written == 0 {
			t.Errorf("%s: no case is written anew", rule)
		}
	}
}

// fusedName returns the operator that is made in a case: without its shift, a
// LayerNormalization becomes the one without a mean.
func fusedName(name, op string) string {
	if name == "without shift" {
		return "SimplifiedLayerNormalization"
	}
	return op
}

func read(t *testing.T, text []byte) *onnx.Model {
	t.Helper()
	m, err := onnxtext.Parse("case", text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// optimized counts the operators of what the runtime makes of a model.
func optimized(t *testing.T, open session.Opener, m *onnx.Model) map[string]int {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.onnx"), filepath.Join(dir, "out.onnx")
	if _, err := onnxfile.Write(in, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), in, session.Options{Level: session.LevelAll, Threads: 1, SaveModel: out})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	o, err := onnxfile.Open(out, onnxfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	return opCounts(o)
}

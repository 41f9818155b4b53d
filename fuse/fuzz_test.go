package fuse

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxtext"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/zootest"
	"golang.org/x/tools/txtar"
)

// fuzzLimit is what fusing one small graph may take on a busy machine.
const fuzzLimit = time.Minute

// fuzzGrowth bounds the bytes that a result may have: what folding may add, many times over.
const fuzzGrowth = 64 << 20

// cases returns the models that the tests of the rules are written with, encoded.
func cases(tb testing.TB) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no cases (%v)", err)
	}
	var out [][]byte
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		for _, s := range txtar.Parse(text).Files {
			if !strings.HasSuffix(s.Name, "/in") {
				continue
			}
			m, err := onnxtext.Parse(s.Name, s.Data)
			if err != nil {
				tb.Fatal(err)
			}
			b, err := onnxfile.Encode(m)
			if err != nil {
				tb.Fatal(err)
			}
			out = append(out, b)
			break // one of each rule: every one is a test of its own below testdata
		}
	}
	return out
}

// FuzzRules decodes models and runs every rule on them, those too that must be asked
// for, without running the models: nothing panics or loops, and a result is a valid
// model of a size that folding allows.
func FuzzRules(f *testing.F) {
	for _, b := range cases(f) {
		f.Add(b, false)
	}
	for _, b := range zootest.Seeds(f, ".onnx", 16<<10) {
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, all bool) {
		if m, err := onnxfile.Decode(b); err == nil {
			fuzzModel(t, m, all)
		}
	})
}

// FuzzGraphs runs the rules on graphs of real operators that are put together at random.
func FuzzGraphs(f *testing.F) {
	for _, b := range randgraph.Seeds(30) {
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, all bool) { fuzzModel(t, randgraph.Model(data), all) })
}

func fuzzModel(t *testing.T, m *onnx.Model, all bool) {
	t.Helper()
	if _, err := m.Repair(); err != nil || m.Check() != nil {
		return
	}
	o := Options{}
	if all {
		o = Options{InlineFunctions: true, Unroll: 16, Reorder: true, DropConstantOutputs: true, Enable: []string{"conv-merge", "matmul-merge", "norm-matmul"}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), fuzzLimit)
	defer cancel()
	if _, err := Model(ctx, m, o); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it takes more than %v", fuzzLimit)
		}
		return
	}
	if err := m.Check(); err != nil {
		t.Fatalf("the result is not valid: %v", err)
	}
	b, err := onnxfile.Encode(m)
	if err != nil {
		t.Fatalf("the result cannot be written: %v", err)
	}
	if len(b) > fuzzGrowth {
		t.Fatalf("the result has %d bytes", len(b))
	}
}

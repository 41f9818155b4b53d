package meaning

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/randgraph"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// Bases are the models by name that [Bases.Fuzz] changes a little.
type Bases map[string]*onnx.Model

// NewBases returns the models of the cases in the files of the patterns, and while a target is being fuzzed small ones of the corpus.
func NewBases(f *testing.F, patterns ...string) Bases {
	f.Helper()
	out, err := Models(patterns...)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range zootest.Seeds(f, ".onnx", 16<<10) {
		if m, err := onnxfile.Decode(b); err == nil {
			out[fmt.Sprintf("corpus/%x", sha256.Sum256(b))] = m
		}
	}
	return out
}

// edits is how many bytes a seed has to say what is changed.
const edits = 24

// Fuzz gives do models that are changed by [randgraph.Mutate], each with a number that tells variants apart.
func (b Bases) Fuzz(f *testing.F, do func(t *testing.T, m *onnx.Model, how uint8)) {
	f.Helper()
	names := slices.Sorted(maps.Keys(b))
	r := rand.New(rand.NewPCG(5, 6))
	for _, name := range names {
		said := make([]byte, edits)
		for i := range said {
			said[i] = byte(r.IntN(256))
		}
		f.Add(name, said, uint8(r.IntN(256)))
	}
	f.Fuzz(func(t *testing.T, name string, said []byte, how uint8) {
		m := b[name]
		if m == nil { // a name that fuzzing made up stands for one of them
			h := fnv.New32a()
			io.WriteString(h, name)
			m = b[names[int(h.Sum32()%uint32(len(names)))]]
		}
		m = m.Clone()
		randgraph.Mutate(m, said)
		do(t, m, how)
	})
}

// Reread returns m as it is once it was written and read: a copy for a rewrite to change.
func Reread(t *testing.T, m *onnx.Model) *onnx.Model {
	t.Helper()
	b, err := onnxfile.Encode(m)
	if err != nil {
		t.Fatalf("a model that can be run cannot be written: %v\n%s", err, Text(m))
	}
	again, err := onnxfile.Decode(b)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v\n%s", err, Text(m))
	}
	return again
}

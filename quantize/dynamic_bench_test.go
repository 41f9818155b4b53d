package quantize_test

import (
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/quantize"
)

// BenchmarkDynamic is dynamic int8 of a model of the size of BERT-base, 438 MB,
// from file to file, unverified.
func BenchmarkDynamic(b *testing.B) {
	dir := b.TempDir()
	src, dst := filepath.Join(dir, "bert.onnx"), filepath.Join(dir, "int8.onnx")
	m, err := nets.Build("bert", nets.Options{Full: true, Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	w, err := onnxfile.Write(src, m, onnxfile.WriteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(w.Bytes)
	b.ResetTimer()
	for range b.N {
		if _, err := quantize.File(b.Context(), dst, src, quantize.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

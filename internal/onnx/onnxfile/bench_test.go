package onnxfile

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// largeModel writes a model of 125 MatMuls with 1 Mi float weights each (500 MB).
func largeModel(b *testing.B) string {
	m := onnx.NewModel(17)
	g := m.Graph
	v := g.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 1024)))
	content := make([]byte, 4<<20)
	for i := range content {
		content[i] = byte(i * 7)
	}
	for range 125 {
		t, err := onnx.NewTensor(m.Fresh("w"), onnx.Float, []int64{1024, 1024}, content)
		if err != nil {
			b.Fatal(err)
		}
		n := onnx.NewNode("MatMul", []*onnx.Value{v, g.AddInitializer(t)}, m.Fresh("h"))
		g.Append(n)
		v = n.Output(0)
	}
	g.AddOutput(v)
	path := filepath.Join(b.TempDir(), "large.onnx")
	if _, err := Write(path, m, WriteOptions{}); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkOpen500MB opens and checks a model without touching its weights.
func BenchmarkOpen500MB(b *testing.B) {
	path := largeModel(b)
	for b.Loop() {
		m, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Check(); err != nil {
			b.Fatal(err)
		}
		m.Close()
	}
}

// BenchmarkWrite500MB writes a model back; BenchmarkCopy500MB is the same
// number of bytes through the same system calls for comparison.
func BenchmarkWrite500MB(b *testing.B) {
	path := largeModel(b)
	m, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	out := filepath.Join(filepath.Dir(path), "out.onnx")
	b.SetBytes(500 << 20)
	for b.Loop() {
		if _, err := Write(out, m, WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCopy500MB(b *testing.B) {
	path := largeModel(b)
	out := filepath.Join(filepath.Dir(path), "out.onnx")
	b.SetBytes(500 << 20)
	for b.Loop() {
		if err := copyFile(out, path); err != nil {
			b.Fatal(err)
		}
	}
}

// copyFile copies as cp does, by the kernel, and syncs as Write does.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	if err := dst.Sync(); err != nil {
		return err
	}
	return dst.Close()
}

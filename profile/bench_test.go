package profile

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// BenchmarkStatic500MB opens and profiles a model of 500 MB: 60 products of
// 1448×1448 weights. It reports by how much the process's resident memory grew.
func BenchmarkStatic500MB(b *testing.B) {
	for _, kind := range []struct {
		name string
		o    onnxfile.WriteOptions
	}{{"inside", onnxfile.WriteOptions{External: onnxfile.ExternalNever}}, {"external", onnxfile.WriteOptions{External: onnxfile.ExternalAlways}}} {
		b.Run(kind.name, func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "big.onnx")
			if _, err := onnxfile.Write(path, big(), kind.o); err != nil {
				b.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil {
				b.Fatal(err)
			} else if kind.name == "inside" {
				b.ReportMetric(float64(info.Size())/1e6, "MB/model")
			}
			before := session.ReadUsage().Resident
			for b.Loop() {
				s, err := StaticFile(path, StaticOptions{})
				if err != nil {
					b.Fatal(err)
				}
				if s.Weights.Bytes < 500_000_000 || s.Work.MACs != 60*1448*1448 {
					b.Fatalf("%+v %+v", s.Weights, s.Work)
				}
			}
			b.ReportMetric(float64(session.ReadUsage().Resident-before)/(1<<20), "MiB-grown")
		})
	}
}

// big is a chain of 60 products. Its weights share one block of memory.
func big() *onnx.Model {
	const n = 1448
	m := onnx.NewModel(17)
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, n)))
	data := onnx.Raw(make([]byte, 4*n*n))
	for range 60 {
		w := m.Graph.NewConst(&onnx.Tensor{Name: "w", DType: onnx.Float, Shape: []int64{n, n}, Data: data})
		node := onnx.NewNode("MatMul", []*onnx.Value{v, w}, m.Fresh("y"))
		m.Graph.Append(node)
		v = node.Output(0)
	}
	m.Graph.AddOutput(v)
	return m
}

package profile

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
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

// BenchmarkStaticNodes profiles chains of 5,000, 20,000 and 80,000 nodes, and
// reports the time per node: it must not grow.
func BenchmarkStaticNodes(b *testing.B) {
	for _, nodes := range []int{5_000, 20_000, 80_000} {
		b.Run(strconv.Itoa(nodes), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "chain.onnx")
			if _, err := onnxfile.Write(path, staticChain(nodes), onnxfile.WriteOptions{}); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s, err := StaticFile(path, StaticOptions{})
				if err != nil {
					b.Fatal(err)
				}
				if s.NodeCount != int64(nodes) || s.Formulas == nil {
					b.Fatalf("%d nodes, formulas %v", s.NodeCount, s.Formulas)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*nodes), "ns/node")
		})
	}
}

// staticChain is a perceptron without end: products, sums and activations in turn on
// vectors of an open number of rows, with a connection across each block.
func staticChain(nodes int) *onnx.Model {
	m := onnx.NewModel(17)
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.Shape{onnx.Symbol("N"), onnx.Fixed(16)}))
	w := m.Graph.AddInitializer(onnx.FromFloats("w", []int64{16, 16}, make([]float32, 256)))
	skip := v
	for i := range nodes {
		in, op := []*onnx.Value{v}, "Relu"
		switch i % 3 {
		case 0:
			in, op, skip = []*onnx.Value{v, w}, "MatMul", v
		case 1:
			in, op = []*onnx.Value{v, skip}, "Add"
		}
		n := onnx.NewNode(op, in, "v"+strconv.Itoa(i))
		n.Name = "n" + strconv.Itoa(i)
		m.Graph.Append(n)
		v = n.Output(0)
	}
	m.Graph.AddOutput(v)
	return m
}

// BenchmarkStatic2GB profiles a model with 2 GB of external weights, of which
// none is read.
func BenchmarkStatic2GB(b *testing.B) {
	path := filepath.Join(b.TempDir(), "wide.onnx")
	m := onnx.NewModel(17)
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 4096)))
	for range 32 {
		w := m.Graph.NewConst(&onnx.Tensor{Name: "w", DType: onnx.Float, Shape: []int64{4096, 4096}, Data: onnx.Raw(bigWeight())})
		n := onnx.NewNode("MatMul", []*onnx.Value{v, w}, m.Fresh("y"))
		m.Graph.Append(n)
		v = n.Output(0)
	}
	m.Graph.AddOutput(v)
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{External: onnxfile.ExternalAlways}); err != nil {
		b.Fatal(err)
	}
	before := session.ReadUsage().Resident
	for b.Loop() {
		s, err := StaticFile(path, StaticOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if s.Weights.Bytes < 2_000_000_000 || s.File.ExternalBytes != s.Weights.Bytes {
			b.Fatalf("%+v %+v", s.Weights, s.File)
		}
	}
	b.ReportMetric(float64(session.ReadUsage().Resident-before)/(1<<20), "MiB-grown")
}

var bigWeight = sync.OnceValue(func() []byte { return make([]byte, 4*4096*4096) })

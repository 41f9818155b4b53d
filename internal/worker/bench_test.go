//go:build unix

package worker

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/session/sessiontest"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// engines returns the same engine in this process and in a worker.
func engines(b *testing.B) map[string]session.Opener {
	return map[string]session.Opener{"inprocess": ort.Opener(zootest.Library(b)), "worker": Opener(onnxRuntime(b))}
}

// BenchmarkSqueezeNet compares what the sandbox and the process boundary cost:
// time/op is the call, engine-ns the run where it happens.
func BenchmarkSqueezeNet(b *testing.B) {
	path := zootest.Path(b, "models/squeezenet1.1.onnx")
	in := map[string]*onnx.Tensor{"data_0": sessiontest.Sample(onnx.Float, 1, 3, 224, 224)}
	for name, open := range engines(b) {
		b.Run(name, func(b *testing.B) { benchmark(b, open, path, in) })
	}
}

// BenchmarkOverhead runs a model that does next to nothing.
func BenchmarkOverhead(b *testing.B) {
	path := sessiontest.Write(b, sessiontest.Identity(13, onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 4))))
	in := map[string]*onnx.Tensor{"x": sessiontest.Sample(onnx.Float, 1, 4)}
	for name, open := range engines(b) {
		b.Run(name, func(b *testing.B) { benchmark(b, open, path, in) })
	}
}

// BenchmarkTransfer moves 64 MiB in and out.
func BenchmarkTransfer(b *testing.B) {
	path := sessiontest.Write(b, sessiontest.Identity(13, onnx.TensorType(onnx.Float, onnx.ShapeOf(1<<24))))
	in := map[string]*onnx.Tensor{"x": sessiontest.Sample(onnx.Float, 1<<24)}
	for name, open := range engines(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(64 << 20)
			benchmark(b, open, path, in)
		})
	}
}

func benchmark(b *testing.B, open session.Opener, path string, in map[string]*onnx.Tensor) {
	s, err := open(b.Context(), path, session.Options{Threads: runtime.NumCPU()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if c, ok := s.(Confined); ok {
		b.Log(c.Sandbox())
	}
	if _, err := s.Run(b.Context(), in); err != nil {
		b.Fatal(err)
	}
	var engine []time.Duration
	for b.Loop() {
		r, err := s.Run(b.Context(), in)
		if err != nil {
			b.Fatal(err)
		}
		engine = append(engine, r.Elapsed)
	}
	slices.Sort(engine)
	b.ReportMetric(float64(engine[len(engine)/2]), "engine-ns")
	timed, err := s.(session.Timer).Time(b.Context(), in, 20)
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(timed)
	b.ReportMetric(float64(timed[len(timed)/2]), "timed-ns")
}

// BenchmarkOpen starts a worker, opens a small model and ends it.
func BenchmarkOpen(b *testing.B) {
	path := sessiontest.Write(b, sessiontest.Identity(13, onnx.TensorType(onnx.Float, onnx.ShapeOf(1, 4))))
	all := engines(b)
	o := onnxRuntime(b)
	o.NetSpace = true
	all["worker-netspace"] = Opener(o)
	for name, open := range all {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s, err := open(b.Context(), path, session.Options{Threads: 1})
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

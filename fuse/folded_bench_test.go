package fuse_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// BenchmarkFolded times the graphs of folded before and after fusing, in turns,
// with the runtime's own optimizations on and one thread: medians, and how many
// times as fast the fused one is.
func BenchmarkFolded(b *testing.B) {
	for _, c := range folded {
		b.Run(c.name, func(b *testing.B) {
			m := c.build()
			in := randomInput(m)
			before := openModel(b, m)
			if _, err := fuse.Model(b.Context(), m, c.o); err != nil {
				b.Fatal(err)
			}
			after := openModel(b, m)
			var times [2][]time.Duration
			for b.Loop() {
				for round := range 40 {
					for i := range 2 {
						k := (i + round) % 2
						r, err := []session.Session{before, after}[k].Run(b.Context(), in)
						if err != nil {
							b.Fatal(err)
						}
						times[k] = append(times[k], r.Elapsed)
					}
				}
			}
			original, fused := median(times[0]), median(times[1])
			b.ReportMetric(float64(original), "original-ns/op")
			b.ReportMetric(float64(fused), "fused-ns/op")
			b.ReportMetric(float64(original)/float64(fused), "ratio")
		})
	}
}

func median(v []time.Duration) time.Duration {
	slices.Sort(v)
	return v[len(v)/2]
}

func openModel(b *testing.B, m *onnx.Model) session.Session {
	b.Helper()
	path := filepath.Join(b.TempDir(), "model.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		b.Fatal(err)
	}
	s, err := runtimeOpener(b)(b.Context(), path, session.Options{Threads: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

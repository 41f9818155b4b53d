package prune

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// noise is tensor content of seeded numbers, made while it is written.
type noise struct {
	seed uint64
	n    int
}

func (x noise) Len() int64 { return 4 * int64(x.n) }

func (x noise) Bytes() ([]byte, error) {
	r, b := rand.New(rand.NewPCG(x.seed, 1)), make([]byte, 4*x.n)
	for i := range x.n {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(float32(r.Float64()-0.5)))
	}
	return b, nil
}

// TestStreaming times pruning a large file by magnitude against copying it, with
// the number of MiB in LAPIDARY_PRUNE_STREAM, and prints both with the memory that is
// not of the file's mapping.
func TestStreaming(t *testing.T) {
	size, err := strconv.Atoi(os.Getenv("LAPIDARY_PRUNE_STREAM"))
	if err != nil {
		t.Skip("set LAPIDARY_PRUNE_STREAM to the size of the weights in MiB, such as 1024")
	}
	const tensors = 8
	dir := t.TempDir()
	src, dst, plain := filepath.Join(dir, "a.onnx"), filepath.Join(dir, "b.onnx"), filepath.Join(dir, "c.onnx")
	side := int64(math.Sqrt(float64(size) * (1 << 20) / 4 / tensors))
	m := onnx.NewModel(17)
	v := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(1, side)))
	for i := range tensors {
		w := &onnx.Tensor{Name: fmt.Sprintf("w%d", i), DType: onnx.Float, Shape: []int64{side, side}, Data: noise{uint64(i), int(side * side)}}
		n := onnx.NewNode("MatMul", []*onnx.Value{v, m.Graph.AddInitializer(w)}, fmt.Sprintf("y%d", i))
		m.Graph.Append(n)
		v = n.Output(0)
	}
	m.Graph.AddOutput(v)
	if _, err := onnxfile.Write(src, m, onnxfile.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	largest := 4 * side * side
	debug.FreeOSMemory()
	best := [2]time.Duration{math.MaxInt64, math.MaxInt64}
	peak := int64(0)
	for range 3 {
		start := time.Now()
		copyFile(t, plain, src)
		best[0] = min(best[0], time.Since(start))
		base := anonymous(t)
		stop, most := watch(t)
		start = time.Now()
		r, err := File(context.Background(), dst, src, Options{Sparsity: 0.5})
		if err != nil {
			t.Fatal(err)
		}
		best[1] = min(best[1], time.Since(start))
		stop()
		peak = max(peak, most.Load()-base)
		if math.Abs(r.After-0.5) > 1e-6 {
			t.Fatalf("%.6f of the weights are zero", r.After)
		}
	}
	ratio, memory := float64(best[1])/float64(best[0]), float64(peak)/float64(largest)
	t.Logf("copied in %v, pruned in %v: %.2f times as long; %.1f MiB beside the mapping, %.2f of the largest tensor",
		best[0].Round(time.Millisecond), best[1].Round(time.Millisecond), ratio, float64(peak)/(1<<20), memory)
	if ratio > 3 || memory > 1.3 {
		t.Errorf("want at most 3 times as long, and 1.3 of the largest tensor")
	}
}

// copyFile copies as a user does, through memory and onto the disk.
func copyFile(t *testing.T, dst, src string) {
	t.Helper()
	in, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.ReadFrom(in); err != nil {
		t.Fatal(err)
	}
	if err := out.Sync(); err != nil {
		t.Fatal(err)
	}
}

var rssAnon = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

// anonymous is the memory of this process that is not of files.
func anonymous(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("memory is read from /proc")
	}
	f := rssAnon.FindSubmatch(b)
	if f == nil {
		t.Skip("this kernel does not say what memory is of files")
	}
	n, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return n << 10
}

// watch notes the most memory until it is stopped.
func watch(t *testing.T) (stop func(), most *atomic.Int64) {
	most = &atomic.Int64{}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Millisecond):
				most.Store(max(most.Load(), anonymous(t)))
			}
		}
	}()
	return func() { close(end); <-ended }, most
}

package profile

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// streamSource is an independent measurement of the triad: plain C, arrays far
// larger than a cache, threads by pthreads, the best of 20 passes.
const streamSource = `
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static long n; static int threads; static double *a, *b, *c;
static pthread_barrier_t gate;
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + 1e-9 * t.tv_nsec; }
static double best = 1e9;
static void *work(void *arg) {
	long i = (long)arg, from = n / threads * i, to = from + n / threads;
	for (long k = from; k < to; k++) { a[k] = 0; b[k] = 1; c[k] = 2; }
	for (int pass = 0; pass < 20; pass++) {
		pthread_barrier_wait(&gate);
		double t = now();
		for (long k = from; k < to; k++) a[k] = b[k] + 3.0 * c[k];
		pthread_barrier_wait(&gate);
		if (i == 0 && now() - t < best) best = now() - t;
	}
	return 0;
}
int main(int argc, char **argv) {
	n = atol(argv[1]); threads = atoi(argv[2]);
	a = malloc(8 * n); b = malloc(8 * n); c = malloc(8 * n);
	pthread_barrier_init(&gate, 0, threads);
	pthread_t t[256];
	for (long i = 0; i < threads; i++) pthread_create(&t[i], 0, work, (void *)i);
	for (int i = 0; i < threads; i++) pthread_join(t[i], 0);
	printf("%.3f %g\n", 24.0 * n / best / 1e9, a[n / 2]);
}
`

// productSource times a product through onnxruntime's own Python package.
const productSource = `
import sys, time, numpy as np, onnxruntime as ort
from onnx import helper as h, TensorProto as T, numpy_helper as nh
n, threads = int(sys.argv[1]), int(sys.argv[2])
w = np.random.rand(n, n).astype(np.float32)
g = h.make_graph([h.make_node("MatMul", ["x", "w"], ["y"])], "g", [h.make_tensor_value_info("x", T.FLOAT, [n, n])],
                 [h.make_tensor_value_info("y", T.FLOAT, [n, n])], [nh.from_array(w, "w")])
m = h.make_model(g, opset_imports=[h.make_opsetid("", 17)]); m.ir_version = 8
o = ort.SessionOptions(); o.intra_op_num_threads = threads
s = ort.InferenceSession(m.SerializeToString(), o, providers=["CPUExecutionProvider"])
x = np.random.rand(n, n).astype(np.float32); best = 1e9
for _ in range(30):
    t = time.perf_counter(); s.run(None, {"x": x}); best = min(best, time.perf_counter() - t)
print(2 * n**3 / best / 1e9)
`

// TestPeaksByPeers compares the peaks with independent tools on the same
// machine, which must be quiet: set LAPIDARY_PEAKS to run it, and LAPIDARY_PYTHON
// to a Python with onnxruntime for the arithmetic.
func TestPeaksByPeers(t *testing.T) {
	if os.Getenv("LAPIDARY_PEAKS") == "" {
		t.Skip("set LAPIDARY_PEAKS on a quiet machine")
	}
	m := device.Read(device.Options{})
	threads := m.Threads().N
	p, err := MeasurePeaks(t.Context(), PeakOptions{Open: ort.Opener(zootest.Library(t)), Session: session.Options{Threads: threads}, Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.2f GHz; float32 %.1f and %.1f GFLOP/s, theory %v; int8 %.1f and %.1f GOP/s; a node %.2f us", p.ClockGHz, p.Float32.One, p.Float32.All,
		told(p.Float32.Theory, significant), p.Int8.One, p.Int8.All, p.OverheadUS)
	for _, b := range p.Memory {
		t.Logf("%d KiB: one thread %+v, all %+v", b.Bytes>>10, b.One, b.All)
	}
	within := func(what string, ours, theirs float64) {
		t.Logf("%s: %.2f here, %.2f by the peer: %+.1f %%", what, ours, theirs, 100*(ours/theirs-1))
		if ours < 0.85*theirs || ours > 1.15*theirs {
			t.Errorf("%s: %.2f is not within 15 %% of %.2f", what, ours, theirs)
		}
	}
	main := p.mainMemory()
	for _, x := range []struct {
		threads int
		ours    float64
	}{{1, main.One.Triad}, {threads, main.All.Triad}} {
		within(fmt.Sprintf("triad in GB/s on %d threads", x.threads), x.ours, streamInC(t, main.Bytes/24, x.threads))
	}
	python := os.Getenv("LAPIDARY_PYTHON")
	if python == "" {
		t.Log("no LAPIDARY_PYTHON: the arithmetic is not compared")
		return
	}
	for _, x := range []struct {
		threads int
		ours    float64
	}{{1, p.Float32.One}, {threads, p.Float32.All}} {
		best := 0.
		for _, n := range peakSizes[1:] {
			best = max(best, printed(t, exec.CommandContext(t.Context(), python, "-c", productSource, fmt.Sprint(n), fmt.Sprint(x.threads))))
		}
		within(fmt.Sprintf("float32 in GFLOP/s on %d threads", x.threads), x.ours, best)
	}
}

func streamInC(t *testing.T, n int64, threads int) float64 {
	dir := t.TempDir()
	source, program := filepath.Join(dir, "stream.c"), filepath.Join(dir, "stream")
	if err := os.WriteFile(source, []byte(streamSource), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-ftree-vectorize", "-march=native", "-pthread", "-o", program, source).CombinedOutput(); err != nil {
		t.Skipf("no C compiler: %v: %s", err, out)
	}
	return printed(t, exec.CommandContext(t.Context(), program, fmt.Sprint(n), fmt.Sprint(threads)))
}

// printed is the first number that a command prints.
func printed(t *testing.T, c *exec.Cmd) float64 {
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(out))
	if len(fields) == 0 {
		t.Fatalf("%v prints nothing", c.Args)
	}
	v, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

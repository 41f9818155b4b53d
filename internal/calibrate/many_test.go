package calibrate

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/nets"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/ort"
	"github.com/lapidary-ml/lapidary/internal/session"
	"github.com/lapidary-ml/lapidary/internal/zootest"
)

// TestManyImages calibrates a detector on 100 and on 1000 pictures of 640 by 640
// and prints the memory that each takes, and the rate beside that of running the
// probed graphs on one picture and nothing else. LAPIDARY_MANY_IMAGES names how
// many pictures the second time has. A run of 1000 takes some minutes.
func TestManyImages(t *testing.T) {
	most, _ := strconv.ParseInt(os.Getenv("LAPIDARY_MANY_IMAGES"), 10, 64)
	if most < 100 {
		t.Skip("takes minutes; set LAPIDARY_MANY_IMAGES=1000")
	}
	b := newManyImages(t, most)
	b.measure(t, 20) // what the engine keeps once it has run
	var peak [2]int64
	var rate [2]float64
	for i, n := range []int64{100, most} {
		debug.FreeOSMemory()
		resetPeak(t)
		start := time.Now()
		r := b.measure(t, n)
		rate[i] = float64(n) / time.Since(start).Seconds()
		peak[i] = peakMemory(t)
		t.Logf("%4d pictures: %d tensors in %d passes, peak memory %d MiB", r.Samples, len(r.Stats), r.Groups, peak[i]>>20)
	}
	debug.FreeOSMemory()
	resetPeak(t)
	b.workers = 2
	start := time.Now()
	b.measure(t, 100)
	both := 100 / time.Since(start).Seconds()
	t.Logf(" 100 pictures with 2 workers: peak memory %d MiB", peakMemory(t)>>20)
	b.workers = 0
	bare := b.bare(t).Seconds()
	t.Logf("%.2f and %.2f of the bare rate of %.1f pictures a second; %.2f with 2 workers", rate[0]*bare, rate[1]*bare, 1/bare, both*bare)
	if peak[1] > peak[0]+peak[0]/10 {
		t.Errorf("peak memory grew from %d to %d MiB with the number of pictures", peak[0]>>20, peak[1]>>20)
	}
}

func (b *manyImages) measure(t *testing.T, n int64) *Result {
	t.Helper()
	r, err := Measure(t.Context(), b.model, b.wants, func() Pass { return b.pass(t.Context(), n) }, b.options())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// manyImages is what is measured.
type manyImages struct {
	open  session.Opener
	model *onnx.Model
	wants []Want
	dir   string
	port  dataset.Port
	o     dataset.Options

	workers int
}

func newManyImages(t *testing.T, n int64) *manyImages {
	t.Helper()
	b := &manyImages{open: ort.Opener(zootest.Library(t)), dir: t.TempDir()}
	var err error
	if b.model, err = nets.Build("yolov8n", nets.Options{Full: true, Batch: 1, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	in := b.model.Graph.Inputs()[0]
	b.port = dataset.Port{Name: in.Name(), Type: in.Type}
	if b.o.Preprocess, err = dataset.ParsePreprocess("layout=nchw,scale=1/255"); err != nil {
		t.Fatal(err)
	}
	b.o.Inputs = []dataset.Port{b.port}
	facts, err := opset.Infer(b.model, opset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for node := range b.model.Graph.Nodes() {
		if v := node.Output(0); node.Is("Conv") && facts.DType(v) == onnx.Float {
			b.wants = append(b.wants, Want{Tensor: v.Name()})
		}
	}
	for i := range n {
		picture(t, filepath.Join(b.dir, fmt.Sprintf("%04d.jpg", i)), uint64(i))
	}
	return b
}

func (b *manyImages) options() Options {
	return Options{Open: b.open, MaxBytes: 1 << 30, Workers: b.workers, Session: session.Options{Threads: runtime.GOMAXPROCS(0)}}
}

func (b *manyImages) pass(ctx context.Context, n int64) Pass {
	o := b.o
	o.Limit = n
	return Pass{Batches: func(yield func(*Batch, error) bool) {
		set, err := dataset.Open(b.dir, o)
		if err != nil {
			yield(nil, err)
			return
		}
		defer set.Close()
		for s, err := range set.Samples(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&Batch{ID: s.ID, Samples: 1, Inputs: func() (map[string]*onnx.Tensor, error) { return s.Inputs, nil }}, nil) {
				return
			}
		}
	}}
}

// bare is the time of the runs of one picture, in all groups, whose outputs stay in the engine.
func (b *manyImages) bare(t *testing.T) time.Duration {
	t.Helper()
	o := b.options()
	groups, err := grouped(t.Context(), b.model, b.wants, func() Pass { return b.pass(t.Context(), 1) }, &o, &Result{})
	if err != nil {
		t.Fatal(err)
	}
	var in map[string]*onnx.Tensor
	for s := range b.pass(t.Context(), 1).Batches {
		if in, err = s.Inputs(); err != nil {
			t.Fatal(err)
		}
	}
	var sum time.Duration
	for _, g := range groups {
		sum += b.bareOf(t, g, &o, in)
	}
	return sum
}

// bareOf is the mean time of a run that gives the tensors of one group.
func (b *manyImages) bareOf(t *testing.T, group []Want, o *Options, in map[string]*onnx.Tensor) (mean time.Duration) {
	t.Helper()
	p, err := newProbe(b.model, group, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	s, err := p.open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const runs = 20
	times, err := s.(session.Timer).Time(t.Context(), in, runs)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range times {
		mean += d / runs
	}
	return mean
}

// picture writes patches of color, other ones for each seed.
func picture(t *testing.T, path string, seed uint64) {
	t.Helper()
	const side, patch = 640, 16
	r := rand.New(rand.NewPCG(seed, 1))
	m := image.NewRGBA(image.Rect(0, 0, side, side))
	for y := 0; y < side; y += patch {
		for x := 0; x < side; x += patch {
			c := color.RGBA{uint8(r.Uint32()), uint8(r.Uint32()), uint8(r.Uint32()), 255}
			for i := range patch * patch {
				m.SetRGBA(x+i%patch, y+i/patch, c)
			}
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// resetPeak makes peakMemory begin anew.
func resetPeak(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the peak of memory cannot be told here: %v", err)
	}
}

// peakMemory is the most memory that this process, the engine with it, had at once.
func peakMemory(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	f := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(b)
	if f == nil {
		t.Skip("the system does not tell the peak of memory")
	}
	n, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
